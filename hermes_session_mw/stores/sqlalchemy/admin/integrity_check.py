"""The SQL that checks whether the tables agree; nothing is written, and no row is locked.

All rows of a range of keys are read in one snapshot. So rows without a session are found too, and
a write in progress is not mistaken for damage.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, DateTime, String, Table, TextClause, inspect, select, text

from hermes_session_mw.database.connection import Database, Row, text_of
from hermes_session_mw.database.transactions import snapshot
from hermes_session_mw.stores.sqlalchemy.admin.answer_queries import problems_of, read_answers
from hermes_session_mw.stores.sqlalchemy.admin.models import Problem
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    archive,
    counters,
    messages,
    metadata,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.statements.keyset import position, ranged
from hermes_session_mw.stores.sqlalchemy.statements.session_row import SessionRow

Key = tuple[str, str]
"""An owner and an id."""


_sessions = select(
    sessions.c.owner,
    sessions.c.id,
    sessions.c.first_seq,
    sessions.c.next_seq,
    sessions.c.turns,
    sessions.c.archived,
    sessions.c.deleted_at.is_not(None),
    sessions.c.answer_fence,
)
_numbered = {"message": (messages, messages.c.seq), "archived message": (archive, archive.c.number)}


_SESSIONS = ranged(_sessions, sessions.c.owner, sessions.c.id)
_ROWS = {
    kind: ranged(
        select(table.c.owner, table.c.session_id, number, table.c.body).order_by(
            table.c.owner, table.c.session_id, number
        ),
        table.c.owner,
        table.c.session_id,
    )
    for kind, (table, number) in _numbered.items()
}


class _Session(NamedTuple):
    """A session's row; None where there is none."""

    row: SessionRow | None = None
    answer_fence: int | None = None


_ABSENT = _Session()
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
    """Return a problem for each missing table, column and index."""
    return [Problem(what) for what in _missing(inspect(database.connection))]


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


def check_range(database: Database, after: Key, to: Key | None) -> list[Problem]:
    """Return the problems of the sessions after one key up to another, or to the end."""
    parameters = position("after", after) | ({} if to is None else position("to", to))
    form = database.dialect, to is not None
    with snapshot(database):
        known = {
            (text_of(owner), text_of(id_)): _Session(
                SessionRow(first, end, turns, archived, is_deleted=bool(deleted)), answer_fence
            )
            for owner, id_, first, end, turns, archived, deleted, answer_fence in database.rows(
                _SESSIONS[form], parameters
            )
        }
        rows = {kind: database.rows(forms[form], parameters) for kind, forms in _ROWS.items()}
        answers = read_answers(database, form, parameters)
    of_kind = {kind: _by_session(found) for kind, found in rows.items()}
    problems = []
    keys = {*known, *(key for found in of_kind.values() for key in found), *answers}
    for key in sorted(keys):
        owner, session_id = key
        session, answer_fence = known.get(key, _ABSENT)
        texts = {kind: found.get(key, []) for kind, found in of_kind.items()}
        is_there = session is not None and not session.is_deleted
        told = problems_of(answers.get(key, ()), answer_fence, is_there=is_there)
        problems += [Problem(what, session_id, owner) for what in _problems(session, texts)]
        problems += [Problem(what, session_id, owner) for what in told]
    return problems


def _missing(inspector: Any) -> Iterator[str]:
    for table in metadata.sorted_tables:
        if not inspector.has_table(table.name):
            yield f"the table {table.name} is missing"
            continue
        columns = {column["name"] for column in inspector.get_columns(table.name)}
        for name in sorted(set(table.columns.keys()) - columns):
            yield f"the column {table.name}.{name} is missing"
        indexes = {index["name"] for index in inspector.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexes:
                yield f"the index {index.name} is missing"


def _by_session(rows: Sequence[Row]) -> dict[Key, list[tuple[int, str]]]:
    grouped = itertools.groupby(rows, key=lambda row: (text_of(row[0]), text_of(row[1])))
    return {key: [(int(number), body) for *_, number, body in each] for key, each in grouped}


def _problems(session: SessionRow | None, texts: dict[str, list[tuple[int, str]]]) -> Iterator[str]:
    if session is not None and not session.turns and session.end > session.first:
        yield "it counts messages, and no turn"
    for kind, rows in texts.items():
        numbers = [number for number, _ in rows]
        if session is not None:
            yield from _gaps(kind, numbers, *_ends(kind, session))
        elif rows:
            yield f"there is no session for {len(rows)} {kind}s"
        for number, body in rows:
            if not _is_object(body):
                yield f"{kind} {number} is not a JSON object"


def _ends(kind: str, session: SessionRow) -> tuple[int, int]:
    """Return the first of the numbers that the session's rows should have, and the one after."""
    if session.is_deleted:
        return 0, 0
    return (session.first, session.end) if kind == "message" else (0, session.archived)


def _gaps(kind: str, numbers: list[int], first: int, end: int) -> Iterator[str]:
    count = max(end - first, 0)
    # Ordered, all different, and as many as the session counts: they are complete.
    if len(numbers) == count and (not numbers or (numbers[0], numbers[-1]) == (first, end - 1)):
        return
    yield f"it counts {count} {kind}s, numbered from {first}, and has {len(numbers)}"
    found = set(numbers)
    gap = next((number for number in range(first, end) if number not in found), None)
    if gap is not None:
        yield f"{kind} {gap} is missing"


def _is_object(body: str) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False
