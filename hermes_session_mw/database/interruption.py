"""How an operation is interrupted; without SQLAlchemy, which a store of one's own does not need."""

import os
import socket
from contextlib import suppress
from typing import Any


class OperationTimeout(Exception):
    """An operation reached its timeout; it may still run, and succeed or fail."""


def shut_down_socket(driver_connection: Any) -> None:
    """Break a connection that another thread waits on; SQLite has no socket, and its waits end."""
    # psycopg and mysqlclient have fileno(); PyMySQL's is private, and asyncio's have a transport.
    owner = driver_connection if hasattr(driver_connection, "fileno") else None
    owner = owner or getattr(driver_connection, "_sock", None)
    transport = getattr(driver_connection, "_transport", None)
    if owner is None and transport is not None:
        owner = transport.get_extra_info("socket")
    if owner is None:
        return
    # If it was closed meanwhile, each driver raises an error of its own.
    with suppress(Exception), socket.socket(fileno=os.dup(owner.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)
