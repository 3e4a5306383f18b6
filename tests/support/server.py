"""The demo as a real process, for real clients."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.ports import free_port

__all__ = ["ROOT", "demo", "free_port", "serving"]

ROOT = Path(__file__).parents[2]

HUNG = 120
"""Seconds after which a process that was told to end has hung, however busy the machine is."""


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
        assert process.wait(timeout=HUNG) == 0, (folder / "server.log").read_text()


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
            _wait_until_it_answers(port, ready, process, log)
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=HUNG)


def _wait_until_it_answers(
    port: int, ready: str | None, process: "subprocess.Popen[bytes]", log: Path
) -> None:
    for _ in range(3000):  # some import for half a minute, on a busy machine for longer
        assert process.poll() is None, log.read_text()
        # Not a client of httpx2, which takes longer to make than the answer does.
        asking = HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            asking.request("GET", ready or "/")
            status = asking.getresponse().status
        except OSError:
            time.sleep(0.1)
        else:
            assert ready is None or status < HTTPStatus.BAD_REQUEST, log.read_text()
            return
        finally:
            asking.close()
    raise AssertionError(log.read_text())
