"""A TCP proxy that cuts connections, as a network does."""

import itertools
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class CuttingProxy:
    """Passes bytes on to a port of this machine, or to several in turn, until it is told to cut.

    Attributes:
        port, url: where it listens.
        down: whether new connections are cut as soon as they come.
        refused: how many came while it was down.
    """

    def __init__(self, *ports: int, own_port: int = 0) -> None:
        self.lead_to(*ports)
        self._listener = socket.create_server(("127.0.0.1", own_port))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.down = False
        self.refused = 0
        self._sockets: set[socket.socket] = set()
        self._resetting: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, *ports: int) -> None:
        """Have new connections lead elsewhere; those that there are stay."""
        self._ports = itertools.cycle(ports)

    def cut(self) -> None:
        """Cut all connections, and those that come, until `mend`."""
        self.down = True
        self.drop()

    def drop(self) -> None:
        """Cut the connections that there are, once."""
        for each in list(self._sockets):
            _end(each)

    def mend(self) -> None:
        """Let them through again."""
        self.down = False

    def reset(self) -> None:
        """Reset all connections, in both directions; new ones are let through."""
        for each in list(self._sockets):
            self._resetting.add(each)
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RD)  # which wakes its thread and sends nothing

    def close(self) -> None:
        """Stop listening."""
        _end(self._listener)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.down:
                    self.refused += 1
                    client.close()
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", next(self._ports)))
                except OSError:  # nobody is there for now
                    client.close()
                    continue
                self._sockets |= {client, server}
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        if source not in self._resetting:
            for each in (source, target):
                _end(each)
        self._sockets -= {source, target}
        self._resetting.discard(source)
        source.close()


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(*ports: int, own_port: int = 0) -> Iterator[CuttingProxy]:
    """Yield a proxy before ports, at a port of its own or at the one that is asked for."""
    proxy = CuttingProxy(*ports, own_port=own_port)
    try:
        yield proxy
    finally:
        proxy.close()
