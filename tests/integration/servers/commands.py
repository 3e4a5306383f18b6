"""The servers that the page is about, in an environment of their own."""

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.server import HUNG, ROOT

PYTHON = ROOT / ".servers" / "bin" / "python"
MISSING = None if PYTHON.exists() else "no servers: make .servers/.installed"
APP = "tests.integration.servers.app:app"


@dataclass(frozen=True)
class Command:
    """How one server is started.

    Attributes:
        name: the column's head.
        package: its distribution.
        arguments: what Python runs, by the port.
        grace: the option that limits how long a stop takes, with a second; empty if there is none.
    """

    name: str
    package: str
    arguments: Callable[[int], Sequence[str]]
    grace: Sequence[str] = ()

    def line(self, port: int, *, grace: bool) -> list[str]:
        """Return the whole command."""
        return [str(PYTHON), "-m", *self.arguments(port), *(self.grace if grace else ())]

    def version(self) -> str:
        """Return its version."""
        return pinned(self.package)


def pinned(package: str) -> str:
    """Return the version that the requirements pin."""
    text = Path(__file__).with_name("requirements.txt").read_text()
    (found,) = re.findall(rf"^{package}==(.*)$", text, re.MULTILINE | re.IGNORECASE)
    return str(found)


def uvicorn(*options: str) -> Callable[[int], list[str]]:
    return lambda port: ["uvicorn", APP, "--port", str(port), *options]


def hypercorn(worker: str) -> Callable[[int], list[str]]:
    return lambda port: ["hypercorn", APP, "--bind", f"127.0.0.1:{port}", "--worker-class", worker]


def gunicorn(worker: str) -> Callable[[int], list[str]]:
    options = ["--worker-class", worker, "--workers", "2", "--preload"]
    return lambda port: ["gunicorn", APP, "--bind", f"127.0.0.1:{port}", *options]


UVICORN_GRACE = ["--timeout-graceful-shutdown", "1"]
GUNICORN_GRACE = ["--graceful-timeout", "1"]
COMMANDS = [
    Command("uvicorn, httptools", "uvicorn", uvicorn("--http", "httptools"), UVICORN_GRACE),
    Command("uvicorn, h11", "uvicorn", uvicorn("--http", "h11"), UVICORN_GRACE),
    Command("hypercorn, asyncio", "hypercorn", hypercorn("asyncio"), ["--graceful-timeout", "1"]),
    Command("hypercorn, trio", "hypercorn", hypercorn("trio"), ["--graceful-timeout", "1"]),
    Command(
        "granian", "granian",
        lambda port: ["granian", APP, "--interface", "asgi", "--port", str(port)],
        ["--workers-kill-timeout", "1"],
    ),
    Command("daphne", "daphne", lambda port: ["daphne", APP, "--port", str(port)]),
    Command(
        "gunicorn, uvicorn_worker", "uvicorn-worker",
        gunicorn("uvicorn_worker.UvicornWorker"), GUNICORN_GRACE,
    ),
    Command(
        "gunicorn, `Worker` above", "uvicorn-worker",
        gunicorn("worker.Worker"), ["--graceful-timeout", "40"],
    ),
    Command("gunicorn, asgi", "gunicorn", gunicorn("asgi"), GUNICORN_GRACE),
]  # fmt: skip


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a server, and what it started, at once."""
    process.kill()
    process.wait(timeout=HUNG)
