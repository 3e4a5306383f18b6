"""Whether the tables have what answers, the ids of messages, and labels need.

Tables of an earlier version that an application's own migrations keep are not upgraded yet when
the package is. Whatever needs none of these goes on over them, so it asks here first.
"""

import weakref

from sqlalchemy import Dialect, TextClause, text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.dialects import MYSQL


class _Column:
    """A column of ``hermes_sessions``, and the dialects of engines whose tables have it.

    Each engine has a dialect of its own; once its tables have the column, they are not asked again.
    """

    def __init__(self, name: str) -> None:
        self.known: weakref.WeakSet[Dialect] = weakref.WeakSet()
        by_dialect = {
            "sqlite": "pragma_table_info('hermes_sessions') WHERE name = :name",
            "postgresql": (
                "pg_attribute WHERE attrelid = to_regclass('hermes_sessions') AND attname = :name"
            ),
            **dict.fromkeys(
                MYSQL,
                "information_schema.columns WHERE table_schema = database()"
                " AND table_name = 'hermes_sessions' AND column_name = :name",
            ),
        }
        self._count: dict[str, TextClause] = {
            dialect: text(f"SELECT count(*) FROM {rows}").bindparams(name=name)  # noqa: S608  # ours
            for dialect, rows in by_dialect.items()
        }

    def is_there(self, database: Database) -> bool:
        """Tell whether the tables have it."""
        dialect = database.connection.dialect
        if dialect in self.known:
            return True
        ((count,),) = database.rows(self._count[database.dialect], {})
        if count:
            self.known.add(dialect)
        return bool(count)


# The newest columns are asked for: an upgrade adds them last, after the tables.
_answers = _Column("data_key")
_labels = _Column("has_labels")

KNOWN: weakref.WeakSet[Dialect] = _answers.known
"""The dialects for which `has_answers` is known to be true.

What has to be fast looks here before it calls that.
"""
KNOWN_LABELS: weakref.WeakSet[Dialect] = _labels.known
"""The same for `has_label_columns`."""


def note_complete(dialect: Dialect) -> None:
    """Note that the tables of the dialect's engine are complete."""
    _answers.known.add(dialect)
    _labels.known.add(dialect)


def has_answers(database: Database) -> bool:
    """Tell whether there are answers and message ids; once there are, no statement is sent."""
    return _answers.is_there(database)


def has_label_columns(database: Database) -> bool:
    """Tell whether there are labels; once there are, no statement is sent."""
    return _labels.is_there(database)
