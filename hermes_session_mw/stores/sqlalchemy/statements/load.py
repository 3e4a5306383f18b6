"""The SQL that loads a history, or its newest messages."""

from typing import Any

from sqlalchemy import Select, Text, and_, bindparam, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from hermes_session_mw.database.connection import Database
from hermes_session_mw.messages import parse_messages
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.models import MAX_INTEGER
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IN_SESSION,
    IS_SESSION,
    Target,
    messages,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, Join, joins, reads
from hermes_session_mw.stores.sqlalchemy.statements.history_texts import (
    PORTION,
    SEPARATOR,
    HistoryTexts,
)
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import (
    LOOK,
    ONE_ROW,
    Look,
    begin_look,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import LENGTH

_in_order = select(messages.c.seq, messages.c.body).where(*IN_SESSION).order_by(messages.c.seq)
# The history's first number, which a compaction raises above 0: a lookup at the key's beginning.
_first = select(func.min(messages.c.seq)).where(*IN_SESSION).scalar_subquery()
_newest: Select[Any] = (
    select(messages.c.seq, messages.c.body)
    .where(*IN_SESSION)
    .order_by(messages.c.seq.desc())
    .limit(bindparam("newest"))
)
_part = _newest.subquery()


class _joined(FunctionElement[str]):  # noqa: N801  # used like a function
    """The texts of all rows in the order of their numbers, with commas between."""

    type: TypeEngine[str] = Text()
    inherit_cache: bool | None = True


_JOINED = {
    "sqlite": "group_concat({0}, ',')",
    "postgresql": "string_agg({0}, ',' || chr(10) ORDER BY {1})",
}


@compiles(_joined)
def _compile_joined(element: _joined, compiler: SQLCompiler, **options: Any) -> str:
    text, number = (compiler.process(each, **options) for each in element.clauses)
    return _JOINED[compiler.dialect.name].format(text, number)


def _join(rows: Select[Any], *more: Any, numbered: bool) -> Select[Any]:
    # sqlite3 releases the interpreter lock at each row, and all threads then contend for it;
    # asyncpg makes objects of thousands of rows while the event loop waits.
    # SQLite keeps a subquery's order, and has ORDER BY inside of the function since 3.44 alone.
    # PostgreSQL promises no such thing, and may aggregate in parallel.
    part = rows.subquery()
    # The last number, where it is needed: it costs with every row.
    last = (func.max(part.c.seq),) if numbered else ()

    def make(join: Join, *others: Any) -> Select[Any]:
        joined = join(part.c.body, part.c.seq)
        numbers = (func.min(part.c.seq), *others) if others else ()
        return select(func.count(), joined, *last, *more, *numbers).select_from(part)

    return joins(make, _joined)


class _Statements:
    """The statements that read messages, with a look or without."""

    def __init__(self, *look: Any) -> None:
        # In place of the number, which nobody needs: a third column would cost with every row.
        first = look or (messages.c.seq,)
        in_order = select(*first, messages.c.body).where(*IN_SESSION).order_by(messages.c.seq)
        self.in_order = reads(in_order, Content(1, "message", (messages.c.seq,)))
        self.from_the_end = reads(_newest.add_columns(_first, *look), Content(1, "message", (0,)))
        self.all_joined = _join(_in_order, *look, numbered=False)
        newest = select(_part).order_by(_part.c.seq)
        self.newest_joined = _join(newest, _first, *look, numbered=True)


_PLAIN = _Statements()
_LOOKING = _Statements(LOOK)
_state = select(sessions.c.deleted_at, sessions.c.turns, LENGTH)
_plain_state = _state.where(*IS_SESSION)
_looking_state = _state.add_columns(LOOK).select_from(
    ONE_ROW.outerjoin(sessions, and_(*IS_SESSION))
)


def load(
    database: Database,
    session_id: str,
    owner: str,
    limit: int | None,
    *,
    folds: bool = True,
    again: bool = True,
) -> History | HistoryTexts:
    """See `Store.load`; one statement, and a second one that finds the reason if it has no rows.

    ``folds``: whether to look for an expired answer. ``again``: whether to read once more if the
    second statement finds messages.

    Raises:
        AnswerExpired: the session's answer is to be folded first.
    """
    target = Target(of_session=session_id, of_owner=owner)
    look = begin_look(database, target) if folds else None
    statements = _PLAIN if look is None else _LOOKING
    # At least one message, because the length comes from the last one.
    newest = {} if limit is None else {"newest": min(max(limit, 1), MAX_INTEGER)}
    read = _one_row if database.dialect in _JOINED else _rows
    count, length, texts, found = read(database, statements, {**target, **newest})
    if look is not None:
        look.take(database, found)
    if not count:
        history = _without_messages(database, target, look if found is None else None)
        if again and history.length:
            return load(database, session_id, owner, limit, folds=folds, again=False)
        return history
    if limit == 0:
        return History([], length, exists=True)
    if len(texts) <= PORTION:
        return History(parse_messages(texts, count), length, exists=True)
    return HistoryTexts(texts, count, length)


def load_parsed(database: Database, **arguments: Any) -> History:
    """See `load`; parse the history too, in a worker thread."""
    found = load(database, **arguments)
    return found if isinstance(found, History) else found.parse()


def _without_messages(database: Database, target: Target, look: Look | None) -> History:
    """Return the history of a session that was rewound to its beginning, deleted, or never stored.

    A row may exist without a session: it may have been inserted for a lease.
    """
    if look is None:
        rows = database.rows(_plain_state, target)
    else:
        rows = database.rows(_looking_state, target)
        look.take(database, rows[0][3])
    deleted_at, turns, length = rows[0][:3] if rows else (None, 0, 0)
    deleted = deleted_at is not None
    exists = (turns or 0) > 0 and not deleted
    return History([], length if exists else 0, exists=exists, deleted=deleted)


def _rows(
    database: Database, statements: _Statements, parameters: dict[str, Any]
) -> tuple[int, int, str, Any]:
    """Return how many messages there are, the history's length, and the texts with commas.

    And what a look has found; None where there are no rows.
    """
    if "newest" not in parameters:
        rows = database.rows(statements.in_order, parameters)
        found = rows[0][0] if rows else None
        return len(rows), len(rows), SEPARATOR.join([row[1] for row in rows]), found
    rows = database.rows(statements.from_the_end, parameters)[::-1]
    length = rows[-1][0] + 1 - rows[0][2] if rows else 0
    found = rows[0][-1] if rows else None
    return len(rows), length, SEPARATOR.join([row[1] for row in rows]), found


def _one_row(
    database: Database, statements: _Statements, parameters: dict[str, Any]
) -> tuple[int, int, str, Any]:
    """Return the same as `_rows`, from one row."""
    if "newest" not in parameters:
        (row,) = database.rows(statements.all_joined, parameters)
        return row[0], row[0], row[1], row[-1]
    (row,) = database.rows(statements.newest_joined, parameters)
    return row[0], row[2] + 1 - row[3] if row[0] else 0, row[1], row[-1]
