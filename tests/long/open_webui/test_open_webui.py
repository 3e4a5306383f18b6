"""Open WebUI in a browser, with the demo as its server: each chat is a session, by the chat's id.

The connection's headers are those that docs/clients.md tells its users to enter.
"""

import base64
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page

from tests.demo.clients.demos import Demo
from tests.demo.clients.scripted import PICTURE, digest, scripted, text_of
from tests.demo.clients.test_clients_page import PAGE
from tests.support.browser import chromium
from tests.support.requirements import needs
from tests.support.server import ROOT, demo, free_port, serving
from tests.support.upstreams import Exchange, Upstream, upstream

PROGRAM = ROOT / ".open-webui" / "bin" / "open-webui"
TASK = "### Task:"
SETTINGS = {
    "ANONYMIZED_TELEMETRY": "False",
    "ENABLE_OLLAMA_API": "False",
    "HF_HUB_OFFLINE": "1",
    "OFFLINE_MODE": "True",
    "OPENAI_API_KEY": "unused",
    "PYTHONPATH": "",
    "RAG_EMBEDDING_ENGINE": "openai",
    "WEBUI_AUTH": "False",
    "WEBUI_SECRET_KEY": "secret",
}


def answering(exchange: Exchange) -> None:
    """Answer as a scripted model, which calls a tool of Open WebUI's own for the time alone."""
    if "time" not in text_of(exchange.body["messages"][-1]):
        exchange.body.pop("tools", None)
    scripted(exchange)


class Person:
    """Somebody who uses Open WebUI, and may restart the server behind it.

    Attributes:
        page: what is in the browser.
        model: what the demo asks.
    """

    def __init__(self, page: Page, url: str, model: Upstream, folder: Path) -> None:
        self.page = page
        self.model = model
        self._url = url
        self._folder = folder
        self._port = free_port()
        self._demo = ExitStack()
        self.restart()

    def restart(self) -> None:
        """Stop the demo and start it again, on the same database."""
        self._demo.close()
        served = demo(self._folder, "--upstream", self.model.url, port=self._port)
        self.api = self._demo.enter_context(served) + "/v1"

    def close(self) -> None:
        """Stop the demo."""
        self._demo.close()

    def begin(self) -> None:
        """Begin a new chat."""
        self.page.goto(f"{self._url}/?models=raw")
        self.page.locator("#chat-input").wait_for()
        if self.page.get_by_role("dialog").is_visible():  # what is new in this version
            self.page.keyboard.press("Escape")
        self.page.get_by_role("dialog").wait_for(state="hidden")

    def say(self, text: str, answer: str) -> None:
        """Ask, and wait for the answer."""
        self.page.locator("#chat-input").click()
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")
        self.wait_for(answer)

    def wait_for(self, answer: str) -> None:
        """Wait until the last answer has the text, and is whole."""
        last = self.page.locator(".chat-assistant").last
        last.get_by_text(answer, exact=True).wait_for()
        self.page.get_by_role("button", name="Regenerate").last.wait_for()

    def stored(self) -> list[tuple[str, str]]:
        """Return the roles and texts of what the demo has stored of the chat."""
        (chat,) = re.findall(r"/c/([0-9a-f-]+)", self.page.url)
        served = Demo("", self._folder)
        with ThreadPoolExecutor(1) as thread:  # this one has Playwright's event loop
            messages: list[Any] = thread.submit(served.stored, chat).result()
        return [(message["role"], text_of(message).strip()) for message in messages]

    def tasks(self) -> list[str]:
        """Return what was asked beside the conversation."""
        asked = [text_of(exchange.body["messages"][-1]) for exchange in self.model.requests]
        return [text for text in asked if text.startswith(TASK)]


def connect(url: str, api: str) -> None:
    """Make the demo the one connection, with the headers that the page says."""
    (told,) = re.findall(r"^```json\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    config = {"enable": True, "headers": httpx2.Response(200, text=told).json()}
    signed = httpx2.post(f"{url}/api/v1/auths/signin", json={"email": "", "password": ""})
    headers = {"Authorization": f"Bearer {signed.json()['token']}"}
    connections = {
        "ENABLE_OPENAI_API": True,
        "OPENAI_API_BASE_URLS": [api],
        "OPENAI_API_KEYS": ["unused"],
        "OPENAI_API_CONFIGS": {"0": config},
    }
    updated = httpx2.post(f"{url}/openai/config/update", json=connections, headers=headers)
    updated.raise_for_status()


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Open WebUI before the demo, in a browser."""
    needs(None if PROGRAM.exists() else "Open WebUI is not installed: make open-webui")
    port, folder = free_port(), tmp_path_factory.mktemp("open-webui")
    url = f"http://127.0.0.1:{port}"
    command = [str(PROGRAM), "serve", "--host", "127.0.0.1", "--port", str(port)]
    settings = {**SETTINGS, "DATA_DIR": str(folder), "HOME": str(folder)}
    with (
        serving(command, port, folder, ready="/health", **settings),
        upstream(answering) as model,
        chromium() as browser,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(30_000)
        person = Person(page, url, model, tmp_path_factory.mktemp("demo"))
        connect(url, person.api)
        yield person
        person.close()


def test_a_chat_is_one_conversation_over_a_restart(person: Person) -> None:
    """Its questions are stored once each, and what it asks for a title and tags is not stored."""
    person.begin()
    person.say("I am Ada.", "You said: I am Ada.")
    person.restart()
    person.say("Who am I?", "You said: I am Ada. / Who am I?")
    assert person.stored() == [
        ("user", "I am Ada."),
        ("assistant", "You said: I am Ada."),
        ("user", "Who am I?"),
        ("assistant", "You said: I am Ada. / Who am I?"),
    ]
    assert person.tasks()


def test_what_is_changed_in_the_chat_is_changed_in_the_session(person: Person) -> None:
    """An answer is regenerated in its place, continued in itself, and a question edited."""
    page = person.page
    person.begin()
    person.say("One.", "You said: One.")
    person.say("Two.", "You said: One. / Two.")
    page.get_by_role("button", name="Regenerate").last.click()
    page.get_by_text("Try Again").click()
    page.get_by_text("2/2").wait_for()  # answers to choose from
    person.wait_for("You said: One. / Two.")
    regenerated = person.stored()
    assert [role for role, _ in regenerated] == ["user", "assistant"] * 2
    page.get_by_role("button", name="Continue Response").last.click()
    person.wait_for("You said: One. / Two. You said: One. / Two.")
    assert [role for role, _ in person.stored()] == ["user", "assistant"] * 2
    page.locator(".user-message").last.hover()
    page.locator(".user-message").last.get_by_role("button", name="Edit").click()
    page.locator("textarea[id^=message-edit]").fill("Three.")
    page.locator("#confirm-edit-message-button").click()
    person.wait_for("You said: One. / Three.")
    assert person.stored() == [
        *regenerated[:2],
        ("user", "Three."),
        ("assistant", "You said: One. / Three."),
    ]


def test_a_tool_of_its_own_is_called(person: Person) -> None:
    """The call, its result and the answer are stored, and the next question comes after them."""
    person.begin()
    person.page.locator("#chat-input").click()
    person.page.keyboard.type("What is the time?")
    person.page.keyboard.press("Enter")
    person.page.get_by_role("button", name="Regenerate").last.wait_for()
    person.say("Thanks.", "You said: What is the time? / Thanks.")
    roles = [role for role, _ in person.stored()]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant"]


def test_a_picture_reaches_the_model(person: Person, tmp_path: Path) -> None:
    """A picture that is attached to a question is in its message, and stored with it."""
    picture = tmp_path / "picture.png"
    picture.write_bytes(base64.b64decode(PICTURE.partition(",")[2]))
    person.begin()
    person.page.locator("input[type=file]").first.set_input_files(picture)
    person.page.get_by_role("button", name="Remove").first.wait_for()
    person.say("What is this?", f"I see {digest(PICTURE)}.")
    assert [role for role, _ in person.stored()] == ["user", "assistant"]


def test_an_error_is_shown(person: Person) -> None:
    """What the model refuses is told in the chat, which goes on afterwards."""
    person.begin()
    person.say("Hello.", "You said: Hello.")
    person.page.locator("#chat-input").click()
    person.page.keyboard.type("Fail.")
    person.page.keyboard.press("Enter")
    person.page.locator(".chat-assistant").get_by_text("answers no such question").wait_for()
    assert [text for _, text in person.stored()] == ["Hello.", "You said: Hello."]
