"""The store that the command works on, by its URL: one to look at, or one to work on."""

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
    """What can be looked at; ``owner=None`` is all owners. See `AdminStore`."""

    async def survey(
        self, owner: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> OwnedPage:
        """Return sessions, the ones that were changed last first."""
        ...

    async def find(self, session_id: str, owner: str | None = None) -> Sequence[OwnedSession]:
        """Return the session that each owner has under the id."""
        ...

    async def ids_like(self, start: str, owner: str | None = None, most: int = 50) -> Sequence[str]:
        """Return ids that begin with ``start``."""
        ...

    async def totals(self, owner: str | None = None) -> Totals:
        """Return how much there is."""
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
    """What the command was told of the store: its URL, and seconds for each operation."""

    url: str
    timeout: float


def look(settings: Settings, work: Callable[[Source], Awaitable[T]]) -> T:
    """Run what only reads, over any store, and return what it returns."""
    if settings.url.startswith(_HERMES):
        return _run(HermesSource(_hermes(settings)), work)
    return _run(AdminStore(settings.url, timeout=settings.timeout), work)


def operate(
    settings: Settings,
    operation: str,
    work: Callable[[AdminStore], Awaitable[T]],
    *,
    access: Access,
) -> T:
    """Run what only a store of this package's own tables has.

    Raises:
        NotSupported: it is another store.
    """
    if settings.url.startswith(_HERMES):
        raise NotSupported(_hermes(settings), operation, ": docs/hermes.md says why")
    return _run(AdminStore(settings.url, access=access, timeout=settings.timeout), work)


def _hermes(settings: Settings) -> HermesStateStore:
    return HermesStateStore(settings.url.removeprefix(_HERMES), timeout=settings.timeout)


S = TypeVar("S", bound=Source)


def _run(source: S, work: Callable[[S], Awaitable[T]]) -> T:
    async def use() -> T:
        try:
            return await work(source)
        finally:
            await source.aclose()

    return anyio.run(use)
