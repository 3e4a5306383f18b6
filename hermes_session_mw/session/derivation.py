"""Finds the session of a request that names none, among those that its beginning leads to.

`Derivation` is what ``session.derive()`` makes: it asks the store; what is compared is in
``derived_ids``, which is pure.

Under an ``Idempotency-Key`` a session key leads to the session, so that a repeated request finds it
also where an earlier one is free again, where there are too many, and after a rotation. The store
moves it along, and drops it with the session.
"""

from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from hermes_session_mw.exceptions import NotSupported, StoreError
from hermes_session_mw.messages import Message, has_chat_form
from hermes_session_mw.session.derived_ids import Told, derived_ids, goes_on, retry_key
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.lifecycle import LifecycleStore

if TYPE_CHECKING:
    from hermes_session_mw.session.session import HermesSession


class Derivation:
    """The search for a request's session, and how that session was found."""

    def __init__(
        self,
        session: "HermesSession",
        store: StoreClient,
        told: Sequence[Message],
        turn_id: str | None,
    ) -> None:
        self._session = session
        self._store = store
        self._told = Told.of(told)
        self._limit = len(told) + 1
        self._turn_id = turn_id
        self._owner, scope = session.known_owner(), session.memory_scope
        self._ids = list(derived_ids(self._owner, scope, told))
        key = session.idempotency_key if session.is_turn else None
        self._key = None if key is None else retry_key(key, scope, told)
        self._seen: tuple[int, list[Message]] = (0, [])

    async def search(self) -> None:
        """Switch to the first session that the request goes on with, or else to a new one.

        The session that an ``Idempotency-Key`` leads to is tried before all others. The store is
        read once for each, and once more under a key. A request that is no turn goes on with what
        is stored, or else keeps the id that it has.
        """
        bound = await self._ask(LifecycleStore.find_key)
        while True:
            await self._choose([] if bound is None else [bound])
            if self._session.id == bound or self._key is None or self._session.degraded:
                return
            if bound is not None:
                await self._ask(LifecycleStore.move_key, self._session.id)
                return
            bound = await self._ask(LifecycleStore.bind_key, self._session.id)
            if bound is None or bound == self._session.id:
                return  # else an equal request has come first, and its session is tried

    def is_overtaken(self) -> bool:
        """Return whether another request has changed the session since it was found."""
        return not self._session.degraded and _end_of(self._session) != self._seen

    async def _choose(self, first: list[str]) -> None:
        session = self._session
        for session_id in chain(first, self._ids):
            other = session.sibling(session_id)
            await other.load(limit=self._limit)
            if other.length > self._limit and not all(map(has_chat_form, other.history)):
                await other.load(limit=None)  # what a client has not got makes it no longer
            if other.degraded:
                break
            if not other.is_deleted and (self._goes_on(other) or await self._has_turn(other)):
                if not (session.is_turn or other.was_found):
                    return  # nothing will be stored under this id
                self._seen = _end_of(other)
                history = History(other.history, other.length, exists=bool(other.was_found))
                await session.become(session_id, history, self)
                return
        if not session.is_new:
            await session.renew()

    def _goes_on(self, other: "HermesSession") -> bool:
        is_whole = other.length == len(other.history)
        count = sum(map(has_chat_form, other.history))
        return is_whole and count <= self._limit and goes_on(other.history, self._told)

    async def _has_turn(self, other: "HermesSession") -> bool:
        """Return whether the request is a repeated one, whose turn is there."""
        if other.idempotency_key is None:
            return False
        try:
            return await other.find_turn(self._turn_id) is not None
        except NotSupported:
            return False

    async def _ask(self, operation: Callable[..., Awaitable[Any]], *session_id: str) -> str | None:
        """Return where the key leads; None without a key, or if the store has none."""
        if self._key is None:
            return None
        try:
            found = await self._store.run(operation, "", self._key, *session_id, self._owner)
        except NotSupported:
            return None
        except StoreError:
            if not self._store.degrade:
                raise
            return None
        return found if isinstance(found, str) else None


def _end_of(session: "HermesSession") -> tuple[int, list[Message]]:
    return session.length, session.history[-1:]
