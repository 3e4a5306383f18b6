"""The tables as they are in the file at hand, looked up when they are needed.

Hermes adds columns from version to version. Those that every version has are asked for, those that
came later are used where they are there, and one that would have to be filled in by somebody who
knows what it means is an error.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.exceptions import StoreMisconfigured
from hermes_session_mw.logging import logger
from hermes_session_mw.stores.hermes_state.message_codec import COLUMNS

TESTED = 22
"""The newest of Hermes' schema versions that this was tested with: Hermes Agent 0.19's."""

_ESSENTIAL = {
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
# What an insert fills in, whatever the message.
_FILLED = {
    "sessions": {"id", "source", "started_at"},
    "messages": {"id", "session_id", "role", "timestamp", "active"},
}
# What it fills in for some, and leaves NULL for others.
_NULLABLE = {"sessions": {"user_id"}, "messages": set(COLUMNS)}

_VERSION = text("PRAGMA schema_version")
_INFO = {
    name: text(f"PRAGMA table_info({name})")
    for name in ("sessions", "messages", "state_meta", "compression_locks")
}
_HERMES_VERSION = text("SELECT max(version) FROM schema_version")
_HAS_VERSION = text("SELECT 1 FROM pragma_table_info('schema_version') WHERE name = 'version'")
_KEPT = "hermes_state_columns"


@dataclass(frozen=True, slots=True)
class Columns:
    """What the file has.

    Attributes:
        sessions, messages: the names of the tables' columns.
        meta: those of the table of keys and values, which holds turn ids; none where there is none.
        locks: those of the table of compressions that are going on, likewise.
        unknown: columns that nothing may be inserted without, and that nobody here can fill in.
    """

    sessions: frozenset[str]
    messages: frozenset[str]
    meta: frozenset[str]
    locks: frozenset[str]
    unknown: tuple[str, ...]

    def check_writable(self) -> None:
        """Refuse to write where a row could not be filled in.

        Raises:
            StoreMisconfigured: it could not.
        """
        if self.unknown:
            raise StoreMisconfigured(
                f"Hermes' database asks for values that this version does not know: "
                f"{', '.join(self.unknown)}; nothing is written: upgrade hermes_session_mw"
            )

    def check_known(self, what: str, *names: str) -> None:
        """Refuse what the file has no place for; ``names`` are the places, ``table.column``.

        Raises:
            StoreMisconfigured: one is missing.
        """
        tables = {"sessions": self.sessions, "messages": self.messages, "state_meta": self.meta}
        for name in names:
            table, column = name.split(".")
            if column not in tables[table]:
                raise StoreMisconfigured(
                    f"Hermes' database has no place for {what}, which is {name}: upgrade Hermes "
                    "Agent, or do without"
                )


def columns_of(database: Database) -> Columns:
    """Return what the tables are, asking for them again only once the file's schema has changed.

    Raises:
        StoreMisconfigured: they are not Hermes'.
    """
    ((version,),) = database.rows(_VERSION, {})
    kept: dict[Any, Any] = database.connection.info
    known: tuple[int, Columns] | None = kept.get(_KEPT)
    if known is None or known[0] != version:
        known = kept[_KEPT] = version, _look(database)
    return known[1]


def _look(database: Database) -> Columns:
    tables = {name: database.rows(statement, {}) for name, statement in _INFO.items()}
    names = {name: frozenset(row[1] for row in rows) for name, rows in tables.items()}
    for table, essential in _ESSENTIAL.items():
        missing = sorted(essential - names[table])
        if missing:
            what = f"table {table}" if not names[table] else f"{table}.{', '.join(missing)}"
            raise StoreMisconfigured(
                f"the file is not a state.db of Hermes Agent that this version knows: no {what}"
            )
    _tell_of_newer(database)
    return Columns(
        sessions=names["sessions"],
        messages=names["messages"],
        meta=names["state_meta"],
        locks=names["compression_locks"],
        unknown=tuple(
            f"{table}.{row[1]}" for table in _ESSENTIAL for row in tables[table]
            if _is_unknown(table, row)
        ),
    )  # fmt: skip


def _is_unknown(table: str, row: Any) -> bool:
    _, name, _, not_null, default, key = row
    may_be_null = not not_null or key or name in _FILLED[table]
    return not may_be_null and (default is None or name in _NULLABLE[table])


def _tell_of_newer(database: Database) -> None:
    if not database.rows(_HAS_VERSION, {}):
        return
    ((version,),) = database.rows(_HERMES_VERSION, {})
    if version is not None and version > TESTED:
        logger.warning(
            "Hermes' database has schema version %d, and this was tested with up to %d: columns "
            "that are new are neither read nor written",
            version,
            TESTED,
        )
