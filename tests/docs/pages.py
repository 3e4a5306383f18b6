"""Pages that show a server and its client in full: both run, with a model of the test's own."""

import json
import os
import queue
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.demo.clients.matrix import ENVIRONMENTS, node
from tests.support.cutting_proxy import CuttingProxy, cutting
from tests.support.requirements import needs
from tests.support.server import ROOT, free_port, serving
from tests.support.upstreams import Exchange, Upstream, upstream

DRIVERS = Path(__file__).parent / "drivers"
KEYS = {"ada": "ada-key", "bob": "bob-key"}
PATIENCE = 60.0
"""Seconds within which whatever is waited for comes."""


def files_of(page: str) -> dict[str, str]:
    """Return the files that a page shows, by their names."""
    text = (ROOT / "docs" / page).read_text()
    named = re.findall(r"^```(?:python|js) (\S+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return dict(named)


class Model:
    """A model that says what the test gives it, one question after another.

    Attributes:
        upstream: where it is asked.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._said: queue.Queue[str | None] = queue.Queue()
        self.upstream: Upstream = stack.enter_context(upstream(self._answer))
        stack.callback(self.end)  # of whom nobody has ended

    @property
    def asked(self) -> list[list[str]]:
        """The contents of the messages that it was given, question by question."""
        return [
            [message["content"] for message in each.body["messages"]]
            for each in self.upstream.requests
        ]

    def say(self, *pieces: str) -> None:
        """Say pieces of the answer."""
        for piece in pieces:
            self._said.put(piece)

    def end(self) -> None:
        """End the answer."""
        self._said.put("stop")

    def break_off(self) -> None:
        """End the answer in the middle."""
        self._said.put(None)

    def _answer(self, exchange: Exchange) -> None:
        with suppress(OSError):  # the server has left, as where an answer is stopped
            exchange.head()
            exchange.delta(role="assistant", content="")
            while (piece := self._said.get(timeout=PATIENCE)) is not None:
                if piece == "stop":
                    exchange.delta(reason="stop")
                    exchange.event("[DONE]")
                    return
                exchange.delta(content=piece)


class Backend:
    """A page's server, behind a proxy that cuts.

    Attributes:
        port, url: the server itself.
        process: the same.
        proxy: what clients connect to.
        model: what it asks.
    """

    def __init__(
        self, port: int, process: "subprocess.Popen[bytes]", proxy: CuttingProxy, model: Model
    ) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.process, self.proxy, self.model = process, proxy, model


@contextmanager
def backend(page: str, folder: Path, **environment: str) -> Iterator[Backend]:
    """Serve the page's application with uvicorn, as the page starts it."""
    assert "uvicorn app:app\n" in (ROOT / "docs" / page).read_text()
    (folder / "app.py").write_text(files_of(page)["app.py"])
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    accounts = {sha256(key.encode()).hexdigest(): name for name, key in KEYS.items()}
    with ExitStack() as stack:
        model = Model(stack)
        variables = {
            "ACCOUNTS": json.dumps(accounts), "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": model.upstream.url, "PYTHONPATH": f"{ROOT}:{folder}",
            "PYTHONWARNINGS": "error", **environment,
        }  # fmt: skip
        process = stack.enter_context(serving(command, port, folder, ready=None, **variables))
        yield Backend(port, process, stack.enter_context(cutting(port)), model)


class Driver:
    """The running program that drives the page's client."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process, self._log = process, log

    def open(self, name: str, *given: Any) -> "Client":
        """Open a client with what the page's own code takes."""
        self.tell(name, "open", *given)
        return Client(self, name)

    def tell(self, name: str, deed: str, *given: Any) -> Any:
        """Have a client do something, and return what it answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"name": name, "deed": deed, "given": given}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        return json.loads(line)


class Client:
    """A client of the page's; what it does goes on while the test does something else."""

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver, self._name = driver, name

    def do(self, deed: str, *given: Any) -> None:
        """Begin to do something."""
        self._driver.tell(self._name, deed, *given)

    def told(self) -> Any:
        """Return what it shows."""
        return self._driver.tell(self._name, "told")

    def settled(self) -> Any:
        """Return what it shows once it has done what it does."""
        return self._driver.tell(self._name, "settled")

    def shows(self, text: str) -> Any:
        """Wait until its last message ends with a text, and return what it shows."""
        told: Any = None

        def is_shown() -> bool:
            nonlocal told
            told = self.told()
            return bool(told["messages"]) and told["messages"][-1][1].endswith(text)

        wait_for(is_shown, lambda: f"{text!r} is not shown: {told}")
        return told


def wait_for(condition: Callable[[], bool], failure: Callable[[], str] = str) -> None:
    """Wait for a condition."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, failure()
        time.sleep(0.02)


def laid_out(page: str, environment: str, folder: Path, *drivers: str) -> None:
    """Lay out a page's files, and drivers, with the packages of an environment."""
    packages = ENVIRONMENTS / environment
    needs(None if (packages / ".installed").exists() else "make installed-clients")
    (folder / "node_modules").symlink_to(packages / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}')
    for name, code in files_of(page).items():
        (folder / name).write_text(code)
    for name in drivers:
        (folder / name).write_text((DRIVERS / name).read_text())


@contextmanager
def driving(page: str, environment: str, driver: str, folder: Path) -> Iterator[Driver]:
    """Run a driver beside the page's files, with the packages of an environment."""
    laid_out(page, environment, folder, "protocol.mjs", driver)
    log = folder / "driver.log"
    variables = {**os.environ, "NODE_ENV": "production"}
    command: Sequence[str] = [node(), str(folder / driver)]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            cwd=folder, env=variables,
        ) as process,
    ):  # fmt: skip
        try:
            yield Driver(process, log)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:  # a client that comes back for ever
                process.kill()
