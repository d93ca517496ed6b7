"""`goodfaith up | down | status | restart | env`: the local stack and Goodfaith's processes on it."""

from __future__ import annotations

import datetime as dt
import json
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from deploy.local import fleet, prometheus
from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.local.secured import HOW, How
from deploy.local.stack import Stack
from services.ops.terminal import JsonOption, YesOption, confirm, console, errors, print_json, progress, table
from shared import clock, db, sealing
from shared.failures import CommandError
from shared.settings import Settings

LOCAL_PARTITIONS = "6"
"""Fewer than the usual 24: on two cores, more partitions would only make batches smaller."""
CANARY_LISTING = "canary"
"""Listing of a local stack's canary."""
LOCAL_SKEW_MS = "20"
"""Broker and database share this machine's clock."""

StackOption = Annotated[str, typer.Option("--stack", envvar="GOODFAITH_STACK_NAME", help="Name of the local stack.")]
BrokersOption = Annotated[
    int, typer.Option(envvar="BROKERS", help="Number of brokers: 1 or 3; 0: as many as the stack has, else 1.")
]
SecureOption = Annotated[
    str,
    typer.Option(
        envvar="SECURE",
        help="Secure a new stack's links; processes log in to the broker by `password` (or 1) or `certificate`.",
    ),
]


def root() -> Path:
    """The folder that holds all local stacks (`GOODFAITH_STATE_DIR`)."""
    return Settings().state_dir


def running(name: str = "default", *, whole: bool = True) -> Stack:
    """The stack of this name, if it runs; `whole`: broker and database, else either.

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
    pictures: bool = False,
    brokers: int = 0,
    secure: How | None = None,
) -> tuple[Stack, Fleet]:
    """Start everything and wait until it is ready: broker, database, roles, schemas, topics, processes. Idempotent.

    Args:
        name: Name of the stack.
        counts: Number of instances of each process (`Fleet.start`).
        env: Settings for every process, kept for later starts on this stack.
        ports: Wanted ports by name: `kafka`, `postgres`, `intake`, `marketplace`, `smtp`; 0 or none: any, chosen once.
        begins: Business time at which a new installation's clock stands until it is stepped; one that has run before
            keeps its clock.
        observe: How Prometheus and Alertmanager observe it; None: they are not started, and left alone if they run.
        canary: Whether a canary runs (docs/how-to/canary.md), with a listing of its own in the demo marketplace.
        pictures: Whether those of the demo marketplace's listings are compared (docs/how-to/pictures.md).
        brokers: One, or three that replicate each other; 0: as many as the stack has, else one.
        secure: How processes log in to the broker of a new stack with secured links; None: as the stack has it.

    Raises:
        StackError: a part does not start.
    """
    wished = dict(ports or {})
    stack = Stack.start(
        root(),
        name,
        kafka_port=wished.pop("kafka", 0),
        postgres_port=wished.pop("postgres", 0),
        brokers=brokers,
        secure=secure,
    )
    for part, port in wished.items():
        stack.port(part, port)
    prepare(
        stack,
        {**(env or {}), **(canary_settings(stack) if canary else {}), **(picture_settings(stack) if pictures else {})},
    )
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
    """Settings of a local stack's canary."""
    return {
        "GOODFAITH_CANARY_LISTING": CANARY_LISTING,
        "GOODFAITH_CANARY_MAIL": "canary@canary.example",
        "GOODFAITH_CANARY_PAGE": f"http://127.0.0.1:{stack.port('marketplace')}/items/{CANARY_LISTING}",
    }


def picture_settings(stack: Stack) -> dict[str, str]:
    """Settings with which the demo marketplace's pictures, on this machine, may be fetched."""
    return {
        "GOODFAITH_PICTURES_HOSTS": json.dumps([f"127.0.0.1:{stack.port('marketplace')}"]),
        "GOODFAITH_PICTURES_NETWORKS": '["127.0.0.1/32"]',
        "GOODFAITH_PICTURES_HTTP": "true",
    }


def offer_canary_listing(stack: Stack) -> None:
    """Publish the canary's listing in the demo marketplace. Idempotent.

    Raises:
        StackError: the marketplace does not accept it.
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
    """Create roles, schemas and topics on a running stack. Idempotent.

    Returns the contractions that are left (`migrate.migrate`).

    Raises:
        sqlalchemy.exc.DBAPIError: a migration failed.
        kafka.errors.KafkaError: the topics could not be created.
    """
    from shared import migrate

    settle(stack, env)
    left = migrate.migrate(stack.admin_url, stack.role_passwords(*fleet.ROLES), contract=contract)
    prepare_broker(stack)
    fleet.hand_over(stack)
    return left


def settle(stack: Stack, env: Mapping[str, str] | None = None) -> None:
    """Store the settings of a stack's processes, including those that never change after the first start."""
    kept = stack.environment(**(env or {}))
    if "GOODFAITH_PARTITIONS" not in kept:
        # fixed at creation, whatever the environment says later
        stack.environment(GOODFAITH_PARTITIONS=os.environ.get("GOODFAITH_PARTITIONS", LOCAL_PARTITIONS))
    if stack.brokers > 1:
        stack.environment(GOODFAITH_REPLICATION=str(stack.brokers))
    if not {"GOODFAITH_KAFKA", "GOODFAITH_DATABASE"} & set(os.environ):
        stack.environment(GOODFAITH_BROKER_SKEW_MS=os.environ.get("GOODFAITH_BROKER_SKEW_MS", LOCAL_SKEW_MS))


def prepare_broker(stack: Stack) -> None:
    """Create topics and, if links are secured, logins and permissions. Idempotent.

    Raises:
        StackError: a topic differs from its declaration and cannot be changed.
        kafka.errors.KafkaError: the broker cannot be reached, or refuses.
    """
    from services.ops.migrate import secure_broker
    from shared import access, topics

    settings = fleet.settings_of(stack)
    if stack.secured is None:
        topics.create(settings)
        return
    by_password = [one.name for one in access.principals(settings) if not stack.secured.by_certificate(one.name)]
    secure_broker(settings, stack.broker_passwords(*by_password))


def begin(stack: Stack, begins: dt.datetime) -> None:
    """Set a new installation's clock. Once it has run it is too late: watermarks that were published stay valid."""
    engine = db.administer(stack.admin_url)
    with engine.begin() as connection:
        if not connection.exec_driver_sql("select exists (select from verification.partitions)").scalar():
            clock.start_at(connection, business=begins, rate=0)
    engine.dispose()


def how_secure(word: str) -> How | None:
    """How to secure links, from the option's value.

    Raises:
        CommandError: the value is invalid.
    """
    if word in ("", "0"):
        return None
    for how in HOW:
        if word == how or (word == "1" and how == HOW[0]):
            return how
    raise CommandError(f"--secure takes {' or '.join(HOW)}, not {word!r}")


def describe(stack: Stack, processes: Fleet) -> dict[str, Any]:
    """The addresses of everything. No secrets: those are in the state file."""
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
    grid = Table(Column(no_wrap=True), Column(overflow="fold"), show_header=False, box=None, pad_edge=False)
    for key, value in facts.items():
        if not isinstance(value, dict):
            grid.add_row(key, str(value))
    for name, address in facts["metrics"].items():
        grid.add_row(f"  {name}", address)
    console.print(grid)


def counts(given: list[str]) -> dict[str, int] | None:
    """Numbers of instances, from words such as `verification=2`; None without words.

    Raises:
        CommandError: a word is invalid.
    """
    if not given:
        return None
    found = dict.fromkeys(fleet.SERVICES, 1)
    for word in given:
        name, _, number = word.partition("=")
        if not number.isdigit():
            raise CommandError(f"--count takes NAME=NUMBER, not {word!r}")
        found[name] = int(number)
    return found


def up(
    stack: StackOption = "default",
    count: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER: instances of a service or process; repeatable.")
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
        typer.Option(formats=["%Y-%m-%d"], help="Hold a new installation's clock at this date (UTC), for a replay."),
    ] = None,
    observe: Annotated[
        bool, typer.Option(envvar="GOODFAITH_OBSERVE", help="Start Prometheus and Alertmanager too, if installed.")
    ] = True,
    canary: Annotated[
        bool | None,
        typer.Option("--canary/--no-canary", help="File a marked claim each minute; default: yes, not with --begins."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Start broker, database and all processes, wait until they are ready, and print the addresses."""
    begun = time.monotonic()
    ports = {"kafka": kafka_port, "postgres": postgres_port, "intake": intake_port, "marketplace": marketplace_port}
    missing = prometheus.missing() if observe else []
    plan = prometheus.Plan() if observe and not missing else None
    with progress("starting broker, database and processes"):
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
    """Stop everything of a stack and delete its data; does nothing if there is no such stack."""
    local = Stack(root(), name)
    if local.dir.exists():
        Fleet.end(local.dir)
        local.destroy()


def confirm_replacing(*names: str, own: Sequence[str], yes: bool) -> None:
    """Ask before stacks are replaced that are not an experiment's own.

    Args:
        names: Stacks that an experiment is about to destroy; those that do not exist are left out.
        own: Names that the experiment uses by default: these are its own and may always be destroyed.

    Raises:
        CommandError: The user did not agree, or there is no terminal to ask on.
    """
    if others := [name for name in names if name not in own and Stack(root(), name).dir.exists()]:
        confirm(f"Replace {', '.join(others)}, with all data?", yes=yes)


def down(
    stack: StackOption = "default",
    destroy: Annotated[bool, typer.Option("--destroy", help="Delete the stack's data as well.")] = False,
    processes: Annotated[
        bool,
        typer.Option("--processes", help="Stop only Goodfaith's processes, not broker, database and observers."),
    ] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Stop the stack's processes, broker and database; what the environment names is left alone."""
    if destroy and processes:
        raise CommandError("--destroy deletes what --processes leaves running: give one of them")
    confirm(f"Delete stack {stack} with all its data?", yes=yes or not destroy)
    local = Stack(root(), stack)
    ended: list[str] = []
    parts: list[str] = []
    if local.dir.exists():
        with progress("stopping processes") as tell:
            ended = Fleet.end(local.dir)
            parts = [name for name, runs in local.running().items() if runs and not processes]
            tell("stopping database and broker")
            if destroy:
                local.destroy()
            elif not processes:
                local.stop()
    console.print(f"stopped: {', '.join([*ended, *parts]) or 'nothing was running'}")
    if json:
        print_json({"stack": stack, "stopped": [*ended, *parts], "destroyed": destroy})


def status(stack: StackOption = "default", json: JsonOption = False) -> None:
    """Show what runs and whether it is ready; exit 1 if something that was started is not."""
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
    grid = table("process", "state", "pid", "metrics")
    for row in rows:
        state = "ready" if row["ready"] else "not ready" if row["alive"] else "not running"
        address = str(row.get("metrics", "")).removeprefix("http://").removesuffix("/metrics")
        grid.add_row(row["name"], state, str(row.get("pid", "")), address)
    console.print(grid)
    if json:
        print_json({"stack": stack, "processes": rows})
    if not all(row["ready"] for row in rows):
        raise typer.Exit(1)


def restart(
    process: Annotated[
        list[str], typer.Argument(help="Processes or kinds of them, such as enforcement-worker.0 or verification.")
    ],
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Stop processes of the stack gracefully, start them again, and wait until they are ready.

    One that hangs is killed after 20 s; one that died is started.
    """
    processes = Fleet.load(running(stack, whole=False))
    chosen = [one for one in processes if {one.name, one.name.rpartition(".")[0]} & set(process)]
    known = {name for one in chosen for name in (one.name, one.name.rpartition(".")[0])}
    if unknown := sorted(set(process) - known):
        raise CommandError(f"not among the stack's processes: {', '.join(unknown)}; `goodfaith status` lists them")
    with progress("restarting"):
        for one in chosen:
            one.restart()
        for one in chosen:
            one.wait_ready()
    console.print(f"restarted: {', '.join(one.name for one in chosen)}")
    if json:
        print_json({"stack": stack, "restarted": [one.name for one in chosen]})


def shell_variables(stack: Stack) -> dict[str, str]:
    """Addresses and tokens of a local stack, for a newcomer's shell. The tokens allow everything on it.

    Raises:
        CommandError: it is not a local stack.
        StackError: a process that the addresses lead to does not run.
    """
    if not stack.ours:
        raise CommandError("the environment names an installation: tokens are printed for a local stack only")
    processes = Fleet.load(stack).processes
    needed = ("intake-api.0", "marketplace.0", "mailbox.0")
    if absent := [name for name in needed if name not in processes or not processes[name].alive()]:
        raise StackError(f"not running on stack {stack.name!r}: {', '.join(absent)}; `goodfaith up` starts all")
    found = {
        "INTAKE": fleet.url(stack, "intake"),
        "OPERATOR_TOKEN": stack.secret("operator_token"),
        "MARKETPLACE": f"http://127.0.0.1:{stack.port('marketplace')}",
        "MARKETPLACE_TOKEN": stack.secret("internal_token"),
        "KAFKA": stack.kafka,
        "FEED_KEY": sealing.public_text(sealing.private_key("feed_key", stack.secret("feed_key"))),
        "MAILBOX": str(stack.dir / "mailbox.jsonl"),
    }
    if stack.secured is not None:
        found["CURL_CA_BUNDLE"] = str(stack.secured.authority.certificate)
    return found


def env(
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Print a local stack's addresses and tokens as shell lines: `eval "$(.venv/bin/goodfaith env)"`."""
    variables = shell_variables(running(stack))
    if json:
        print_json(variables)
        return
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (up, down, status, restart, env):
        app.command()(command)
