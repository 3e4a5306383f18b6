"""The look for an expired answer, which is folded before anything else is done with its session.

An open answer has *expired* once its lease has: its writer died. Whatever works on one session
looks for that, in a statement that it sends anyway.

Applications that have no answers do not pay for it. A look also sees whether any answer is open at
all. Where none is, statements go without the look for a second (`OpenAnswers`): an answer that
begins meanwhile has a lease of several seconds (``ANSWER_LEASE`` in ``session/answer_writer.py``),
and cannot expire within that one.
"""

import time
import weakref
from collections.abc import Callable, Iterator
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

from hermes_session_mw.database.connection import Database, Row
from hermes_session_mw.exceptions import HermesSessionError
from hermes_session_mw.stores.sqlalchemy.schema.answer_tables import has_answers
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_SESSION,
    Target,
    answers,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now_in_milliseconds

NONE_OPEN, OPEN, EXPIRED = range(3)
"""The values of `LOOK`: no answer is open; one is, of any session; the session's has expired."""

TRUSTED = 1.0
"""Seconds for which no answer can expire after none was open.

An answer with a shorter lease may be folded that much later.
"""

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
        none_until: until when no answer can have expired.
    """

    __slots__ = ("_begun_at", "clock", "none_until")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock: Callable[[], float] = clock
        self.none_until: float = _NEVER
        self._begun_at = _NEVER

    def note_none(self, at: float) -> None:
        """Note that a statement that was sent at this time saw no open answer."""
        self.none_until = at + TRUSTED
        # Set first, so that of two threads at once one sees what the other has set.
        if self._begun_at >= at:
            self.none_until = _NEVER

    def note_begun(self) -> None:
        """Note that an answer has begun here: an earlier look proves nothing any more."""
        self._begun_at = self.clock()
        self.none_until = _NEVER


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
def beginning(database: Database) -> Iterator[None]:
    """Note that an answer may have begun, once everything inside is done."""
    try:
        yield
    finally:
        open_answers(database.connection.engine).note_begun()


def may_expire(database: Database) -> bool:
    """Tell whether to look for an expired answer."""
    known = open_answers(database.connection.engine)
    at = known.clock()
    if at < known.none_until:
        return False
    if has_answers(database):
        return True
    known.note_none(at)  # tables of an earlier version
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
_any = select(answers.c.id).where(answers.c.ended_at.is_(None)).correlate(None)

LOOK: ColumnElement[int] = case((_this.exists(), EXPIRED), (_any.exists(), OPEN), else_=NONE_OPEN)
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

    def take(self, found: int | None) -> None:
        """Note what was seen, None for nothing; raise ``AnswerExpired`` where that is the case."""
        if found == EXPIRED:
            raise AnswerExpired(self._target["of_session"], self._target["of_owner"])
        if found == NONE_OPEN:
            self._known.note_none(self._at)


def begin_look(database: Database, target: Target) -> Look | None:
    """Return the look that the next statement is sent with; None where none is needed."""
    known = open_answers(database.connection.engine)
    if known.clock() < known.none_until or not may_expire(database):
        return None
    return Look(known, target)


class LookingSelect:
    """A statement that reads rows of one session, sent with a look where one is needed.

    Its rows have no NULL in their first column; ``order`` are names of their columns.
    """

    def __init__(self, rows: Select[Any] | CompoundSelect[Any], *order: str) -> None:
        self._plain = rows.order_by(*order)
        part = rows.subquery()
        self._looking = (
            select(LOOK, *part.c)
            .select_from(ONE_ROW.outerjoin(part, true()))
            .order_by(*(part.c[name] for name in order))
        )

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
        look.take(rows[0][0])
        return [row[1:] for row in rows if row[1] is not None]
