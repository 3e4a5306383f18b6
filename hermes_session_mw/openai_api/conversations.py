"""OpenAI's Conversations API on a store's sessions: `conversation_routes`.

A conversation is a session, and its id is the session's, so that one which was begun by chat, by
Responses or here is read and continued by each. A message of the session is one item or more; see
``response_items`` and ``item_ids``. Only the last item can be deleted, since the store keeps
conversations that grow at their end.

A conversation that was created has metadata, at least an empty object. That says that there is one
though it has no items yet. The API's are the texts in the session's metadata: other values, such as
an agent framework's state, are the application's, which no client reads or replaces.
"""

import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from hermes_session_mw.asgi.error_responses import (
    log_failure,
    refusal_of,
    route_refusal_of,
)
from hermes_session_mw.asgi.exception_handlers import NO_STORE, response_of
from hermes_session_mw.asgi.headers import TURN_HEADER
from hermes_session_mw.asgi.options import check_limit
from hermes_session_mw.exceptions import (
    ConfigurationError,
    HermesSessionError,
    MessageTooLarge,
    SessionConflict,
)
from hermes_session_mw.ids import is_session_id
from hermes_session_mw.messages import ITEM, Message
from hermes_session_mw.openai_api.invalid_request import InvalidRequest, unsupported
from hermes_session_mw.openai_api.item_ids import PlacedItem, list_of, page_of, placed_items
from hermes_session_mw.openai_api.response_items import (
    Item,
    input_items,
    is_reference,
    messages_of,
    with_references,
    without_last_item,
)
from hermes_session_mw.openai_api.response_options import check_metadata
from hermes_session_mw.session.recording import is_incomplete
from hermes_session_mw.session.session import HermesSession, get_session
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.stores import LifecycleStore, MessageStore, Store

MAX_ITEMS = 20
"""Items that one request may add, as in OpenAI's API."""

_TRIES = 32
"""Times that metadata is set again while others change it."""

_CREATED = re.compile(r"conv_([0-9a-f]{8})[0-9a-f]{24}")


def conversation_session_id(name: str, owner: str) -> str:
    """Return the id of the session that a conversation is.

    It is the name itself where that can be a session id. Any other name, such as ``My trip/2027``,
    leads to an id of its own for each owner.

    Raises:
        InvalidRequest: the name is empty, or no Unicode text.
    """
    if is_session_id(name):
        return name
    if not name or any("\ud800" <= char <= "\udfff" for char in name):
        raise InvalidRequest("'conversation' has no valid id", "conversation")
    return f"conv_{sha256(json.dumps([owner, name]).encode()).hexdigest()}"


def new_conversation_id() -> str:
    """Return an id for a conversation: the time in seconds, and 96 random bits, in hexadecimal."""
    return f"conv_{int(time.time()):08x}{secrets.token_hex(12)}"


def conversation_routes(
    store: Store, *, prefix: str = "/v1/conversations", store_timeout: float | None = 5.0
) -> list[BaseRoute]:
    """Return Starlette routes that create, read, update and delete conversations and their items.

    They are those of OpenAI's SDKs (``client.conversations``), on the sessions of the request's
    owner. Another owner's conversation is answered as unknown.

    Args:
        store: the middleware's store; operations that it does not support are answered 501.
        prefix: the path that all routes begin with.
        store_timeout: seconds that the store has for one operation; None for no limit.

    Raises:
        ConfigurationError: an argument has a value that cannot work.
    """
    if not isinstance(store, Store):
        raise ConfigurationError(
            f"conversation_routes: {type(store).__name__} is not a store; give the middleware's "
            "store, such as a SQLAlchemyStore"
        )
    if not prefix.startswith("/") or prefix.endswith("/") or "{" in prefix:
        raise ConfigurationError(
            f"prefix: {prefix!r} does not begin with '/', ends with it, or is a pattern"
        )
    check_limit("store_timeout", store_timeout)
    routes = _Routes(StoreClient(store, store_timeout))
    paths: dict[str, dict[str, _Handler]] = {
        "": {"POST": routes.create},
        "/{id}": {"GET": routes.get, "POST": routes.update, "DELETE": routes.delete},
        "/{id}/items": {"GET": routes.list_items, "POST": routes.add_items},
        "/{id}/items/{item_id}": {"GET": routes.get_item, "DELETE": routes.delete_item},
    }
    return [
        Route(f"{prefix}{path}", partial(routes.answer, handlers), methods=list(handlers))
        for path, handlers in paths.items()
    ]


_Handler = Callable[[Request, HermesSession], Awaitable[Any]]


class _Routes:
    """The handlers; each takes the request and the conversation's session, and returns JSON."""

    def __init__(self, store: StoreClient) -> None:
        self._store = store

    async def answer(self, handlers: dict[str, _Handler], request: Request) -> Response:
        handler = handlers.get(request.method) or handlers["GET"]  # for HEAD
        try:
            session = await self._session_of(request)
            return _response_of(await handler(request, session))
        except InvalidRequest as exc:
            return invalid_request_response(exc)
        except HermesSessionError as exc:
            refusal = route_refusal_of(exc) or refusal_of(exc)
            if refusal is None:
                raise
            log_failure(exc, refusal)
            return response_of(refusal)

    async def create(self, request: Request, session: HermesSession) -> Message:
        body = await _body(request, "items", "metadata")
        items = _items(body.get("items"))
        metadata = check_metadata(body.get("metadata"))
        messages = messages_of(with_references(items, {}, "items"), "items")
        session.check(*messages)
        # First, since it may be refused, as the messages may be no more.
        await self._set_metadata(session, metadata)
        if messages:
            await session.append(*messages)
        return await self._described(session)

    async def get(self, _: Request, session: HermesSession) -> Message:
        return await self._described(session)

    async def update(self, request: Request, session: HermesSession) -> Message:
        body = await _body(request, "metadata")
        if "metadata" not in body:
            raise InvalidRequest("'metadata' is missing", "metadata")
        metadata = check_metadata(body["metadata"])
        await self._described(session)
        await self._replace_metadata(session, metadata)
        return await self._described(session)

    async def delete(self, _: Request, session: HermesSession) -> Message:
        owner = session.known_owner()
        if not await self._store.call(LifecycleStore.delete, session.id, owner):
            raise _not_found()
        return {"id": session.id, "object": "conversation.deleted", "deleted": True}

    async def list_items(self, request: Request, session: HermesSession) -> Message:
        placed = await self._placed(session)
        return page_of([each.item for each in placed], request.query_params)

    async def add_items(self, request: Request, session: HermesSession) -> Message:
        items = _items((await _body(request, "items")).get("items"))
        await self._described(session)
        async with session.turn():
            known = placed_items(session.history)
            found = {each.item["id"]: each.item for each in known if any(map(is_reference, items))}
            messages = messages_of(with_references(items, found, "items"), "items")
            if messages:
                keep, messages = _joined(session.history, messages)
                await session.append(*messages, replace_from=keep)
            return list_of([each.item for each in placed_items(session.history)[len(known) :]])

    async def get_item(self, request: Request, session: HermesSession) -> Message:
        placed = await self._placed(session)
        return placed[_index_of(placed, request)].item

    async def delete_item(self, request: Request, session: HermesSession) -> Message:
        await self._described(session)
        async with session.turn():
            placed = placed_items(session.history)
            if _index_of(placed, request) != len(placed) - 1:
                raise unsupported("item_id", "to delete another item than the last one")
            at = placed[-1].at
            rest = without_last_item(session.history[at])
            if rest is not None:
                await session.append(rest, replace_from=at)
            else:
                await session.rewind(at)
        return await self._described(session)

    async def _session_of(self, request: Request) -> HermesSession:
        """Return the conversation's session; the response names it if the request names none."""
        own = get_session(request)
        if not (own.is_turn or request.method in ("GET", "HEAD")):
            raise unsupported(TURN_HEADER, "for a request that changes a conversation")
        owner, name = own.known_owner(), request.path_params.get("id")
        is_new = name is None
        session_id = new_conversation_id() if is_new else conversation_session_id(str(name), owner)
        if own.is_new and own.key is None:
            await own.go_on_in(session_id)
        return HermesSession(self._store, session_id, owner=owner, is_new=is_new)

    async def _placed(self, session: HermesSession) -> list[PlacedItem]:
        await self._described(session)
        return placed_items(await session.load())

    async def _described(self, session: HermesSession) -> Message:
        """Return the conversation as the API shows it; raise the 404 if there is none."""
        owner = session.known_owner()
        info = await self._store.call(LifecycleStore.info, session.id, owner)
        metadata = await self._store.call(LifecycleStore.find_metadata, session.id, owner)
        if info is None and metadata is None:
            raise _not_found()
        created = _CREATED.fullmatch(session.id)
        began = 0 if info is None else int(info.created_at.timestamp())
        return {
            "id": session.id,
            "object": "conversation",
            "created_at": int(created[1], 16) if created else began,
            "metadata": {name: text for name, text in (metadata or {}).items() if _is_ours(text)},
        }

    async def _replace_metadata(self, session: HermesSession, metadata: Message) -> None:
        """Replace the texts in the session's metadata, and keep what else is in it."""
        compares = self._store.has("load_range")  # a `MessageStore`
        for _ in range(_TRIES):
            known = await self._store.call(
                LifecycleStore.find_metadata, session.id, session.known_owner()
            )
            kept = {name: value for name, value in (known or {}).items() if not _is_ours(value)}
            expected = {"expected": known} if compares else {}
            with suppress(SessionConflict):
                await self._set_metadata(session, {**metadata, **kept}, **expected)
                return
        raise InvalidRequest("the metadata changes all the time", "metadata", status=409)

    async def _set_metadata(
        self, session: HermesSession, metadata: Message, **options: Any
    ) -> None:
        owner = session.known_owner()
        try:
            await self._store.call(
                MessageStore.set_metadata, session.id, metadata, owner, **options
            )
        except MessageTooLarge as exc:
            raise InvalidRequest(str(exc), "metadata", status=413) from None


def _is_ours(value: Any) -> bool:
    return isinstance(value, str)


def _response_of(content: Any) -> Response:
    """Return a response in UTF-8; Hermes' own database may have lone surrogates in its JSON."""
    try:
        return JSONResponse(content, headers=NO_STORE)
    except UnicodeEncodeError:
        return Response(json.dumps(content), headers=NO_STORE, media_type="application/json")


def invalid_request_response(error: InvalidRequest) -> Response:
    """Return the response to an invalid request, in the shape of OpenAI's errors."""
    told = {"type": "invalid_request_error", "param": error.param, "code": error.code}
    return JSONResponse({"error": {"message": str(error), **told}}, error.status, NO_STORE)


def _joined(history: Sequence[Message], new: list[Message]) -> tuple[int | None, list[Message]]:
    """Return how many messages stay, None for all, and what follows them.

    Calls of one answer are one message, also where a client adds them one by one.
    """
    first, last = new[0], history[-1] if history else {}
    is_more = first.keys() == {"role", "content", "tool_calls"} and first["content"] is None
    if not is_more or last.get("role") != "assistant" or is_incomplete(last):
        return None, new
    earlier = last.get("tool_calls")
    calls = [*(earlier if isinstance(earlier, list) else []), *first["tool_calls"]]
    changed = {name: value for name, value in last.items() if name != ITEM}
    return len(history) - 1, [changed | {"tool_calls": calls}, *new[1:]]


def _index_of(placed: Sequence[PlacedItem], request: Request) -> int:
    wanted = request.path_params["item_id"]
    at = next((at for at, each in enumerate(placed) if each.item["id"] == wanted), None)
    if at is None:
        raise InvalidRequest("There is no such item in the conversation.", "item_id", status=404)
    return at


def _items(value: Any) -> list[Item]:
    items = input_items([] if value is None else value, "items")
    if len(items) > MAX_ITEMS:
        raise InvalidRequest(f"'items' has more than {MAX_ITEMS} items", "items")
    return items


async def _body(request: Request, *known: str) -> Message:
    sent = await request.body()
    try:
        body = json.loads(sent or b"{}")
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON") from None
    if not isinstance(body, dict):
        raise InvalidRequest("the body is not a JSON object")
    for name in body:
        if name not in (*known, "include"):
            raise InvalidRequest(f"'{name}' is no field here", name, code="unknown_parameter")
    return body


def _not_found() -> InvalidRequest:
    return InvalidRequest("There is no such conversation.", "conversation_id", status=404)
