"""A model behind an OpenAI-compatible server."""

import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Any

import httpx2

from demo_app.failures import ModelFailed, ModelRefused, upstream_failed
from demo_app.upstream_errors import failure_in_stream, failure_of, parsed, timed_out
from hermes_session_mw import ConfigurationError
from hermes_session_mw.asgi.headers import check_header_name
from hermes_session_mw.logging import current_session
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.assembly import texts_in
from hermes_session_mw.openai_api.chunks import Chunk, InvalidChunk, read_chunk
from hermes_session_mw.openai_api.event_reader import Event, EventReader, EventTooLarge
from hermes_session_mw.openai_api.inflater import Inflater
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.reply import Delta
from hermes_session_mw.openai_api.transcript import for_upstream, in_plain_form, refused_parts
from hermes_session_mw.openai_api.usage import estimated_usage

TIMEOUT = 120.0
"""Seconds for connecting, and for each wait for the next piece."""

logger = logging.getLogger(__name__)

_BROKE_OFF = "The model's answer broke off. Try again."

_LARGEST = 4_194_304
"""Bytes of a body that was not streamed, or of one event."""

_MOST = 134_217_728
"""Bytes of a whole stream: a chunk for each token is far longer than the token."""


class UpstreamModel:
    """Sends the conversation to an OpenAI-compatible server, and streams its answer.

    The server is always asked to stream, so that the received part of a broken answer is kept, and
    a silent server can be distinguished from one that works.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str | None = None,
        timeout: float = TIMEOUT,
        session_header: str | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: where its ``chat/completions`` is, as in ``http://127.0.0.1:11434/v1``.
            key: sent to it as a bearer token, and to nobody else.
            model: the model if a request names none; None for the first that it lists.
            timeout: seconds for connecting, and between two pieces.
            session_header: the name of a header in which the session's id is sent to it; None for
                none. With the id others can read the conversation: name one for your own servers.
                Two owners may have sessions of the same id.

        Raises:
            ConfigurationError: the URL, the key, the timeout or the header's name is invalid.
        """
        if session_header is not None:
            check_header_name(session_header)
        self.patience = 3 * timeout  # connecting, sending, and the first byte
        self._key = (key or "").strip()
        self._model = model
        self._session_header = session_header
        self._without: set[tuple[str, str]] = set()  # what a model refuses, by its name
        self._client = httpx2.AsyncClient(
            base_url=_checked(url, self._key, timeout),
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=timeout,
            limits=httpx2.Limits(),
        )

    @property
    def name(self) -> str:
        """The model that is asked if a request names none."""
        return self._model or "upstream"

    async def stream(
        self, messages: Sequence[Message], options: Mapping[str, Any]
    ) -> AsyncGenerator[Delta, None]:
        """Yield the pieces of the upstream's answer.

        Raises:
            ModelFailed: there is no answer, or it broke off; ModelRefused: a retry cannot help.
        """
        asked = options.get("model") or await self._default()
        body = {**options, "model": asked, "messages": for_upstream(messages), "stream": True}
        has_begun = has_ended = has_usage = False
        texts, name = list[str](), asked
        async with AsyncExitStack() as stack:
            response = await self._ask(stack, body)
            events = await stack.enter_async_context(aclosing(_events(response)))
            async for event in events:
                if event.data.strip() == "[DONE]":
                    has_ended = True
                    break
                chunk = _chunk(event)
                if chunk is None:
                    continue
                has_begun = True
                has_ended = has_ended or chunk.is_whole or chunk.finish_reason is not None
                has_usage = has_usage or chunk.usage is not None
                texts += texts_in(chunk.delta)
                name = chunk.model or name
                yield Delta(
                    fields=chunk.delta,
                    finish_reason=chunk.finish_reason,
                    usage=chunk.usage,
                    model=name,
                    choice=chunk.choice,
                    beside=chunk.beside,
                )
        if not (has_begun and has_ended):
            raise self._told(upstream_failed(_BROKE_OFF))
        if not has_usage:
            yield Delta(usage=estimated_usage(body["messages"], "".join(texts)))

    async def listed(self) -> list[dict[str, Any]]:
        """Return the upstream's models."""
        async with self._answering("GET", "models") as response:
            body = parsed(await _read(response))
        models = body.get("data") if isinstance(body, dict) else None
        if not isinstance(models, list):
            raise upstream_failed("The model's server does not list its models.")
        return [each for each in models if isinstance(each, dict)]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _default(self) -> str:
        if self._model is None:
            names = [each.get("id") for each in await self.listed()]
            self._model = next((name for name in names if isinstance(name, str)), None)
        if self._model is None:
            raise upstream_failed("The model's server lists no model: name one in the request.")
        return self._model

    async def _ask(self, stack: AsyncExitStack, body: Message) -> httpx2.Response:
        """Return the response, which ``stack`` closes.

        The upstream is asked again without what it refuses and can do without, and that is
        remembered if it helps.
        """
        model = body["model"]
        known = {part for name, part in self._without if name in (model, "")}
        without = set(known)
        while True:
            sent = _with_less(body, without)
            try:
                asking = self._answering("POST", "chat/completions", sent)
                response = await stack.enter_async_context(asking)
            except ModelRefused as exc:
                refused = set(refused_parts(exc.status, exc.said, sent["messages"])) - without
                if not refused:
                    raise
                without |= refused
            else:
                self._without |= {
                    ("" if part == "stream_options" else model, part) for part in without - known
                }
                return response

    @asynccontextmanager
    async def _answering(
        self, method: str, path: str, body: Message | None = None
    ) -> AsyncGenerator[httpx2.Response, None]:
        """Yield a response of status 200."""
        headers = {"Content-Type": "application/json"} if body else {}
        session = current_session.get()
        if body and self._session_header and session is not None:
            headers[self._session_header] = session.id
        try:
            async with self._client.stream(
                method, path, content=_encoded(body), headers=headers
            ) as response:
                if response.status_code != HTTPStatus.OK:
                    said = (await _read(response)).decode(errors="replace")
                    failure = failure_of(response.status_code, parsed(said), response.headers)
                    failure.said = said
                    raise failure
                yield response
        except ModelFailed as exc:
            raise self._told(exc) from None
        except httpx2.TimeoutException:
            raise self._told(timed_out()) from None
        except httpx2.ConnectError:
            problem = "The model's server cannot be reached. Try again once it runs."
            failure = upstream_failed(problem, code="upstream_unreachable")
            raise self._told(failure) from None
        except httpx2.HTTPError:
            raise self._told(upstream_failed(_BROKE_OFF)) from None

    def _told(self, failure: ModelFailed) -> ModelFailed:
        """Return the failure without the upstream's key, which some servers quote.

        The log has the upstream's address, unless the request itself is refused.
        """
        if not isinstance(failure, ModelRefused):
            logger.warning("upstream %s: %s", self._client.base_url, failure)
        if not self._key:
            return failure
        error = {
            name: field.replace(self._key, "***") if isinstance(field, str) else field
            for name, field in failure.body["error"].items()
        }
        without = type(failure)({"error": error}, failure.status, failure.headers)
        without.said = failure.said
        return without


async def _events(response: httpx2.Response) -> AsyncGenerator[Event, None]:
    """Yield the events, or the body of a server that does not stream."""
    reader = EventReader(_LARGEST)
    try:
        async with aclosing(_inflated(response, _MOST)) as portions:
            async for data in portions:
                for event in reader.feed(data):
                    yield event
        for event in reader.end():
            yield event
    except EventTooLarge:
        raise upstream_failed("The model's server sent too much.") from None


def _chunk(event: Event) -> Chunk | None:
    """Return what an event says, or None if it is passed over."""
    try:
        chunk = read_chunk(event.data, event.name)
    except InvalidChunk:
        raise upstream_failed("What the model's server sent is no answer of a chat.") from None
    if chunk is not None and chunk.error:
        raise failure_in_stream(chunk.error)
    return chunk


def _with_less(body: Message, without: set[str]) -> Message:
    """Return the body without what the upstream refuses."""
    if "extras" in without:
        body = body | {"messages": in_plain_form(body["messages"])}
    if "stream_options" in without:
        return body
    return body | {"stream_options": {"include_usage": True}}


async def _read(response: httpx2.Response) -> bytes:
    async with aclosing(_inflated(response, _LARGEST)) as portions:
        return b"".join([portion async for portion in portions])


async def _inflated(response: httpx2.Response, most: int) -> AsyncGenerator[bytes, None]:
    """Yield the body in portions, of which each is counted before the next one takes memory."""
    received = 0
    try:
        inflater = Inflater(response.headers.get("Content-Encoding", ""))
        async with aclosing(response.aiter_raw()) as chunks:
            async for chunk in chunks:
                for portion in inflater.feed(chunk):
                    received += len(portion)
                    if received > most:
                        raise upstream_failed("The model's server sent too much.")
                    yield portion
    except ValueError:
        raise upstream_failed("The model's answer cannot be decompressed.") from None


def _encoded(body: Message | None) -> bytes | None:
    try:
        return None if body is None else json.dumps(body).encode()
    except RecursionError:
        raise InvalidRequest("the body is nested too deep") from None


def _checked(url: str, key: str, timeout: float) -> httpx2.URL:
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        parts = httpx2.URL()
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ConfigurationError("the upstream is not a URL that begins with http:// or https://")
    if parts.userinfo or parts.query or parts.fragment:
        raise ConfigurationError("the upstream's URL has parts other than a host and a path")
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError("the upstream's API key has characters that no header can have")
    if not 0 < timeout < float("inf"):
        raise ConfigurationError(f"the upstream cannot time out after {timeout} seconds")
    return parts
