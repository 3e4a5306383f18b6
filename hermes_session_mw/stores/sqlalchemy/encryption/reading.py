"""The forms of statements that return a session's data key with its content."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Executable, Select, Text, bindparam, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from hermes_session_mw.database.connection import text_of
from hermes_session_mw.messages import ENCRYPTED
from hermes_session_mw.stores.encryption import SEALED_BYTES
from hermes_session_mw.stores.sqlalchemy.encryption.histories import MARK
from hermes_session_mw.stores.sqlalchemy.schema.tables import OF_OWNER, OF_SESSION, sessions
from hermes_session_mw.stores.sqlalchemy.statements.content import JOINED, READ, Content, Source

_keyed = sessions.alias("keyed")


@dataclass(frozen=True, slots=True)
class Reading:
    """A statement that returns a row's columns, those that it is numbered by, and its data key.

    Attributes:
        statement: it, whose last column is the wrapped data key.
        width: how many columns the row has as the store's own statement returns it.
        values: its content, whose numbers are columns or parameters.
        owner, session: columns by their index, or parameters by their name.
    """

    statement: Executable
    width: int
    values: Sequence[Content]
    owner: Any
    session: Any


@cache
def reading_of(statement: Executable) -> Reading:
    """Return the form of a statement that `READ` has."""
    contents = READ[statement]
    assert isinstance(statement, Select | CompoundSelect)
    if isinstance(statement, CompoundSelect):
        part = statement.subquery()
        extended = select(*part.c).order_by(*(part.c[name] for name in contents.order))
        columns: list[Any] = list(part.c)
    else:
        extended = statement
        columns = list(statement.selected_columns)
    width = len(columns)

    def index_of(source: Source) -> Any:
        nonlocal extended
        if isinstance(source, int | str):
            return source
        columns.append(source)
        extended = extended.add_columns(source)
        return len(columns) - 1

    def column_of(source: int | str, like: ColumnElement[Any]) -> Any:
        return columns[source] if isinstance(source, int) else bindparam(source, type_=like.type)

    values = [replace(each, by=tuple(map(index_of, each.by))) for each in contents.values]
    owner, session = index_of(contents.owner), index_of(contents.session)
    key = (
        select(_keyed.c.data_key)
        .where(
            _keyed.c.owner == column_of(owner, _keyed.c.owner),
            _keyed.c.id == column_of(session, _keyed.c.id),
        )
        .correlate_except(_keyed)
        .scalar_subquery()
    )
    return Reading(extended.add_columns(key), width, values, owner, session)


class _marked(FunctionElement[str]):  # noqa: N801  # used like a function
    """The texts of all rows in the order of their numbers, with `MARK` between."""

    type: TypeEngine[str] = Text()
    inherit_cache: bool | None = True


_MARKED = {
    "sqlite": f"group_concat({{0}}, '{MARK}')",
    "postgresql": "string_agg({0}, chr(30) ORDER BY {1})",
}


@compiles(_marked)
def _compile_marked(element: _marked, compiler: SQLCompiler, **options: Any) -> str:
    text, number = (compiler.process(each, **options) for each in element.clauses)
    return _MARKED[compiler.dialect.name].format(text, number)


_key_of_session = (
    select(_keyed.c.data_key)
    .where(_keyed.c.owner == OF_OWNER, _keyed.c.id == OF_SESSION)
    .scalar_subquery()
)


@cache
def joined_reading_of(statement: Executable) -> Executable:
    """Return the form of a statement that `JOINED` has.

    It has the number of the first message, and the wrapped data key, at its end.
    """
    return JOINED[statement](_marked, _key_of_session)


def is_sealed(value: Any) -> bool:
    """Tell whether a stored value is encrypted."""
    if isinstance(value, str):
        return value.startswith(ENCRYPTED)
    return value is not None and bytes(value[:4]) == SEALED_BYTES


def place_of(content: Content, *sources: Any) -> str:
    """Return what content is bound to, of a row's columns and the statement's parameters."""
    numbers = [_number(each, sources) for each in content.by]
    # No id can hold NUL.
    return "\0".join([content.kind, *numbers])


def _number(source: Any, sources: tuple[Any, ...]) -> str:
    where = sources[0] if isinstance(source, int) else sources[-1]
    return text_of(where[source])
