"""Every statement that has content says so, where it is made: else it would be stored plain."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    BindParameter,
    Column,
    Delete,
    Executable,
    Insert,
    Null,
    Select,
    Table,
    Update,
)
from sqlalchemy.sql import ClauseElement, CompoundSelect, visitors
from sqlalchemy.sql.functions import FunctionElement

from hermes_session_mw.stores.sqlalchemy import admin, statements
from hermes_session_mw.stores.sqlalchemy.schema import checkpoint_tables, tables
from hermes_session_mw.stores.sqlalchemy.statements import content, load_range
from hermes_session_mw.stores.sqlalchemy.statements.content import COPIES, MOVES, READ, WRITTEN

CONTENT = {
    tables.sessions: {"title", "metadata"},
    tables.messages: {"body"},
    tables.archive: {"body"},
    tables.answers: {"question", "begun", "message"},
    tables.answer_events: {"body", "growth"},
    checkpoint_tables.checkpoints: {"body", "metadata"},
    checkpoint_tables.checkpoint_writes: {"body"},
}
COLUMNS = {table.c[name] for table, names in CONTENT.items() for name in names}
# What a store that encrypts does not execute, by its module and name.
NOT_USED = {
    "append._append_in_one",
    "load.all_joined",
    "load.newest_joined",
    "integrity_check._SUMMARIES",
    "answers._write_in_one",
    # Search and encryption exclude each other.
    "search._noted",
    "search._shown",
    "search._SHOWN",
    "search_index._noted",
    "search_index._NOTED",
}
# What is only asked whether it is there, or moves within the session as it is stored.
STAYS = {
    "fork_rotate_import._INSERT_IMPORTED",  # without a title, which is set later
    "session_extras._has_all",
    "checkpoints._source",
    "session_metadata.HAS_METADATA",
    "rewind_compact._ARCHIVE",
}
# Parts of other statements.
PARTS = {
    "load._in_order", "load._newest", "turns._turn", "turns._in_history", "turns._archived",
    "session_row.SESSION_INFO", "list_sessions.SESSION_INFO", "queries.SESSION_INFO",
    "list_sessions._LISTED", "queries._owned", "load_range._head", "answers._GIVEN",
    "list_sessions._rename", "read_answers._record", "integrity_check._each_row",
    "admin.queries._owned", "session_metadata.SESSION_INFO", "labelled_pages.SESSION_INFO",
    "session_words._bodies", "session_words._beginnings", "session_row._info",
}  # fmt: skip


def executables(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Executable]]:
    """Yield the statements in a module's value, in dicts, lists and objects too."""
    if isinstance(value, Executable) and isinstance(value, ClauseElement):
        if not isinstance(value, FunctionElement):
            yield name, value
    elif depth < 4 and isinstance(value, dict):
        for each in value.values():
            yield from executables(each, name, depth + 1)
    elif depth < 4 and isinstance(value, list | tuple):
        for each in value:
            yield from executables(each, name, depth + 1)
    elif depth < 4 and type(value).__module__.startswith("hermes_session_mw"):
        inside = getattr(value, "__dict__", {})
        for key, each in inside.items():
            shown = name if key.startswith("_") else f"{name.split('.', maxsplit=1)[0]}.{key}"
            yield from executables(each, shown, depth + 1)


def all_statements() -> Iterator[tuple[str, Executable]]:
    for package in (statements, admin):
        for module in pkgutil.iter_modules(package.__path__):
            if module.name == "content":
                continue
            loaded = importlib.import_module(f"{package.__name__}.{module.name}")
            for key, value in vars(loaded).items():
                yield from executables(value, f"{module.name}.{key}")
    for form in ((False, False), (True, False), (False, True), (True, True)):
        made = load_range._statement(from_the_end=form[0], since=form[1], with_ids=True)
        yield from executables(made, "load_range._statement")


def base_of(column: Any) -> set[Column[Any]]:
    """Return the tables' columns that an expression is made of."""
    found: set[Column[Any]] = set()
    for each in visitors.iterate(column):
        if isinstance(each, Column):
            found.add(each)
        for base in getattr(each, "base_columns", ()):
            if base is not each:
                found |= base_of(base)
    return found


def selects_content(statement: Executable) -> bool:
    assert isinstance(statement, Select | CompoundSelect)
    return any(not COLUMNS.isdisjoint(base_of(each)) for each in statement.selected_columns)


def writes_content(statement: Executable) -> bool:
    assert isinstance(statement, Insert | Update)
    table = statement.table
    assert isinstance(table, Table)
    inside: Any = statement
    pairs = [*(inside._values or {}).items(), *(getattr(inside, "_ordered_values", None) or ())]
    given = [each for each, value in pairs if not is_null(value)]
    given += [each for rows in inside._multi_values for row in rows for each in row]
    given += getattr(inside, "_select_names", None) or []
    return not CONTENT.get(table, set()).isdisjoint(getattr(each, "name", each) for each in given)


def is_null(value: Any) -> bool:
    """Tell whether a value is NULL in every execution."""
    is_bound = isinstance(value, BindParameter) and not value.required and value.value is None
    return is_bound or isinstance(value, Null)


@pytest.mark.parametrize("kind", ["reads", "writes"])
def test_every_statement_says_what_content_it_has(kind: str) -> None:
    """A SELECT that returns content is in `READ`, and a write that sets some in another list."""
    unsaid, seen = [], 0
    for name, statement in all_statements():
        if name in NOT_USED | STAYS | PARTS:
            continue
        if kind == "reads" and isinstance(statement, Select | CompoundSelect):
            if selects_content(statement):
                seen += 1
                if statement not in READ:
                    unsaid.append(name)
        elif kind == "writes" and isinstance(statement, Insert | Update):
            assert not isinstance(statement, Delete)
            if writes_content(statement):
                seen += 1
                if not (statement in WRITTEN or statement in MOVES or statement in COPIES):
                    unsaid.append(name)
    assert seen >= 12
    assert sorted(set(unsaid)) == []


def test_what_is_said_is_of_statements_that_are_executed() -> None:
    """Nothing is said twice of one statement in two lists."""
    assert not {*READ} & {*WRITTEN}
    assert not {*WRITTEN} & {*COPIES, *MOVES}
    assert not {*READ} & content.LOCKS
