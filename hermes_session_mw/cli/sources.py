"""Opens the store that the command works on, to read it or to change it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import anyio

from hermes_session_mw.cli.hermes_source import HermesSource
from hermes_session_mw.exceptions import NotSupported
from hermes_session_mw.stores import HermesStateStore
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from hermes_session_mw.stores.sqlalchemy.admin.models import Access

T = TypeVar("T")
S = TypeVar("S", AdminStore, HermesSource)

_HERMES = "hermes:"

Source: TypeAlias = AdminStore | HermesSource
"""A store that can be read; ``owner=None`` means all owners."""


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
    """Run ``work`` over a store with the package's own tables; raise ``NotSupported`` else."""
    if settings.url.startswith(_HERMES):
        raise NotSupported(_hermes_store(settings), operation, ": docs/hermes.md says why")
    return _use(AdminStore(settings.url, access=access, timeout=settings.timeout), work)


def _hermes_store(settings: Settings) -> HermesStateStore:
    return HermesStateStore(settings.url.removeprefix(_HERMES), timeout=settings.timeout)


def _use(source: S, work: Callable[[S], Awaitable[T]]) -> T:
    async def use() -> T:
        try:
            return await work(source)
        finally:
            await source.aclose()

    return anyio.run(use)
