"""Finds stored responses: a session key leads from a response to its session, an id to its turn."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import cast

from hermes_session_mw.exceptions import NotSupported, StoreUnavailable, TurnConflict
from hermes_session_mw.messages import Message, chat_messages
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.item_ids import (
    answer_items,
    is_response_id,
    placed_items,
    response_details,
    response_of_item,
)
from hermes_session_mw.openai_api.response_items import Item
from hermes_session_mw.openai_api.response_request import ResponseRequest
from hermes_session_mw.openai_api.response_stream import begun_response
from hermes_session_mw.session.answer import Answer, find_by_turn
from hermes_session_mw.session.session import HermesSession
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.stores import LifecycleStore, Store
from hermes_session_mw.stores.models import StoredTurn

_HALF = 24
"""Digits of a response's id that stand for its session, and as many for its Idempotency-Key."""

MAX_REFERENCES = 1000
"""Items that one input may refer to."""


def new_response_id(
    session: HermesSession, *, is_stored: bool = True, previous: str | None = None
) -> str:
    """Return an id for a response to this request: ``resp_`` and 48 hexadecimal digits.

    Under an Idempotency-Key it depends on the owner, on the key, and on the response to continue
    from, ``previous``, or else the session; so that it leads to a fork again. A response that is
    not stored gets another id than one that is.
    """
    key = session.idempotency_key
    if key is None or not is_stored:
        return f"resp_{secrets.token_hex(24)}"
    return f"resp_{_digits(session.owner, key, previous, previous or session.id)}{_of_key(session)}"


def response_turn_id(session: HermesSession, response_id: str, *, named: str | None = None) -> str:
    """Return the id of a response's turn.

    Under an Idempotency-Key that is the key's, in whatever session, so that a repetition finds it
    after a rotation too. Without one it is the response's id; and so it is in a fork of the session
    that the request ``named``, where the same key may name another request.
    """
    is_fork = named not in (None, session.id)
    if session.idempotency_key is None or is_fork:
        return response_id
    return _turn_of_key(response_id)


@dataclass(frozen=True, slots=True)
class FoundResponse:
    """A response that was found by its id.

    Attributes:
        id: the response's id.
        session_id: the session that it is in.
        turn: its turn, if it is completed.
        answer: its answer, which can be followed; None if it is forgotten, or was not looked for.
        background: whether it is made in the background.
    """

    id: str
    session_id: str
    turn: StoredTurn | None
    answer: Answer | None
    background: bool


class StoredResponses:
    """The responses of one owner."""

    def __init__(self, store: Store, owner: str) -> None:
        """Take the middleware's store.

        Raises:
            NotSupported: it has no keys and no turns.
        """
        # Of the protocol's methods, all of which are optional, these are called.
        for name in ("find_key", "move_key", "drop_key", "find_turn"):
            if not hasattr(store, name):
                raise NotSupported(store, name)
        self.store: LifecycleStore = cast("LifecycleStore", store)
        self._owner = owner

    async def session_of(self, response_id: str) -> str | None:
        """Return the response's session, or None if there is no such response."""
        if not is_response_id(response_id):
            return None
        session_id = await self.store.find_key(_key(response_id), self._owner)
        if session_id is None:
            session_id = await self.store.find_key(_old_key(response_id), self._owner)
        return session_id

    async def turn_of(
        self, response_id: str, param: str | None = None, code: str | None = None
    ) -> tuple[str, StoredTurn]:
        """Return a response's session and its turn.

        Raises:
            InvalidRequest: there is no such response (404); ``param`` and ``code`` are the error's.
        """
        session_id = await self.session_of(response_id)
        if session_id is not None:
            turn = await self._turn(session_id, response_id)
            if turn is not None:
                return session_id, turn
        raise response_not_found(response_id, param, code)

    async def find(
        self, response_id: str, session: HermesSession, *, follows: bool = False
    ) -> FoundResponse:
        """Find a response: its turn, or else its answer, also if that broke off lately.

        Args:
            response_id: the response's id.
            session: the request's session, through which answers of this process are found.
            follows: whether the answer is looked for in any case, to be followed.

        Raises:
            InvalidRequest: there is no such response (404).
        """
        session_id = await self.session_of(response_id)
        if session_id is None:
            raise response_not_found(response_id)
        turn = await self._turn(session_id, response_id)
        told = {} if turn is None else response_details(_answer_in(turn))
        answer = None
        if follows or turn is None:
            answer, begun = await self._answer_of(response_id, session, session_id)
            told = told or begun
        if turn is None and answer is None:
            raise response_not_found(response_id)
        return FoundResponse(response_id, session_id, turn, answer, bool(told.get("background")))

    async def _answer_of(
        self, response_id: str, session: HermesSession, session_id: str
    ) -> tuple[Answer | None, Message]:
        """Return a response's answer, if it runs or ended lately, and the response as it began."""
        if not hasattr(self.store, "find_answer_of_turn"):
            return None, {}
        store, stops = StoreClient(self.store), session.on_disconnect == "stop"
        for turn_id in response_id, _turn_of_key(response_id):
            find = partial(find_by_turn, store, session.answers, session_id, turn_id, self._owner)
            answer = await find(stops=False)
            begun = None if answer is None else await begun_response(answer)
            if begun is not None and begun.get("id") == response_id:
                if stops and not begun.get("background"):
                    answer = await find(stops=True)
                return answer, begun
            if answer is not None and answer.length == 0 and answer.state != "running":
                return answer, {}  # its process was killed before it had written anything
        return None, {}

    async def input_items(self, found: FoundResponse) -> list[Item]:
        """Return the items that a response's request has added to its conversation."""
        if found.turn is not None:
            start, question = found.turn.start, chat_messages(found.turn.messages)[:-1]
            before = [] if start is None else (await self._history(found))[:start]
        else:
            assert found.answer is not None
            question, before = found.answer.question, await self._history(found)
            start = found.answer.replace_from
            if found.answer.state != "running":  # the history has the question by now
                start = _start_of(question, before)
            before = before[:start]
        placed = placed_items([*before, *question])
        return [each.item for each in placed if each.at >= len(before)]

    async def _history(self, found: FoundResponse) -> list[Message]:
        return (await self.store.load(found.session_id, self._owner)).messages

    async def fork_of(
        self, session: HermesSession, response_id: str, previous: str | None
    ) -> str | None:
        """Return the fork that an earlier attempt of the request has made, or None.

        Raises:
            TurnConflict: another request of the session has, under the same Idempotency-Key.
        """
        if session.idempotency_key is None:
            return None
        fork, is_own = await self.session_of(response_id), previous is not None
        if fork is None and is_own:
            fork = await self.session_of(new_response_id(session))
            if fork is not None:
                turn = await self.store.find_turn(fork, response_id, self._owner)
                is_own = turn is not None  # though the response was deleted
        if fork is None or fork == session.id:
            return None
        if not is_own:
            raise TurnConflict
        return fork

    async def keep_fork(self, session: HermesSession, response_id: str, fork: str) -> None:
        """Record that the response is in a fork of the session, and that its key is used there."""
        await self.keep(response_id, fork)
        if session.idempotency_key is not None:
            await self.keep(new_response_id(session), fork)

    async def resolve(self, asked: ResponseRequest, session: HermesSession) -> ResponseRequest:
        """Return the request with the items that it refers to in place.

        They are items of the session, or of the owner's responses. Each response is read once.

        Raises:
            InvalidRequest: there is no such item (404), or there are more than `MAX_REFERENCES`.
            StoreUnavailable: the session is degraded, so that its items are not known.
        """
        if not asked.references:
            return asked
        if len(asked.references) > MAX_REFERENCES:
            problem = f"'input' refers to more than {MAX_REFERENCES} items"
            raise InvalidRequest(problem, "input", code="too_many_references")
        history = [] if session.is_new else await session.load()
        found = {each.item["id"]: each.item for each in placed_items(history)}
        for item_id in asked.references:
            if item_id not in found:
                found |= await self._items_beside(item_id)
            if item_id not in found:
                break
        if session.degraded and not found.keys() >= set(asked.references):
            raise StoreUnavailable("the items that the input refers to cannot be read")
        return asked.with_messages(found)

    async def _items_beside(self, item_id: str) -> dict[str, Item]:
        """Return the items of the response that has made an item, by their ids.

        The answer may have broken off, so that it can be found in the history alone; then they are
        all of the conversation's.
        """
        response_id = response_of_item(item_id) or ""
        session_id = await self.session_of(response_id)
        if session_id is None:
            return {}
        turn = await self._turn(session_id, response_id)
        if turn is not None:
            items = answer_items(_answer_in(turn), response_id)
        else:
            history = await self.store.load(session_id, self._owner)
            items = [each.item for each in placed_items(history.messages)]
        return {item["id"]: item for item in items}

    async def _turn(self, session_id: str, response_id: str) -> StoredTurn | None:
        for turn_id in response_id, _turn_of_key(response_id):
            turn = await self.store.find_turn(session_id, turn_id, self._owner)
            if turn is not None:
                return turn
        return None

    async def keep(self, response_id: str, session_id: str) -> None:
        """Record that the response is in the session."""
        await self.store.move_key(_key(response_id), session_id, self._owner)

    async def forget(self, response_id: str) -> None:
        """Forget the response; its turn stays in the conversation."""
        if not await self.store.drop_key(_key(response_id), self._owner):
            await self.store.drop_key(_old_key(response_id), self._owner)


def _answer_in(turn: StoredTurn) -> Message:
    """Return the turn's last message that has a chat form; an empty answer without one."""
    return next(reversed(chat_messages(turn.messages)), {"role": "assistant", "content": ""})


def _start_of(question: Sequence[Message], history: Sequence[Message]) -> int | None:
    """Return where a question begins that is in the history, or None."""
    count = len(question)
    places = range(len(history) - count, -1, -1)
    return next((at for at in places if list(history[at : at + count]) == list(question)), None)


def response_not_found(
    response_id: str, param: str | None = None, code: str | None = None
) -> InvalidRequest:
    """Return the 404 for a response that the owner does not have."""
    is_shown = is_response_id(response_id)
    problem = f"there is no response {response_id}" if is_shown else "there is no such response"
    return InvalidRequest(problem, param, code=code, status=404)


def _of_key(session: HermesSession) -> str:
    return _digits(session.owner, session.idempotency_key)


def _turn_of_key(response_id: str) -> str:
    """Return the id of the turns of a key: its half of the responses' ids is the same in all."""
    return f"response-{response_id[-_HALF:]}"


def _digits(*named: str | None) -> str:
    return sha256(json.dumps(named).encode()).hexdigest()[:_HALF]


def _key(response_id: str) -> str:
    # Keys of clients are ASCII: none is equal.
    return f"\u00a7response:{response_id}"


def _old_key(response_id: str) -> str:
    """Return the key of 0.1.0, which a client's own key may be equal to."""
    return f"response:{response_id}"
