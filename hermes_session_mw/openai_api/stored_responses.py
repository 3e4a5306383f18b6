"""Finds stored responses: a response's id is a turn's id, and a session key that leads to it."""

import json
import secrets
from hashlib import sha256

from hermes_session_mw.exceptions import NotSupported
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.item_ids import (
    answer_items,
    is_response_id,
    placed_items,
    response_of_item,
)
from hermes_session_mw.openai_api.response_items import Item
from hermes_session_mw.session.session import HermesSession
from hermes_session_mw.stores import LifecycleStore, Store
from hermes_session_mw.stores.models import StoredTurn


def new_response_id(session: HermesSession, *, is_stored: bool = True) -> str:
    """Return an id for a response to this request: ``resp_`` and 48 hexadecimal digits.

    Under an Idempotency-Key it is always the same, so that a repetition finds the response. It is
    derived from the owner and the session too, so that another owner's equal key does not lead to
    it. A response that is not stored gets another id than one that is.
    """
    if session.idempotency_key is None or not is_stored:
        return f"resp_{secrets.token_hex(24)}"
    named = json.dumps([session.owner, session.id, session.idempotency_key])
    return f"resp_{sha256(named.encode()).hexdigest()[:48]}"


class StoredResponses:
    """The responses of one owner."""

    def __init__(self, store: Store, owner: str) -> None:
        """Take the middleware's store.

        Raises:
            NotSupported: it has no keys and no turns.
        """
        if not isinstance(store, LifecycleStore):
            raise NotSupported(store, "find_key")
        self.store = store
        self._owner = owner

    async def session_of(self, response_id: str) -> str | None:
        """Return the response's session, or None if there is no such response."""
        if not is_response_id(response_id):
            return None
        return await self.store.find_key(_key(response_id), self._owner)

    async def turn_of(
        self, response_id: str, param: str | None = None, code: str | None = None
    ) -> tuple[str, StoredTurn]:
        """Return a response's session and its turn.

        Raises:
            InvalidRequest: there is no such response (404); ``param`` and ``code`` are the error's.
        """
        session_id = await self.session_of(response_id)
        if session_id is not None:
            turn = await self.store.find_turn(session_id, response_id, self._owner)
            if turn is not None:
                return session_id, turn
        raise response_not_found(response_id, param, code)

    async def input_items(self, session_id: str, turn: StoredTurn) -> list[Item]:
        """Return the items that a response's request has added to its conversation."""
        before: list[Message] = []
        if turn.start is not None:
            history = await self.store.load(session_id, self._owner)
            before = history.messages[: turn.start]
        placed = placed_items([*before, *turn.messages[:-1]])
        return [each.item for each in placed if each.at >= len(before)]

    async def items_beside(self, item_id: str) -> dict[str, Item]:
        """Return the items of the response that has made an item, by their ids.

        The answer may have broken off, so that it can be found in the history alone. Without such
        a response there are none.
        """
        response_id = response_of_item(item_id) or ""
        session_id = await self.session_of(response_id)
        if session_id is None:
            return {}
        turn = await self.store.find_turn(session_id, response_id, self._owner)
        if turn is not None:
            items = answer_items(turn.messages[-1], response_id)
        else:
            history = await self.store.load(session_id, self._owner)
            items = [each.item for each in placed_items(history.messages)]
        return {item["id"]: item for item in items}

    async def keep(self, response_id: str, session_id: str) -> None:
        """Record that the response is in the session."""
        await self.store.move_key(_key(response_id), session_id, self._owner)

    async def forget(self, response_id: str) -> None:
        """Forget the response; its turn stays in the conversation."""
        await self.store.drop_key(_key(response_id), self._owner)


def response_not_found(
    response_id: str, param: str | None = None, code: str | None = None
) -> InvalidRequest:
    """Return the 404 for a response that the owner does not have."""
    shown = response_id if is_response_id(response_id) else "that"
    return InvalidRequest(f"there is no response {shown}", param, code=code, status=404)


def _key(response_id: str) -> str:
    return f"response:{response_id}"
