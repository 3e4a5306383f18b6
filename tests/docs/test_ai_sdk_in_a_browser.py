"""The component of the page about Vercel's AI SDK works in a real Chromium, and so does useChat."""

import secrets
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect

from tests.demo.clients.matrix import node
from tests.docs.pages import KEYS, Backend, backend, laid_out
from tests.support.browser import Visits, browser, visit

__all__ = ["browser", "visit"]  # fixtures

PAGE = "ai-sdk.md"
HTML = '<!doctype html><title>Chat</title><div id="root"></div><script src="/page.js"></script>'
LOST = ("ERR_", "Failed to load resource")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """The page's server."""
    with backend(PAGE, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The component with all that it imports."""
    folder = tmp_path_factory.mktemp("client")
    laid_out(PAGE, "ai-react", folder, "main.jsx")
    command = [
        node(), "node_modules/esbuild/bin/esbuild", "main.jsx", "--bundle", "--jsx=automatic",
        "--define:process.env.NODE_ENV='production'", "--log-level=warning",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class People:
    """Opens a chat in browsers, from behind the proxy."""

    def __init__(self, served: Backend, script: str, visit: Visits) -> None:
        self.model, self.proxy = served.model, served.proxy
        self._script, self._visit = script, visit
        self._id = secrets.token_hex(8)

    def open(self, *, plain: bool = False) -> Page:
        """Open the chat on another device."""
        visitor = self._visit()
        visitor.expect(*LOST)

        def send(route: Route) -> None:
            is_script = route.request.url.endswith("/page.js")
            route.fulfill(
                body=self._script if is_script else HTML,
                content_type="text/javascript" if is_script else "text/html",
            )

        for path in ("/?*", "/page.js", "/favicon.ico"):
            visitor.context.route(f"{self.proxy.url}{path}", send)
        query = f"id={self._id}&account={KEYS['ada']}" + ("&plain=1" if plain else "")
        return visitor.open(f"{self.proxy.url}/?{query}")

    def ask(self, page: Page, text: str) -> None:
        """Ask as a person does."""
        page.get_by_role("textbox", name="Message").fill(text)
        page.get_by_role("button", name="Send").click()


@pytest.fixture
def people(served: Backend, script: str, visit: Visits) -> People:
    """A new chat."""
    return People(served, script, visit)


def test_a_page_comes_back(people: People) -> None:
    """After a cut, a reload, and on another device: the question and its answer are there once."""
    first = people.open()
    people.ask(first, "Hello.")
    people.model.say("one ")
    expect(first.locator("p")).to_have_text(["Hello.", "one "])
    people.proxy.cut()
    expect(first.get_by_role("alert")).to_be_visible()
    people.proxy.mend()
    people.model.say("two ")
    second = people.open()
    for page in (first, second):
        expect(page.locator("p")).to_have_text(["Hello.", "one two "])
    first.reload()
    expect(first.locator("p")).to_have_text(["Hello.", "one two "])
    expect(first.get_by_role("button", name="Stop")).to_be_visible()
    people.model.say("three")
    people.model.end()
    for page in (first, second):
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        expect(page.locator("p")).to_have_text(["Hello.", "one two three"])


def test_a_person_stops_the_model(people: People) -> None:
    """The button ends the answer on every device, and the chat goes on after it."""
    first = people.open()
    people.ask(first, "Hello.")
    people.model.say("one ")
    second = people.open()
    expect(second.locator("p")).to_have_text(["Hello.", "one "])
    second.get_by_role("button", name="Stop").click()
    for page in (first, second):
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        expect(page.locator("p")).to_have_text(["Hello.", "one "])
    people.model.end()  # of the answer that nobody reads
    people.ask(first, "And?")
    people.model.say("two")
    people.model.end()
    expect(first.locator("p")).to_have_text(["Hello.", "one ", "And?", "two"])


def test_use_chat_resumes_by_itself(people: People) -> None:
    """By ``resume: true`` alone a page follows what runs, and comes back once it is visible."""
    first = people.open()
    people.ask(first, "Hello.")
    people.model.say("one ")
    expect(first.locator("p")).to_have_text(["Hello.", "one "])
    plain = people.open(plain=True)
    expect(plain.locator("p")).to_have_text(["one "])
    people.proxy.cut()
    expect(plain.locator("main")).to_have_attribute("data-status", "error")
    people.proxy.mend()
    plain.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(plain.locator("main")).to_have_attribute("data-status", "streaming")
    people.model.say("two")
    people.model.end()
    expect(plain.locator("main")).to_have_attribute("data-status", "ready")
    expect(plain.locator("p")).to_have_text(["one two"])
