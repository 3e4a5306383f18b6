"""Clients as processes that read one stream, whose output is awaited piece by piece."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.http2.targets import Target
from tests.support.server import ROOT

HERE = Path(__file__).parent / "clients"
MODULES = "tests.integration.http2.clients"

Command = Callable[[str, str, str], Sequence[str]]
"""The command by the URL, the session's id and the file of the certificate."""


def module(name: str) -> Command:
    return lambda url, id_, file: [sys.executable, "-m", f"{MODULES}.{name}", url, id_, file]


READERS: dict[str, Command] = {
    "curl": lambda url, id_, file: [
        "curl", "--silent", "--show-error", "--no-buffer", "--include", "--http2", "--cacert", file,
        "--header", f"X-Hermes-Session-Id: {id_}", url,
    ],
    "Node": lambda url, id_, file: ["node", str(HERE / "node_client.mjs"), url, id_, file],
    "httpx2": module("httpx2_client"),
    "Chromium": module("chromium_client"),
}  # fmt: skip


@dataclass
class Reader:
    """A client that reads."""

    process: "subprocess.Popen[bytes]"
    folder: Path

    def text(self) -> str:
        """Return what it has read, with the head."""
        return (self.folder / "read").read_text()

    def comes(self, text: str, seconds: float = 60) -> bool:
        """Tell whether it reads a text in time."""
        until = time.monotonic() + seconds
        while text not in self.text():
            if time.monotonic() > until or self.process.poll() is not None:
                return text in self.text()
            time.sleep(0.05)
        return True

    def leave(self) -> None:
        """Have it leave."""
        (self.folder / "leave").touch()
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(timeout=30)

    def ends(self, seconds: float = 30) -> str:
        """Tell whether it has read a whole response."""
        try:
            code = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return "waits"
        errors = (self.folder / "errors").read_text().strip().splitlines()
        return "whole" if code == 0 else f"broken: {errors[-1] if errors else code}"


@contextmanager
def reading(
    name: str, target: Target, path: str, folder: Path, *, quic: bool = False
) -> Iterator[Reader]:
    """Have a client read a path until the block ends, or Chromium by HTTP/3."""
    folder.mkdir()
    url = f"{target.url}{path}"
    more: list[str] = []
    if quic:  # not by a name that may be one of another family's address
        url = url.replace("localhost", "127.0.0.1")
        origin = f"127.0.0.1:{target.port}"
        more = ["--enable-quic", "--quic-version=h3", f"--origin-to-force-quic-on={origin}"]
    command = [*READERS[name](url, "reader", str(target.certificate)), *more]
    with (folder / "read").open("wb") as read, (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=folder, stdout=read, stderr=errors,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            yield Reader(process, folder)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=30)
