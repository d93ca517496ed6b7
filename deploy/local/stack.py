"""One local stack: a broker (or three), a database, and what was generated for them (ports, passwords, secrets).

Broker and database are those that the environment names (`GOODFAITH_KAFKA`, `GOODFAITH_DATABASE`), else our own
processes, or containers with `GOODFAITH_STACK=docker`. State is in `<root>/<name>/stack.json`, readable by its owner.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol, Self
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg2
from psycopg2 import sql

from deploy.local import cluster, kafka, postgres, prometheus, replica
from deploy.local.children import StackError, free_port, is_free
from deploy.local.cluster import NODES, NodeName
from deploy.local.secured import How, Secured, new_password
from shared.failures import CommandError
from shared.settings import Settings

PartName = Literal["kafka", "kafka-2", "kafka-3", "postgres", "standby", "prometheus", "alertmanager"]
DatabaseName = Literal["postgres", "standby"]
ENVIRONMENT: dict[PartName, str] = {"kafka": "GOODFAITH_KAFKA", "postgres": "GOODFAITH_DATABASE"}
OBSERVERS: tuple[PartName, ...] = ("alertmanager", "prometheus")
"""Parts that a stack may run without."""
DATABASES: tuple[PartName, ...] = ("postgres", "standby")
"""Either may be the primary; `replica` describes how they switch."""
PARTS: tuple[PartName, ...] = (*NODES, *DATABASES, *OBSERVERS)


def named(part: PartName) -> str:
    """The broker or database that the environment names, in a variable or a secrets file; empty if none.

    Raises:
        pydantic.ValidationError: a setting is wrong.
    """
    settings = Settings()
    given = {"kafka": ("kafka", settings.kafka), "postgres": ("database", settings.database.get_secret_value())}
    field, value = given[part]
    return value if field in settings.model_fields_set else ""


def new_secret(name: str) -> str:
    """A new secret of 32 random bytes: `..._key` in base64, others in the form of bearer tokens, which logs redact."""
    if name.endswith("_key"):
        return base64.b64encode(secrets.token_bytes(32)).decode()
    return f"gf_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


class Part(Protocol):
    """A broker or a database that we started: a process (`handle` is its pid) or a container (its id)."""

    handle: Any

    @property
    def running(self) -> bool: ...
    def adopt(self) -> None: ...
    def launch(self) -> None: ...
    def wait_ready(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class Stack:
    """A running local stack. Several processes may use the same one; a file lock guards changes of its state.

    Attributes:
        name: Name of the stack.
        dir: Folder of its state.
        kafka: Bootstrap addresses, `host:port[,host:port...]`.
        brokers: Number of our own brokers; 0: the environment names others.
        admin_url: PostgreSQL URL of the superuser, database `goodfaith`.
        ours: Whether anything was started here; otherwise it is an installation that the environment names.
        secured: Its secured links (`deploy/local/secured.py`); None: no encryption, and no logins at the broker.
    """

    def __init__(self, root: Path, name: str) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,40}", name) or name in {"cache", "lock"}:
            raise CommandError(
                f"{name!r} is no name for a stack: small letters, digits, - and _, at most 41, not cache or lock"
            )
        self.name = name
        self.dir = root.resolve() / name
        self.kafka = ""
        self.brokers = 0
        self.ours = True
        self.admin_url = ""
        self.secured: Secured | None = None
        self._lock = root.resolve() / "lock" / name
        self._saving = threading.Lock()

    @classmethod
    def start(
        cls,
        root: Path = Path(".local"),
        name: str = "default",
        *,
        kafka_port: int = 0,
        postgres_port: int = 0,
        brokers: int = 0,
        proxied: bool = False,
        standby: bool = False,
        secure: How | None = None,
    ) -> Self:
        """Start the stack, or join it if it runs already; cleans up what a crash left half-started.

        A port of 0 is chosen once and kept.

        Args:
            brokers: One, or three that replicate each other; 0: as many as it has, else one.
            proxied: Whether clients reach the brokers of a new stack through a proxy's ports.
            standby: Whether to start a second database that follows the first (`replica`); clients know both addresses.
            secure: How processes log in to the broker of a new stack with secured links; None: as it was, else not.

        Raises:
            CommandError: it runs on another port, has a different number of brokers, or secures its links in another way.
            StackError: a part does not start.
        """
        stack = cls(root, name)
        with stack._state() as state:
            stack._secure(state, secure)
            ports = {"kafka": kafka_port, "postgres": postgres_port}
            ours: list[PartName] = [part for part in ENVIRONMENT if not named(part)]
            if "kafka" in ours:
                if brokers > 1 and os.environ.get("GOODFAITH_STACK") == "docker":
                    raise CommandError("containers are one broker; several run as processes only (no GOODFAITH_STACK)")
                ours[:1] = cluster.begin(state, brokers, proxied=proxied, secured="secure" in state)
            elif brokers > 1:
                raise CommandError("GOODFAITH_KAFKA names a broker, of which no further ones are started here")
            for part in ours:
                stack._choose_port(state, part, ports.get(part, 0))
            stack._bring_all_up(state, ours)
            if standby and "postgres" in ours:
                stack._begin_standby(state)
            stack._describe(state)
        return stack

    def _secure(self, state: dict[str, Any], how: How | None) -> None:
        if how is None or state.get("secure") == how:
            return
        if any(map(named, ENVIRONMENT)) or os.environ.get("GOODFAITH_STACK") == "docker":
            raise CommandError(
                "secured links are those of a stack of processes: neither the environment's parts nor containers"
            )
        if state:
            raise CommandError(
                f"stack {self.name!r} was started with other links; destroy it first, or take another --stack"
            )
        state["secure"] = how
        Secured(self.dir, how).begin()

    @classmethod
    def join(cls, root: Path = Path(".local"), name: str = "default", *, whole: bool = True) -> Self | None:
        """The stack if it runs (`whole`: broker and database, else either), or None. Starts nothing.

        If the environment names both and no stack of this name was started here, it is an installation elsewhere: not
        `ours`, and no file is written.
        """
        stack = cls(root, name)
        if not (stack.dir / "stack.json").exists():
            stack.kafka, stack.admin_url, stack.ours = named("kafka"), named("postgres"), False
            return stack if stack.kafka and stack.admin_url else None
        with stack._state() as state:
            kinds: tuple[tuple[PartName, ...], ...] = (NODES, DATABASES)
            started = [any(part in state and stack._part(state, part).running for part in parts) for parts in kinds]
            runs = [bool(named(part)) or start for part, start in zip(ENVIRONMENT, started, strict=True)]
            if not (all if whole else any)(runs):
                return None
            stack._describe(state)
        return stack

    def observe(self, plan: prometheus.Plan | None = None) -> None:
        """Start Prometheus and Alertmanager for all processes of the stack, or have running ones load `plan`.

        Raises:
            StackError: one is not installed, does not start, or refuses its configuration.
        """
        if missing := prometheus.missing():
            raise StackError(f"{' and '.join(missing)} not installed; {prometheus.INSTALL}")
        with self._state() as state:
            for part in OBSERVERS:
                self._choose_port(state, part, 0)
            ports: dict[str, int] = {part: state[part]["port"] for part in OBSERVERS}
            plan = plan or prometheus.Plan()
            prometheus.configure(self.dir, self.dir / "targets.json", ports, plan)
            if state["prometheus"].get("speed", 1) != plan.speed:  # part of it is on its command line
                self._part(state, "prometheus").stop()
                state["prometheus"]["speed"] = plan.speed
            self._bring_all_up(state, OBSERVERS)
            for part in OBSERVERS:
                server = self._part(state, part)
                assert isinstance(server, prometheus.Server)
                server.reload()

    def prometheus_url(self) -> str:
        """URL of this stack's Prometheus, started or not: its port is chosen once."""
        with self._state() as state:
            self._choose_port(state, "prometheus", 0)
            return f"http://127.0.0.1:{state['prometheus']['port']}"

    def observers(self) -> dict[str, str]:
        """URLs of Prometheus and Alertmanager by name, if they run."""
        with self._state() as state:
            return {
                part: f"http://127.0.0.1:{state[part]['port']}"
                for part in reversed(OBSERVERS)
                if part in state and self._part(state, part).running
            }

    def stop(self) -> None:
        """Stop our broker, database and observers gracefully, but not those that the environment names; data stays."""
        self._end(lambda part: part.stop())

    def kill(self) -> None:
        """SIGKILL all our parts at once; their data stays."""
        self._end(lambda part: part.kill())

    def destroy(self) -> None:
        """Stop the stack and delete its state and data."""

        def remove(part: Part) -> None:
            part.kill()  # nothing is kept, so there is nothing to wait for
            if hasattr(part, "destroy"):
                part.destroy()

        self._end(remove)
        shutil.rmtree(self.dir, ignore_errors=True)
        self._lock.unlink(missing_ok=True)

    def kill_kafka(self, node: NodeName = "kafka") -> None:
        """SIGKILL the broker, or one of them."""
        self._kill(node)

    def start_kafka(self, *nodes: NodeName) -> None:
        """Start the broker again, or these of several (default: all), with the same ports and data."""
        with self._state() as state:
            wanted = nodes or tuple(cluster.names(state))
            for node in wanted or ("kafka",):
                self._ours(state, node)
            self._bring_all_up(state, wanted)

    def nodes(self) -> tuple[kafka.Kafka, ...]:
        """Our brokers, as processes.

        Raises:
            StackError: the environment names others, or it is a container.
        """
        with self._state() as state:
            found = [self._ours(state, name) for name in (*cluster.names(state),)]
        nodes = tuple(part for part in found if isinstance(part, kafka.Kafka))
        if not nodes or len(nodes) < len(found):
            raise StackError("the broker of this stack was not started here, or runs in a container")
        return nodes

    def kill_postgres(self, part: DatabaseName = "postgres") -> None:
        """SIGKILL the database server, or its standby, and all its sessions."""
        self._kill(part)

    def start_postgres(self, part: DatabaseName = "postgres") -> None:
        """Start the database again, with the same port and data; returns after crash recovery."""
        self._restart(part)

    def _begin_standby(self, state: dict[str, Any]) -> None:
        primary = self._part(state, "postgres")
        if not isinstance(primary, postgres.Postgres):
            raise StackError("containers have no standby")
        new = "standby" not in state
        state.setdefault("standby", {"password": state["postgres"]["password"]})
        self._choose_port(state, "standby", 0)
        if new:
            follower = self._part(state, "standby")
            assert isinstance(follower, postgres.Postgres)
            replica.copy(follower, primary, "standby")
        self._bring_up(state, "standby")

    def database(self, part: DatabaseName = "postgres") -> postgres.Postgres:
        """Our database server, or its standby, as a process.

        Raises:
            StackError: the environment names another, it is a container, or there is no standby.
        """
        with self._state() as state:
            server = self._ours(state, part)
        if not isinstance(server, postgres.Postgres):
            raise StackError("the database of this stack is a container")
        return server

    def running(self) -> dict[str, bool]:
        """Whether each of our parts runs."""
        with self._state() as state:
            return {part: self._part(state, part).running for part in PARTS if part in state}

    def role_url(self, role: str) -> str:
        """URL of the login `goodfaith_<role>`, which is created if missing, with a generated password and no grants.

        Raises:
            psycopg2.Error: the login must be created, and the database cannot be reached.
        """
        password = self.role_passwords(role)[role]
        login = f"goodfaith_{role}"
        parts = urlsplit(self.admin_url)
        place = parts.netloc.rpartition("@")[2]
        with self._state() as state:
            # created only once, so that a process can be started while the database is down
            made = state.setdefault("logins", {})
            if made.get(role) != place:
                self._make_login(login, password)
                made[role] = place
        return urlunsplit(parts._replace(netloc=f"{login}:{quote(password, safe='')}@{place}"))

    def _make_login(self, login: str, password: str) -> None:
        with contextlib.closing(psycopg2.connect(self.admin_url)) as session, session, session.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (login,))
            verb = "CREATE" if cursor.fetchone() is None else "ALTER"
            statement = sql.SQL(verb + " ROLE {} LOGIN PASSWORD {}")
            cursor.execute(statement.format(sql.Identifier(login), sql.Literal(password)))

    def role_passwords(self, *roles: str) -> dict[str, str]:
        """The generated password of each role, by the role's short name."""
        return {role: self._keep("roles", role, lambda: secrets.token_hex(24)) for role in roles}

    def broker_login(self, principal: str | None) -> dict[str, str]:
        """Settings with which a process of this stack reaches the broker and logs in; None: without a login."""
        if self.secured is None or principal is None:
            return {"GOODFAITH_KAFKA": self.kafka}
        with self._state() as state:
            address = cluster.bootstrap(state, certificates=self.secured.by_certificate(principal))
        password = self.broker_passwords(principal)[principal]
        return {"GOODFAITH_KAFKA": address, **self.secured.login(principal, password)}

    def broker_passwords(self, *principals: str) -> dict[str, str]:
        """The generated password of each principal at the broker."""
        return {name: self._keep("broker", name, new_password) for name in principals}

    def secret(self, name: str, value: str | None = None) -> str:
        """A secret of this stack, generated once (`new_secret`), or set to `value` if there is none yet."""
        return self._keep("secrets", name, lambda: value or new_secret(name))

    def port(self, name: str, wanted: int = 0) -> int:
        """The loopback port of something on this stack, chosen once; `wanted` replaces an earlier choice."""
        with self._state() as state:
            ports = state.setdefault("ports", {})
            if wanted or name not in ports:
                ports[name] = wanted or free_port(_ports(state))
            return int(ports[name])

    def environment(self, **values: str) -> dict[str, str]:
        """Settings stored for every process of this stack, after adding `values` to them."""
        with self._state() as state:
            kept: dict[str, str] = state.setdefault("environment", {})
            kept.update(values)
            return dict(kept)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the stack's lock. Not reentrant: no other method of the stack may be called meanwhile."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _state(self) -> Iterator[dict[str, Any]]:
        with self.locked():
            self.dir.mkdir(parents=True, exist_ok=True)
            try:
                state = json.loads((self.dir / "stack.json").read_bytes())
            except FileNotFoundError:
                state = {}
            before = json.dumps(state)
            yield state
            if json.dumps(state) != before:
                self._save(state)

    def _save(self, state: dict[str, Any]) -> None:
        with self._saving:
            fresh = self.dir / "stack.json.new"
            fresh.unlink(missing_ok=True)
            fresh.touch(0o600)
            fresh.write_text(json.dumps(state, indent=2))
            fresh.rename(self.dir / "stack.json")

    def _part(self, state: dict[str, Any], name: PartName) -> Part:
        kept = state[name]
        secured = Secured(self.dir, state["secure"]) if "secure" in state else None
        if name in OBSERVERS:
            log = self.dir / "log" / f"{name}.log"
            return prometheus.Server(name, self.dir / name, log, kept["port"], kept.get("handle"), kept.get("speed", 1))
        if os.environ.get("GOODFAITH_STACK") == "docker":
            from deploy.local import containers

            if name in NODES:
                return containers.Kafka(kept["port"], kept.get("handle"))
            return containers.Postgres(kept["port"], kept["password"], kept.get("handle"))
        folder, log, port, handle = self.dir / name, self.dir / "log" / f"{name}.log", kept["port"], kept.get("handle")
        if name in NODES:
            node = cluster.node(state, name)
            return kafka.Kafka(folder, log, node, handle, secured.properties(node) if secured else "")
        return postgres.Postgres(folder, log, port, kept["password"], handle, secured)

    def _choose_port(self, state: dict[str, Any], name: PartName, wanted: int) -> None:
        if state.get(name, {}).get("port") and self._running(state, name):
            if wanted not in (0, state[name]["port"]):
                raise CommandError(f"{name} of stack {self.name!r} runs on port {state[name]['port']}, not {wanted}")
            return
        kept = state.setdefault(name, {"password": secrets.token_hex(24)} if name == "postgres" else {})
        for key in cluster.ports_of(kept) if name in NODES else ("port",):
            if key == "port" and wanted:
                kept[key] = wanted
            elif key == "advertised_port" and kept[key]:
                pass  # the proxy listens there already
            elif not kept.get(key) or not is_free(kept[key]):  # taken by someone else while we were stopped
                kept[key] = free_port(_ports(state))
        if wanted and not is_free(wanted):
            raise StackError(f"port {wanted} for {name} is taken by another process")

    def _running(self, state: dict[str, Any], name: PartName) -> bool:
        part = self._part(state, name)
        if part.running:
            return True
        part.adopt()
        state[name]["handle"] = part.handle
        return part.running

    def _bring_up(self, state: dict[str, Any], name: PartName) -> None:
        part = self._part(state, name)
        if part.running:
            try:
                return part.wait_ready()
            except StackError:
                if part.running:
                    raise  # otherwise it was about to die when we joined it
        part.launch()
        with self._saving:  # other threads may be saving the state
            state[name]["handle"] = part.handle
        self._save(state)  # at once, so that a crash while waiting leaves no process unrecorded
        return part.wait_ready()

    def _bring_all_up(self, state: dict[str, Any], parts: Sequence[PartName]) -> None:
        # in parallel: several brokers are ready only together; there are none if the environment names both parts
        with ThreadPoolExecutor(max(len(parts), 1)) as pool:
            list(pool.map(lambda part: self._bring_up(state, part), parts))

    def _describe(self, state: dict[str, Any]) -> None:
        self.secured = Secured(self.dir, state["secure"]) if "secure" in state else None
        self.kafka = named("kafka")
        if not self.kafka and "kafka" in state:
            self.kafka = cluster.bootstrap(state)
            self.brokers = len(list(cluster.names(state)))
        self.admin_url = named("postgres")
        if not self.admin_url and "postgres" in state:
            servers = [state[part] for part in DATABASES if part in state]
            login = f"postgresql://{postgres.SUPERUSER}:{servers[0]['password']}@"
            if len(servers) == 1:
                self.admin_url = f"{login}127.0.0.1:{servers[0]['port']}/{postgres.DATABASE}"
            else:
                hosts, ports = ",".join(["127.0.0.1"] * len(servers)), ",".join(str(one["port"]) for one in servers)
                where = f"host={hosts}&port={ports}&target_session_attrs=read-write"
                self.admin_url = f"{login}/{postgres.DATABASE}?{where}"
            if self.secured is not None:
                self.admin_url += ("&" if "?" in self.admin_url else "?") + self.secured.query()

    def _keep(self, kind: str, name: str, make: Callable[[], str]) -> str:
        with self._state() as state:
            kept: dict[str, str] = state.setdefault(kind, {})
            if name not in kept:
                kept[name] = make()
            return kept[name]

    def _ours(self, state: dict[str, Any], name: PartName) -> Part:
        if (name in ENVIRONMENT and named(name)) or name not in state:
            raise StackError(f"{name} was not started by stack {self.name!r}")
        return self._part(state, name)

    def _kill(self, name: PartName) -> None:
        with self._state() as state:
            self._ours(state, name).kill()

    def _restart(self, name: PartName) -> None:
        with self._state() as state:
            self._ours(state, name)
            self._bring_up(state, name)

    def _end(self, how: Callable[[Part], None]) -> None:
        with self._state() as state, ThreadPoolExecutor(len(PARTS)) as pool:
            list(pool.map(how, [self._part(state, name) for name in PARTS if name in state]))


def _ports(state: dict[str, Any]) -> set[int]:
    """Every port that the stack has already given away."""
    kept = [value for name in PARTS for key, value in state.get(name, {}).items() if key.endswith("port") and value]
    return {*kept, *state.get("ports", {}).values()}
