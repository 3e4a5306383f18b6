"""Opens the store that the command works on, to read it or to change it.

The stores, and SQLAlchemy with them, are imported when one is opened: help and completion scripts
need none.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from hermes_session_mw.cli.errors import UNSUPPORTED, Failure
from hermes_session_mw.stores.sqlalchemy.admin.models import Access

if TYPE_CHECKING:
    from hermes_session_mw.cli.hermes_source import HermesSource
    from hermes_session_mw.stores import HermesStateStore
    from hermes_session_mw.stores.encryption import Keyring
    from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore

T = TypeVar("T")
S = TypeVar("S", "AdminStore", "HermesSource")

_HERMES = "hermes:"
_IN_A_LOOP = (
    "the command has an event loop of its own, which cannot run within another, as in a notebook or"
    " in Pyodide: await the store's methods there"
)

Source: TypeAlias = "AdminStore | HermesSource"
"""A store that can be read; ``owner=None`` means all owners."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The store's URL, the seconds that each operation may take, and the file of its keys."""

    url: str
    timeout: float
    keys_file: str | None = None


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
    over_hermes: str = "is only read here",
) -> T:
    """Run ``work`` over a store with the package's own tables; raise ``Failure`` else.

    ``over_hermes`` says why Hermes Agent's database cannot.
    """
    if settings.url.startswith(_HERMES):
        _hermes_store(settings)  # a path that cannot be one is a wrong command line first
        raise Failure(f"{operation}: Hermes Agent's database {over_hermes}", UNSUPPORTED)
    return _use(_admin_store(settings, access), work)


def _admin_store(settings: Settings, access: Access = "read") -> "AdminStore":
    from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore  # noqa: PLC0415

    return AdminStore(
        settings.url, access=access, timeout=settings.timeout, encryption=_keyring(settings)
    )


def _keyring(settings: Settings) -> "Keyring | None":
    """Return the keys of the file, or else of the environment; None where there are none."""
    from hermes_session_mw.stores.encryption import KEYS_VARIABLE, Keyring  # noqa: PLC0415

    if settings.keys_file is not None:
        return Keyring.from_file(settings.keys_file)
    return Keyring.from_environment() if KEYS_VARIABLE in os.environ else None


def _hermes_store(settings: Settings) -> "HermesStateStore":
    from hermes_session_mw.stores import HermesStateStore  # noqa: PLC0415

    return HermesStateStore(settings.url.removeprefix(_HERMES), timeout=settings.timeout)


def _use(source: S, work: Callable[[S], Awaitable[T]]) -> T:
    import asyncio  # noqa: PLC0415

    import anyio.lowlevel  # noqa: PLC0415

    async def use() -> T:
        try:
            return await work(source)
        finally:
            await source.aclose()

    for find_loop in (asyncio.get_running_loop, anyio.lowlevel.current_token):
        with suppress(RuntimeError):  # there is none
            find_loop()
            raise Failure(_IN_A_LOOP)
    return anyio.run(use)
