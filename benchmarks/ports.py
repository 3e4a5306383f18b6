"""Ports for servers of our own."""

import secrets
import socket

# Below those that the system gives to connections, and to whoever listens on any port (from 32768):
# one of these may take a port before its server listens, or while a server that was killed is away;
# and whoever knocks at one of them while nobody listens may even reach itself.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Return a port that nobody listens on, and that no other call has returned.

    It stays this process's for as long as it lives: others that call this, at the same time as
    well, are given other ports.
    """
    while True:
        port = secrets.choice(_PORTS)  # `random` may have been given a seed, by other tests as well
        if _nobody_listens(port) and _claim(port):
            return port


def _nobody_listens(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _claim(port: int) -> bool:
    """Take a name of Linux' own, which no file keeps: it is free again when the process ends."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0hermes-port-{port}")
    except OSError:
        claim.close()
        return False
    claim.detach()  # stays open, and is nobody's to close
    return True
