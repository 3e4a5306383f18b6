"""The page about Hermes' database is true: its Python runs, one block after another."""

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.stores.hermes_state.agent import COMPRESSED
from tests.support.server import ROOT

PAGE = (ROOT / "docs" / "hermes.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_the_examples_run(state_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pasted one after another beside a state.db, the examples work; the app answers."""
    monkeypatch.chdir(state_db.parent)
    namespace: dict[str, object] = {}
    assert len(BLOCKS) == 3
    for code in BLOCKS:
        exec(compile(code, "docs/hermes.md", "exec"), namespace)
    with TestClient(namespace["app"]) as client:  # type: ignore[arg-type]  # the example's
        headers = {"X-Hermes-Session-Id": COMPRESSED}
        answer = client.post("/chat", json={"text": "hi "}, headers=headers)
        assert answer.json()["content"] == "I have read 4 messages."
        assert answer.headers["X-Hermes-Session-Id"] == COMPRESSED
