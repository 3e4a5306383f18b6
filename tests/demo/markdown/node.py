"""The page's Markdown parsers, in Node."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo_app.web import FOLDER
from tests.support.requirements import needs

DRIVER = Path(__file__).with_name("driver.js")
MODULES = ("markdown-blocks.js", "markdown-inline.js")


class Parsers:
    """Calls the driver's functions, one after another."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def parse(self, text: str) -> list[Any]:
        """Return the tree of a whole text."""
        tree: list[Any] = self._call("parse", text)
        return tree

    def stream(self, pieces: list[str]) -> dict[str, Any]:
        """Return the tree of a text in pieces, and what went wrong with what was complete."""
        result: dict[str, Any] = self._call("stream", pieces)
        return result

    def shown(self, pieces: list[str]) -> list[Any]:
        """Return the tree of a text that may go on."""
        tree: list[Any] = self._call("shown", pieces)
        return tree

    def count_lines(self, pieces: list[str]) -> int:
        """Return how many lines were read of a text in pieces, those without an end included."""
        count: int = self._call("countLines", pieces)
        return count

    def measure(self, text: str) -> dict[str, int]:
        """Return how many nodes a text becomes, and how deep they are."""
        result: dict[str, int] = self._call("measure", text)
        return result

    def _call(self, name: str, value: object) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([name, value]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the driver has ended"
        return json.loads(answer)


@contextmanager
def parsers(folder: Path) -> Iterator[Parsers]:
    """Run the driver in a folder of its own, whose package.json tells Node what modules are."""
    node = shutil.which("node")
    needs(None if node else "no Node: install node")
    assert node
    (folder / "package.json").write_text('{"type": "module"}')
    for path in (*(FOLDER / name for name in MODULES), DRIVER):
        shutil.copy(path, folder)
    command = [node, str(folder / DRIVER.name)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            yield Parsers(process)
        finally:
            process.kill()
