"""`goodfaith up | down | status | restart | migrate | settings`: the local stack and Goodfaith's processes on it."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.markup import escape
from rich.table import Column, Table

from deploy.local import fleet, prometheus
from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.local.secured import HOW, How
from deploy.local.stack import Stack, named
from services.operator.cli import console, errors, print_json
from shared import clock, db
from shared.settings import Settings

LOCAL_PARTITIONS = "6"
"""Fewer than an installation's 24: on two cores each partition more only makes batches smaller."""
CANARY_LISTING = "canary"
"""Listing of a local stack's canary."""
LOCAL_SKEW_MS = "20"
"""Broker and database on this machine have one clock."""
MOST_PASSWORD = 1000
BROKER_S = 60.0
"""How long `migrate` waits for a broker that refuses."""

StackOption = Annotated[str, typer.Option("--stack", envvar="GOODFAITH_STACK_NAME", help="Name of the local stack.")]
BrokersOption = Annotated[
    int, typer.Option(envvar="BROKERS", help="How many brokers: 1 or 3; 0: as many as the stack has, else 1.")
]
SecureOption = Annotated[
    str,
    typer.Option(
        envvar="SECURE",
        help="A new stack's links are secured, and processes log in at the broker by `password` (or 1) or `certificate`.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Last line of output: one JSON object.")]


def root() -> Path:
    """The folder that holds all local stacks (`GOODFAITH_STATE_DIR`)."""
    return Settings().state_dir


def running(name: str = "default", *, whole: bool = True) -> Stack:
    """The stack of this name; `whole`: with broker and database, else with either.

    Raises:
        StackError: it does not run.
    """
    stack = Stack.join(root(), name, whole=whole)
    if stack is None:
        raise StackError(f"no stack {name!r} runs here; `goodfaith up` starts one")
    return stack


def bring_up(
    name: str = "default",
    counts: Mapping[str, int] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    ports: Mapping[str, int] | None = None,
    begins: dt.datetime | None = None,
    observe: prometheus.Plan | None = None,
    canary: bool = False,
    brokers: int = 0,
    secure: How | None = None,
) -> tuple[Stack, Fleet]:
    """Everything up and ready: broker and database, roles and schemas, topics, processes. Idempotent.

    Args:
        name: Name of the stack.
        counts: How many of each process (`Fleet.start`).
        env: Settings for every process, kept for later starts on this stack.
        ports: Wished ports by name: `kafka`, `postgres`, `intake`, `marketplace`, `smtp`; 0 or none: any, chosen once.
        begins: Business time at which a new installation's clock stands until it is stepped; one that has run before
            keeps its clock.
        observe: How Prometheus and Alertmanager observe it; none: they are not started, and left alone if they run.
        canary: Whether a canary runs (docs/operating.md, "Canary"), with a listing of its own in the demo marketplace.
        brokers: One, or three that replicate each other; 0: as many as the stack has, else one.
        secure: How processes log in at a new stack's broker, whose links are secured; none: as the stack has it.

    Raises:
        StackError: a part does not start.
    """
    wished = dict(ports or {})
    stack = Stack.start(
        root(), name, kafka_port=wished.pop("kafka", 0), postgres_port=wished.pop("postgres", 0), brokers=brokers,
        secure=secure,
    )  # fmt: skip
    for part, port in wished.items():
        stack.port(part, port)
    prepare(stack, {**(env or {}), **(canary_settings(stack) if canary else {})})
    if begins is not None:
        begin(stack, begins)
    if observe is not None:
        stack.environment(GOODFAITH_PROMETHEUS_URL=stack.prometheus_url())
    processes = Fleet.start(stack, counts)
    if observe is not None:
        stack.observe(observe)
    processes.wait_ready()
    if canary and "marketplace.0" in processes.processes:
        offer_canary_listing(stack)
    return stack, processes


def canary_settings(stack: Stack) -> dict[str, str]:
    """Settings by which a canary runs on a local stack."""
    return {
        "GOODFAITH_CANARY_LISTING": CANARY_LISTING,
        "GOODFAITH_CANARY_MAIL": "canary@canary.example",
        "GOODFAITH_CANARY_PAGE": f"http://127.0.0.1:{stack.port('marketplace')}/items/{CANARY_LISTING}",
    }


def offer_canary_listing(stack: Stack) -> None:
    """Have the demo marketplace show the canary's listing. May be repeated.

    Raises:
        StackError: it does not take it.
    """
    import httpx

    seller = Settings.model_fields["canary_seller"].default
    try:
        answer = httpx.post(
            f"http://127.0.0.1:{stack.port('marketplace')}/seed",
            json=[{"listing": CANARY_LISTING, "seller": seller, "title": "Canary: not for sale"}],
            headers={"authorization": f"Bearer {stack.secret('internal_token')}"},
            timeout=30,
            trust_env=False,
        )
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise StackError(f"the demo marketplace does not take the canary's listing: {error}") from None


def prepare(stack: Stack, env: Mapping[str, str] | None = None, *, contract: bool = False) -> dict[str, str]:
    """Roles, schemas and topics on a running stack. Idempotent; returns contractions that are left (`migrate.migrate`).

    Raises:
        sqlalchemy.exc.DBAPIError: a migration failed.
        kafka.errors.KafkaError: the topics could not be created.
    """
    from shared import migrate

    settle(stack, env)
    left = migrate.migrate(stack.admin_url, stack.role_passwords(*fleet.ROLES), contract=contract)
    prepare_broker(stack)
    return left


def settle(stack: Stack, env: Mapping[str, str] | None = None) -> None:
    """Keep the settings of a stack's processes, those included that are fixed with the first."""
    kept = stack.environment(**(env or {}))
    if "GOODFAITH_PARTITIONS" not in kept:
        # fixed at creation, whatever the environment says later
        stack.environment(GOODFAITH_PARTITIONS=os.environ.get("GOODFAITH_PARTITIONS", LOCAL_PARTITIONS))
    if stack.brokers > 1:
        stack.environment(GOODFAITH_REPLICATION=str(stack.brokers))
    if not {"GOODFAITH_KAFKA", "GOODFAITH_DATABASE"} & set(os.environ):
        stack.environment(GOODFAITH_BROKER_SKEW_MS=os.environ.get("GOODFAITH_BROKER_SKEW_MS", LOCAL_SKEW_MS))


def prepare_broker(stack: Stack) -> None:
    """Topics; where links are secured, logins and who may do what with the topics as well. Idempotent.

    Raises:
        StackError: a topic is otherwise than declared and cannot be changed.
        kafka.errors.KafkaError: the broker cannot be reached, or refuses.
    """
    from shared import access, topics

    settings = fleet.settings_of(stack)
    if stack.secured is None:
        topics.create(settings)
        return
    by_password = [one.name for one in access.principals(settings) if not stack.secured.by_certificate(one.name)]
    secure_broker(settings, stack.broker_passwords(*by_password))


def secure_broker(settings: Settings, passwords: Mapping[str, str]) -> None:
    """Logins, topics, and who may do what with them. Idempotent; raises what `prepare_broker` does.

    Args:
        passwords: By principal; the others log in with certificates.
    """
    from services.operator.login import at_broker
    from services.operator.topics import apply_to
    from shared import access

    at_broker(settings, {access.login(settings, name): password for name, password in passwords.items()})
    if refusals := apply_to(settings).refusals:
        raise StackError("\n".join(map(str, refusals)))


def begin(stack: Stack, begins: dt.datetime) -> None:
    """Set a new installation's clock. Later is too late: what was said of its time, watermarks above all, stays said."""
    engine = db.administer(stack.admin_url)
    with engine.begin() as connection:
        if not connection.exec_driver_sql("select exists (select from verification.partitions)").scalar():
            clock.start_at(connection, business=begins, rate=0)
    engine.dispose()


def how_secure(word: str) -> How | None:
    """How links are to be secured, from the option's word.

    Raises:
        StackError: a word that is none.
    """
    if word in ("", "0"):
        return None
    for how in HOW:
        if word == how or (word == "1" and how == HOW[0]):
            return how
    raise StackError(f"--secure takes {' or '.join(HOW)}, not {word!r}")


def describe(stack: Stack, processes: Fleet) -> dict[str, Any]:
    """Where everything is. No secrets: those are in the state file."""
    return {
        "stack": stack.name,
        "kafka": stack.kafka,
        "database": stack.admin_url.rpartition("@")[2],
        "intake": fleet.url(stack, "intake"),
        "marketplace": f"http://127.0.0.1:{stack.port('marketplace')}",
        "smtp": f"127.0.0.1:{stack.port('smtp')}",
        **stack.observers(),
        **({"status": f"http://127.0.0.1:{stack.port('status')}"} if "status.0" in processes.processes else {}),
        "state": str(stack.dir / "stack.json"),
        "logs": str(stack.dir / "log"),
        "metrics": {process.name: f"http://127.0.0.1:{process.metrics_port}/metrics" for process in processes},
    }


def _show(facts: Mapping[str, Any]) -> None:
    table = Table(Column(no_wrap=True), Column(overflow="fold"), show_header=False, box=None, pad_edge=False)
    for key, value in facts.items():
        if not isinstance(value, dict):
            table.add_row(key, str(value))
    for name, address in facts["metrics"].items():
        table.add_row(f"  {name}", address)
    console.print(table)


def counts(given: list[str]) -> dict[str, int] | None:
    """How many of each, from words such as `verification=2`; None for no words.

    Raises:
        StackError: a word that is none.
    """
    if not given:
        return None
    found = dict.fromkeys(fleet.SERVICES, 1)
    for word in given:
        name, _, number = word.partition("=")
        if not number.isdigit():
            raise StackError(f"--count takes NAME=NUMBER, not {word!r}")
        found[name] = int(number)
    return found


def up(
    stack: StackOption = "default",
    count: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER of a service's or process's instances; repeatable.")
    ] = None,
    kafka_port: Annotated[int, typer.Option(envvar="KAFKA_PORT", help="Port of the broker; 0: any.")] = 0,
    postgres_port: Annotated[int, typer.Option(envvar="POSTGRES_PORT", help="Port of the database; 0: any.")] = 0,
    intake_port: Annotated[int, typer.Option(envvar="INTAKE_PORT", help="Port of intake's HTTP API; 0: any.")] = 0,
    marketplace_port: Annotated[
        int, typer.Option(envvar="MARKETPLACE_PORT", help="Port of the demo marketplace; 0: any.")
    ] = 0,
    brokers: BrokersOption = 0,
    secure: SecureOption = "",
    begins: Annotated[
        dt.datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="A new installation's clock stands at this date (UTC), for a replay."),
    ] = None,
    observe: Annotated[
        bool, typer.Option(envvar="GOODFAITH_OBSERVE", help="Start Prometheus and Alertmanager too, when installed.")
    ] = True,
    canary: Annotated[
        bool | None,
        typer.Option("--canary/--no-canary", help="A marked claim each minute; default: yes, but with --begins."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Start broker, database and all processes, wait until they are ready, and print the addresses."""
    begun = time.monotonic()
    ports = {"kafka": kafka_port, "postgres": postgres_port, "intake": intake_port, "marketplace": marketplace_port}
    missing = prometheus.missing() if observe else []
    plan = prometheus.Plan() if observe and not missing else None
    with errors.status("starting broker, database and processes"):
        running_stack, processes = bring_up(
            stack,
            counts(count or []),
            ports=ports,
            begins=begins and begins.replace(tzinfo=dt.UTC),
            canary=begins is None if canary is None else canary,
            observe=plan,
            brokers=brokers,
            secure=how_secure(secure),
        )
    facts = describe(running_stack, processes)
    facts["seconds"] = round(time.monotonic() - begun, 2)
    _show(facts)
    if missing:
        errors.print(f"not observed: {' and '.join(missing)} not installed; {prometheus.INSTALL}", markup=False)
    if json:
        print_json(facts)


def destroy(name: str) -> None:
    """End everything of a stack and delete its data; one that is not there is no error."""
    local = Stack(root(), name)
    if local.dir.exists():
        Fleet.end(local.dir)
        local.destroy()


def down(
    stack: StackOption = "default",
    destroy: Annotated[bool, typer.Option("--destroy", help="Delete the stack's data as well.")] = False,
    processes: Annotated[
        bool,
        typer.Option("--processes", help="Stop Goodfaith's processes alone: broker, database and observers run on."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Stop the stack's processes, broker and database; what the environment names is left alone."""
    if destroy and processes:
        raise StackError("--destroy deletes what --processes leaves running: give one of them")
    local = Stack(root(), stack)
    ended: list[str] = []
    parts: list[str] = []
    if local.dir.exists():
        ended = Fleet.end(local.dir)
        parts = [name for name, runs in local.running().items() if runs and not processes]
        if destroy:
            local.destroy()
        elif not processes:
            local.stop()
    console.print(f"stopped: {', '.join([*ended, *parts]) or 'nothing was running'}")
    if json:
        print_json({"stack": stack, "stopped": [*ended, *parts], "destroyed": destroy})


def status(stack: StackOption = "default", json: JsonOption = False) -> None:
    """What runs and whether it is ready; exit 1 when something that was started is not."""
    local = running(stack, whole=False)
    rows: list[dict[str, Any]] = [
        {"name": name, "alive": runs, "ready": runs} for name, runs in local.running().items()
    ]
    for process in Fleet.load(local):
        address = f"http://127.0.0.1:{process.metrics_port}/metrics"
        rows.append(
            {
                "name": process.name,
                "alive": process.alive(),
                "ready": process.ready(),
                "pid": process.pid,
                "metrics": address,
            }
        )
    table = Table("process", "alive", "ready", "pid", "metrics")
    for row in rows:
        table.add_row(*(str(row.get(key, "")) for key in ("name", "alive", "ready", "pid", "metrics")))
    console.print(table)
    if json:
        print_json({"stack": stack, "processes": rows})
    if not all(row["ready"] for row in rows):
        raise typer.Exit(1)


def restart(
    process: Annotated[
        list[str], typer.Argument(help="Processes, or kinds of them: enforcement-worker.0, verification.")
    ],
    stack: StackOption = "default",
) -> None:
    """Stop processes of the stack in an orderly way, start them again, and wait until they are ready.

    One that hangs is killed after 20 s; one that died is started.
    """
    processes = Fleet.load(running(stack, whole=False))
    chosen = [one for one in processes if {one.name, one.name.rpartition(".")[0]} & set(process)]
    known = {name for one in chosen for name in (one.name, one.name.rpartition(".")[0])}
    if unknown := sorted(set(process) - known):
        raise StackError(f"not among the stack's processes: {', '.join(unknown)}; `goodfaith status` lists them")
    for one in chosen:
        one.restart()
    for one in chosen:
        one.wait_ready()
    console.print(f"restarted: {', '.join(one.name for one in chosen)}")


def migrate(
    stack: StackOption = "default",
    passwords: Annotated[
        Path | None,
        typer.Option(
            envvar="GOODFAITH_PASSWORDS_DIR",
            exists=True,
            file_okay=False,
            help="Folder with a file for each role (goodfaith_intake, ...) that holds the password it is to have, and for each login at the broker (intake_kafka_password, ...) if it has logins.",
        ),
    ] = None,
    contract: Annotated[
        bool,
        typer.Option("--contract", help="Take away what only the version before needed: none of it runs any more."),
    ] = False,
) -> None:
    """Bring roles, schemas and topics up to date: of the local stack, or of what the environment names.

    `GOODFAITH_DATABASE` must then be the URL of a role that may create roles and schemas; passwords that no file gives stay.
    Where the folder has passwords of logins at the broker, these get their permissions as well (`goodfaith topics apply`).
    """
    import stamina
    from kafka.errors import KafkaError

    from shared import migrate as migrations
    from shared import topics

    if named("postgres"):
        settings = Settings()
        given = read_passwords(passwords) if passwords is not None else {}
        logins = read_broker_passwords(settings, passwords) if passwords is not None else {}
        left = migrations.migrate(settings.database.get_secret_value(), given, contract=contract)
        # a broker that has just begun to listen refuses for a moment
        for attempt in stamina.retry_context(on=KafkaError, timeout=BROKER_S, attempts=None, wait_max=2.0):
            with attempt:
                if logins:
                    secure_broker(settings, logins)
                else:
                    topics.create(settings)
    else:
        left = prepare(running(stack), contract=contract)
    console.print("roles, schemas and topics are up to date")
    if left:
        what = ", ".join(f"{service} {revision}" for service, revision in left.items())
        console.print(f"once every process is of this version: goodfaith migrate --contract ({what})", markup=False)


def read_passwords(folder: Path) -> dict[str, str]:
    """The roles' passwords, by the role's short name, out of files `goodfaith_<role>`; a role without a file keeps its own.

    Raises:
        StackError: none is there, or one cannot be a password; it names the file.
    """
    found = _passwords({role: folder / f"goodfaith_{role}" for role in fleet.ROLES})
    if not found:
        names = ", ".join(f"goodfaith_{role}" for role in fleet.ROLES)
        raise StackError(f"no role's password is in {folder}: it holds files named {names}")
    return found


def read_broker_passwords(settings: Settings, folder: Path) -> dict[str, str]:
    """Read broker passwords, by principal, from files `<principal>_kafka_password`; a principal without a file is left out.

    Raises:
        StackError: one cannot be a password; it names the file.
    """
    from shared import access

    names = [one.name for one in access.principals(settings)]
    return _passwords({name: folder / f"{name}_kafka_password" for name in names})


def _passwords(files: Mapping[str, Path]) -> dict[str, str]:
    found = {}
    for name, file in files.items():
        if not file.exists():
            continue
        try:
            password = file.read_bytes()[: MOST_PASSWORD + 2].decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise StackError(f"{file} cannot be read as text: write the password into it") from None
        if not 8 <= len(password) <= MOST_PASSWORD or not password.isprintable():
            raise StackError(f"{file}: a password has 8 to {MOST_PASSWORD} printable characters on one line")
        found[name] = password
    return found


def settings(json: JsonOption = False) -> None:
    """Every setting: its environment variable, what it means, its default and its present value (secrets masked)."""
    present = Settings()
    table = Table(Column("environment", no_wrap=True, min_width=28), "meaning", "default", "present", show_lines=True)
    values: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        variable = f"GOODFAITH_{name.upper()}"
        default, value = field.get_default(call_default_factory=True), getattr(present, name)
        # a default URL holds no secret and tells the format; a present one may hold a password
        plain = default.get_secret_value() if isinstance(default, SecretStr) else default
        values[variable] = str(value) if isinstance(value, SecretStr | Path) else value
        style = "bold" if variable in os.environ else None
        table.add_row(variable, _text(field.description), _text(plain), _text(values[variable]), style=style)
    console.print(table)
    if json:
        print_json({"settings": values})


def _text(value: object) -> str:
    return "" if value is None else escape(str(value))


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (up, down, status, restart, migrate, settings):
        app.command()(command)
