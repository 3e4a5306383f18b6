"""What carries the SQL, which is plain functions, to a database without blocking the event loop."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.errors import GIVE_UP, understand
from hermes_session_mw.database.transactions import CommitFailed

T = TypeVar("T")
Work = Callable[[Database], T]

PATIENCE = 0.9
"""The part of an operation's time that one wait may take, so that its own error comes in time."""


class TimeIsUp(Exception):
    """An operation has taken longer than it may; it may go on, and end either way."""


class Executor(Protocol):
    """Runs a function over a connection of its engine, which is made at the first call."""

    async def run(self, work: Work[T], *, writes: bool, seconds: float) -> T:
        """Return what ``work`` returns; the connection is given back before.

        ``writes`` says whether it begins a transaction.

        Raises:
            TimeIsUp: it took longer than ``seconds``.
        """
        ...

    async def aclose(self) -> None:
        """Dispose of the engine if it is our own; a later call makes another."""
        ...


def give_up_after(exc: Exception, connection: Connection) -> None:
    """Have a connection not used again of which ``exc`` says that it leads to the wrong server.

    That one alone: a store that reads a standby keeps its pool, whatever it is asked to write.
    """
    cause = exc.cause if isinstance(exc, CommitFailed) else exc
    known = isinstance(cause, SQLAlchemyError) and not connection.invalidated
    if known and understand(cause).meaning in GIVE_UP:
        connection.invalidate()
