"""Demos that the clients of a module share, and what may be in the way of their requests."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import anyio
from sqlalchemy import URL, make_url

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.messages import Message
from tests.support.server import demo
from tests.support.tampering_proxies import LosingProxy

HEADER = "X-Hermes-Session-Id"
HISTORY_SOURCE = "X-Hermes-History-Source"
IDEMPOTENCY_KEY = "Idempotency-Key"
API_KEY = "ada-key"

# A busy conversation is told at once, where the demo itself would wait for ten seconds.
IMPATIENT = (
    "-c",
    "from demo_app import __main__, turns; turns.WAIT = 0; __main__.main()",
)


class Demo(NamedTuple):
    """A demo that serves.

    Attributes:
        url: where.
        folder: where its database is.
        key: the API key whose conversations are looked at, or None.
    """

    url: str
    folder: Path
    key: str | None = None

    @property
    def api(self) -> str:
        """What a client calls the base URL."""
        return f"{self.url}/v1"

    def stored(self, session_id: str) -> list[Message]:
        """Return what is stored of a conversation, which is the key's, if there is one."""
        owner = "" if self.key is None else sha256(self.key.encode()).hexdigest()

        async def load() -> list[Message]:
            store = SQLAlchemyStore(self._store)
            try:
                return (await store.load(session_id, owner)).messages
            finally:
                await store.aclose()

        return anyio.run(load)

    def occupy(self, session_id: str, seconds: float) -> None:
        """Take the turn of one of the key's conversations, and do not give it back."""

        async def acquire() -> None:
            store = SQLAlchemyStore(self._store)
            await store.acquire(session_id, seconds, sha256(API_KEY.encode()).hexdigest())
            await store.aclose()

        anyio.run(acquire)

    @property
    def _store(self) -> str:
        return f"sqlite:///{self.folder}/hermes_demo.db"


@contextmanager
def serving_demo(folder: Path) -> Iterator[Demo]:
    """Serve the demo as it is."""
    with demo(folder) as url:
        yield Demo(url, folder)


@contextmanager
def serving_keyed_demo(folder: Path) -> Iterator[Demo]:
    """Serve a demo that asks for an API key, and lets nobody wait for a turn."""
    with demo(folder, program=IMPATIENT, HERMES_API_KEYS=f"{API_KEY},bob-key") as url:
        yield Demo(url, folder)


def a_session_id() -> str:
    """Return an id that no test has used."""
    return f"test-{secrets.token_hex(8)}"


class LosesAnswers(LosingProxy):
    """Passes requests on, until it is told to lose: then the next one's answer gets lost."""

    def _asked(self, data: bytes, client: socket.socket) -> None:
        """Let every request pass."""

    def _answered(self, data: bytes, client: socket.socket) -> None:
        if data.startswith(b"HTTP/1.1 200") and self.loses():
            self._cut(client)


@contextmanager
def losing_answers(url: str) -> Iterator[tuple[LosesAnswers, str]]:
    """Yield a proxy in front of a server, and the URL through it."""
    target: URL = make_url(url)
    proxy = LosesAnswers(target)
    try:
        yield proxy, f"http://127.0.0.1:{proxy.port}"
    finally:
        proxy.close()
