"""The proxy that cuts connections does it in the way that it is told to."""

import socket
from collections.abc import Iterator

import pytest

from tests.support.cutting_proxy import CuttingProxy, cutting
from tests.support.server import free_port


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server to which the proxy leads."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def connected(proxy: CuttingProxy, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    server, _ = listener.accept()
    server.settimeout(30)
    client.sendall(b"to the server")
    assert server.recv(100) == b"to the server"
    return client, server


def test_connections_are_closed(listener: socket.socket) -> None:
    """Both ends read the end; while it is down, new connections end at once."""
    with cutting(listener.getsockname()[1]) as proxy:
        client, server = connected(proxy, listener)
        with client, server:
            proxy.cut()
            assert (client.recv(1), server.recv(1)) == (b"", b"")
        proxy.mend()
        for each in connected(proxy, listener):
            each.close()


def test_connections_are_reset(listener: socket.socket) -> None:
    """Both ends get an error, and new connections are let through."""
    with cutting(listener.getsockname()[1]) as proxy:
        client, server = connected(proxy, listener)
        with client, server:
            proxy.reset()
            for each in (client, server):
                with pytest.raises(ConnectionResetError):
                    each.recv(1)
        for each in connected(proxy, listener):
            each.close()


def test_a_server_that_is_away_does_not_end_the_proxy(listener: socket.socket) -> None:
    """A connection to nobody ends, and the next one leads to whoever is there again."""
    with cutting(free_port()) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as client:
            assert client.recv(1) == b""
        proxy.lead_to(listener.getsockname()[1])
        for each in connected(proxy, listener):
            each.close()
