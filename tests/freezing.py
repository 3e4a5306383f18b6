"""A TCP proxy in front of a database that can freeze: it accepts, and then says nothing."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import URL

from .proxy import LosingProxy


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

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        threading.Thread(target=self._down, args=(server, client), daemon=True).start()
        with suppress(OSError):
            while data := client.recv(65536):
                if self.freeze_at is not None and self.freeze_at in data:
                    self.freeze()
                self._flowing.wait()
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                self._flowing.wait()
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)


@contextmanager
def freezing(target: URL) -> Iterator[tuple[FreezingProxy, URL]]:
    """Yield a proxy in front of a database, and the URL through it."""
    proxy = FreezingProxy(target)
    try:
        yield proxy, target.set(port=proxy.port)
    finally:
        proxy.close()
