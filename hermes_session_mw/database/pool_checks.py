"""Which connections are used again: none older than a loss, none whose file is another now.

And how one is given up from outside of whoever waits on it.
"""

import os
import socket
import time
from contextlib import suppress
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError

Info = dict[Any, Any]
"""What is noted of a connection for as long as it lives: ``Connection.info``."""


class Check(Protocol):
    """Tells whether a connection may be used again."""

    def __call__(self, info: Info, *, writes: bool) -> bool:
        """Look at what is noted of it; ``writes`` says whether it may be written to."""
        ...


_CHECKS = "hermes_checks"
_MADE_AT = "hermes_made_at"


def check_each(engine: Engine, check: Check) -> None:
    """Have ``check`` asked before each use of a connection; another is made if it fails."""

    def connected(_connection: object, record: Any) -> None:
        record.info.setdefault(_CHECKS, []).append(check)

    def lent(_connection: object, record: Any, _proxy: object) -> None:
        if not check(record.info, writes=True):
            raise DisconnectionError("the connection is out of date")

    event.listen(engine, "connect", connected)
    event.listen(engine, "checkout", lent)


def is_fit(connection: Connection, *, writes: bool) -> bool:
    """Tell whether a connection that was kept would be lent again."""
    info = connection.info
    return all(check(info, writes=writes) for check in info[_CHECKS])


def renew_after_loss(engine: Engine) -> None:
    """Have all connections renewed that are older than the loss of one of them.

    SQLAlchemy does so by itself only where it carries a statement out itself.
    """
    error = engine.dialect.loaded_dbapi.Error
    lost_at = float("-inf")

    def connected(_connection: object, record: Any) -> None:
        record.info[_MADE_AT] = time.monotonic()

    def lost(_connection: object, _record: object, exc: BaseException | None) -> None:
        nonlocal lost_at
        # Not where it was given up for another reason, of which the others know nothing.
        if isinstance(exc, error):
            lost_at = time.monotonic()

    event.listen(engine, "connect", connected)
    event.listen(engine, "invalidate", lost)
    check_each(engine, lambda info, writes: info[_MADE_AT] > lost_at)  # noqa: ARG005  # by name


def shut_down(driver_connection: Any) -> None:
    """Shut the socket down, where the driver has one; SQLite has none, and its waits end."""
    # psycopg and mysqlclient tell it; PyMySQL keeps it to itself, and asyncio's have a transport.
    owner = driver_connection if hasattr(driver_connection, "fileno") else None
    owner = owner or getattr(driver_connection, "_sock", None)
    transport = getattr(driver_connection, "_transport", None)
    if owner is None and transport is not None:
        owner = transport.get_extra_info("socket")
    if owner is None:
        return
    # Closed meanwhile, it says so in its driver's own way.
    with suppress(Exception), socket.socket(fileno=os.dup(owner.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)
