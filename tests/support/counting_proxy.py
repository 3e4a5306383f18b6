"""A TCP proxy that counts round trips: how often a client waits for a database."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import URL


class CountingProxy:
    """Passes bytes on, and counts each change from answers to requests.

    Attributes:
        port: where it listens.
        round_trips: on all connections so far.
    """

    def __init__(self, target: URL) -> None:
        self._target = (target.host or "127.0.0.1", target.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.round_trips = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Let nobody in any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                answered = threading.Event()
                answered.set()
                for source, sink in ((client, server), (server, client)):
                    arguments = (source, sink, answered, source is client)
                    threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(
        self,
        source: socket.socket,
        sink: socket.socket,
        answered: threading.Event,
        asks: bool,  # a thread's argument
    ) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(65536):
                if not asks:
                    answered.set()
                elif answered.is_set():
                    answered.clear()
                    self.round_trips += 1
                sink.sendall(data)
            # One that is only closed goes on for the other thread, which waits in it; and asyncpg
            # waits for the end of its connection.
            sink.shutdown(socket.SHUT_RDWR)


@contextmanager
def counting(target: URL) -> Iterator[tuple[CountingProxy, URL]]:
    """Yield a proxy in front of a database, and the URL through it."""
    proxy = CountingProxy(target)
    try:
        yield proxy, target.set(port=proxy.port)
    finally:
        proxy.close()
