"""A model behind an OpenAI-compatible server."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, cast

import httpx2

from demo_app.bodies import BadRequest
from demo_app.chunks import delta_of
from demo_app.failures import ModelFailed, upstream_failed
from demo_app.model import Delta
from demo_app.transcript import for_upstream
from demo_app.upstream_errors import failure_of, parsed, timed_out
from hermes_session_mw import ConfigurationError
from hermes_session_mw.messages import Message

TIMEOUT = 120.0
"""Seconds for connecting, and for each wait for the next piece."""

_LARGEST = 4_194_304
"""Bytes of a body that was not streamed, or of one event."""

_MOST = 134_217_728
"""Characters of all events: a chunk for each token is far longer than the token."""


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
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: where its ``chat/completions`` is, as in ``http://127.0.0.1:11434/v1``.
            key: sent to it as a bearer token, and to nobody else.
            model: the model if a request names none; None for the first that it lists.
            timeout: seconds for connecting, and between two pieces.

        Raises:
            ConfigurationError: the URL, the key or the timeout is invalid.
        """
        self.patience = 3 * timeout  # connecting, sending, and the first byte
        self._key = (key or "").strip()
        self._model = model
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
        body = {
            **options,
            "model": asked,
            "messages": for_upstream(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        has_begun = has_ended = False
        received = 0
        async with (
            self._answering("POST", "chat/completions", body) as response,
            aclosing(_events(response)) as events,
        ):
            async for data in events:
                if data.strip() == "[DONE]":
                    has_ended = True
                    break
                received += len(data)
                if received > _MOST:
                    raise upstream_failed("the upstream sent too much")
                delta = delta_of(data)
                has_begun, has_ended = True, has_ended or delta.finish_reason is not None
                yield delta if delta.model else replace(delta, model=asked)
        if not (has_begun and has_ended):
            raise upstream_failed("the upstream's answer broke off")

    def retold(self, _: Sequence[Message], __: str, options: Mapping[str, Any]) -> Delta:
        """Return the name for a stored answer that is sent again; its usage is not known."""
        return Delta(model=options.get("model") or self.name)

    async def listed(self) -> list[dict[str, Any]]:
        """Return the upstream's models."""
        async with self._answering("GET", "models") as response:
            body = parsed(await _read(response))
        models = body.get("data") if isinstance(body, dict) else None
        if not isinstance(models, list):
            raise upstream_failed("the upstream did not send a list of models")
        return [each for each in models if isinstance(each, dict)]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _default(self) -> str:
        if self._model is None:
            names = [each.get("id") for each in await self.listed()]
            self._model = next((name for name in names if isinstance(name, str)), None)
        if self._model is None:
            raise upstream_failed("the upstream lists no model: name one in the request")
        return self._model

    @asynccontextmanager
    async def _answering(
        self, method: str, path: str, body: Message | None = None
    ) -> AsyncGenerator[httpx2.Response, None]:
        """Yield a response of status 200."""
        headers = {"Content-Type": "application/json"}
        try:
            async with self._client.stream(
                method, path, content=_encoded(body), headers=headers if body else {}
            ) as response:
                if response.status_code != HTTPStatus.OK:
                    told = parsed((await _read(response)).decode(errors="replace"))
                    raise failure_of(response.status_code, told, response.headers)
                yield response
        except ModelFailed as exc:
            raise self._without_key(exc) from None
        except httpx2.TimeoutException:
            raise timed_out() from None
        except httpx2.ConnectError:
            problem = "the upstream cannot be reached"
            raise upstream_failed(problem, code="upstream_unreachable") from None
        except httpx2.HTTPError:
            raise upstream_failed("the upstream's answer broke off") from None

    def _without_key(self, failure: ModelFailed) -> ModelFailed:
        """Return the failure without the upstream's key, which some servers quote."""
        if not self._key:
            return failure
        error = {
            name: field.replace(self._key, "***") if isinstance(field, str) else field
            for name, field in failure.body["error"].items()
        }
        return type(failure)({"error": error}, failure.status, failure.headers)


async def _events(response: httpx2.Response) -> AsyncGenerator[str, None]:
    """Yield the data of each event, or the body of a server that does not stream."""
    if response.headers.get("Content-Type", "").startswith("application/json"):
        yield (await _read(response)).decode(errors="replace")
        yield "[DONE]"
    else:
        source = aiter(httpx2.EventSource(response, _LARGEST))
        async with aclosing(cast("AsyncGenerator[httpx2.ServerSentEvent, None]", source)) as events:
            async for event in events:
                if (
                    event.data
                ):  # an event without data, such as "retry: 1000", is ignored by the standard
                    yield event.data


async def _read(response: httpx2.Response) -> bytes:
    data = b""
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            data += chunk
            if len(data) > _LARGEST:
                raise upstream_failed("the upstream sent too much")
    return data


def _encoded(body: Message | None) -> bytes | None:
    try:
        return None if body is None else json.dumps(body).encode()
    except RecursionError:
        raise BadRequest("the body is nested too deep") from None


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
