"""TCP proxies: one loses the reply to a COMMIT, one puts other words into what passes."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import URL

_COMMIT = re.compile(rb"(?<!AUTO)COMMIT(?!TED)")  # not SET AUTOCOMMIT, nor READ COMMITTED
# PostgreSQL's answer, which says COMMIT even where the request, as each of asyncpg's but the first
# on a connection, gives no more than the name of a prepared statement.
# An INSERT outside of a transaction is committed too; the answer says that there is none.
_COMMITTED = re.compile(
    rb"C\x00\x00\x00\x0bCOMMIT\x00|C\x00\x00\x00.INSERT 0 \d+\x00Z\x00\x00\x00\x05I", re.DOTALL
)


class LosingProxy:
    """Passes bytes on, until it is told to lose: then the next COMMIT arrives, its reply does not.

    Attributes:
        port: where it listens.
        lose: how many replies are still to be lost.
        lost: how many were.
        dies: whether it lets nobody in any more once it has lost one.
    """

    def __init__(self, target: URL, *, by_answer: bool = False) -> None:
        """Listen; ``by_answer``: know a COMMIT by PostgreSQL's answer, not by the request."""
        self._target = (target.host or "127.0.0.1", target.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lose = 0
        self.lost = 0
        self.dies = False
        self._by_answer = by_answer
        self._sockets: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening, and cut every connection."""
        self._closed = True
        for each in [self._listener, *list(self._sockets)]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def loses(self) -> bool:
        """Tell whether the COMMIT that is under way gets no reply."""
        if not self.lose:
            return False
        self.lose -= 1
        self.lost += 1
        return True

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.add(client)
                server = socket.create_connection(self._target)
                self._sockets.add(server)
                if self._closed:  # meanwhile, which did not see these two
                    self.close()
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        answers = threading.Thread(target=self._down, args=(server, client), daemon=True)
        answers.start()
        with suppress(OSError):
            while data := client.recv(65536):
                self._asked(data, client)
                server.sendall(self._request(data))
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)
        answers.join()
        for each in (client, server):
            each.close()
        self._sockets -= {client, server}

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                self._answered(data, client)
                client.sendall(self._answer(data))
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)

    def _asked(self, data: bytes, client: socket.socket) -> None:
        if not self._by_answer and _COMMIT.search(data) and self.loses():
            self._cut(client)

    def _answered(self, data: bytes, client: socket.socket) -> None:
        if self._by_answer and _COMMITTED.search(data) and self.loses():
            self._cut(client)

    def _request(self, data: bytes) -> bytes:
        return data

    def _answer(self, data: bytes) -> bytes:
        return data

    def _cut(self, client: socket.socket) -> None:
        # Before the client knows, which would connect again at once.
        if self.dies:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        # The reply is lost; the database has done what it was asked to.
        client.shutdown(socket.SHUT_RDWR)


class RewritingProxy(LosingProxy):
    """Puts ``new`` in the place of ``old`` in requests, or in answers, as often as it is to lose.

    ``new`` is filled up to ``old``'s length, so that the lengths in the protocol stay right.
    """

    def __init__(self, target: URL, old: bytes, new: bytes, *, in_answers: bool = False) -> None:
        super().__init__(target)
        self._old, self._new = old, new.ljust(len(old))
        assert len(self._new) == len(old)
        self._in_answers = in_answers

    def _asked(self, data: bytes, client: socket.socket) -> None:
        """Lose nothing."""

    def _request(self, data: bytes) -> bytes:
        return data if self._in_answers else self._rewritten(data)

    def _answer(self, data: bytes) -> bytes:
        return self._rewritten(data) if self._in_answers else data

    def _rewritten(self, data: bytes) -> bytes:
        if self._old in data and self.loses():
            return data.replace(self._old, self._new)
        return data


@contextmanager
def rewriting(
    target: URL, old: bytes, new: bytes, *, in_answers: bool = False
) -> Iterator[tuple[RewritingProxy, URL]]:
    """Yield a proxy in front of a database, and the URL through it."""
    proxy = RewritingProxy(target, old, new, in_answers=in_answers)
    try:
        yield proxy, target.set(port=proxy.port)
    finally:
        proxy.close()


@contextmanager
def losing(target: URL) -> Iterator[tuple[LosingProxy, URL]]:
    """Yield a proxy in front of a database, and the URL through it."""
    proxy = LosingProxy(target, by_answer=target.get_backend_name() == "postgresql")
    try:
        yield proxy, target.set(port=proxy.port)
    finally:
        proxy.close()
