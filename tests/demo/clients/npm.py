"""The openai npm SDK, which runs in a process of its own."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.demo.clients.demos import HEADER
from tests.support.requirements import needs
from tests.support.server import ROOT

PROGRAM = Path(__file__).parent / "npm_process.mjs"
PACKAGES = ROOT / ".npm-clients"


class Answer(NamedTuple):
    """What came of a call.

    Attributes:
        value: what the SDK returned, of a stream the list of its events; None after an error.
        error: the error's name, status, code and message; None where there was none.
        id: the session's id, as the SDK lets the response's header be read.
        requests: how many requests it took.
    """

    value: Any
    error: dict[str, Any] | None
    id: str | None
    requests: int

    @property
    def text(self) -> str:
        """The answer's text, of a chat or a response, whole or streamed."""
        if isinstance(self.value, list):
            return "".join(map(_piece, self.value))
        if self.value["object"] == "response":
            return str(self.value["output_text"])
        return str(self.value["choices"][0]["message"]["content"])


def _piece(event: Any) -> str:
    if "choices" in event:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return event["delta"] if event["type"] == "response.output_text.delta" else ""


class Npm:
    """The running SDK."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def call(self, api: str, method: str, *given: Any, **options: Any) -> Answer:
        """Have a new client call a method of its own; ``options`` are the client's."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        options = {"baseURL": api, "apiKey": "unused", "maxRetries": 0, **options}
        line = json.dumps({"options": options, "method": method, "given": given})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        return Answer(told.get("value"), told.get("error"), told["id"], told["requests"])

    def chat(
        self, api: str, text: str, session_id: str, *, stream: bool = False, **options: Any
    ) -> Answer:
        """Say something in a conversation."""
        body = {"model": "hermes-demo", "messages": [{"role": "user", "content": text}]}
        extra = {"headers": {HEADER: session_id, **options.pop("headers", {})}}
        return self.call(
            api, "chat.completions.create", {**body, "stream": stream}, extra, **options
        )


def node() -> str:
    """Return the program that runs the SDK; skip the test where there is none, or no SDK."""
    found = shutil.which("node")
    if found is None:
        needs("no Node: install node and npm, and run 'make .npm-clients/.installed'")
    elif not (PACKAGES / ".installed").exists():
        needs("no openai in .npm-clients: run 'make .npm-clients/.installed'")
    return str(found)


@contextmanager
def npm_client() -> Iterator[Npm]:
    """Run the SDK until the block ends."""
    command = [node(), str(PROGRAM), str(PACKAGES / "package.json")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Npm(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0
