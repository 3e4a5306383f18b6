"""The databases that there is SQL for, and the types that differ between them."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect, String, TypeDecorator
from sqlalchemy.types import VARBINARY, TypeEngine

MYSQL = ("mysql", "mariadb")
"""SQLAlchemy's names for one family, which differs in what it can return from an INSERT."""

SUPPORTED_DIALECTS = ("sqlite", "postgresql", *MYSQL)
"""SQLAlchemy's names of the databases that a store can be kept in."""


class BytesKey(TypeDecorator[str]):
    """Text in a binary column: MySQL's text collations make "a" equal "A", or at least "a "."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = VARBINARY
    cache_ok: bool | None = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> bytes | None:
        """Return what goes to the database."""
        return None if value is None else value.encode()


def key_type(size: int, binary: Callable[[int], TypeEngine[Any]] = BytesKey) -> TypeEngine[str]:
    """Return the type of a key of ``size`` characters, with ``binary`` for MySQL."""
    # Byte for byte on every engine: PostgreSQL's "C" is that, and is SQLite's default.
    plain = String(size).with_variant(String(size, collation="C"), "postgresql")
    return plain.with_variant(binary(size * 4), *MYSQL)  # UTF-8 takes up to four bytes
