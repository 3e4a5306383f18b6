"""OpenAI's JavaScript SDK in a page of another origin: everything that it sends passes CORS."""

import re
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from hermes_session_mw.openai_api import CORS_REQUEST_HEADERS
from tests.demo.clients.npm import PACKAGES
from tests.support.browser import Visits, browser, visit
from tests.support.requirements import needs
from tests.support.server import demo, free_port, serving

__all__ = ["browser", "visit"]  # fixtures

SDK = PACKAGES / "node_modules" / "openai"

TALK = """async ([base, session]) => {
    const { OpenAI } = await import("/index.mjs");
    const openai = new OpenAI({
        baseURL: `${base}/v1`, apiKey: "a-key", organization: "o", project: "p",
        dangerouslyAllowBrowser: true, maxRetries: 1, defaultHeaders: {
            "X-Hermes-Session-Id": session, "OpenAI-Beta": "assistants=v2",
        },
    });
    const asked = (content) => ({
        model: "hermes-demo", messages: [{ role: "user", content }],
    });
    const once = { headers: { "Idempotency-Key": "1" } };
    const id = (response) => response.headers.get("x-hermes-session-id");
    const first = await openai.chat.completions.create(asked("My name is Ada."), once).asResponse();
    const again = await openai.chat.completions.create(asked("My name is Ada."), once).asResponse();
    const streamed = await openai.chat.completions.stream(asked("Who am I?")).finalContent();
    const answer = await openai.responses.create({ model: "hermes-demo", input: "And now?" });
    const refused = await openai.chat.completions.create({ messages: [] }).catch((error) => error);
    const none = { headers: { "X-Hermes-Turn": "none" } };
    await openai.chat.completions.create(asked("A title?"), none);
    return {
        ids: [id(first), id(again), id(refused)], status: refused.status,
        replayed: again.headers.get("idempotency-replayed"), streamed, answer: answer.output_text,
    };
}"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The SDK's own files, as modules for pages of an origin of their own."""
    needs(None if SDK.exists() else "no openai npm SDK: make .npm-clients/.installed")
    folder, port = tmp_path_factory.mktemp("elsewhere"), free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    with serving([*command, "--directory", str(SDK)], port, folder, ready="/package.json"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, elsewhere: str) -> Iterator[str]:
    """A demo that allows these pages."""
    with demo(tmp_path_factory.mktemp("demo"), "--cors-origins", elsewhere) as served:
        yield served


def test_the_sdk_talks_from_another_origin(elsewhere: str, url: str, visit: Visits) -> None:
    """It chats, streams, repeats and is refused, reads the headers, and each preflight passes."""
    somebody = visit()
    somebody.expect("400", "404")  # for a request without messages, and an icon
    page = somebody.open(f"{elsewhere}/package.json")
    told: dict[str, Any] = page.evaluate(TALK, [url, "from-a-page"])
    assert told["ids"] == ["from-a-page"] * 3
    assert (told["status"], told["replayed"]) == (400, "true")
    assert "the first was: My name is Ada." in told["streamed"]
    assert "the first was: My name is Ada." in told["answer"]
    assert "Ada" in httpx2.get(f"{url}/v1/sessions/from-a-page/messages").text
    assert "A title?" not in httpx2.get(f"{url}/v1/sessions/from-a-page/messages").text


def test_every_header_of_the_sdk_passes() -> None:
    """Each name that the installed SDK has in its source is in the list."""
    needs(None if SDK.exists() else "no openai npm SDK: make .npm-clients/.installed")
    source = "".join(path.read_text() for path in SDK.rglob("*.mjs"))
    named = re.findall(r"['\"](X-Stainless-[A-Za-z-]+|OpenAI-[A-Z][A-Za-z-]+)['\"]", source)
    assert len(named) > 10
    assert {name.lower() for name in named} <= {name.lower() for name in CORS_REQUEST_HEADERS}
