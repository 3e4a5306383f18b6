"""The quick start and the page on tests are true: they are followed to the letter."""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from hermes_session_mw import MemoryStore, Store
from hermes_session_mw.testing import StoreContract
from tests.docs.test_docs_examples import BLOCK
from tests.docs.test_readme import promised
from tests.support.server import ROOT, free_port, serving

QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", QUICKSTART, flags=re.DOTALL | re.MULTILINE)
TESTING = "\n".join(BLOCK.findall((ROOT / "docs" / "testing.md").read_text()))


def test_the_quick_start_works_as_pasted(tmp_path: Path) -> None:
    """Its file, saved as it says, is served by uvicorn, and each curl line prints what it says."""
    asked = starts = 0
    url = ""
    with ExitStack() as running:
        for kind, code in re.findall(
            r"^```(\w+)\n(.*?)^```$", QUICKSTART, re.DOTALL | re.MULTILINE
        ):
            if kind == "python":
                with (tmp_path / "app.py").open("a") as file:
                    file.write(code)
            elif code.startswith("uvicorn "):
                running.close()
                port = free_port()
                command = [sys.executable, "-m", *code.split(), "--port", str(port)]
                running.enter_context(serving(command, port, tmp_path, ready=None))
                url = f"http://127.0.0.1:{port}"
                starts += 1
            elif code.startswith("curl "):
                output = _shell(code.replace("http://127.0.0.1:8000", url))
                assert promised(code)
                assert [text for text in promised(code) if text not in output] == [], output
                asked += 1
            else:
                assert "pip install /path/to/the/clone uvicorn" in code
    assert (starts, asked) == (3, 6)


def test_the_test_module_passes(tmp_path: Path) -> None:
    """What the page on tests shows is a module that pytest runs, and all of it passes."""
    (tmp_path / "test_chat.py").write_text(TESTING)
    count = TESTING.count("def test_")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "test_chat.py"],
        capture_output=True, text=True, check=False, timeout=280, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"{count} passed" in done.stdout


class TestThePagesStoreKeepsTheContract(StoreContract):
    """The store of the page on tests, over two others."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """One is enough: the stores below it have passed on both."""
        return "asyncio"

    @pytest.fixture
    def store(self) -> Store:
        """The class as the page has it."""
        namespace: dict[str, type] = {}
        exec(compile(TESTING, "docs/testing.md", "exec"), namespace)
        store = namespace["Sharded"](MemoryStore(), MemoryStore())
        assert isinstance(store, Store)
        return store


def _shell(code: str) -> str:
    done = subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout
