"""Statements about many sessions at once, whose owners and ids are parameters.

PostgreSQL takes them as two arrays. The other databases have no such type: a statement there has a
fixed number of places (``SIZES``), and the last session is repeated in those that are left.

MySQL is told which index to use. In a small table it would choose to read all rows, and lock them.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Protocol, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Executable,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects import postgresql

from hermes_session_mw.database.connection import Database, Parameters, text_of
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.stores.sqlalchemy.schema.tables import sessions
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, reads

Key = tuple[str, str]
"""An owner, and the id of something that belongs to it."""

SIZES = (1, 10, 100)
"""How many places a statement may have, where there are no arrays."""

_PRIMARY = "PRIMARY"


class _Sized(Protocol):
    @property
    def length(self) -> int: ...


S = TypeVar("S", bound=_Sized)


def portions(found: Sequence[S], most: int) -> Iterator[list[S]]:
    """Yield parts of ``found`` of up to ``most`` messages, or a single session of more."""
    portion: list[S] = []
    count = 0
    for session in found:
        if portion and count + session.length > most:
            yield portion
            portion, count = [], 0
        portion.append(session)
        count += session.length
    if portion:
        yield portion


class KeyedRows:
    """The rows of a table that belong to some keys, found by an index.

    ``name`` is the column that has the second part of a key, and ``index`` the index's name on
    MySQL. ``content`` is what rows have that are selected, whose first columns are the key.
    """

    def __init__(
        self, table: Table, name: str, index: str = _PRIMARY, content: Sequence[Content] = ()
    ) -> None:
        self._content = content
        self._table = table
        self._owner, self._name = table.c.owner, table.c[name]
        self._index = index
        self._count = select(func.count()).select_from(table)
        self._select = cache(self._make_select)
        self._delete = cache(self._make_delete)

    def delete(self, database: Database, keys: Sequence[Key]) -> None:
        """Remove the rows that belong to the keys."""
        if database.dialect == "sqlite" and keys:
            # No round trip is saved there, and rows are found by one key in half the time.
            one_by_one = ({"owner_0": owner, "name_0": name} for owner, name in keys)
            database.run(self._delete("sqlite", 1), *one_by_one)
            return
        for size, parameters in _portions(database, keys):
            database.run(self._delete(database.dialect, size), parameters)

    def count(self, database: Database, keys: Sequence[Key]) -> int:
        """Return how many rows belong to the keys."""
        return sum(int(count) for (count,) in self.rows(database, self._count, keys))

    def rows(
        self, database: Database, statement: Select[Any], keys: Sequence[Key], **more: Any
    ) -> Iterator[Any]:
        """Yield the rows that ``statement`` selects of those that belong to the keys."""
        for size, parameters in _portions(database, keys):
            restricted = self._select(statement, database.dialect, size)
            yield from database.rows(restricted, {**parameters, **more})

    def keys(
        self, database: Database, statement: Select[Any], keys: Sequence[Key], **more: Any
    ) -> list[Key]:
        """Return the keys that ``statement`` selects of those rows."""
        found = self.rows(database, statement, keys, **more)
        return [(text_of(owner), text_of(name)) for owner, name in found]

    def _make_select(self, statement: Select[Any], dialect: str, size: int) -> Select[Any]:
        for each in MYSQL:
            statement = statement.with_hint(self._table, f"FORCE INDEX ({self._index})", each)
        restricted = statement.where(_among(dialect, self._owner, self._name, size))
        if self._content:
            reads(restricted, *self._content, owner=0, session=1)
        return restricted

    def _make_delete(self, dialect: str, size: int) -> Executable:
        if dialect not in MYSQL:
            return delete(self._table).where(_among(dialect, self._owner, self._name, size))
        # In this form of a DELETE, of several tables, MySQL takes the hint.
        places = " OR ".join(
            f"(kept.owner = :owner_{number} AND kept.{self._name.name} = :name_{number})"
            for number in range(size)
        )
        index = f"FORCE INDEX ({self._index})"
        statement = f"DELETE kept FROM {self._table.name} AS kept {index} WHERE {places}"
        return text(statement).bindparams(*(each for pair in _places(size) for each in pair))


def _among(dialect: str, owner: Column[Any], name: Column[Any], size: int) -> ColumnElement[bool]:
    """Return the condition that a row belongs to one of the keys."""
    if dialect == "postgresql":
        arrays = (bindparam(each, type_=postgresql.ARRAY(Text)) for each in ("owners", "names"))
        keys = func.unnest(*arrays).table_valued("owner", "name").render_derived("keys")
        return tuple_(owner, name).in_(select(keys.c.owner, keys.c.name))
    return or_(*(and_(owner == first, name == second) for first, second in _places(size)))


def _places(size: int) -> list[tuple[Any, Any]]:
    return [
        (
            bindparam(f"owner_{number}", type_=sessions.c.owner.type),
            bindparam(f"name_{number}", type_=sessions.c.id.type),
        )
        for number in range(size)
    ]


def _portions(database: Database, keys: Sequence[Key]) -> Iterator[tuple[int, Parameters]]:
    """Yield the sizes of statements, and the parameters of each."""
    if database.dialect == "postgresql":
        owners, names = zip(*keys, strict=True)
        yield 0, {"owners": list(owners), "names": list(names)}
        return
    for start in range(0, len(keys), SIZES[-1]):
        portion = keys[start : start + SIZES[-1]]
        size = next(each for each in SIZES if each >= len(portion))
        padded = [*portion, *[portion[-1]] * (size - len(portion))]
        yield (
            size,
            {
                name: value
                for number, key in enumerate(padded)
                for name, value in ((f"owner_{number}", key[0]), (f"name_{number}", key[1]))
            },
        )
