"""Files of other versions of Hermes Agent, made of the one that 0.19 wrote.

`make hermes-versions` compares their columns with those of the versions' own files.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.stores.hermes_state.agent import ask

ADDED: dict[int, tuple[str, ...]] = {
    13: ("messages.platform_message_id", "messages.observed"),
    14: (
        "messages.active", "sessions.cwd", "sessions.rewind_count", "sessions.archived",
        "compression_locks",
    ),
    16: (),
    19: (
        "messages.compacted", "sessions.session_key", "sessions.chat_id", "sessions.chat_type",
        "sessions.thread_id", "sessions.display_name", "sessions.origin_json",
        "sessions.expiry_finalized", "sessions.git_branch", "sessions.git_repo_root",
        "sessions.compression_failure_cooldown_until", "sessions.compression_failure_error",
        "gateway_routing",
    ),
    22: (
        "messages.effect_disposition", "messages.api_content",
        "sessions.compression_fallback_streak", "sessions.profile_name", "async_delegations",
        "session_model_usage",
    ),
}  # fmt: skip
"""What each schema version has that those before it have not: tables, and columns of tables."""

_LEASES = "conversation_id TEXT PRIMARY KEY, holder TEXT, acquired_at REAL, expires_at REAL"
_NEWER = (
    "ALTER TABLE sessions ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sessions ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sessions ADD COLUMN last_activity_at REAL",
    "ALTER TABLE messages ADD COLUMN display_kind TEXT",
    "ALTER TABLE messages ADD COLUMN display_metadata TEXT",
    f"CREATE TABLE session_turn_leases ({_LEASES})",
)


def turn_into(path: Path, schema: int) -> None:
    """Turn a file of 0.19 into one of another schema version, as far as this package looks."""
    dropped = [name for added, names in ADDED.items() if added > schema for name in names]
    columns = {name.partition(".")[2] for name in dropped if "." in name}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _NEWER if schema > max(ADDED) else ():
            connection.execute(statement)
        indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'")
        for name, sql in indexes.fetchall():
            if any(column in (sql or "") for column in columns):
                connection.execute(f"DROP INDEX {name}")
        for name in dropped:
            table, _, column = name.partition(".")
            drops_column = f"ALTER TABLE {table} DROP COLUMN {column}"
            connection.execute(drops_column if column else f"DROP TABLE {table}")
        connection.execute("UPDATE schema_version SET version = ?", (schema,))
        connection.execute("COMMIT")


def columns_in(path: Path) -> set[str]:
    """Return the tables that versions differ in, and their columns, as in `ADDED`."""
    known = {name.partition(".")[0] for names in ADDED.values() for name in names}
    found = ask(
        path,
        "SELECT m.name, c.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c"
        " WHERE m.type = 'table'",
    )
    return {name for row in found if row[0] in known for name in (row[0], ".".join(row))}
