"""Servers of the measures' application, their databases, and what both tell of themselves."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import URL, create_engine, make_url, text

from benchmarks.answers.served import DATABASE
from benchmarks.ports import free_port

PATIENCE = 60.0
_ROOT = Path(__file__).parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A uvicorn of one process."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, session_id: str | None = None) -> Any:
        """Return the JSON of a response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {} if session_id is None else {"X-Hermes-Session-Id": session_id}
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            body = response.read()
            if response.status != http.client.OK:
                raise RuntimeError(f"{path}: {response.status} {body[:200]!r}")
            return json.loads(body)
        finally:
            connection.close()

    def facts(self) -> dict[str, float]:
        """Return the statements and the CPU seconds of the process so far."""
        facts: dict[str, float] = self.ask("GET", "/bench/facts")
        return facts

    def begin(self, session_id: str, count: int, pause: float) -> str:
        """Begin an answer, and return its id."""
        query = f"count={count}&pause={pause}"
        return str(self.ask("POST", f"/begin?{query}", session_id))


@contextmanager
def serve(url: str, count: int, app: str = "served") -> Iterator[list[Server]]:
    """Run ``count`` servers of one database until the block ends; ``app`` is the module."""
    with ExitStack() as stack:
        yield [stack.enter_context(_serve(url, app)) for _ in range(count)]


@contextmanager
def _serve(url: str, app: str) -> Iterator[Server]:
    with TemporaryDirectory() as directory:
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "--factory", f"{__package__}.{app}:create_app"]
        command += [f"--port={port}", "--log-level=warning", "--no-access-log", "--backlog=4096"]
        command += ["--timeout-graceful-shutdown=1"]
        log = Path(directory, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  # nothing in it comes from outside
                command,
                cwd=_ROOT,
                env={**os.environ, DATABASE: url},
                stdout=output,
                stderr=output,
            )
        try:
            server = Server(port)
            _await(server, process, log)
            yield server
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _await(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            server.facts()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no server: {log.read_text()[-2000:]}") from None
            time.sleep(0.1)
        else:
            return


class Database:
    """A database of the measure's own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def transactions(self) -> int | None:
        """Return how many transactions it has had, by its own count; None if it counts none."""
        return None

    def cpu(self) -> float | None:
        """Return the CPU seconds of its processes; None if it has none."""
        return None


class _PostgreSQL(Database):
    def __init__(self, url: URL, maintenance: URL) -> None:
        super().__init__(url.render_as_string(hide_password=False))
        self._name = url.database
        self._engine = create_engine(maintenance, isolation_level="AUTOCOMMIT")

    def transactions(self) -> int:
        """See `Database.transactions`; a statement outside of a transaction is one."""
        return int(
            self._value(
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = :name"
            )
        )

    def cpu(self) -> float:
        """See `Database.cpu`; of the processes that serve its connections, on this machine."""
        pids = self._value("SELECT array_agg(pid) FROM pg_stat_activity WHERE datname = :name")
        total = 0
        for pid in pids or ():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / _TICKS

    def drop(self) -> None:
        """Remove it."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE "{self._name}" WITH (FORCE)')
        self._engine.dispose()

    def _value(self, query: str) -> Any:
        with self._engine.connect() as connection:
            return connection.execute(text(query), {"name": self._name}).scalar_one()


@contextmanager
def database(kind: str, postgresql: str) -> Iterator[Database]:
    """Make a database: ``sqlite``, or ``postgresql`` by the driver of the server's URL."""
    if kind == "sqlite":
        with TemporaryDirectory() as directory:
            yield Database(f"sqlite:///{directory}/sessions.db")
        return
    maintenance = make_url(postgresql)
    name = f"hermes_bench_{token_hex(6)}"
    made = _PostgreSQL(
        maintenance.set(database=name), maintenance.set(drivername="postgresql+psycopg")
    )
    with create_engine(
        maintenance.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    ).connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    try:
        yield made
    finally:
        made.drop()
