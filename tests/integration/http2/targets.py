"""What speaks HTTP/2 or HTTP/3: two servers, and three proxies before uvicorn."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from time import sleep
from typing import Any

from tests.integration.proxies.front.programs import PROGRAMS, running
from tests.integration.servers.commands import PYTHON
from tests.support.certificates import trusting, write_to
from tests.support.requirements import needs
from tests.support.server import ROOT, free_port, serving

APP = "tests.integration.http2.app:app"


@dataclass(frozen=True)
class Target:
    """Something that answers.

    Attributes:
        name: the column's head.
        port: where it speaks HTTP/2 over TLS, or HTTP/3 over UDP.
        app: where the application is asked what it sees, and whether by TLS.
        certificate: a file with its certificate.
        folder: where a file ``go-NAME`` lets a stream go on.
        stop: tells it to stop gracefully.
    """

    name: str
    port: int
    app: tuple[int, bool]
    certificate: Path
    folder: Path
    stop: Callable[[], None]

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://localhost:{self.port}"

    def tell(self, name: str, *, releases: bool = False) -> dict[str, Any]:
        """Return what the application tells of a stream; have it go on by a piece."""
        port, tls = self.app
        connection = (
            HTTPSConnection("localhost", port, context=trusting(), timeout=30)
            if tls
            else HTTPConnection("localhost", port, timeout=30)
        )
        connection.request("POST" if releases else "GET", f"/told/stream?name={name}")
        told: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return told


@contextmanager
def hypercorn(folder: Path) -> Iterator[Target]:
    """Serve by hypercorn, HTTP/3 on the same port."""
    yield from _served(folder, "hypercorn", lambda port, plain, file: [
        "hypercorn", APP, "--bind", f"127.0.0.1:{port}", "--quic-bind", f"127.0.0.1:{port}",
        "--insecure-bind", f"127.0.0.1:{plain}", "--certfile", file, "--keyfile", file,
        "--graceful-timeout", "20",
    ])  # fmt: skip


@contextmanager
def granian(folder: Path) -> Iterator[Target]:
    """Serve by granian."""
    yield from _served(folder, "granian", lambda port, plain, file: [
        "granian", APP, "--interface", "asgi", "--port", str(port), "--ssl-certificate",
        file.replace("both", "cert"), "--ssl-keyfile", file.replace("both", "key"),
    ])  # fmt: skip


def _served(
    folder: Path, name: str, arguments: Callable[[int, int, str], list[str]]
) -> Iterator[Target]:
    needs(None if PYTHON.exists() else "no servers: make .servers/.installed")
    port, plain = free_port(), free_port()
    file = write_to(folder)
    app = (plain, False) if name == "hypercorn" else (port, True)
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "HERMES_TEST_FOLDER": str(folder)}
    with (folder / "server.log").open("wb") as output:
        process = subprocess.Popen(
            [PYTHON, "-m", *arguments(port, plain, str(file))],
            cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        target = Target(name, port, app, file, folder, lambda: process.send_signal(signal.SIGTERM))
        try:
            _wait_until_it_answers(target, process)
            yield target
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:  # it waits for a stream
                process.kill()
                process.wait(timeout=30)


def _wait_until_it_answers(target: Target, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(1200):  # a busy machine imports for half a minute
        assert process.poll() is None, (target.folder / "server.log").read_text()
        try:
            target.tell("nobody")
        except OSError:
            sleep(0.1)
        else:
            return
    raise AssertionError((target.folder / "server.log").read_text())


@contextmanager
def proxied(name: str, folder: Path) -> Iterator[Target]:
    """Serve by uvicorn behind a proxy."""
    (program,) = (program for program in PROGRAMS if program.name == name)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", APP, "--port", str(port), "--log-level", "critical"]
    graceful = {"nginx": signal.SIGQUIT, "HAProxy": signal.SIGUSR1}.get(name, signal.SIGTERM)
    with (
        serving(command, port, folder, ready="/told/lines", HERMES_TEST_FOLDER=str(folder)),
        running(program, folder / "proxy", port) as ports,
    ):
        assert ports.process is not None
        process = ports.process
        yield Target(
            name, ports.tls, (port, False), folder / "proxy" / "both.pem", folder,
            lambda: process.send_signal(graceful),
        )  # fmt: skip
