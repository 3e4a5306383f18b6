"""A real MariaDB for the tests: one that is named, one that answers, or one that is started."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pymysql
from sqlalchemy import URL, make_url

from tests.support.database_server import OwnServer
from tests.support.server import free_port

LOCAL = URL.create("mysql+pymysql", username="root", host="127.0.0.1", port=3306, database="mysql")


def available() -> bool:
    """Tell whether there is a server, or one can be started."""
    return bool(os.environ.get("HERMES_TEST_MYSQL_URL") or answers(LOCAL) or binary())


@contextmanager
def server() -> Iterator[URL]:
    """Yield the URL of a server's own database; stop the server after if we started it."""
    named = os.environ.get("HERMES_TEST_MYSQL_URL")
    if named:
        yield make_url(named)
    elif answers(LOCAL):
        yield LOCAL
    else:
        with from_binaries() as url:
            yield url


@contextmanager
def database(server_url: URL) -> Iterator[URL]:
    """Yield the URL of a new database of our own, and drop it after."""
    name = f"hermes_test_{secrets.token_hex(6)}"
    execute(server_url, f"CREATE DATABASE `{name}`")
    try:
        yield server_url.set(database=name)
    finally:
        execute(server_url, f"DROP DATABASE `{name}`")


def execute(url: URL, statement: str) -> None:
    """Run one statement on a connection of its own."""
    with connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


def connect(url: URL) -> "pymysql.Connection[pymysql.cursors.Cursor]":
    """Return a raw connection, which commits each statement."""
    return pymysql.connect(
        host=url.host or "127.0.0.1",
        port=url.port or 3306,
        user=url.username or "root",
        password=str(url.password or ""),
        database=url.database,
        autocommit=True,
        connect_timeout=30,
    )


def answers(url: URL) -> bool:
    """Tell whether a server lets us in."""
    with suppress(pymysql.MySQLError):
        connect(url).close()
        return True
    return False


def binary() -> str | None:
    """Return the server's program, if the machine has it."""
    return shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")


@contextmanager
def from_binaries() -> Iterator[URL]:
    """Start a server of our own, and stop it after."""
    with own_server() as own:
        yield own.url


def prepare(folder: Path, user: str | None) -> list[str]:
    """Make a new server's data in ``folder``, and return the options that tell of it.

    A server that starts deletes the temporary tables that it finds in its folder for them, also
    those of another one, which runs; so each has a folder of its own. It has a database, ``test``.
    """
    options = [f"--datadir={folder}/data", f"--tmpdir={folder}"]
    subprocess.run(
        [
            "mariadb-install-db",
            "--no-defaults",
            *options,
            "--auth-root-authentication-method=normal",
        ],
        check=True, user=user, stdout=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    return options


@contextmanager
def own_server(**environment: str) -> Iterator[OwnServer]:
    """Start a server from the machine's binaries, and stop it after, whatever became of it."""
    program = binary()
    assert program is not None
    # The server refuses to run as root, and Debian's package brings a user for it.
    user = "mysql" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="hermes-mariadb-") as folder:
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        url = LOCAL.set(port=free_port())
        data = prepare(Path(folder), user)
        options = [f"--port={url.port}", "--bind-address=127.0.0.1", f"--socket={folder}/socket"]
        own = OwnServer(
            [program, "--no-defaults", *data, *options],
            url,
            answers,
            user=user,
            stopped_by=signal.SIGKILL,  # nothing of it is kept
            log=Path(folder) / "log",
            environment=environment,
        )
        try:
            own.start()
            yield own
        finally:
            own.stop()
