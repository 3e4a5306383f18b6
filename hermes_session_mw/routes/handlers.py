"""The handlers of the session routes: sessions, their messages, and their running answers."""

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hermes_session_mw.asgi.error_responses import RouteRefusals
from hermes_session_mw.asgi.exception_handlers import NO_STORE, response_of
from hermes_session_mw.asgi.options import OwnerHook, ask_owner, check_functions, check_limit
from hermes_session_mw.exceptions import ConfigurationError, HermesSessionError, SessionMissing
from hermes_session_mw.messages import Message, chat_message
from hermes_session_mw.routes import parameters, responses
from hermes_session_mw.routes.openapi import describe
from hermes_session_mw.routes.parameters import Refused
from hermes_session_mw.session.answer import Answer, find_by_id, find_running, split_cursor
from hermes_session_mw.session.answer_response import encode_begin
from hermes_session_mw.session.answer_tasks import AnswerTasks
from hermes_session_mw.session.session import HermesSession, get_session
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.stores import LifecycleStore, Store
from hermes_session_mw.stores.expiry import SessionExpiry, is_longer, setting_as_json
from hermes_session_mw.stores.label_store import LabelStore
from hermes_session_mw.stores.message_store import HistoryRange, MessageStore
from hermes_session_mw.stores.models import MAX_PAGE, PAGE
from hermes_session_mw.telemetry import Telemetry

_APPENDED_MEANWHILE = 20
"""Messages that may be appended between the two loads for a page without making it shorter."""

_Handler = Callable[[Request, str], Awaitable[Response]]
_PARAMETERS = {
    "": ("limit", "cursor", "tag", "pinned", "shelved", parameters.PAIR, "order"),
    "/search": ("q", "limit", "cursor", "session_id", "role", "since"),
    "/{id}/messages": ("limit", "before", "include"),
    "/{id}/answer": ("after",),
}


def session_routes(
    store: Store,
    *,
    prefix: str = "/sessions",
    owner: OwnerHook | None = None,
    allow_ownerless: bool = False,
    store_timeout: float | None = 5.0,
    telemetry: Telemetry | None = None,
) -> list[BaseRoute]:
    """Return Starlette routes that list sessions, read, rename, fork and delete them.

    They also send the events of a session's running answer, and stop it, and set when a session
    expires: not later than by its owner's setting or the store's.

    Each sees the sessions of one owner; another owner's session is answered as unknown.
    ``GET {prefix}/openapi.json`` describes them.

    Args:
        store: the middleware's store; operations that it does not support are answered 501.
        prefix: the path that all routes begin with.
        owner: returns the owner of a request's sessions, sync or async; None is answered 401. By
            default it is the owner by the middleware's own hook.
        allow_ownerless: list all sessions to every client if the middleware has no such hook.
            Any client that knows an id can read and delete the session.
        store_timeout: seconds that the store has for one operation; None for no limit.
        telemetry: receives store operations, as the middleware's option.

    Raises:
        ConfigurationError: an argument has a value that cannot work.
    """
    if not isinstance(store, Store):
        raise ConfigurationError(
            f"session_routes: {type(store).__name__} is not a store; give the middleware's "
            "store, such as a SQLAlchemyStore"
        )
    if not prefix.startswith("/") or prefix.endswith("/") or "{" in prefix:
        raise ConfigurationError(
            f"prefix: {prefix!r} does not begin with '/', ends with it, or is a pattern"
        )
    if owner is not None:
        check_functions(owner=owner)
    check_limit("store_timeout", store_timeout)
    client = StoreClient(store, store_timeout, telemetry=telemetry)
    routes = _Routes(client, prefix, owner, allow_ownerless)
    # One route for each path, so that a 405 names all methods that there are.
    paths: dict[str, dict[str, _Handler]] = {
        "": {"GET": routes.list_sessions},
        "/search": {"GET": routes.search},
        "/{id}": {"GET": routes.get, "PATCH": routes.rename, "DELETE": routes.delete},
        "/{id}/messages": {"GET": routes.messages},
        "/{id}/fork": {"POST": routes.fork},
        "/{id}/expiry": {"GET": routes.expiry, "PUT": routes.set_expiry},
        "/{id}/answer": {"GET": routes.follow},
        "/{id}/answer/stop": {"POST": routes.stop},
    }
    return [
        Route(f"{prefix}/openapi.json", routes.describe),
        *(
            Route(
                f"{prefix}{path}",
                partial(routes.answer, handlers, _PARAMETERS.get(path, ())),
                methods=list(handlers),
            )
            for path, handlers in paths.items()
        ),
    ]


class _Routes:
    """The handlers; each takes the request and its owner."""

    def __init__(
        self,
        store: StoreClient,
        prefix: str,
        owner: OwnerHook | None,
        allow_ownerless: bool,  # noqa: FBT001  # named where it is public
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._owner = owner
        self._allow_ownerless = allow_ownerless

    async def describe(self, request: Request) -> Response:
        return responses.json_response(describe(self._prefix, request.scope.get("root_path", "")))

    async def answer(
        self, handlers: dict[str, _Handler], taken: Collection[str], request: Request
    ) -> Response:
        handler = handlers.get(request.method) or handlers["GET"]  # for HEAD
        try:
            parameters.check_names(taken, request.query_params)
            return await handler(request, await self._owner_of(request))
        except Refused as exc:
            return response_of(exc.refusal)
        except HermesSessionError as exc:
            response = responses.error_response(exc)
            if response is None:
                raise
            return response

    async def list_sessions(self, request: Request, owner: str) -> Response:
        if not (owner or self._allow_ownerless):
            raise Refused(RouteRefusals.NO_OWNERS)
        limit = _limit(request)
        cursor = parameters.single_value("cursor", request.query_params.getlist("cursor"))
        wanted = parameters.filter_of(request.query_params)
        for name in wanted:
            self._store.check_takes("list", name)
        if self._store.takes("list", "first_words"):
            wanted["first_words"] = True
        try:
            page = await self._store.run(LabelStore.list, "", owner, limit, cursor, **wanted)
        except ValueError as exc:
            if cursor is None:
                raise  # not the client's fault
            message = "'cursor' does not come from a page of this list."
            raise parameters.invalid("cursor", message) from exc
        data = [responses.session_as_json(info) for info in page.sessions]
        more = {"has_more": page.cursor is not None, "next_cursor": page.cursor}
        return responses.json_response({"object": "list", "data": data, **more})

    async def search(self, request: Request, owner: str) -> Response:
        """Find messages; without ``q``, answer about a session that has this id."""
        if "q" not in request.query_params:
            return responses.json_response(await self._info("search", owner))
        if not (owner or self._allow_ownerless):
            raise Refused(RouteRefusals.NO_OWNERS)
        from hermes_session_mw.routes import search  # noqa: PLC0415  # few search
        from hermes_session_mw.stores.search import SearchStore  # noqa: PLC0415

        given = search.arguments(request.query_params, owner)
        try:
            page = await self._store.run(SearchStore.search, given["session_id"] or "", **given)
        except ValueError as exc:
            if given["cursor"] is None or isinstance(exc, HermesSessionError):
                raise  # not the client's fault
            message = "'cursor' does not come from a page of this search."
            raise parameters.invalid("cursor", message) from exc
        return responses.json_response(search.page_as_json(page))

    async def get(self, request: Request, owner: str) -> Response:
        return responses.json_response(await self._info(_id(request, owner), owner))

    async def messages(self, request: Request, owner: str) -> Response:
        session_id, limit = _id(request, owner), _limit(request)
        values = request.query_params.getlist("before")
        before = parameters.whole_number("before", values, 0, parameters.MAX_INDEX)
        if parameters.includes_times(request.query_params.getlist("include")):
            found = await self._range_before(session_id, owner, before, limit)
            return responses.json_response(responses.messages_as_json(found))
        page, start, length = await self._before(session_id, owner, before, limit)
        placed = [(at, chat_message(message)) for at, message in enumerate(page, start)]
        shown = [(at, message) for at, message in placed if message is not None]
        told = {
            "object": "list",
            "data": [message for _, message in shown],
            "positions": [at for at, _ in shown],
            "length": length,
            "has_more": start > 0,
            "next_before": start or None,
        }
        return responses.json_response(told)

    async def _before(
        self, session_id: str, owner: str, before: int | None, limit: int
    ) -> tuple[list[Message], int, int]:
        """Return the ``limit`` messages before an index, the first one's index, and the length.

        A store loads the newest messages, so those after the page are loaded with it. If more than
        ``_APPENDED_MEANWHILE`` are appended in between, the page is shorter, and the next one goes
        on from there.
        """
        wanted = limit
        if before is not None:
            known = await self._store.load(session_id, owner, 0)
            wanted = known.length - max(min(before, known.length) - limit, 0) + _APPENDED_MEANWHILE
        history = await self._store.load(session_id, owner, wanted)
        if not history.exists:
            raise Refused(RouteRefusals.NOT_FOUND)
        end = history.length if before is None else min(before, history.length)
        loaded_from = history.length - len(history.messages)
        start = min(max(end - limit, loaded_from), end)
        page = history.messages[max(start - loaded_from, 0) : max(end - loaded_from, 0)]
        return page, start, history.length

    async def _range_before(
        self, session_id: str, owner: str, before: int | None, limit: int
    ) -> HistoryRange:
        """Return the ``limit`` messages before an index with what is known of each of them."""
        self._store.require("load_range")
        call, read = self._store.call, MessageStore.load_range
        first = -limit if before is None else max(before - limit, 0)
        count = limit if before is None else before - first
        found = await call(read, session_id, owner, first, count)
        if before is not None and before > found.length:  # it was shortened meanwhile
            found = await call(read, session_id, owner, -limit, limit)
        if not found.length and not (await self._store.load(session_id, owner, 0)).exists:
            raise Refused(RouteRefusals.NOT_FOUND)
        return found

    async def rename(self, request: Request, owner: str) -> Response:
        session_id, change = _id(request, owner), parameters.change_of(await _body(request))
        self._store.require("info")  # before anything is changed
        if change.keys() != {"title"}:
            return await self._label(session_id, owner, change)
        title = change["title"]
        try:
            found = await self._store.call(LifecycleStore.rename, session_id, title, owner)
        except ValueError as exc:
            message = "'title' cannot be given to this session: another one may have it."
            raise parameters.invalid("title", message) from exc
        if not found:
            raise Refused(RouteRefusals.NOT_FOUND)
        return responses.json_response(await self._info(session_id, owner))

    async def _label(self, session_id: str, owner: str, change: dict[str, Any]) -> Response:
        try:
            found = await self._store.call(LabelStore.label, session_id, owner, **change)
        except ValueError as exc:
            raise parameters.invalid(None, parameters.NO_LABELS) from exc
        if not found:
            raise Refused(RouteRefusals.NOT_FOUND)
        return responses.json_response(await self._info(session_id, owner))

    async def fork(self, request: Request, owner: str) -> Response:
        session_id, length = _id(request, owner), parameters.length_of(await _body(request))
        self._store.require("info")
        new_id = self._store.new_id()
        await self._store.call(LifecycleStore.fork, session_id, new_id, owner, length)
        response = responses.json_response(await self._info(new_id, owner), 201)
        # Relative to this request's own URL, whatever prefix a proxy removed from its path.
        response.headers["location"] = f"../{new_id}"
        return response

    async def delete(self, request: Request, owner: str) -> Response:
        if not await self._store.call(LifecycleStore.delete, _id(request, owner), owner):
            raise Refused(RouteRefusals.NOT_FOUND)
        return Response(status_code=204, headers=NO_STORE)

    async def expiry(self, request: Request, owner: str) -> Response:
        found = await self._find_expiry(_id(request, owner), owner)
        return responses.json_response(responses.expiry_as_json(found))

    async def set_expiry(self, request: Request, owner: str) -> Response:
        session_id = _id(request, owner)
        setting = parameters.expires_after_of(await _body(request))
        found = await self._find_expiry(session_id, owner)
        # Of any other id a setting would be a row that a client makes of nothing.
        if not _is_own(request, session_id, owner):
            await self._info(session_id, owner)
        # How long anything is kept at most is the operator's decision.
        if setting is not None and is_longer(setting, found.inherited):
            most = setting_as_json(found.inherited)
            raise parameters.invalid("expires_after", f"'expires_after' is {most} at most.")
        written = self._store.expiry.set(session_id, setting, owner)
        await self._store.complete("expire_after", session_id, written)
        return await self.expiry(request, owner)

    def _find_expiry(self, session_id: str, owner: str) -> Awaitable[SessionExpiry]:
        finding = self._store.expiry.find(session_id, owner)
        return self._store.complete("find_expiry", session_id, finding)

    async def follow(self, request: Request, owner: str) -> Response:
        """Send the events of the running answer, or the rest of the one that the client has."""
        session_id = _id(request, owner)
        values = request.query_params.getlist("after")
        # A browser that reconnects asks for the URL of its first request again.
        after = request.headers.get("last-event-id") or parameters.single_value("after", values)
        named, number = (None, 0) if after is None else split_cursor(after)
        answer = await self._running(request, session_id, owner)
        if answer is None and named is not None:
            answer = await self._ended(request, session_id, owner, named, number)
        if answer is None:
            return Response(status_code=204, headers=NO_STORE)
        place = number if named is None else f"{named}:{number}"
        await answer.check(place)
        if request.method == "HEAD":
            return Response(headers=NO_STORE, media_type="text/event-stream")
        # Without a cursor the client knows nothing of the answer yet.
        return answer.response(place, opening=encode_begin if after is None else None)

    async def stop(self, request: Request, owner: str) -> Response:
        answer = await self._running(request, _id(request, owner), owner)
        if answer is None:
            return Response(status_code=204, headers=NO_STORE)
        await answer.stop()
        return Response(status_code=202, headers=NO_STORE)

    async def _running(self, request: Request, session_id: str, owner: str) -> Answer | None:
        store, tasks, stops = self._store, self._tasks(request), _stops(request)
        return await find_running(store, tasks, session_id, owner, stops=stops)

    async def _ended(
        self, request: Request, session_id: str, owner: str, answer_id: str, number: int
    ) -> Answer | None:
        """Return the session's answer, if the client lacks events of it."""
        store, tasks = self._store, self._tasks(request)
        answer = await find_by_id(store, tasks, answer_id, owner, stops=False)
        if answer is None or answer.session_id != session_id:
            return None
        return None if answer.length <= number else answer

    def _tasks(self, request: Request) -> AnswerTasks:
        """Return the answers that run in this process, which the middleware knows."""
        session = _session(request)
        return self._store.answers if session is None else session.answers

    async def _owner_of(self, request: Request) -> str:
        if self._owner is not None:
            owner = await ask_owner(self._owner, request)
        else:
            owner = get_session(request).owner
        if owner is None:
            raise Refused(RouteRefusals.OWNER_UNKNOWN)
        return owner

    async def _info(self, session_id: str, owner: str) -> dict[str, Any]:
        told = {"first_words": True} if self._store.takes("info", "first_words") else {}
        info = await self._store.call(LabelStore.info, session_id, owner, **told)
        if info is None:
            raise Refused(RouteRefusals.NOT_FOUND)
        return responses.session_as_json(info)


def _is_own(request: Request, session_id: str, owner: str) -> bool:
    """Tell whether it is the session that the request itself is of, which may have no turn yet."""
    session = _session(request)
    return session is not None and (session.id, session.owner) == (session_id, owner)


def _session(request: Request) -> HermesSession | None:
    try:
        return get_session(request)
    except SessionMissing:
        return None


def _stops(request: Request) -> bool:
    session = _session(request)
    return session is not None and session.on_disconnect == "stop"


def _id(request: Request, owner: str) -> str:
    session_id: str = request.path_params["id"]
    parameters.check_id(session_id, owner)
    return session_id


def _limit(request: Request) -> int:
    limit = parameters.whole_number("limit", request.query_params.getlist("limit"), 1, MAX_PAGE)
    return PAGE if limit is None else limit


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > parameters.MAX_BODY:
            raise Refused(parameters.BODY_TOO_LARGE)
    return bytes(body)
