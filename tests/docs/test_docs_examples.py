"""The pages are true: their Python runs, and what it asserts holds."""

import ast
import gc
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.stores.hermes_state.agent import copy_to
from tests.support.requirements import needs
from tests.support.server import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
DOCS = ROOT / "docs"
# A page whose own test serves what it shows to real clients; and pages whose frameworks set up
# their process, or its logging, so that they have one of their own.
SERVED = {DOCS / "quickstart.md"}
ALONE = {DOCS / "frameworks" / "django.md", DOCS / "frameworks" / "litestar.md"}
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if page not in SERVED | ALONE and BLOCK.search(page.read_text())
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_pages_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pasted one after another, a page's examples work, and show it by assertions that hold."""
    monkeypatch.chdir(tmp_path)
    copy_to(tmp_path)  # the state.db that a page may speak of
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(compile(_code_of(page), os.fspath(page), "exec"), namespace)
    namespace.clear()
    gc.collect()  # what was left open is a warning, and so an error, of this test


@pytest.mark.parametrize("page", sorted(ALONE), ids=lambda page: page.name)
def test_a_pages_examples_run_alone(page: Path, tmp_path: Path) -> None:
    """So do those of a page that works as one file that Python runs."""
    if find_spec(page.stem) is None:
        needs(f"{page.stem} is not installed")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ast.unparse(_code_of(page))],
        capture_output=True, text=True, check=False, timeout=280, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_there_are_pages() -> None:
    """The pattern finds what it is to find, and every block is one that it finds."""
    assert {DOCS / "ownership.md", DOCS / "frameworks" / "fastapi.md"} <= set(PAGES)
    for page in DOCS.rglob("*.md"):
        # One that is named is a file, which a test of the page's own writes and runs.
        fences = re.findall(
            r"^[ \t]*(?:```+|~~~+) *(?:py.*|\{code.*)$", page.read_text(), re.MULTILINE
        )
        assert [fence for fence in fences if not re.fullmatch(r"```python( \S+)?", fence)] == [], (
            page
        )


def _code_of(page: Path) -> ast.Module:
    """Return the page's examples as one module; errors in it name the page's lines."""
    text = page.read_text()
    code = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        lines = block[1].splitlines()
        code[first : first + len(lines)] = lines
    module = ast.parse("\n".join(code), str(page.relative_to(ROOT)))
    shown = sum(isinstance(node, ast.Assert) for node in ast.walk(module))
    assert shown, "the page's examples show nothing"
    return module
