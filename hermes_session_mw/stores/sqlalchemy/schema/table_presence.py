"""Whether the tables of checkpoints, expiry and search were made, in a statement's expression.

What removes or moves a session asks for it there, without a statement more: those who use neither
have no such table, and import nothing of them.
"""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Select, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.exceptions import StoreMisconfigured

CHECKPOINTS = "hermes_checkpoints"
OWNER_EXPIRY = "hermes_owner_expiry"
SEARCH = "hermes_search"
# Of its kind each is the table that is made last.


class _TableExists(FunctionElement[int]):
    """1 if the class's table is there, else 0."""

    type: TypeEngine[int] = BigInteger()
    inherit_cache: bool | None = True
    table: ClassVar[str]


class has_checkpoint_tables(_TableExists):  # noqa: N801  # used like a function
    """1 if the tables of checkpoints are there, else 0."""

    inherit_cache: bool | None = True
    table = CHECKPOINTS


class has_expiry_tables(_TableExists):  # noqa: N801
    """1 if the tables of expiry are there, else 0."""

    inherit_cache: bool | None = True
    table = OWNER_EXPIRY


class has_search_words(_TableExists):  # noqa: N801
    """1 if there is a table of the words of messages, else 0; also where a drop was killed."""

    inherit_cache: bool | None = True
    table = SEARCH


_SQL = {
    "sqlite": "(SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '{0}')",
    "postgresql": "CASE WHEN to_regclass('{0}') IS NULL THEN 0 ELSE 1 END",
    **dict.fromkeys(
        MYSQL,
        "(SELECT count(*) FROM information_schema.tables WHERE table_schema = database()"
        " AND table_name = '{0}')",
    ),
}


@compiles(_TableExists)
def _compile(element: _TableExists, compiler: SQLCompiler, **_options: Any) -> str:
    return _SQL[compiler.dialect.name].format(element.table)


_ask_checkpoints = select(has_checkpoint_tables())
_ask_expiry = select(has_expiry_tables())
_ask_words = select(has_search_words())


def _is_there(database: Database, ask: Select[Any]) -> bool:
    ((count,),) = database.rows(ask, {})
    return bool(count)


def checkpoint_tables_exist(database: Database) -> bool:
    """Tell whether the tables of checkpoints are there."""
    return _is_there(database, _ask_checkpoints)


def refuse_search_index(database: Database) -> None:
    """Raise ``StoreMisconfigured`` if there is a search index, for a store that encrypts."""
    if _is_there(database, _ask_words):
        raise StoreMisconfigured(
            "search and encryption exclude each other: the database has a search index, which is "
            "plain text; stop the stores with search=True, run hermes-sessions search-index "
            "--drop, and then hermes-sessions encrypt"
        )


def expiry_tables_exist(database: Database) -> bool:
    """Tell whether the tables of expiry are there."""
    return _is_there(database, _ask_expiry)
