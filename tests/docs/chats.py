"""Chats over the protocols that have a page of their own, and their clients."""

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import httpx2

from tests.docs.pages import KEYS, Backend, Client, Driver

Request = tuple[str, dict[str, Any], dict[str, str]]
"""A path, a body and headers."""


class Protocol(NamedTuple):
    """A protocol's page, and its client.

    Attributes:
        page: the page.
        environment: the client's packages.
        driver: what drives the page's client.
        options: returns what the page's client is opened with.
        question: returns the request that asks something, under an id of its own.
        ends: how the client tells the end of an answer, by the answer's state.
    """

    page: str
    environment: str
    driver: str
    options: Callable[[str, str, str], dict[str, Any]]
    question: Callable[[str, str], Request]
    ends: dict[str, str]


def ai_sdk_options(url: str, name: str, key: str) -> dict[str, Any]:
    return {"id": name, "key": key, "api": f"{url}/api/chat"}


def ai_sdk_question(name: str, run: str) -> Request:
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hello."}]}
    body = {"id": name, "messages": [message], "trigger": "submit-message"}
    return "/api/chat", body, {"Idempotency-Key": run}


def ag_ui_options(url: str, name: str, key: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    return {"url": f"{url}/agent", "threadId": name, "headers": headers}


def ag_ui_question(name: str, run: str) -> Request:
    message = {"id": "m", "role": "user", "content": "Hello."}
    return "/agent", {"threadId": name, "runId": run, "messages": [message]}, {}


BROKEN = "The answer broke off."
AI_SDK = Protocol(
    "ai-sdk.md", "ai-react", "ai_sdk.mjs", ai_sdk_options, ai_sdk_question,
    {"completed": "ready", "stopped": "ready", "failed": BROKEN},
)  # fmt: skip
AG_UI = Protocol(
    "ag-ui.md", "ag-ui", "ag_ui.mjs", ag_ui_options, ag_ui_question,
    {"completed": "success", "stopped": "cancelled", "failed": BROKEN},
)  # fmt: skip


class Chat:
    """A chat, which people open on their devices."""

    def __init__(self, protocol: Protocol, served: Backend, driver: Driver) -> None:
        self.id = secrets.token_hex(8)
        self.served, self.model, self.proxy = served, served.model, served.proxy
        self.protocol, self._driver = protocol, driver

    def open(self, who: str = "ada", url: str | None = None) -> Client:
        """Open it on another device, which connects to the proxy."""
        options = self.protocol.options(url or self.served.proxy.url, self.id, KEYS[who])
        return self._driver.open(secrets.token_hex(4), options)

    def visit(self, text: str) -> Client:
        """Open it on another device, and see a text."""
        client = self.open()
        client.do("visit")
        client.shows(text)
        return client

    def begin(self, piece: str) -> Client:
        """Ask, and have the model say something."""
        client = self.open()
        client.do("send", "Hello.")
        self.model.say(piece)
        client.shows(piece)
        return client

    def end(self, *pieces: str) -> None:
        """Have the model say the rest."""
        self.model.say(*pieces)
        self.model.end()

    def sees(self, client: Client, *texts: str, state: str = "completed") -> None:
        """See that a client has these messages once it has done, and the end that they are for."""
        told = client.settled()
        assert told["messages"] == said(*texts)
        assert told["end"] == self.protocol.ends[state]

    def asking(self, run: str, who: str = "ada") -> AbstractContextManager[httpx2.Response]:
        """Ask the server itself."""
        path, body, headers = self.protocol.question(self.id, run)
        headers["Authorization"] = f"Bearer {KEYS.get(who)}"
        url = f"{self.served.url}{path}"
        return httpx2.stream("POST", url, json=body, headers=headers, timeout=60)


def said(*texts: str) -> list[list[str]]:
    """Return messages of a user and of an assistant in turn."""
    return [[("user", "assistant")[n % 2], text] for n, text in enumerate(texts)]
