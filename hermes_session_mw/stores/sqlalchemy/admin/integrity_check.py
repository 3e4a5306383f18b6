"""The SQL that checks whether the tables agree; nothing is written, and no row is locked.

All rows of a range of keys are read in one snapshot. So rows without a session are found too, and
a write in progress is not mistaken for damage.
"""

import secrets
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    DateTime,
    String,
    Table,
    TextClause,
    and_,
    case,
    func,
    inspect,
    literal_column,
    select,
    text,
)

from hermes_session_mw.database.connection import Database, Parameters, Row, text_of
from hermes_session_mw.database.dialects import SUPPORTED_DIALECTS
from hermes_session_mw.database.transactions import snapshot
from hermes_session_mw.messages import is_encrypted, needs_keys, parse_json
from hermes_session_mw.stores.sqlalchemy.admin.answer_queries import problems_of, read_answers
from hermes_session_mw.stores.sqlalchemy.admin.models import Problem
from hermes_session_mw.stores.sqlalchemy.schema.migrations import find_missing_indexes
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_STORED,
    Target,
    archive,
    counters,
    in_session,
    message_ids,
    messages,
    metadata,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, reads
from hermes_session_mw.stores.sqlalchemy.statements.keyset import is_after, position, ranged
from hermes_session_mw.stores.sqlalchemy.statements.message_ids import IS_ITS_MESSAGE
from hermes_session_mw.stores.sqlalchemy.statements.session_row import LENGTH, SessionRow

Key = tuple[str, str]
"""An owner and an id."""

RANGE = 10_000
"""Messages that are read together, and held in memory, unless one session has more."""


_sessions = select(
    sessions.c.owner,
    sessions.c.id,
    sessions.c.first_seq,
    sessions.c.next_seq,
    sessions.c.turns,
    sessions.c.archived,
    sessions.c.deleted_at.is_not(None),
    sessions.c.answer_fence,
    sessions.c.has_message_ids,
)
_numbered = {"message": (messages, messages.c.seq), "archived message": (archive, archive.c.number)}


# All rows, so that no range has more of them, whatever they are kept for.
_SIZES = {
    dialect: select(
        sessions.c.owner,
        sessions.c.id,
        case((sessions.c.deleted_at.is_(None), LENGTH + sessions.c.archived), else_=0),
        case((and_(*IS_STORED), 1), else_=0),
    )
    .where(is_after(dialect, sessions.c.owner, sessions.c.id))
    .order_by(sessions.c.owner, sessions.c.id)
    .limit(5000)
    for dialect in SUPPORTED_DIALECTS
}
_SESSIONS = ranged(_sessions, sessions.c.owner, sessions.c.id)
_each_row = {
    kind: select(table.c.owner, table.c.session_id, number, table.c.body, table.c.seq).order_by(
        table.c.owner, table.c.session_id, number
    )
    for kind, (table, number) in _numbered.items()
}
_ROWS = {
    kind: ranged(rows, _numbered[kind][0].c.owner, _numbered[kind][0].c.session_id)
    for kind, rows in _each_row.items()
}
_ROWS_OF = {kind: rows.where(*in_session(_numbered[kind][0])) for kind, rows in _each_row.items()}
for _each in (*(form for forms in _ROWS.values() for form in forms.values()), *_ROWS_OF.values()):
    reads(_each, Content(3, "message", (4,), may_lack=True), owner=0, session=1)
# SQLite returns one row for each session, with its bodies as one text between which the same number
# comes. It is another one in each process, so that no body can have it in its place.
_MARK = secrets.randbelow(2**40)
_SUMMARIES = {
    kind: ranged(
        select(
            table.c.owner,
            table.c.session_id,
            func.count(),
            func.min(number),
            func.max(number),
            func.group_concat(table.c.body, literal_column(f"',{_MARK},'")),
        ).group_by(table.c.owner, table.c.session_id),
        table.c.owner,
        table.c.session_id,
    )
    for kind, (table, number) in _numbered.items()
}


_message = select(messages.c.seq).where(IS_ITS_MESSAGE).correlate(message_ids)
_IDS = ranged(
    select(
        message_ids.c.owner,
        message_ids.c.session_id,
        func.sum(case((_message.exists(), 0), else_=1)),
    ).group_by(message_ids.c.owner, message_ids.c.session_id),
    message_ids.c.owner,
    message_ids.c.session_id,
)


class SessionSize(NamedTuple):
    """A session's row, with its number of messages, archived ones too; a row may have none."""

    owner: str
    session_id: str
    length: int
    is_stored: bool


class _Session(NamedTuple):
    """A session's row; None where there is none."""

    row: SessionRow | None = None
    answer_fence: int | None = None


class _Numbered(NamedTuple):
    """The numbers of a session's rows, and of those that have no JSON object."""

    numbers: Sequence[int]
    broken: Sequence[int]


_ABSENT = _Session()
_NONE = _Numbered([], [])
_QUICK_CHECK = text("PRAGMA quick_check(20)")


def _is_of_type(column: Column[Any]) -> str:
    """Return the condition that a value has its column's type, which SQLite does not enforce."""
    name = column.name
    if isinstance(column.type, DateTime):
        condition = f"(typeof({name}) = 'text' AND julianday({name}) IS NOT NULL)"
    else:
        kind = "text" if isinstance(column.type, String) else "integer"
        condition = f"typeof({name}) = '{kind}'"
    return f"({name} IS NULL OR {condition})" if column.nullable else condition


def _wrong_type(table: Table) -> TextClause:
    right = " AND ".join(map(_is_of_type, table.columns))
    session_id = "id" if table is sessions else "session_id"
    if session_id not in table.columns:
        session_id = "NULL"
    key = "NULL, NULL" if table is counters else f"owner, {session_id}"
    names = f"{key} FROM {table.name}"
    return text(f"SELECT {names} WHERE NOT ({right}) LIMIT 20")  # the schema's names


_WRONG_TYPE = {table.name: _wrong_type(table) for table in metadata.sorted_tables}


def missing(database: Database) -> list[Problem]:
    """Return a problem for each missing table and column."""
    return [Problem(what) for what in _missing(inspect(database.connection))]


def missing_indexes(database: Database) -> list[Problem]:
    """Return a problem for each index that a table lacks."""
    inspector = inspect(database.connection)
    return [
        Problem(f"the index {index.name} is missing")
        for table in metadata.sorted_tables
        if inspector.has_table(table.name)
        for index in find_missing_indexes(inspector, table)
    ]


def damage(database: Database) -> list[Problem]:
    """Return the problems of SQLite's file and values; other databases check theirs."""
    if database.dialect != "sqlite":
        return []
    found = [" ".join(what.split()) for (what,) in database.rows(_QUICK_CHECK, {})]
    problems = [Problem(f"SQLite: {what}") for what in found if what != "ok"]
    return problems or [
        Problem(
            f"a row of {name} has a value of another type",
            *(None if key is None else text_of(key) for key in (id_, owner)),
        )
        for name, statement in _WRONG_TYPE.items()
        for owner, id_ in database.rows(statement, {})
    ]


def sizes(database: Database, after: Key) -> list[SessionSize]:
    """Return the next rows of sessions in the order of owner and id, with their lengths."""
    rows = database.rows(_SIZES[database.dialect], position("after", after))
    return [
        SessionSize(text_of(owner), text_of(id_), int(kept), bool(stored))
        for owner, id_, kept, stored in rows
    ]


def check_range(database: Database, after: Key, to: Key | None) -> list[Problem]:
    """Return the problems of the sessions after one key up to another, or to the end."""
    parameters = position("after", after) | ({} if to is None else position("to", to))
    form = database.dialect, to is not None
    with snapshot(database):
        known = {
            (text_of(owner), text_of(id_)): _Session(
                SessionRow(
                    first, end, turns, archived, is_deleted=bool(deleted), has_ids=bool(has_ids)
                ),
                answer_fence,
            )
            for owner, id_, first, end, turns, archived, deleted, answer_fence, has_ids in (
                database.rows(_SESSIONS[form], parameters)
            )
        }
        stray_ids = {
            (text_of(owner), text_of(session_id)): int(stray)
            for owner, session_id, stray in database.rows(_IDS[form], parameters)
        }
        of_kind = {kind: _read(database, kind, form, parameters) for kind in _numbered}
        answers = read_answers(database, form, parameters)
    problems = []
    keys = {*known, *(key for found in of_kind.values() for key in found), *answers, *stray_ids}
    for key in sorted(keys):
        owner, session_id = key
        session, answer_fence = known.get(key, _ABSENT)
        numbered = {kind: found.get(key, _NONE) for kind, found in of_kind.items()}
        is_there = session is not None and not session.is_deleted
        told = problems_of(answers.get(key, ()), answer_fence, is_there=is_there)
        problems += [Problem(what, session_id, owner) for what in _problems(session, numbered)]
        problems += [Problem(what, session_id, owner) for what in told]
        of_ids = _id_problems(session, stray_ids.get(key))
        problems += [Problem(what, session_id, owner) for what in of_ids]
    return problems


def _missing(inspector: Any) -> Iterator[str]:
    for table in metadata.sorted_tables:
        if not inspector.has_table(table.name):
            yield f"the table {table.name} is missing"
            continue
        columns = {column["name"] for column in inspector.get_columns(table.name)}
        for name in sorted(set(table.columns.keys()) - columns):
            yield f"the column {table.name}.{name} is missing"


def _read(
    database: Database, kind: str, form: tuple[str, bool], parameters: Parameters
) -> dict[Key, _Numbered]:
    """Return what the sessions of a range have in a table; ``form`` is as for `ranged`."""
    if database.dialect != "sqlite" or database.encrypts:
        return _by_session(database.rows(_ROWS[kind][form], parameters))
    grouped: dict[Key, _Numbered] = {}
    for owner, session_id, count, first, last, bodies in database.rows(
        _SUMMARIES[kind][form], parameters
    ):
        if count == last - first + 1 and _are_objects(bodies, count):
            grouped[owner, session_id] = _Numbered(range(first, last + 1), ())
        else:
            target = Target(of_session=session_id, of_owner=owner)
            grouped.update(_by_session(database.rows(_ROWS_OF[kind], target)))
    return grouped


def _by_session(rows: Sequence[Row]) -> dict[Key, _Numbered]:
    """Return the numbers of each session's rows, which come together and in order.

    A body is looked at here, and not kept.
    """
    grouped: dict[Key, _Numbered] = {}
    last_owner = last_id = None
    numbers: list[int] = []
    broken: list[int] = []
    for owner, session_id, number, body, _ in rows:
        if session_id != last_id or owner != last_owner:
            last_owner, last_id, numbers, broken = owner, session_id, [], []
            grouped[text_of(owner), text_of(session_id)] = _Numbered(numbers, broken)
        numbers.append(number)
        if body is None or not _is_object(body):
            broken.append(number)
    return grouped


def _problems(session: SessionRow | None, numbered: dict[str, _Numbered]) -> Iterator[str]:
    if session is not None and not session.turns and session.end > session.first:
        yield "it counts messages, and no turn"
    for kind, (numbers, broken) in numbered.items():
        if session is not None:
            yield from _gaps(kind, numbers, *_ends(kind, session))
        elif numbers:
            yield f"there is no session for {len(numbers)} {kind}s"
        for number in broken:
            yield f"{kind} {number} is not a JSON object"


def _id_problems(session: SessionRow | None, stray: int | None) -> Iterator[str]:
    """Yield the problems of messages' ids; None for ``stray`` where there is none."""
    if stray is None:
        return
    if session is not None and not session.has_ids:
        yield "it does not say that its messages have ids"
    if stray:
        yield f"there is no message for {stray} ids"


def _ends(kind: str, session: SessionRow) -> tuple[int, int]:
    """Return the first of the numbers that the session's rows should have, and the one after."""
    if session.is_deleted:
        return 0, 0
    return (session.first, session.end) if kind == "message" else (0, session.archived)


def _gaps(kind: str, numbers: Sequence[int], first: int, end: int) -> Iterator[str]:
    count = max(end - first, 0)
    # Ordered, all different, and as many as the session counts: they are complete.
    if len(numbers) == count and (not numbers or (numbers[0], numbers[-1]) == (first, end - 1)):
        return
    yield f"it counts {count} {kind}s, numbered from {first}, and has {len(numbers)}"
    found = set(numbers)
    gap = next((number for number in range(first, end) if number not in found), None)
    if gap is not None:
        yield f"{kind} {gap} is missing"


def _are_objects(bodies: str, count: int) -> bool:
    """Tell whether ``bodies`` are so many JSON objects, parsed in one go."""
    try:
        values = parse_json(f"[{bodies}]")
    except (ValueError, RecursionError):
        return False
    # A body that is no value by itself, or several, would move a mark, or take one in.
    marks, objects = values[1::2], values[::2]
    return marks == [_MARK] * (count - 1) and all(type(each) is dict for each in objects)


def _is_object(body: str) -> bool:
    if is_encrypted(body):
        raise needs_keys()
    try:
        return isinstance(parse_json(body), dict)
    except (ValueError, RecursionError):
        return False
