"""The page about clients is true: its lines, run in order, print what its comments say."""

import contextlib
import io
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.demo.clients.demos import Demo
from tests.demo.clients.llm import Llm
from tests.demo.clients.matrix import ENVIRONMENTS, PROXY
from tests.demo.clients.matrix import node as node_24
from tests.demo.clients.npm import PACKAGES, node
from tests.docs.test_readme import DEMO_URL
from tests.support.requirements import needs
from tests.support.server import ROOT

PAGE = (ROOT / "docs" / "clients.md").read_text()
BLOCKS = re.findall(
    r"^```((?:sh|js|python)\b.*?)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE
)
OF_THE_TESTS = ("sh", "js", "python client")


def blocks(kind: str, url: str) -> list[str]:
    """Return the blocks of a kind, for a demo at the URL."""
    return [code.replace(DEMO_URL, url) for each, code in BLOCKS if each == kind]


def check(code: str, printed: str) -> None:
    """See that all is printed that the block's comments promise."""
    promised = re.findall(r"^(?:#|//) (.*)$", code, flags=re.MULTILINE)
    assert promised, code
    assert [text for text in promised if text not in printed] == [], printed


def test_the_page_has_blocks_of_each_kind() -> None:
    """The pattern finds what it is to find."""
    kinds = Counter(kind for kind, _ in BLOCKS)
    assert [kinds[kind] for kind in OF_THE_TESTS] == [2, 2, 2]
    assert len(kinds) == len(OF_THE_TESTS) + 8


def test_the_python_lines_print_what_the_page_says(served: Demo) -> None:
    """Pasted one after another, the examples with the Python SDK work."""
    namespace: dict[str, object] = {}
    for code in blocks("python client", served.url):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, "docs/clients.md", "exec"), namespace)
        check(code, printed.getvalue())
    namespace["client"].close()  # type: ignore[attr-defined]  # the example's OpenAI


def test_the_lines_about_the_background_print_what_their_page_says(served: Demo) -> None:
    """So does the example of the page about Responses."""
    page = (ROOT / "docs" / "responses.md").read_text()
    (code,) = re.findall(r"^```python client\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    namespace: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code.replace(DEMO_URL, served.url), namespace)
    check(code, printed.getvalue())
    namespace["client"].close()  # type: ignore[attr-defined]  # the example's OpenAI


def test_the_javascript_lines_print_what_the_page_says(served: Demo, tmp_path: Path) -> None:
    """Each example in JavaScript works as a module, beside the packages that it imports."""
    (tmp_path / "node_modules").symlink_to(PACKAGES / "node_modules")
    for code in blocks("js", served.url):
        module = tmp_path / "example.mjs"
        module.write_text(code)
        check(code, run([node(), str(module)], tmp_path))


def test_the_shell_lines_print_what_the_page_says(served: Demo, tmp_path: Path) -> None:
    """The lines with curl and llm work in a shell that has both."""
    for code in blocks("sh", served.url):
        check(code, run(["sh", "-c", code], tmp_path))


@pytest.mark.parametrize(("kind", "code"), [each for each in BLOCKS if each[0] not in OF_THE_TESTS])
def test_the_lines_of_a_client_print_what_the_page_says(
    kind: str, code: str, served: Demo, tmp_path: Path
) -> None:
    """The example works in the client's own environment, which its first line names."""
    language, name = kind.split()
    folder = PROXY if name == "litellm" else ENVIRONMENTS / name
    needs(None if (folder / ".installed").exists() else f"no {name}: make installed-clients")
    if language == "js":
        (tmp_path / "node_modules").symlink_to(folder / "node_modules")
    program = tmp_path / ("example.mjs" if language == "js" else "example.py")
    program.write_text(code.replace(DEMO_URL, served.url))
    command = node_24() if language == "js" else str(folder / "bin" / "python")
    check(code, run([command, str(program)], tmp_path))


def run(command: list[str], folder: Path) -> str:
    environment = Llm(folder).environment()
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout
