"""Whether the tables have what answers need.

Tables of an earlier version that an application's own migrations keep are not upgraded yet when
the package is. Whatever does not need answers goes on over them, so it asks here first.
"""

import weakref

from sqlalchemy import Dialect, text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.dialects import MYSQL

# Asked for the column: an upgrade makes the tables before it.
_COUNT = {
    "sqlite": text(
        "SELECT count(*) FROM pragma_table_info('hermes_sessions') WHERE name = 'answer_fence'"
    ),
    "postgresql": text(
        "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('hermes_sessions')"
        " AND attname = 'answer_fence'"
    ),
    **dict.fromkeys(
        MYSQL,
        text(
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = database()"
            " AND table_name = 'hermes_sessions' AND column_name = 'answer_fence'"
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
    """Tell whether the tables have what answers need; once they have, no statement is sent."""
    dialect = database.connection.dialect
    if dialect in KNOWN:
        return True
    ((count,),) = database.rows(_COUNT[database.dialect], {})
    if count:
        KNOWN.add(dialect)
    return bool(count)
