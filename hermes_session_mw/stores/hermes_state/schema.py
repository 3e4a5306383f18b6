"""The tables of the opened file; their columns differ between versions of Hermes.

Columns that every version has are required. Later ones are used if they are there. An unknown one
that every insert would have to fill in is an error, and so is a trigger that SQLite cannot run
here, such as one that needs a tokenizer which only Hermes registers.
"""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from hermes_session_mw.database.connection import Database
from hermes_session_mw.exceptions import StoreMisconfigured
from hermes_session_mw.logging import logger
from hermes_session_mw.stores.hermes_state.message_codec import COLUMNS
from hermes_session_mw.stores.hermes_state.rules import NEWEST_RUN, Rules, rules_of

_REQUIRED = {
    "sessions": {
        "id",
        "source",
        "model_config",
        "parent_session_id",
        "started_at",
        "ended_at",
        "end_reason",
        "message_count",
        "tool_call_count",
    },
    "messages": {"id", "session_id", "role", "content", "tool_call_id", "tool_calls", "timestamp"},
}
# Every insert sets these.
_FILLED = {
    "sessions": {"id", "source", "started_at"},
    "messages": {"id", "session_id", "role", "timestamp", "active"},
}
# An insert sets these for some messages, and leaves them NULL for others.
_NULLABLE = {"sessions": {"user_id"}, "messages": set(COLUMNS)}

_VERSION = text("PRAGMA schema_version")
_INFO = {
    name: text(f"PRAGMA table_info({name})")
    for name in (
        "sessions", "messages", "state_meta", "compression_locks", "session_turn_leases",
        "schema_version",
    )
}  # fmt: skip
_HERMES_VERSION = text("SELECT max(version) FROM schema_version")
# Preparing a statement prepares its triggers too; EXPLAIN runs nothing.
_EXPLAIN_WRITES = (
    text("EXPLAIN INSERT INTO messages (session_id, role, timestamp) VALUES ('', '', 0)"),
    text("EXPLAIN DELETE FROM messages WHERE id = 0"),
    text("EXPLAIN UPDATE messages SET role = '' WHERE id = 0"),
    text("EXPLAIN INSERT INTO sessions (id, source, started_at) VALUES ('', '', 0)"),
    text("EXPLAIN DELETE FROM sessions WHERE id = ''"),
    text("EXPLAIN UPDATE sessions SET message_count = 0, parent_session_id = NULL WHERE id = ''"),
)
_EXPLAIN_REWIND = text("EXPLAIN UPDATE messages SET active = 0 WHERE id = 0")
_CACHED = "hermes_state_columns"
_warned: set[tuple[str | None, int]] = set()  # files, and the schema versions that they had


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of the file's tables, by name, and the rules for its version.

    Attributes:
        sessions: those of ``sessions``.
        messages: those of ``messages``.
        meta: those of ``state_meta``; empty if there is no such table.
        locks: those of ``compression_locks``, likewise.
        leases: those of ``session_turn_leases``, likewise.
        unknown: columns that every insert must fill in, and that this package does not know.
        failure: why SQLite cannot write sessions and messages here; None if it can.
        version: Hermes' schema version; None if the file has none.
        rules: what Hermes does with such a file.
    """

    sessions: frozenset[str]
    messages: frozenset[str]
    meta: frozenset[str]
    locks: frozenset[str]
    leases: frozenset[str]
    unknown: tuple[str, ...]
    failure: str | None
    version: int | None
    rules: Rules

    def check_writable(self) -> None:
        """Raise ``StoreMisconfigured`` if messages cannot be written as Hermes writes them."""
        if self.unknown:
            raise StoreMisconfigured(
                f"Hermes' database requires columns that this version does not know: "
                f"{', '.join(self.unknown)}; nothing was written: upgrade hermes_session_mw"
            )
        if self.failure is not None:
            raise StoreMisconfigured(
                f"Hermes' triggers cannot run in Python's SQLite ({self.failure}); nothing was "
                "written: use a SQLite that has it, or let only Hermes write"
            )

    def check_known(self, what: str, *names: str) -> None:
        """Raise ``StoreMisconfigured`` if the file lacks one of ``names`` (``table.column``)."""
        tables = {"sessions": self.sessions, "messages": self.messages, "state_meta": self.meta}
        for name in names:
            table, column = name.split(".")
            if column not in tables[table]:
                raise StoreMisconfigured(
                    f"Hermes' database has no column {name}, which {what} would need: upgrade "
                    f"Hermes Agent, or do not use {what}"
                )


def columns_of(database: Database) -> Columns:
    """Return the tables' columns, or raise ``StoreMisconfigured`` if they are not Hermes'."""
    ((changes,),) = database.rows(_VERSION, {})
    info: dict[Any, Any] = database.connection.info
    cached: tuple[int, Columns] | None = info.get(_CACHED)
    if cached is None or cached[0] != changes:
        cached = info[_CACHED] = changes, _inspect(database)
    columns = cached[1]
    if columns.version is None:
        return columns
    # Hermes may raise its version after it has changed the tables.
    version = _version(database)
    if version != columns.version:
        columns = replace(columns, version=version, rules=rules_of(version))
        info[_CACHED] = changes, columns
        _warn_of_newer(database, version)
    return columns


def _inspect(database: Database) -> Columns:
    tables = {name: database.rows(statement, {}) for name, statement in _INFO.items()}
    names = {name: frozenset(row[1] for row in rows) for name, rows in tables.items()}
    for table, required in _REQUIRED.items():
        missing = sorted(required - names[table])
        if missing:
            what = f"table {table}" if not names[table] else f"{table}.{', '.join(missing)}"
            raise StoreMisconfigured(
                f"the file is not a state.db of Hermes Agent that this version knows: no {what}"
            )
    version = _version(database) if "version" in names["schema_version"] else None
    _warn_of_newer(database, version)
    return Columns(
        sessions=names["sessions"],
        messages=names["messages"],
        meta=names["state_meta"],
        locks=names["compression_locks"],
        leases=names["session_turn_leases"],
        unknown=tuple(
            f"{table}.{row[1]}" for table in _REQUIRED for row in tables[table]
            if _is_unknown(table, row)
        ),
        failure=_find_failure(database, has_active="active" in names["messages"]),
        version=version,
        rules=rules_of(version),
    )  # fmt: skip


def _is_unknown(table: str, row: Any) -> bool:
    _, name, _, not_null, default, key = row
    may_be_null = not not_null or key or name in _FILLED[table]
    return not may_be_null and (default is None or name in _NULLABLE[table])


def _find_failure(database: Database, *, has_active: bool) -> str | None:
    """Return SQLite's own words for what it lacks, which name nothing that is stored."""
    try:
        for statement in (*_EXPLAIN_WRITES, *(_EXPLAIN_REWIND,) * has_active):
            database.rows(statement, {})
    except OperationalError as exc:
        if str(exc.orig).startswith("no such "):  # tokenizer, module, function
            return str(exc.orig)
    return None


def _version(database: Database) -> int | None:
    ((version,),) = database.rows(_HERMES_VERSION, {})
    try:
        return None if version is None else int(version)
    except ValueError:
        raise StoreMisconfigured(
            "the file is not a state.db of Hermes Agent that this version knows: its schema "
            "version is not a number"
        ) from None


def _warn_of_newer(database: Database, version: int | None) -> None:
    """Log once for each file and version that it is newer than any that this was run with."""
    if version is None or version <= NEWEST_RUN:
        return
    key = database.connection.engine.url.database, version
    if key not in _warned:
        _warned.add(key)
        logger.warning(
            "Hermes' database has schema version %d, and this was run with up to %d: what is new "
            "was read in Hermes' source, and not run; unknown columns are left alone",
            version,
            NEWEST_RUN,
        )
