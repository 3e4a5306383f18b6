"""A TCP proxy in front of a database that can freeze: it accepts, and then says nothing."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL

from tests.support.tampering_proxies import LosingProxy


class FreezingProxy(LosingProxy):
    """Passes bytes on until it is frozen, and goes on where it was when it thaws.

    Attributes:
        freeze_at: bytes in a request that freeze it, before they reach the database.
    """

    def __init__(self, target: URL) -> None:
        self.freeze_at: bytes | None = None
        self._flowing = threading.Event()
        self._flowing.set()
        super().__init__(target)

    def freeze(self) -> None:
        """Pass nothing on any more; connections stay, and new ones are accepted."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Go on."""
        self.freeze_at = None
        self._flowing.set()

    def close(self) -> None:
        """Stop listening, and cut every connection."""
        self.thaw()
        super().close()

    def _asked(self, data: bytes, client: socket.socket) -> None:
        if self.freeze_at is not None and self.freeze_at in data:
            self.freeze()
        self._flowing.wait()

    def _answered(self, data: bytes, client: socket.socket) -> None:
        self._flowing.wait()


@contextmanager
def freezing(target: URL) -> Iterator[tuple[FreezingProxy, URL]]:
    """Yield a proxy in front of a database, and the URL through it."""
    proxy = FreezingProxy(target)
    try:
        yield proxy, target.set(port=proxy.port)
    finally:
        proxy.close()
