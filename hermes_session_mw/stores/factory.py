"""`as_store`, which returns a store for a store, a URL or an engine."""

import sys
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from hermes_session_mw.exceptions import ConfigurationError
from hermes_session_mw.stores.base import Store

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

StoreLike: TypeAlias = "str | URL | Engine | AsyncEngine | Store"
"""What the middleware accepts as a store."""


def as_store(store: StoreLike, timeout: float | None = None) -> Store:
    """Return ``store`` if it is one already, else a `SQLAlchemyStore` over it.

    ``timeout`` is the new store's, in seconds; None for its default.

    Raises:
        ConfigurationError: it is neither a store, nor a URL, nor an engine.
    """
    if isinstance(store, str) or _is_sqlalchemys(store):
        # Here, because a store of one's own need not wait for SQLAlchemy.
        from hermes_session_mw.stores.sqlalchemy.store import SQLAlchemyStore  # noqa: PLC0415

        return (
            SQLAlchemyStore(store) if timeout is None else SQLAlchemyStore(store, timeout=timeout)
        )
    if isinstance(store, Store) and not isinstance(store, type):
        return store
    raise ConfigurationError(f"store: {store!r} is neither a URL, nor an engine, nor a Store")


def _is_sqlalchemys(store: object) -> "TypeGuard[URL | Engine | AsyncEngine]":
    """Return whether it is a URL or an engine, which nobody has who has not imported SQLAlchemy."""
    if "sqlalchemy" not in sys.modules:
        return False
    from sqlalchemy import URL, Engine  # noqa: PLC0415

    from hermes_session_mw.database.engine import is_async_engine  # noqa: PLC0415

    return isinstance(store, URL | Engine) or is_async_engine(store)
