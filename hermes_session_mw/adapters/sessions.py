"""The sessions that an adapter keeps, where its framework has one object for all of them."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from hermes_session_mw.adapters.target import StoreOrSession, note_write, run_fenced
from hermes_session_mw.session.session import HermesSession
from hermes_session_mw.session.store_client import StoreClient

__all__ = ["Recent", "Sessions"]

T = TypeVar("T")
K = TypeVar("K")

_REMEMBERED = 64
"""Sessions of which an adapter remembers what it read last."""


class Sessions:
    """Calls a store's operations: of a store, or of the one that a request's session is kept in.

    In a request the session's own conversation is written under its lease.
    """

    __slots__ = ("_client", "_session")

    def __init__(self, store_or_session: StoreOrSession) -> None:
        """Raise ``NotSupported`` if the store has no single messages; nothing is read."""
        self._session: HermesSession | None = None
        if isinstance(store_or_session, HermesSession):
            self._session = store_or_session
            self._client = store_or_session.store_client
        else:
            self._client = StoreClient(store_or_session)
        for operation in ("load_range", "find_message", "clear"):
            self._client.require(operation)

    def owner(self, given: str) -> str:
        """Return the owner that is given, or the request's.

        Raises:
            TypeError: one is given beside a request's session, which has its own.
            OwnerRequired: the ``owner`` hook answered None.
        """
        if self._session is None:
            return given
        if given:
            raise TypeError("the session has an owner: give none beside it")
        return self._session.known_owner()

    def check_owner(self, owner: str) -> None:
        """Raise ``ValueError`` if the owner is another than the request's."""
        if self._session is not None and owner != self._session.known_owner():
            raise ValueError("in a request there is only its own user's")

    @property
    def request_owner(self) -> str | None:
        """The request's owner; None outside of one."""
        return None if self._session is None else self._session.known_owner()

    def call(
        self, operation: Callable[..., Awaitable[T]], *args: Any, **options: Any
    ) -> Awaitable[T]:
        """Return an operation's outcome: ``call(MessageStore.list, owner)``."""
        return self._client.run(operation, "", *args, **options)

    async def write(
        self,
        operation: Callable[..., Awaitable[T]],
        session_id: str,
        *args: Any,
        owner: str,
        **options: Any,
    ) -> T:
        """Do the same for an operation that writes to a session, under the request's lease.

        Once begun it runs to its end also if the caller is cancelled.
        """
        call = partial(self._client.call, operation, session_id, *args, owner=owner, **options)
        outcome = await run_fenced(call, operation, self._fence(session_id, owner))
        session = self._in_request(session_id, owner)
        if session is not None:
            await note_write(session, operation, outcome, *args, **options)
        return outcome

    def is_no_turn(self, session_id: str, owner: str) -> bool:
        """Tell whether this is the conversation of a request that stores nothing in it."""
        session = self._in_request(session_id, owner)
        return session is not None and not session.is_turn

    def _in_request(self, session_id: str, owner: str) -> HermesSession | None:
        """Return the request's session, if this is its conversation."""
        session = self._session
        if session is None or (session.id, session.known_owner()) != (session_id, owner):
            return None
        return session

    def _fence(self, session_id: str, owner: str) -> int | None:
        session = self._in_request(session_id, owner)
        return None if session is None else session.fence


class Recent(OrderedDict[K, T]):
    """What was put here last, of which a write is spared a read."""

    def put(self, key: K, value: T) -> None:
        """Keep the value, and drop the one that was put here first, if there are too many."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > _REMEMBERED:
            self.popitem(last=False)
