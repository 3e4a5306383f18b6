"""/v1/responses/{id}: reads, follows, cancels and deletes responses, and lists their input."""

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from demo_app.failures import error_payload, failure_of
from demo_app.response_shapes import stored_response
from demo_app.responses import RESPONSES, create_response, own_fields, responses_of
from hermes_session_mw import InvalidCursor, get_session
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.item_ids import page_of
from hermes_session_mw.openai_api.response_log import known_events
from hermes_session_mw.openai_api.response_stream import FollowedResponse
from hermes_session_mw.openai_api.stored_responses import FoundResponse

_PARAMETERS = ("include", "include[]", "include_obfuscation", "stream", "starting_after")
"""Those of ``GET /v1/responses/{id}``."""

_STOPPING = 10.0
"""Seconds to wait for the end of an answer that is stopped."""


def response_routes() -> list[BaseRoute]:
    """Return the routes."""
    one = f"{RESPONSES}/{{response_id}}"
    return [
        Route(RESPONSES, create_response, methods=["POST"]),
        # One route, so that a 405 names both methods.
        Route(one, get_or_delete_response, methods=["GET", "DELETE"]),
        Route(f"{one}/cancel", cancel_response, methods=["POST"]),
        Route(f"{one}/input_items", list_input_items, methods=["GET"]),
    ]


async def get_or_delete_response(request: Request) -> Response:
    """Delete the response, or return it."""
    handler = delete_response if request.method == "DELETE" else get_response
    return await handler(request)


async def get_response(request: Request) -> Response:
    """Return a response, or follow it, under its conversation's id if the request names none."""
    follows, known = _parameters(request)
    found = await _find(request, follows=follows)
    if not follows:
        return await _shown(request, found)
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    if found.answer is not None:
        followed = _followed(found, known)
        try:
            await followed.check()
        except InvalidCursor as exc:
            raise InvalidRequest(str(exc), "starting_after", code="invalid_cursor") from None
        return followed.stream()
    if known:
        problem = "the events are forgotten: retrieve the response without 'starting_after'"
        raise InvalidRequest(problem, "starting_after", code="events_expired")
    return await _stored(request, found, stream=True)


async def cancel_response(request: Request) -> Response:
    """Cancel a response that is made in the background, and return it as it ended."""
    found = await _find(request)
    if not found.background:
        raise InvalidRequest("the response is not made in the background", "response_id")
    await _stop(found)
    return await _shown(request, found)


async def delete_response(request: Request) -> Response:
    """Delete a response, which is stopped if it runs; its turn stays in the conversation."""
    found = await _find(request)
    await _stop(found)
    await responses_of(request).forget(found.id)
    return JSONResponse({"id": found.id, "object": "response", "deleted": True})


async def list_input_items(request: Request) -> Response:
    """List the items that a response's request has added to its conversation."""
    items = await responses_of(request).input_items(await _find(request))
    return JSONResponse(page_of(items, request.query_params))


async def _find(request: Request, *, follows: bool = False) -> FoundResponse:
    """Return the response that the path names, which names its session, if nothing else does."""
    session = get_session(request)
    response_id = request.path_params["response_id"]
    found = await responses_of(request).find(response_id, session, follows=follows)
    if session.is_new:
        await session.switch(found.session_id)
    return found


async def _shown(request: Request, found: FoundResponse) -> Response:
    if found.turn is not None:
        return await _stored(request, found)
    return JSONResponse(await _followed(found).so_far())


async def _stored(request: Request, found: FoundResponse, *, stream: bool = False) -> Response:
    assert found.turn is not None
    stored = stored_response(found.id, found.turn, request.app.state.model)
    return await stored.response(own_fields(found.session_id), stream=stream)


def _followed(found: FoundResponse, known: int = 0) -> FollowedResponse:
    assert found.answer is not None
    return FollowedResponse(
        found.answer, found.id, own_fields(found.session_id), known=known,
        failure=failure_of, payload_of=error_payload,
    )  # fmt: skip


async def _stop(found: FoundResponse) -> None:
    """Stop a running answer, and wait for its end."""
    if found.answer is not None:
        await found.answer.stop()
        with anyio.move_on_after(_STOPPING):
            await found.answer.wait()


def _parameters(request: Request) -> tuple[bool, int]:
    """Return whether the response is streamed, and how many of its events the client has."""
    for name in request.query_params:
        if name not in _PARAMETERS:
            raise InvalidRequest(f"'{name}' is no parameter here", name, code="unknown_parameter")
    for name in ("stream", "starting_after"):
        if len(request.query_params.getlist(name)) > 1:
            raise InvalidRequest(f"'{name}' is there twice", name)
    stream = request.query_params.get("stream", "false")
    if stream not in ("true", "false"):
        raise InvalidRequest("'stream' is neither 'true' nor 'false'", "stream")
    return stream == "true", known_events(request.query_params.get("starting_after"))
