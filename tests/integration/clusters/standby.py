"""A PostgreSQL primary, and a standby that has every commit before it is acknowledged."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

from tests.integration.clusters.processes import (
    kill_tree,
    server_folder,
    server_user,
    wait_until,
)
from tests.support import postgres
from tests.support.server import free_port

_NAME = "standby"  # as the standby calls itself, and as the primary asks for it
WAITING_COMMITS = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
max_connections = 40
shared_buffers = 16MB
dynamic_shared_memory_type = mmap  # in the folder, where a killed server leaves nothing behind
hot_standby = on
"""


def missing() -> str | None:
    """Return what has to be installed before the two can be started, or None."""
    if postgres.binaries() is None:
        return "no PostgreSQL server: install postgresql"
    return None


class Server:
    """One PostgreSQL server."""

    def __init__(self, data: Path, port: int, user: str | None) -> None:
        self.data = data
        self.port = port
        self.url = postgres.LOCAL.set(port=port)
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it lets clients in."""
        options = ["-p", str(self.port), "-k", str(self.data.parent)]
        with Path(f"{self.data}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program("postgres"), "-D", self.data, *options],
                user=self._user, cwd="/", stdout=log, stderr=log,
            )  # fmt: skip
        wait_until(self._answers, 30, f"{self.data.name} to start")

    def kill(self) -> None:
        """End the server and all its processes with SIGKILL, as a power cut would."""
        if self._process is None:
            return
        kill_tree(self._process)
        self._process = None
        lines = (self.data / "postmaster.pid").read_text().splitlines()
        if len(lines) > 6:  # the system keeps the memory that the killed ones shared
            segment = lines[6].split()[1]
            subprocess.run(["ipcrm", "-m", segment], check=False, stderr=subprocess.DEVNULL)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement on a connection of its own; return its rows."""
        with postgres.connect(self.url) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def wait_for_a_waiting_commit(self) -> None:
        """Wait until some client's COMMIT waits for the standby."""
        wait_until(lambda: bool(self.execute(f"SELECT 1 {WAITING_COMMITS}")), 20, "a COMMIT")

    def wait_until_read_only(self) -> None:
        """Wait until a new session may not write."""
        self.wait_for("SELECT 1 WHERE current_setting('transaction_read_only') = 'on'")

    def wait_for(self, statement: str) -> None:
        """Wait until a statement finds something; what it names may not be there yet."""

        def found() -> bool:
            with suppress(psycopg.errors.UndefinedTable):
                return bool(self.execute(statement))
            return False

        wait_until(found, 20, statement)

    def promote(self) -> None:
        """Make the standby a primary; whoever says so knows that the old one is dead."""
        postgres.run([program("pg_ctl"), "promote", "-D", self.data, "-w"], self._user)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, Path(f"{self.data}.log").read_text()
        with suppress(psycopg.OperationalError):
            return bool(self.execute("SELECT 1"))
        return False


class Pair:
    """A primary, and its synchronous standby."""

    def __init__(self, folder: Path, user: str | None) -> None:
        ports = [free_port() for _ in range(2)]
        self.primary = Server(folder / "primary", ports[0], user)
        self.standby = Server(folder / "standby", ports[1], user)
        self._user = user

    def url(self, driver: str) -> URL:
        """Return the URL with which a client finds whichever of the two takes writes."""
        hosts = "&".join(f"host=127.0.0.1:{s.port}" for s in (self.primary, self.standby))
        return make_url(
            f"postgresql+{driver}://postgres@/postgres?{hosts}&target_session_attrs=read-write"
        )

    def start(self) -> None:
        """Start the primary, and a standby that is a copy of it and follows it."""
        data = self.primary.data
        names: list[str | Path] = ["-A", "trust", "-U", "postgres", "--no-sync"]
        postgres.run([program("initdb"), "-D", data, *names], self._user)
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(_CONFIGURATION)
        self.primary.start()
        source = f"host=127.0.0.1 port={self.primary.port} user=postgres application_name={_NAME}"
        copy: list[str | Path] = [program("pg_basebackup"), "-D", self.standby.data, "-d", source]
        postgres.run([*copy, "-R", "-c", "fast", "--no-sync"], self._user)
        self.standby.start()
        # Only now, so that the standby's copy does not have it: promoted, it must not wait for
        # a standby of its own.
        self.primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{_NAME}'")
        self.primary.execute("SELECT pg_reload_conf()")
        wait_until(self._is_synchronous, 20, "the standby to be a synchronous one")

    def kill(self) -> None:
        """End both."""
        self.standby.kill()
        self.primary.kill()

    def _is_synchronous(self) -> bool:
        return self.primary.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)]


def program(name: str) -> Path:
    """Return the path of one of the server's programs."""
    folder = postgres.binaries()
    assert folder is not None
    return folder / name


@contextmanager
def pair() -> Iterator[Pair]:
    """Yield a primary and its standby, both of which run, and leave nothing of them."""
    user = server_user("postgres")
    with server_folder("hermes-standby-", user) as folder:
        both = Pair(folder, user)
        try:
            both.start()
            yield both
        finally:
            both.kill()
