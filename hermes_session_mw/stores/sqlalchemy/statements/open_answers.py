"""The look for an expired answer, which is folded before anything else is done with its session.

An open answer has *expired* once its lease has: its writer died. Whatever works on one session
looks for that, in a statement that it sends anyway.

A look makes the statement larger, so it is sent once a second, and not each time, whether answers
run or not. It sees whether any answer's lease ends within a second. Where none does, no answer can
expire within that second, and statements go without the look (`OpenAnswers`): a writer renews its
lease when several seconds of it are left, and so long is the lease of an answer that begins
meanwhile (``ANSWER_LEASE`` in ``session/answer_writer.py``). Where some do, because their writers
died or the database is slow, a second statement lists their sessions; only these are looked at each
time.
"""

import time
import weakref
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Engine,
    Select,
    and_,
    case,
    literal_column,
    or_,
    select,
    true,
)

from hermes_session_mw.database.connection import Database, Row, text_of
from hermes_session_mw.exceptions import HermesSessionError
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import has_answers
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    Target,
    answers,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now_in_milliseconds
from hermes_session_mw.stores.sqlalchemy.statements.content import READ, Content, reads

NONE_DUE, DUE, EXPIRED = range(3)
"""The values of `LOOK`: no answer's lease ends soon; one does, of any session; the session's has.
"""

TRUSTED = 1.0
"""Seconds for which a look is trusted, and within which an answer is *due* if its lease ends.

An answer with a shorter lease may be folded that much later.
"""

MOST_DUE = 1000
"""How many due answers are told apart; where there are more, every session is looked at."""

_NEVER = float("-inf")


class AnswerExpired(HermesSessionError):
    """A session's open answer has expired: it is to be folded, and the operation repeated."""

    def __init__(self, session_id: str, owner: str) -> None:
        super().__init__("an open answer has expired")
        self.session_id: str = session_id
        self.owner: str = owner


class OpenAnswers:
    """What is known of open answers by the last look over one engine; threads share it.

    Attributes:
        clock: what tells the time, in seconds.
    """

    __slots__ = ("_known", "_shortened_at", "clock")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock: Callable[[], float] = clock
        # Until when it is trusted, and the due sessions, None for all: together, so that threads
        # see both alike.
        self._known: tuple[float, Container[tuple[str, str]] | None] = _NEVER, ()
        self._shortened_at = _NEVER

    def is_known(self) -> bool:
        """Tell whether it is known which answers may have expired."""
        return self.clock() < self._known[0]

    def is_safe(self, target: Target) -> bool:
        """Tell whether the session's answer, if it has one, cannot have expired."""
        until, due = self._known
        if self.clock() >= until or due is None:
            return False
        return (target["of_owner"], target["of_session"]) not in due

    def note(self, at: float, due: Container[tuple[str, str]] | None = ()) -> None:
        """Note what a statement saw that was sent at this time: the due sessions, None for all."""
        self._known = at + TRUSTED, due
        # Set first, so that of two threads at once one sees what the other has set.
        if self._shortened_at >= at:
            self._known = _NEVER, ()

    def note_lease(self, seconds: float) -> None:
        """Note that an answer has a lease of so many seconds: before a short one ends, look."""
        if seconds <= TRUSTED:
            self._shortened_at = self.clock()
            self._known = _NEVER, ()


# By the engine's id, which is found faster than a weak reference to it. Not by its dialect: engines
# that translate schemas differently share theirs.
_OF_ENGINE: dict[int, OpenAnswers] = {}


def open_answers(engine: Engine) -> OpenAnswers:
    """Return what is known over an engine."""
    known = _OF_ENGINE.get(id(engine))
    if known is None:
        known = _OF_ENGINE.setdefault(id(engine), OpenAnswers())
        weakref.finalize(engine, _OF_ENGINE.pop, id(engine), None)
    return known


@contextmanager
def leasing(database: Database, seconds: float) -> Iterator[None]:
    """Note that an answer may have a lease of so many seconds, once everything inside is done."""
    try:
        yield
    finally:
        open_answers(database.connection.engine).note_lease(seconds)


def may_expire(database: Database, target: Target) -> bool:
    """Tell whether to look for an expired answer of the session."""
    known = open_answers(database.connection.engine)
    if known.is_safe(target):
        return False
    at = known.clock()
    if has_answers(database):
        return True
    known.note(at)  # tables of an earlier version
    return False


IS_EXPIRED = or_(
    sessions.c.leased_until <= now_in_milliseconds(), sessions.c.answer_fence != sessions.c.fence
)
"""Whether the writer of a session's open answer has lost its lease."""

HAS_EXPIRED: ColumnElement[bool] = and_(
    sessions.c.answer_fence.is_not(None), sessions.c.deleted_at.is_(None), IS_EXPIRED
)
"""Whether the answer in a session's row has expired."""

EXPIRED_FENCE: ColumnElement[Any] = case((IS_EXPIRED, sessions.c.answer_fence))
"""The fence of the answer in a session's row if it has expired, else NULL; also of a deleted one.

It is a column of statements that lock the row or change it. Without ``IS NULL``, which is always
false in a RETURNING clause of SQLite 3.40.
"""

_this = select(sessions.c.id).where(*IS_SESSION, HAS_EXPIRED).correlate(None)
_holder = sessions.alias("holder")
# A scalar, which no planner makes a join of: a join might read all sessions for a few answers.
_is_due = (
    select(
        case(
            (_holder.c.leased_until <= now_in_milliseconds() + round(TRUSTED * 1000), 1),
            (_holder.c.answer_fence != _holder.c.fence, 1),
            else_=0,
        )
    )
    .where(
        _holder.c.owner == answers.c.owner,
        _holder.c.id == answers.c.session_id,
        _holder.c.answer_fence.is_not(None),
        _holder.c.deleted_at.is_(None),
    )
    .correlate(answers)
    .scalar_subquery()
)
_any = select(answers.c.id).where(answers.c.ended_at.is_(None), _is_due == 1).correlate(None)
_due = (
    select(answers.c.owner, answers.c.session_id)
    .where(answers.c.ended_at.is_(None), _is_due == 1)
    .limit(MOST_DUE + 1)
)

LOOK: ColumnElement[int] = case((_this.exists(), EXPIRED), (_any.exists(), DUE), else_=NONE_DUE)
"""The column of the look, in a statement that only reads."""

ONE_ROW = select(literal_column("1").label("one")).subquery("one_row")
"""What other tables are joined to, so that a statement returns a row in any case."""


class Look:
    """A look that a statement is sent with: the statement has the column `LOOK`."""

    __slots__ = ("_at", "_known", "_target")

    def __init__(self, known: OpenAnswers, target: Target) -> None:
        self._known = known
        self._at = known.clock()
        self._target = target

    def take(self, database: Database, found: int | None) -> None:
        """Note what was seen, None for nothing; raise ``AnswerExpired`` where that is the case."""
        if found == EXPIRED:
            raise AnswerExpired(self._target["of_session"], self._target["of_owner"])
        if found == NONE_DUE:
            self._known.note(self._at)
        elif found == DUE and not self._known.is_known():
            _list_due(database, self._known)


def _list_due(database: Database, known: OpenAnswers) -> None:
    """Note the sessions of due answers."""
    at = known.clock()
    rows = database.rows(_due, {})
    due = frozenset((text_of(owner), text_of(session_id)) for owner, session_id in rows)
    known.note(at, due if len(rows) <= MOST_DUE else None)


def begin_look(database: Database, target: Target) -> Look | None:
    """Return the look that the next statement is sent with; None where none is needed."""
    if not may_expire(database, target):
        return None
    return Look(open_answers(database.connection.engine), target)


class LookingSelect:
    """A statement that reads rows of one session, sent with a look where one is needed.

    Its rows have no NULL in their first column; ``order`` are names of their columns. ``content``
    is numbered by columns of theirs.
    """

    def __init__(
        self, rows: Select[Any] | CompoundSelect[Any], *order: str, content: Sequence[Content] = ()
    ) -> None:
        self._plain = rows.order_by(*order)
        part = rows.subquery()
        self._looking = (
            select(LOOK, *part.c)
            .select_from(ONE_ROW.outerjoin(part, true()))
            .order_by(*(part.c[name] for name in order))
        )
        if content:
            reads(self._plain, *content, order=order)
            READ[self._looking] = READ[self._plain].shifted(1)

    def rows(self, database: Database, target: Target, *, folds: bool, **more: Any) -> list[Row]:
        """Return the rows; without a look unless the caller ``folds``.

        Raises:
            AnswerExpired: the session's answer is to be folded first.
        """
        look = begin_look(database, target) if folds else None
        parameters = {**target, **more}
        if look is None:
            return list(database.rows(self._plain, parameters))
        rows = database.rows(self._looking, parameters)
        look.take(database, rows[0][0])
        return [row[1:] for row in rows if row[1] is not None]
