"""The README is true: its Python runs, and its curl lines print what it says."""

import contextlib
import io
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.server import ROOT, demo

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\S+)( client)?\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
LOCAL = [code for kind, client, code in BLOCKS if kind == "python" and not client]
CLIENTS = [code for kind, client, code in BLOCKS if kind == "python" and client]
CURLS = [code for kind, _, code in BLOCKS if kind == "sh" and code.startswith("curl")]
DEMO_URL = "http://127.0.0.1:8000"


def promised(code: str) -> list[str]:
    """Return what the block's comments say that it prints."""
    return re.findall(r"^# (.*)$", code, flags=re.MULTILINE)


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pasted one after another, the examples work, and their assertions hold."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    assert len(LOCAL) == 6
    for code in LOCAL:
        exec(compile(code, "README.md", "exec"), namespace)
    assert os.listdir(tmp_path) == []  # no example needs a database before a request brings an id


def test_the_curl_lines_and_the_client_work_as_printed(tmp_path: Path) -> None:
    """Each curl line prints what is promised, across the restart that the README asks for."""
    assert len(CURLS) == 3
    for code in CURLS:
        with demo(tmp_path) as url:
            output = _shell(code.replace(DEMO_URL, url))
        assert promised(code)
        assert [text for text in promised(code) if text not in output] == []


def test_the_openai_example_works_as_printed(tmp_path: Path) -> None:
    """The SDK's example goes on with the thread that the first curl line began."""
    (code,) = CLIENTS
    with demo(tmp_path) as url:
        _shell(CURLS[0].replace(DEMO_URL, url))
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            namespace: dict[str, object] = {}
            exec(compile(code.replace(DEMO_URL, url), "README.md", "exec"), namespace)
        namespace["client"].close()  # type: ignore[attr-defined]  # the example's OpenAI
    assert [text for text in promised(code) if text not in output.getvalue()] == []


def _shell(code: str) -> str:
    done = subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout
