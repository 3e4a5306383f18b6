"""The pages are true: their Python runs, and what it asserts holds."""

import ast
import gc
import os
import re
from pathlib import Path

import pytest

from .hermes.agent import copy_to
from .server import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if BLOCK.search(page.read_text())]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_pages_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pasted one after another, a page's examples work, and show it by assertions that hold."""
    monkeypatch.chdir(tmp_path)
    copy_to(tmp_path)  # the state.db that a page may speak of
    text = page.read_text()
    namespace: dict[str, object] = {}
    asserted = 0
    for block in BLOCK.finditer(text):
        # Behind as many empty lines as stand before it, so that an error names the page's line.
        code = "\n" * text.count("\n", 0, block.start(1)) + block[1]
        tree = ast.parse(code, str(page.relative_to(ROOT)))
        asserted += sum(isinstance(node, ast.Assert) for node in ast.walk(tree))
        exec(compile(tree, os.fspath(page), "exec"), namespace)
    assert asserted, "the page's examples show nothing"
    namespace.clear()
    gc.collect()  # what was left open is a warning, and so an error, of this test


def test_there_are_pages() -> None:
    """The pattern finds what it is to find."""
    assert "ownership.md" in {page.name for page in PAGES}
