"""The README is true: its Python runs, and its curl lines print what it says."""

import contextlib
import io
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from hermes_session_mw import SESSION_HEADER
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


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example works as pasted: its second request is given what the first one stored."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    (code,) = LOCAL
    exec(compile(code, "README.md", "exec"), namespace)
    assert os.listdir(tmp_path) == []  # it needs no database before a request
    with TestClient(namespace["app"]) as client:
        first = client.post("/chat", json={"text": "hello"})
        with_id = {SESSION_HEADER: first.headers[SESSION_HEADER]}
        second = client.post("/chat", json={"text": "again"}, headers=with_id)
    assert second.json()["content"] == "I have seen 3 messages."


def test_it_is_short_and_its_pictures_are_there() -> None:
    """The README has at most 150 lines, and no picture of 150 kB or more."""
    assert len(README.splitlines()) <= 150
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).stat().st_size < 150_000 for picture in pictures)


def test_the_curl_lines_and_the_client_work_as_printed(tmp_path: Path) -> None:
    """Each curl line prints what is promised, across the restart that the README asks for."""
    assert len(CURLS) == 2
    for code in CURLS:
        with demo(tmp_path) as url:
            output = _shell(code.replace(DEMO_URL, url))
        assert promised(code)
        assert [text for text in promised(code) if text not in output] == []


def test_the_openai_example_works_as_printed(tmp_path: Path) -> None:
    """The SDK's example continues the conversation that the first curl line began."""
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
