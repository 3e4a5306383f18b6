"""A real PgBouncer in front of a PostgreSQL: started, paused, killed and ended by the test."""

import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import psycopg
from psycopg.pq import ExecStatus
from sqlalchemy import URL

from tests.support import postgres
from tests.support.database_server import OwnServer
from tests.support.server import free_port

POOL_SIZE = 4
"""The server connections that all clients share: far fewer than there are clients."""


class PgBouncer(OwnServer):
    """A pooler, whose ``url`` leads to one database behind it."""

    def ask(self, command: str) -> None:
        """Give a command to its console: PAUSE, RESUME, RECONNECT."""
        console = self.url.set(drivername="postgresql", database="pgbouncer")
        # By the simple protocol, the only one that it speaks itself.
        with psycopg.connect(
            console.render_as_string(hide_password=False), autocommit=True, connect_timeout=30
        ) as connection:
            answer = connection.pgconn.exec_(command.encode())
        assert answer.status == ExecStatus.COMMAND_OK, answer.error_message


def binary() -> str | None:
    """Return PgBouncer's program, if the machine has it."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def missing() -> str | None:
    """Return what has to be installed first, if anything."""
    return None if binary() else "no PgBouncer: install pgbouncer"


@contextmanager
def own_pooler(
    target: URL,
    mode: Literal["transaction", "session", "statement"],
    *,
    program: str | None = None,
    settings: str = "",
) -> Iterator[PgBouncer]:
    """Start a pooler in front of the database ``target``, and stop it after.

    ``program`` is another than the machine's; ``settings`` are more lines of its configuration.
    """
    program = program or binary()
    assert program is not None
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="hermes-pgbouncer-") as folder:
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        port = free_port()
        configuration = Path(folder) / "pgbouncer.ini"
        configuration.write_text(_configuration(target, mode, port) + settings)
        own = PgBouncer(
            [program, configuration],
            target.set(host="127.0.0.1", port=port, password=None),
            _answers,
            user=user,
            stopped_by=signal.SIGTERM,
            log=Path(folder) / "log",
            environment={},
        )
        try:
            own.start()
            yield own
        finally:
            own.stop()


def _configuration(target: URL, mode: str, port: int) -> str:
    server = {
        "host": target.host or "127.0.0.1",
        "port": target.port or 5432,
        "user": target.username or "postgres",
    }
    if target.password:
        server["password"] = target.password
    # As Debian's package has it but for these; a server connection that is lost is tried anew soon.
    return f"""
[databases]
* = {" ".join(f"{name}={value}" for name, value in server.items())}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
admin_users = {server["user"]}
pool_mode = {mode}
default_pool_size = {POOL_SIZE if mode == "transaction" else 20}
max_client_conn = 200
server_login_retry = 1
"""


def _answers(url: URL) -> bool:
    with suppress(psycopg.OperationalError):
        postgres.connect(url).close()
        return True
    return False
