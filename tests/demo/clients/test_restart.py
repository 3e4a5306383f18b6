"""The demo is stopped and started, and every client finds its conversation again."""

from collections.abc import Callable
from pathlib import Path

import openai
import pytest
from sqlalchemy import URL

from tests.demo.clients.demos import HEADER, a_session_id
from tests.demo.clients.llm import llm_of
from tests.demo.clients.npm import Npm
from tests.support.server import demo

SDKS = ("openai-python", "openai-npm")
Clients = dict[str, Callable[[str, str], str]]
"""Each says something to the demo at a URL, in its own conversation, and returns the answer."""


@pytest.fixture(scope="module")
def clients(npm: Npm, tmp_path_factory: pytest.TempPathFactory) -> Clients:
    """All of them."""
    folder, mine = tmp_path_factory.mktemp("llm"), a_session_id()

    def by_python(url: str, text: str) -> str:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="unused") as client:
            answer = client.chat.completions.create(
                model="hermes-demo",
                messages=[{"role": "user", "content": text}],
                extra_headers={HEADER: f"{mine}-python"},
            )
        return str(answer.choices[0].message.content)

    def by_npm(url: str, text: str) -> str:
        return npm.chat(f"{url}/v1", text, f"{mine}-npm").text

    def by_llm(url: str, text: str) -> str:
        return llm_of(folder, f"{url}/v1", f"{mine}-llm").says("-m", "demo", text)

    return {"openai-python": by_python, "openai-npm": by_npm, "llm": by_llm}


@pytest.mark.parametrize(("database", "names"), [("sqlite", (*SDKS, "llm")), ("postgresql", SDKS)])
def test_every_client_goes_on_after_a_restart(
    database: str, names: tuple[str, ...], clients: Clients, tmp_path: Path, postgres_url: URL
) -> None:
    """By its header alone each client's conversation goes on, on SQLite and on PostgreSQL."""
    options = ["--store", postgres_url.render_as_string(False)] if database != "sqlite" else []
    with demo(tmp_path, *options) as url:
        before = {name: clients[name](url, f"I am {name}.") for name in names}
    with demo(tmp_path, *options) as url:
        after = {name: clients[name](url, "Who am I?") for name in names}
    for name in names:
        assert before[name].endswith("This is your first message in this conversation.")
        assert after[name].endswith(f"1 earlier message; the first was: I am {name}.")
