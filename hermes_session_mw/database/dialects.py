"""The supported databases, and the column types that differ between them."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect, String, TypeDecorator
from sqlalchemy.types import VARBINARY, TypeEngine

MYSQL = ("mysql", "mariadb")
"""SQLAlchemy's names for one family; they differ in what an INSERT can return."""

SUPPORTED_DIALECTS = ("sqlite", "postgresql", *MYSQL)
"""SQLAlchemy's names of the databases that a store can use."""


class BytesKey(TypeDecorator[str]):
    """Text in a binary column: in MySQL's text collations "a" equals "A", or at least "a "."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = VARBINARY
    cache_ok: bool | None = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> bytes | None:
        """Encode the value."""
        return None if value is None else value.encode()


def key_type(size: int, binary: Callable[[int], TypeEngine[Any]] = BytesKey) -> TypeEngine[str]:
    """Return the type of a key of ``size`` characters, with ``binary`` for MySQL."""
    # Compared byte for byte on every database: PostgreSQL's "C" does, and SQLite's default.
    plain = String(size).with_variant(String(size, collation="C"), "postgresql")
    return plain.with_variant(binary(size * 4), *MYSQL)  # UTF-8 takes up to four bytes
