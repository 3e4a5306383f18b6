"""The tables of the opened file; their columns differ between versions of Hermes.

Columns that every version has are required. Later ones are used if they are there. An unknown one
that every insert would have to fill in is an error.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.exceptions import StoreMisconfigured
from hermes_session_mw.logging import logger
from hermes_session_mw.stores.hermes_state.message_codec import COLUMNS

NEWEST_TESTED = 22
"""The newest of Hermes' schema versions that this is tested with: Hermes Agent 0.19's."""

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
    for name in ("sessions", "messages", "state_meta", "compression_locks")
}
_HERMES_VERSION = text("SELECT max(version) FROM schema_version")
_HAS_VERSION = text("SELECT 1 FROM pragma_table_info('schema_version') WHERE name = 'version'")
_CACHED = "hermes_state_columns"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of the file's tables, by name.

    Attributes:
        sessions: those of ``sessions``.
        messages: those of ``messages``.
        meta: those of ``state_meta``; empty if there is no such table.
        locks: those of ``compression_locks``, likewise.
        unknown: columns that every insert must fill in, and that this package does not know.
    """

    sessions: frozenset[str]
    messages: frozenset[str]
    meta: frozenset[str]
    locks: frozenset[str]
    unknown: tuple[str, ...]

    def check_writable(self) -> None:
        """Raise ``StoreMisconfigured`` if there are unknown columns."""
        if self.unknown:
            raise StoreMisconfigured(
                f"Hermes' database requires columns that this version does not know: "
                f"{', '.join(self.unknown)}; nothing was written: upgrade hermes_session_mw"
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
    ((version,),) = database.rows(_VERSION, {})
    info: dict[Any, Any] = database.connection.info
    cached: tuple[int, Columns] | None = info.get(_CACHED)
    if cached is None or cached[0] != version:
        cached = info[_CACHED] = version, _inspect(database)
    return cached[1]


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
    _warn_of_newer(database)
    return Columns(
        sessions=names["sessions"],
        messages=names["messages"],
        meta=names["state_meta"],
        locks=names["compression_locks"],
        unknown=tuple(
            f"{table}.{row[1]}" for table in _REQUIRED for row in tables[table]
            if _is_unknown(table, row)
        ),
    )  # fmt: skip


def _is_unknown(table: str, row: Any) -> bool:
    _, name, _, not_null, default, key = row
    may_be_null = not not_null or key or name in _FILLED[table]
    return not may_be_null and (default is None or name in _NULLABLE[table])


def _warn_of_newer(database: Database) -> None:
    if not database.rows(_HAS_VERSION, {}):
        return
    ((version,),) = database.rows(_HERMES_VERSION, {})
    if version is not None and version > NEWEST_TESTED:
        logger.warning(
            "Hermes' database has schema version %d, and this was tested with up to %d: columns "
            "that are new are neither read nor written",
            version,
            NEWEST_TESTED,
        )
