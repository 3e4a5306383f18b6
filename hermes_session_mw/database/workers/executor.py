"""The `Executor` protocol: runs plain functions over a connection without blocking the event loop.

`ThreadExecutor` does so for sync drivers, `AsyncioExecutor` for async ones.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.errors import INVALIDATING, classify
from hermes_session_mw.database.listener import Listener
from hermes_session_mw.database.transactions import CommitFailed

T = TypeVar("T")
Work = Callable[[Database], T]

WAIT_SHARE = 0.9
"""The part of an operation's timeout for one wait, so that the wait's own error is raised."""


class Executor(Protocol):
    """Runs functions over a connection of its engine, which the first call creates."""

    async def run(
        self, work: Work[T], *, writes: bool, seconds: float, may_join: bool = False
    ) -> T:
        """Return what ``work`` returns, after giving the connection back.

        ``writes`` says whether it begins a transaction; ``may_join``, whether its one transaction
        may be committed together with those of other calls.

        Raises:
            OperationTimeout: it took longer than ``seconds``.
        """
        ...

    def listener(self, channel: str) -> Listener:
        """Return what hears a channel of PostgreSQL's, always the same one for an event loop."""
        ...

    async def aclose(self) -> None:
        """Dispose of the engine if it is our own; a later call makes another."""
        ...


def invalidate_after(exc: Exception, connection: Connection) -> None:
    """Invalidate a connection that ``exc`` shows to be lost, or to lead to the wrong server.

    Only that one: a store that reads from a standby keeps its pool when a write fails.
    """
    cause = exc.cause if isinstance(exc, CommitFailed) else exc
    from_sqlalchemy = isinstance(cause, SQLAlchemyError) and not connection.invalidated
    if from_sqlalchemy and classify(cause).category in INVALIDATING:
        connection.invalidate()
