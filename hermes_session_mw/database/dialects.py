"""The supported databases, and the column types and INSERTs that differ between them."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect, Insert, String, Table, TypeDecorator
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.types import VARBINARY, TypeEngine

MYSQL = ("mysql", "mariadb")
"""SQLAlchemy's two names for one family; only MariaDB has INSERT ... RETURNING."""

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


def upsert(table: Table, row: dict[str, Any], changes: dict[str, Any]) -> dict[str, Insert]:
    """Return, for each dialect, the INSERT of a row that makes ``changes`` if the row exists.

    MySQL makes them in their order, and computes each from those that it has made.
    """
    key = list(table.primary_key.columns)
    in_sqlite = sqlite.insert(table).values(row)
    in_postgresql = postgresql.insert(table).values(row)
    in_mysql = mysql.insert(table).values(row).on_duplicate_key_update([*changes.items()])
    return {
        "sqlite": in_sqlite.on_conflict_do_update(index_elements=key, set_=changes),
        "postgresql": in_postgresql.on_conflict_do_update(index_elements=key, set_=changes),
        **dict.fromkeys(MYSQL, in_mysql),
    }


def can_skip_locked(dialect: Dialect) -> bool:
    """Tell whether a connected database has ``FOR UPDATE SKIP LOCKED``."""
    if dialect.name == "postgresql":
        return True
    version = getattr(dialect, "server_version_info", None) or ()
    is_mariadb = getattr(dialect, "is_mariadb", False)
    return dialect.name in MYSQL and version >= ((10, 6) if is_mariadb else (8, 0, 1))
