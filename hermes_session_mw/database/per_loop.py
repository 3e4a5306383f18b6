"""One value for each event loop that asks; those of loops that have ended are let go.

A process may have many, one after the other: ``asyncio.run`` in a row, a test client that has one
for each request. anyio's ``RunVar`` keeps a value for as long as its loop is there, and a value
that refers to its loop, as these do, would keep both for good.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from anyio.lowlevel import current_token

T = TypeVar("T")


def native_token() -> Any:
    """Return asyncio's loop, or what trio calls the token of its run."""
    token: Any = current_token()
    return getattr(token, "native_token", token)  # wrapped by newer versions of anyio


class PerLoop(Generic[T]):
    """Keeps one value for the running event loop.

    ``let_go`` is given the value of a loop that has ended, when another loop is first given one.
    """

    def __init__(self, let_go: Callable[[T], None]) -> None:
        # Without a lock, which a forked child could find locked for good: each step is one of C's.
        self._values: dict[Any, T] = {}
        self._let_go = let_go

    def get(self) -> T | None:
        """Return the running loop's value, None where it has none yet."""
        return self._values.get(native_token())

    def set(self, value: T) -> None:
        """Keep the running loop's value."""
        for token in list(self._values):
            if _has_ended(token) and (ended := self._values.pop(token, None)) is not None:
                self._let_go(ended)
        self._values[native_token()] = value


def _has_ended(token: Any) -> bool:
    if isinstance(token, asyncio.AbstractEventLoop):
        return token.is_closed()
    try:
        token.run_sync_soon(_nothing)
    except RuntimeError:  # trio's RunFinishedError
        return True
    return False


def _nothing() -> None:
    """Wake the run of another thread, which it does not mind."""
