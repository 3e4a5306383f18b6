"""The SQL that looks whether the tables say the same; nothing is written, and no row locked.

A portion of sessions is read at one moment, all rows of its range of keys, so that rows whose
session is missing are found too, and writers that are at work are not taken for damage.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, Table, inspect, select, text

from ..surveys import Problem
from .database import Database, Row, text_of
from .ranges import is_after, is_up_to, place, snapshot
from .schema import MYSQL, archive, messages, metadata, sessions

Key = tuple[str, str]
"""An owner and an id."""


class _Session(NamedTuple):
    """A session's row."""

    first: int
    end: int
    turns: int
    archived: int
    is_deleted: bool


_sessions = select(
    sessions.c.owner,
    sessions.c.id,
    sessions.c.first_seq,
    sessions.c.next_seq,
    sessions.c.turns,
    sessions.c.archived,
    sessions.c.deleted_at.is_not(None),
)
_numbered = {
    "message": (messages, messages.c.seq),
    "archived message": (archive, archive.c.number),
}


def _ranged(statement: Select[Any], table: Table, name: str) -> dict[tuple[str, bool], Select[Any]]:
    """Return it for each dialect, with an upper end and without."""
    owner, id_ = table.c.owner, table.c[name]
    forms = {}
    for dialect in ("sqlite", "postgresql", *MYSQL):
        after = statement.where(is_after(dialect, owner, id_))
        forms[dialect, False] = after
        forms[dialect, True] = after.where(is_up_to(dialect, owner, id_))
    return forms


_SESSIONS = _ranged(_sessions, sessions, "id")
_ROWS = {
    kind: _ranged(
        select(table.c.owner, table.c.session_id, number, table.c.body).order_by(
            table.c.owner, table.c.session_id, number
        ),
        table,
        "session_id",
    )
    for kind, (table, number) in _numbered.items()
}
_QUICK_CHECK = text("PRAGMA quick_check(20)")


def missing(database: Database) -> list[Problem]:
    """Return what is missing of the tables, their columns and indexes."""
    return [Problem(what) for what in _missing(inspect(database.connection))]


def damage(database: Database) -> list[Problem]:
    """Return what SQLite finds wrong with its file; other databases look after theirs."""
    if database.dialect != "sqlite":
        return []
    found = [" ".join(what.split()) for (what,) in database.rows(_QUICK_CHECK, {})]
    return [Problem(f"SQLite: {what}") for what in found if what != "ok"]


def check_range(database: Database, after: Key, to: Key | None) -> list[Problem]:
    """Return what is wrong with the sessions from after one place up to another, or to the end."""
    values = place("after", after) | ({} if to is None else place("to", to))
    form = database.dialect, to is not None
    with snapshot(database):
        known = {
            (text_of(owner), text_of(id_)): _Session(first, end, turns, archived, bool(deleted))
            for owner, id_, first, end, turns, archived, deleted in database.rows(
                _SESSIONS[form], values
            )
        }
        rows = {kind: database.rows(forms[form], values) for kind, forms in _ROWS.items()}
    of_kind = {kind: _by_session(found) for kind, found in rows.items()}
    problems = []
    for key in sorted({*known, *(key for found in of_kind.values() for key in found)}):
        owner, session_id = key
        texts = {kind: found.get(key, []) for kind, found in of_kind.items()}
        problems += [Problem(what, session_id, owner) for what in _problems(known.get(key), texts)]
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


def _problems(session: _Session | None, texts: dict[str, list[tuple[int, str]]]) -> Iterator[str]:
    if session is not None and not session.turns and session.end > session.first:
        yield "it counts messages, and no turn"
    for kind, rows in texts.items():
        numbers = [number for number, _ in rows]
        if session is not None:
            yield from _gaps(kind, numbers, _span(kind, session))
        elif rows:
            yield f"there is no session for {len(rows)} {kind}s"
        for number, body in rows:
            if not _is_object(body):
                yield f"{kind} {number} is not a JSON object"


def _span(kind: str, session: _Session) -> range:
    """Return the numbers that the session's rows should have."""
    if session.is_deleted:
        return range(0)
    return range(session.first, session.end) if kind == "message" else range(session.archived)


def _gaps(kind: str, numbers: list[int], span: range) -> Iterator[str]:
    if numbers == list(span):
        return
    yield f"it counts {len(span)} {kind}s, numbered from {span.start}, and has {len(numbers)}"
    found = set(numbers)
    gap = next((number for number in span if number not in found), None)
    if gap is not None:
        yield f"{kind} {gap} is missing"


def _is_object(body: str) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False
