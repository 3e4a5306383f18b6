"""Opens the store that the command works on, to read it or to change it.

The stores, and SQLAlchemy with them, are imported when one is opened: help and completion scripts
need none.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from hermes_session_mw.exceptions import NotSupported
from hermes_session_mw.stores.sqlalchemy.admin.models import Access

if TYPE_CHECKING:
    from hermes_session_mw.cli.hermes_source import HermesSource
    from hermes_session_mw.stores import HermesStateStore
    from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore

T = TypeVar("T")
S = TypeVar("S", "AdminStore", "HermesSource")

_HERMES = "hermes:"

Source: TypeAlias = "AdminStore | HermesSource"
"""A store that can be read; ``owner=None`` means all owners."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The store's URL, and the seconds that each operation may take."""

    url: str
    timeout: float


def with_source(settings: Settings, work: Callable[[Source], Awaitable[T]]) -> T:
    """Run ``work``, which only reads, over any store, and return its result."""
    if settings.url.startswith(_HERMES):
        from hermes_session_mw.cli.hermes_source import HermesSource  # noqa: PLC0415

        return _use(HermesSource(_hermes_store(settings)), work)
    return _use(_admin_store(settings), work)


def with_admin_store(
    settings: Settings,
    operation: str,
    work: "Callable[[AdminStore], Awaitable[T]]",
    *,
    access: Access,
) -> T:
    """Run ``work`` over a store with the package's own tables; raise ``NotSupported`` else."""
    if settings.url.startswith(_HERMES):
        raise NotSupported(_hermes_store(settings), operation, ": docs/hermes.md says why")
    return _use(_admin_store(settings, access), work)


def _admin_store(settings: Settings, access: Access = "read") -> "AdminStore":
    from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore  # noqa: PLC0415

    return AdminStore(settings.url, access=access, timeout=settings.timeout)


def _hermes_store(settings: Settings) -> "HermesStateStore":
    from hermes_session_mw.stores import HermesStateStore  # noqa: PLC0415

    return HermesStateStore(settings.url.removeprefix(_HERMES), timeout=settings.timeout)


def _use(source: S, work: Callable[[S], Awaitable[T]]) -> T:
    import anyio  # noqa: PLC0415

    async def use() -> T:
        try:
            return await work(source)
        finally:
            await source.aclose()

    return anyio.run(use)
