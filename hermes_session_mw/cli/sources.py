"""Opens the store that the command works on, to read it or to change it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import anyio

from hermes_session_mw.cli.hermes_source import HermesSource
from hermes_session_mw.exceptions import NotSupported
from hermes_session_mw.stores import HermesStateStore
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.models import ArchivedMessage
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from hermes_session_mw.stores.sqlalchemy.admin.models import (
    Access,
    OwnedPage,
    OwnedSession,
    Problem,
    Totals,
)

T = TypeVar("T")

_HERMES = "hermes:"


class Source(Protocol):
    """A store that can be read; ``owner=None`` means all owners. See `AdminStore`."""

    async def survey(
        self, owner: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> OwnedPage:
        """Return sessions, the most recently changed ones first."""
        ...

    async def find(self, session_id: str, owner: str | None = None) -> Sequence[OwnedSession]:
        """Return the session of each owner with this id."""
        ...

    async def ids_like(self, start: str, owner: str | None = None, most: int = 50) -> Sequence[str]:
        """Return ids that begin with ``start``."""
        ...

    async def totals(self, owner: str | None = None) -> Totals:
        """Return counts and sizes."""
        ...

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """See `Store.load`."""
        ...

    async def archived(self, session_id: str, owner: str = "") -> Sequence[ArchivedMessage]:
        """See `LifecycleStore.archived`."""
        ...

    async def check_integrity(self, advance: Callable[[int], None]) -> Sequence[Problem]:
        """Return what is wrong."""
        ...

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """The store's URL, and the seconds that each operation may take."""

    url: str
    timeout: float


def with_source(settings: Settings, work: Callable[[Source], Awaitable[T]]) -> T:
    """Run ``work``, which only reads, over any store, and return its result."""
    if settings.url.startswith(_HERMES):
        return _use(HermesSource(_hermes_store(settings)), work)
    return _use(AdminStore(settings.url, timeout=settings.timeout), work)


def with_admin_store(
    settings: Settings,
    operation: str,
    work: Callable[[AdminStore], Awaitable[T]],
    *,
    access: Access,
) -> T:
    """Run ``work`` over a store of this package's own tables, and return its result.

    Raises:
        NotSupported: the URL names another store.
    """
    if settings.url.startswith(_HERMES):
        raise NotSupported(_hermes_store(settings), operation, ": docs/hermes.md says why")
    return _use(AdminStore(settings.url, access=access, timeout=settings.timeout), work)


def _hermes_store(settings: Settings) -> HermesStateStore:
    return HermesStateStore(settings.url.removeprefix(_HERMES), timeout=settings.timeout)


S = TypeVar("S", bound=Source)


def _use(source: S, work: Callable[[S], Awaitable[T]]) -> T:
    async def use() -> T:
        try:
            return await work(source)
        finally:
            await source.aclose()

    return anyio.run(use)
