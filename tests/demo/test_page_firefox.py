"""The chat page in a real Firefox: what matters most of it, with one browser for all."""

from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import (
    UNFINISHED,
    Visitor,
    ask,
    firefox,
    session_of,
    wait_for_a_piece,
    wait_for_answer,
)
from tests.support.server import demo

MARKDOWN = "Here is **one**:\n\n- `a`\n- b\n\n```python\nprint(1)\n```"
LONG = " ".join(f"word{number}" for number in range(200))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo that thinks between words."""
    with demo(tmp_path_factory.mktemp("firefox"), "--pace", "0.005") as served:
        yield served


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Firefox for the module."""
    with firefox(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A page that has said nothing to the console at the test's end."""
    somebody = Visitor(browser)
    yield somebody.open(url)
    somebody.leave()


def test_an_answer_streams_is_stopped_and_stays(page: Page) -> None:
    """In Firefox an answer streams in and is stopped, and is there after a reload."""
    ask(page, f"My name is Ada. {LONG}")
    assert "first message" not in wait_for_a_piece(page, "word3")
    page.keyboard.press("Escape")
    expect(page.get_by_text(UNFINISHED)).to_be_visible()
    ask(page, "And now?")
    wait_for_answer(page, "I remember 1 earlier message")
    texts = page.locator("#messages .body")  # of which some are far away, and not laid out
    before, address = texts.all_text_contents(), session_of(page)
    page.reload()
    wait_for_answer(page, "I remember 1 earlier message")
    expect(texts.first).to_contain_text("word199")  # a long text is drawn in its turn
    assert (texts.all_text_contents(), session_of(page)) == (before, address)
    current = page.get_by_role("navigation").get_by_role("link", name="My name is Ada.")
    expect(current).to_have_attribute("aria-current", "page")


def test_markdown_is_shown(page: Page) -> None:
    """In Firefox emphasis, lists and code of an answer are elements."""
    ask(page, MARKDOWN)
    wait_for_answer(page, "first message")
    body = page.locator("#messages .assistant .body")
    expect(body.locator("strong")).to_have_text("one")
    expect(body.locator("li")).to_have_count(2)
    expect(body.locator("pre")).to_contain_text("print(1)")


def test_a_conversation_is_renamed_and_deleted(page: Page) -> None:
    """In Firefox menus and dialogs open, take what is written, and give the focus back."""
    ask(page, "Hello.")
    wait_for_answer(page, "first message")
    page.get_by_role("button", name="Options of “Hello.”").press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("textbox", name="Title").fill("Renamed")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Renamed")
    expect(page.get_by_role("button", name="Options of “Renamed”")).to_be_focused()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("New chat")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()


def test_a_second_tab_follows_and_drafts_stay(page: Page) -> None:
    """In Firefox a second tab sees an answer as it streams, and a draft lives through a reload."""
    ask(page, f"Begin. word3 {'w ' * 8000}")  # of which nobody waits for the end
    wait_for_a_piece(page, "word3")
    second = page.context.new_page()
    second.goto(page.url)
    assert "first message" not in wait_for_a_piece(second, "word3")
    second.keyboard.press("Escape")
    for tab in (second, page):
        expect(tab.get_by_text(UNFINISHED)).to_be_visible()
    box = second.get_by_role("textbox", name="Message")
    box.fill("not sent yet")
    second.reload()
    expect(box).to_have_value("not sent yet")


def test_a_message_is_found_and_its_code_has_colours(browser: Browser, url: str) -> None:
    """In Firefox a link opens a message, code is coloured, and a dialog comes at a second try."""
    told = [{"role": "user", "content": f"Question {n}"} for n in range(240)]
    told[20] = {"role": "assistant", "content": "Found:\n\n```py\nif x:  # y\n```"}
    headers = {"X-Hermes-Session-Id": "found", "X-Hermes-History-Source": "request"}
    httpx2.post(
        f"{url}/v1/chat/completions", json={"messages": told}, headers=headers, timeout=60
    ).raise_for_status()
    somebody = Visitor(browser)
    page = somebody.open(f"{url}/#found@20")
    hit = page.locator("#messages > li.hit")
    expect(hit).to_contain_text("Found:")
    expect(hit).to_be_in_viewport()
    page.wait_for_function("() => CSS.highlights.get('code-comment')?.size === 1")
    page.get_by_role("button", name="Newest").click()
    wait_for_answer(page, "Question 239")
    expect(page.locator("#messages > li:last-child")).to_be_in_viewport()
    somebody.context.route("**/dialogs.js", lambda route: route.abort())
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    somebody.context.unroute("**/dialogs.js")
    page.get_by_role("button", name="Try again").click()  # though the browser remembers the failure
    expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    somebody.leave()


def test_what_goes_wrong_is_heard(browser: Browser, url: str) -> None:
    """What Firefox says of errors and exceptions reaches the tests."""
    somebody = Visitor(browser)
    page = somebody.open(url)
    with somebody.context.expect_event("weberror"):
        page.evaluate("console.error('said'); setTimeout(() => { throw new Error('thrown') })")
    somebody.expect("said", "thrown")
    assert somebody.faults == ["said", "thrown"]
    somebody.leave()
