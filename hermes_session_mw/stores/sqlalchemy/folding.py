"""The part of `SQLAlchemyStore` that folds expired answers before what meets them goes on.

A write folds in a transaction of its own, over the same connection. A read gives way to a write
first, and goes without where the database accepts none: on a standby, say, the primary will fold.
"""

from collections.abc import Callable
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.errors import refuses_writes
from hermes_session_mw.database.retry import RetryingExecutor
from hermes_session_mw.exceptions import HermesSessionError
from hermes_session_mw.stores.sqlalchemy.statements import answers
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import AnswerExpired

P = ParamSpec("P")
T = TypeVar("T")


class _WritesRefused(HermesSessionError):
    """A fold is impossible: the database accepts no writes from this user, or from anybody."""


class AnswerFolding:
    """Runs the functions of ``statements`` that raise ``AnswerExpired``."""

    max_message_bytes: int
    _retrying: RetryingExecutor
    _folds: bool = True
    """Whether reads fold; else they read what is stored, and change nothing."""

    @property
    def _max_folded_bytes(self) -> int:
        """The bytes that a folded message may have; what is more is left out."""
        return self.max_message_bytes

    async def _read_folded(self, work: Callable[..., T]) -> T:
        """Return what ``work`` reads; its keyword ``folds`` says whether to look for answers."""
        try:
            return await self._retrying.run(partial(work, folds=self._folds), writes=False)
        except AnswerExpired as expired:
            return await self._read_after_fold(work, expired)

    async def _read_after_fold(self, work: Callable[..., T], expired: AnswerExpired) -> T:
        """Fold the answer, if the database takes writes, and return what ``work`` then reads."""
        if await self._fold(expired.session_id, expired.owner):
            return await self._read_folded(work)
        return await self._retrying.run(partial(work, folds=False), writes=False)

    def _folding(
        self, work: Callable[Concatenate[Database, P], T]
    ) -> Callable[Concatenate[Database, P], T]:
        """Return ``work``, a write, that folds the expired answers which it meets."""

        def run(database: Database, /, *args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return work(database, *args, **kwargs)
            except AnswerExpired as expired:
                self._fold_over(database, expired)
            return run(database, *args, **kwargs)

        return run

    def _fold_over(self, database: Database, expired: AnswerExpired) -> None:
        """Fold the answer over a connection that is at hand."""
        answers.fold(database, expired.session_id, expired.owner, self._max_folded_bytes)

    async def _fold(self, session_id: str, owner: str) -> bool:
        """Fold the session's answer if it has expired; return whether the database takes writes."""
        try:
            await self._retrying.write(_fold, session_id, owner, self._max_folded_bytes)
        except _WritesRefused:
            return False
        return True


def _fold(database: Database, session_id: str, owner: str, max_bytes: int) -> None:
    try:
        answers.fold(database, session_id, owner, max_bytes)
    except SQLAlchemyError as exc:
        # Not retried, as another operation is: a read does not wait for a server that takes writes.
        if refuses_writes(exc):
            raise _WritesRefused from exc
        raise
