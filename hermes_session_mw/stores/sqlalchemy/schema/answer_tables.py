"""Whether the tables have what answers, and the ids of messages, need.

Tables of an earlier version that an application's own migrations keep are not upgraded yet when
the package is. Whatever needs neither goes on over them, so it asks here first.
"""

import weakref

from sqlalchemy import Dialect, text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.dialects import MYSQL

# Asked for the newest column: an upgrade adds it last.
_COUNT = {
    "sqlite": text(
        "SELECT count(*) FROM pragma_table_info('hermes_sessions') WHERE name = 'has_message_ids'"
    ),
    "postgresql": text(
        "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('hermes_sessions')"
        " AND attname = 'has_message_ids'"
    ),
    **dict.fromkeys(
        MYSQL,
        text(
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = database()"
            " AND table_name = 'hermes_sessions' AND column_name = 'has_message_ids'"
        ),
    ),
}
KNOWN: weakref.WeakSet[Dialect] = weakref.WeakSet()
"""The dialects of engines whose tables have it, so that these are not asked again.

Each engine has a dialect of its own. What has to be fast looks here before it calls `has_answers`.
"""


def note_answers(dialect: Dialect) -> None:
    """Note that the tables of the dialect's engine are complete."""
    KNOWN.add(dialect)


def has_answers(database: Database) -> bool:
    """Tell whether the tables are this version's; once they are, no statement is sent."""
    dialect = database.connection.dialect
    if dialect in KNOWN:
        return True
    ((count,),) = database.rows(_COUNT[database.dialect], {})
    if count:
        KNOWN.add(dialect)
    return bool(count)
