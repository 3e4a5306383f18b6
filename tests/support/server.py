"""The demo as a real process, for real clients."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def demo(
    folder: Path,
    *options: str,
    program: Sequence[str] = ("-m", "demo_app"),
    port: int | None = None,
    **environment: str,
) -> Iterator[str]:
    """Serve the demo from ``folder``; yield its URL; stop it as Ctrl-C does, and see it end.

    ``program`` is what Python runs, where it is not the demo as it is.
    """
    port = port or free_port()
    command = [sys.executable, *program, "--port", str(port), *options]
    environment = {"PYTHONWARNINGS": "error", **environment}
    with serving(command, port, folder, ready="/healthz", **environment) as process:
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0, (folder / "server.log").read_text()


@contextmanager
def serving(
    command: list[str], port: int, folder: Path, *, ready: str | None, **environment: str
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a server until the block ends; when it begins, ``ready`` is answered (None: anything)."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    log = folder / "server.log"
    with log.open("a") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait_until_it_answers(f"http://127.0.0.1:{port}", ready, process, log)
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=30)


def _wait_until_it_answers(
    url: str, ready: str | None, process: "subprocess.Popen[bytes]", log: Path
) -> None:
    for _ in range(1200):  # some import for half a minute
        assert process.poll() is None, log.read_text()
        try:
            answer = httpx2.get(f"{url}{ready or '/'}")
        except httpx2.TransportError:
            time.sleep(0.1)
        else:
            if ready is not None:
                answer.raise_for_status()
            return
    raise AssertionError(log.read_text())
