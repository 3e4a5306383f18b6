"""The page about Hermes' database is true: its Python runs, one block after another."""

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from hermes_session_mw.stores.hermes_state.rules import RELEASES
from tests.stores.hermes_state.agent import COMPRESSED
from tests.support.server import ROOT

PAGE = (ROOT / "docs" / "hermes.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_the_examples_run(state_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pasted one after another beside a state.db, the examples work; the app answers."""
    monkeypatch.chdir(state_db.parent)
    namespace: dict[str, object] = {}
    assert len(BLOCKS) == 4
    for code in BLOCKS:
        exec(compile(code, "docs/hermes.md", "exec"), namespace)
    with TestClient(namespace["app"]) as client:  # type: ignore[arg-type]  # the example's
        headers = {"X-Hermes-Session-Id": COMPRESSED}
        answer = client.post("/chat", json={"text": "hi "}, headers=headers)
        assert answer.json()["content"] == "I have read 4 messages."
        assert answer.headers["X-Hermes-Session-Id"] == COMPRESSED


def test_the_table_has_every_version_that_was_run() -> None:
    """The table, which `make hermes-versions` writes, has a column for each, and no difference."""
    (header,) = [line for line in PAGE.splitlines() if line.startswith("|  | 0.")]
    assert header.strip("| ").split(" | ") == [name for name, _ in RELEASES]
    table = PAGE.partition(header)[2].partition("<!-- to here -->")[0]
    assert table.count("| same |") > 10
    assert "**differs**" not in table
