"""A real Chromium and a real Firefox, and pages in them that may not err."""

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect
from playwright.sync_api import sync_playwright as playwright

from tests.support.requirements import needs
from tests.support.server import ROOT

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SHELL = "chromium-headless-shell"
"""The same Chromium without windows: a visit costs a quarter of the processor time."""
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
]  # fmt: skip
PREFERENCES: dict[str, str | float | bool] = {
    "ui.prefersReducedMotion": 1,
    "layout.css.prefers-color-scheme.content-override": 1,  # light
}
"""What Chromium's pages are told for each visitor, and Firefox' for all of them."""
ARTIFACTS = Path(os.environ.get("HERMES_TEST_ARTIFACTS") or ROOT / "test-artifacts")
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
UNFINISHED = "This answer stopped before its end."
"""What the page says below an answer that was stopped, or broke off."""
PATIENCE = 60_000
"""Milliseconds within which whatever is waited for comes, on a slow machine too."""


def program() -> str | None:
    """Return where the machine's own Chromium is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the machine's own Chromium, and end it."""
    found = shutil.which(SHELL) or program()
    needs(None if found else "no Chromium: install chromium")
    expect.set_options(timeout=PATIENCE)
    with playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def firefox(folder: Path) -> Iterator[Browser]:
    """Start the machine's own Firefox, and end it; a program of the test's own goes to ``folder``.

    Playwright asks for a build of its own, and drives others by WebDriver BiDi (``bidi_relay.py``).
    """
    found = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
    needs(None if found else "no Firefox: install firefox-esr")
    expect.set_options(timeout=PATIENCE)
    program, relay = folder / "firefox", Path(__file__).with_name("bidi_relay.py")
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{relay}" "{found}" "$@"\n')
    program.chmod(0o700)
    with playwright() as driver:
        browser = driver.firefox.launch(
            executable_path=program, channel="moz-firefox", firefox_user_prefs=PREFERENCES
        )
        yield browser
        browser.close()


class Visitor:
    """Somebody with a browser profile of his own.

    ``faults`` are what his pages may not do: errors in the console, exceptions, breaches of the
    Content-Security-Policy, and requests to any other host than this machine.
    """

    def __init__(self, browser: Browser, *, phone: bool = False, dark: bool = False) -> None:
        self.faults: list[str] = []
        self.expected: list[str] = []
        self.context: BrowserContext = browser.new_context(
            viewport=PHONE if phone else WIDE,  # type: ignore[arg-type]  # it is a TypedDict
            has_touch=phone,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            locale="en-GB",
        )
        self.context.set_default_timeout(PATIENCE)
        self.context.on("console", self._said)
        self.context.on("weberror", lambda error: self.faults.append(str(error.error)))
        self.context.on("request", self._asked)

    def open(self, url: str) -> Page:
        """Open a tab."""
        page = self.context.new_page()
        page.goto(url)
        return page

    def expect(self, *patterns: str) -> None:
        """Let the console say this, since the test brings it about."""
        self.expected += patterns

    def leave(self) -> None:
        """Close all tabs, none of which may have erred."""
        self.context.close()
        unexpected = [
            fault for fault in self.faults if not any(re.search(p, fault) for p in self.expected)
        ]
        assert unexpected == [], unexpected  # pytest rewrites no assertion here

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(message.text)

    def _asked(self, request: Request) -> None:
        host = urlsplit(request.url).hostname
        if host not in {"127.0.0.1", "localhost"}:
            self.faults.append(f"a request to {host}")


class Visits:
    """Makes visitors, and sees each out."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._visitors: list[Visitor] = []

    def __call__(self, *, phone: bool = False, dark: bool = False) -> Visitor:
        """Return a new visitor."""
        self._visitors.append(Visitor(self._browser, phone=phone, dark=dark))
        return self._visitors[-1]

    def end(self) -> None:
        """Close everything."""
        for visitor in self._visitors:
            visitor.leave()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a module."""
    with chromium() as started:
        yield started


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visits]:
    """Make visitors of a test."""
    visits = Visits(browser)
    yield visits
    visits.end()


@contextmanager
def requests_of(page: Page, *, beside: int = 0) -> Iterator[list[str]]:
    """Collect the URLs that a page asks for in the block, once all that it asked before is done.

    ``beside`` of the requests before are still under way then: streams.
    """
    pending: set[Request] = set()
    begun: list[str] = []

    def begin(request: Request) -> None:
        pending.add(request)
        begun.append(request.url)

    def end(request: Request) -> None:
        pending.discard(request)

    page.on("request", begin)
    page.on("requestfinished", end)
    page.on("requestfailed", end)
    count = -1
    while len(pending) > beside or count != len(begun):
        count = len(begun)
        page.wait_for_timeout(500)
    begun.clear()
    yield begun
    page.remove_listener("request", begin)


def shoot(page: Page, name: str) -> None:
    """Keep a screenshot, for people to look at."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    # As it looks once a drawer has come in and a button has lost the pointer.
    page.screenshot(path=ARTIFACTS / f"{name}.png", caret="hide", animations="disabled")


def ask(page: Page, text: str) -> None:
    """Write a message and send it, as with the keyboard."""
    box = page.get_by_role("textbox", name="Message")
    box.fill(text)
    box.press("Enter")


def messages(page: Page) -> list[str]:
    """Return the texts of the messages that the page shows, those out of sight included."""
    # What is not laid out has no inner text.
    return page.locator("#messages > li").evaluate_all(  # type: ignore[no-any-return]
        """(all) => all.map((li) => {
            li.style.contentVisibility = "visible";
            const text = li.querySelector(".body").innerText;
            li.style.contentVisibility = "";
            return text;
        })"""
    )


def wait_for_answer(page: Page, text: str) -> None:
    """Wait until the last message has the text, and is whole."""
    last = page.locator("#messages > li:last-child article:not([aria-busy])")
    expect(last).to_contain_text(text)  # which shows the page where it fails
    expect(page.locator("#send")).to_be_visible()


def regenerate(page: Page) -> None:
    """Have the last answer regenerated, and wait for the new one, which may say the same."""
    with another_answer(page):
        page.get_by_role("button", name="Regenerate the answer").click()


@contextmanager
def another_answer(page: Page) -> Iterator[None]:
    """Wait, at the block's end, for a last message that was not there at its beginning."""
    page.locator("#messages > li:last-child").evaluate("e => { e.dataset.old = '' }")
    yield
    last = "#messages > li:last-child:not([data-old]) article:not([aria-busy])"
    page.locator(last).wait_for()


def wait_for_a_piece(page: Page, text: str = "You said:") -> str:
    """Wait until an answer has begun, and return what is there of it."""
    growing = page.locator("#messages article[aria-busy=true] .body")
    expect(growing).to_contain_text(text)
    return growing.inner_text()


def come_back(page: Page) -> None:
    """Do what a browser does when somebody looks at a tab again."""
    page.evaluate("dispatchEvent(new Event('focus'))")


def set_seen(page: Page, seen: bool) -> None:
    """Have a tab hidden behind another one, or seen again."""
    state = "visible" if seen else "hidden"
    page.evaluate(
        """(state) => {
            const is = { get: () => state, configurable: true };
            Object.defineProperty(document, "visibilityState", is);
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


def stored(url: str, session_id: str) -> list[dict[str, Any]]:
    """Return the messages that the server at ``url`` has stored."""
    response = httpx2.get(f"{url}/v1/sessions/{session_id}/messages")
    data: list[dict[str, Any]] = response.raise_for_status().json()["data"]
    return data


def wait_until_stored(url: str, session_id: str, count: int) -> list[dict[str, Any]]:
    """Wait until the server has stored as many messages, and return them."""
    for _ in range(600):
        found = httpx2.get(f"{url}/v1/sessions/{session_id}/messages")
        if found.is_success and found.json()["length"] == count:
            return stored(url, session_id)
        time.sleep(0.05)
    raise AssertionError(found.text)


def session_of(page: Page) -> str:
    """Return the id in the address."""
    return page.evaluate("location.hash.slice(1)")  # type: ignore[no-any-return]
