"""Finds the session of a request that names none, among those that its beginning leads to.

`Derivation` is what ``session.derive()`` makes: it asks the store; what is compared is in
``derived_ids``, which is pure.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hermes_session_mw.exceptions import NotSupported
from hermes_session_mw.messages import Message
from hermes_session_mw.session.derived_ids import derived_ids, goes_on
from hermes_session_mw.stores.base import History

if TYPE_CHECKING:
    from hermes_session_mw.session.session import HermesSession

TurnId = Callable[["HermesSession"], str]
"""Returns the id of the request's turn, as it would be in a session."""


class Derivation:
    """The search for a request's session, and how that session was found."""

    def __init__(
        self, session: "HermesSession", told: Sequence[Message], turn_id: TurnId | None
    ) -> None:
        self._session = session
        self._told = told
        self._turn_id = turn_id
        self._seen: tuple[int, list[Message]] = (0, [])

    async def search(self) -> None:
        """Switch to the first session that the request goes on with, or else to a new one.

        The store is read once for each, and once more under an ``Idempotency-Key``.
        """
        session = self._session
        for session_id in derived_ids(session.known_owner(), session.memory_scope, self._told):
            other = session.sibling(session_id)
            await other.load(limit=len(self._told) + 1)
            if other.degraded:
                break
            if not other.is_deleted and (self._goes_on(other) or await self._has_turn(other)):
                self._seen = _end_of(other)
                history = History(other.history, other.length, exists=bool(other.was_found))
                await session.become(session_id, history, self)
                return
        if not session.is_new:
            await session.renew()

    def is_overtaken(self) -> bool:
        """Return whether another request has changed the session since it was found."""
        return not self._session.degraded and _end_of(self._session) != self._seen

    def _goes_on(self, other: "HermesSession") -> bool:
        return other.length <= len(self._told) + 1 and goes_on(other.history, self._told)

    async def _has_turn(self, other: "HermesSession") -> bool:
        """Return whether the request is a repeated one, whose turn is there."""
        if other.idempotency_key is None:
            return False
        try:
            turn_id = None if self._turn_id is None else self._turn_id(other)
            return await other.find_turn(turn_id) is not None
        except NotSupported:
            return False


def _end_of(session: "HermesSession") -> tuple[int, list[Message]]:
    return session.length, session.history[-1:]
