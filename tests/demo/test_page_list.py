"""The chat page's list of conversations, its keys, its drafts, and its choice of a model."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import (
    Visits,
    ask,
    browser,
    session_of,
    shoot,
    stored,
    visit,
    wait_for_answer,
)
from tests.support.server import demo
from tests.support.upstreams import Exchange, upstream

__all__ = ["browser", "visit"]  # fixtures

KEY = "ada-key"
LONG_TITLE = "Alpha and all that came after it, in one long title"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo that answers at once."""
    with demo(tmp_path_factory.mktemp("list")) as served:
        yield served


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo that finds messages, and has Ada's API key."""
    with demo(tmp_path_factory.mktemp("keyed"), "--search", HERMES_API_KEYS=KEY) as served:
        yield served


def as_ada(visit: Visits, url: str) -> Page:
    """Open the page with Ada's key in its settings."""
    somebody = visit()
    settings = json.dumps({"base": "", "key": KEY})
    somebody.context.add_init_script(
        f"if (location.host) sessionStorage.setItem('hermes-settings', {json.dumps(settings)});"
    )
    return somebody.open(url)


def box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message")


def begin(page: Page, *questions: str) -> None:
    """Begin a conversation with each of the questions."""
    for question in questions:
        page.get_by_role("button", name="New chat", exact=True).click()
        ask(page, question)
        wait_for_answer(page, "first message")


def rows(page: Page) -> dict[str, list[str]]:
    """Return the list as it is shown: titles by their headings."""
    found: dict[str, list[str]] = page.locator("#sessions .group").evaluate_all(
        """all => Object.fromEntries(all.map((group) => [
            group.querySelector("h2").textContent,
            [...group.querySelectorAll(".session-title")].map((title) => title.textContent),
        ]))"""
    )
    return found


def choose(page: Page, title: str, action: str) -> None:
    """Choose something in a row's menu, as with a mouse."""
    page.get_by_role("link", name=title).hover()
    page.get_by_role("button", name=f"Options of “{title}”").click()
    page.get_by_role("menuitem", name=action, exact=True).click()


def test_the_list_is_grouped_and_searched(url: str, visit: Visits) -> None:
    """Conversations stand below their day, pinned ones first, and a search finds them by title."""
    page = visit().open(url)
    begin(page, "Alpha", "Beta and more", "Gamma")
    page.evaluate(
        """() => {
            const name = Object.keys(localStorage).find((key) => key.startsWith("hermes-sessions"));
            const list = JSON.parse(localStorage.getItem(name));
            list[2].updated_at = new Date(Date.now() - 864e5).toISOString();
            list[1].pinned = true;
            localStorage.setItem(name, JSON.stringify(list));
        }"""
    )
    page.reload()
    wait_for_answer(page, "first message")
    assert rows(page) == {"Pinned": ["Beta and more"], "Today": ["Gamma"], "Yesterday": ["Alpha"]}
    shoot(page, "wide-list")
    page.keyboard.press("Control+k")
    field = page.get_by_role("searchbox", name="Search the conversations")
    expect(field).to_be_focused()
    field.fill("more BETA")
    assert rows(page) == {"Pinned": ["Beta and more"]}
    field.fill("delta")
    expect(page.get_by_text("Nothing has these words.")).to_be_visible()
    field.fill("")
    assert len(rows(page)) == 3


def test_a_search_finds_messages(keyed: str, visit: Visits) -> None:
    """With an API key a search finds messages, one of each conversation, with what it has found."""
    page = as_ada(visit, keyed)
    begin(page, "Alpha", "Is there a night train?")
    ask(page, "A train by day, then.")
    wait_for_answer(page, "by day")
    page.get_by_role("button", name="New chat").click()
    field = page.get_by_role("searchbox", name="Search the conversations")
    field.fill("by day")
    found = page.get_by_role("region", name="In messages").get_by_role("link")
    expect(found).to_have_count(1)
    expect(found.locator("mark").first).to_have_text("by")
    shoot(page, "wide-search")
    found.click()
    expect(page.locator("#messages > li.hit")).to_contain_text("A train by day, then.")
    wait_for_answer(page, "by day")
    field.fill("nothing has this")
    expect(page.get_by_text("Nothing has these words.")).to_be_visible()
    expect(found).to_have_count(0)
    field.fill("")
    assert len(rows(page)["Today"]) == 2


def test_a_row_has_a_menu(url: str, visit: Visits, tmp_path: Path) -> None:
    """From its row a conversation is renamed, pinned, archived, exported and deleted."""
    page = visit().open(url)
    begin(page, "Alpha", "Beta")
    choose(page, "Alpha", "Rename")
    page.get_by_role("textbox", name="Title").fill("Alef")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Alef")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("Beta")  # which stays open
    choose(page, "Alef", "Pin")
    assert rows(page) == {"Pinned": ["Alef"], "Today": ["Beta"]}
    choose(page, "Alef", "Unpin")
    assert rows(page) == {"Today": ["Beta", "Alef"]}
    with page.expect_download() as download:
        choose(page, "Alef", "Export")
    assert download.value.suggested_filename == "Alef.md"
    download.value.save_as(tmp_path / "Alef.md")
    assert (tmp_path / "Alef.md").read_text() == (
        "# Alef\n\n## You\n\nAlpha\n\n## Assistant\n\n"
        "You said: Alpha | This is your first message in this conversation.\n"
    )
    choose(page, "Alef", "Archive")
    assert rows(page) == {"Today": ["Beta"]}
    page.reload()
    page.get_by_role("button", name="Archived").click()
    assert rows(page) == {"Today": ["Alef"]}
    page.get_by_role("link", name="Alef").click()
    wait_for_answer(page, "You said: Alpha")
    choose(page, "Alef", "Unarchive")
    expect(page.get_by_text("Nothing is archived.")).to_be_visible()
    page.get_by_role("button", name="Archived").click()
    assert rows(page) == {"Today": ["Beta", "Alef"]}
    choose(page, "Beta", "Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("link", name="Beta")).to_be_hidden()
    expect(page.get_by_role("button", name="New chat", exact=True)).to_be_focused()
    expect(page.get_by_role("heading", level=1)).to_have_text("Alef")


def test_an_api_keys_list_is_the_servers(keyed: str, visit: Visits) -> None:
    """With an API key the server keeps what is pinned and archived, for every browser."""
    page = as_ada(visit, keyed)
    begin(page, "Kept by the server", "Put away")
    choose(page, "Kept by the server", "Pin")
    expect(page.locator("#sessions .group").first).to_contain_text("Kept by the server")
    choose(page, "Put away", "Archive")
    expect(page.get_by_role("link", name="Put away")).to_be_hidden()
    other = as_ada(visit, keyed)
    expect(other.locator("#sessions .group").first).to_contain_text("Pinned")
    assert rows(other)["Pinned"] == ["Kept by the server"]
    expect(other.get_by_role("link", name="Put away")).to_be_hidden()
    other.get_by_role("button", name="Archived").click()
    expect(other.get_by_role("link", name="Put away")).to_be_visible()
    choose(other, "Put away", "Unarchive")
    expect(other.get_by_text("Nothing is archived.")).to_be_visible()
    other.get_by_role("button", name="Archived").click()
    expect(other.get_by_role("link", name="Put away")).to_be_visible()


def test_the_menu_is_one_for_the_keyboard(url: str, visit: Visits) -> None:
    """Arrows, Home, End and letters move in a menu; Escape and Tab close it at its button."""
    page = visit().open(url)
    begin(page, "Alpha")
    button = page.get_by_role("button", name="Options of “Alpha”")

    def item(name: str) -> Locator:
        return page.get_by_role("menuitem", name=name, exact=True)

    button.focus()
    page.keyboard.press("Enter")
    expect(item("Rename")).to_be_focused()
    expect(button).to_have_attribute("aria-expanded", "true")
    for key, name in (
        ("ArrowDown", "Pin"), ("ArrowUp", "Rename"), ("ArrowUp", "Delete"), ("ArrowDown", "Rename"),
        ("End", "Delete"), ("Home", "Rename"), ("e", "Export"), ("a", "Archive"),
    ):  # fmt: skip
        page.keyboard.press(key)
        expect(item(name)).to_be_focused()
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    expect(button).to_have_attribute("aria-expanded", "false")
    expect(page.get_by_role("menu")).to_be_hidden()
    page.keyboard.press("ArrowUp")
    expect(item("Delete")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("menu")).to_be_hidden()
    button.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Rename")).to_be_visible()
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    button.click()
    page.get_by_role("heading", level=1).click()
    expect(page.get_by_role("menu")).to_be_hidden()


def test_a_fork_tells_its_source(url: str, visit: Visits) -> None:
    """A fork is marked in the list, and its whole title and source are shown on hover."""
    page = visit().open(url)
    begin(page, LONG_TITLE)
    source = session_of(page)
    page.get_by_role("button", name="Fork into a new conversation").click()
    expect(page).not_to_have_url(f"{url}/#{source}")
    wait_for_answer(page, "first message")
    fork = page.locator("#sessions a[aria-current]")
    expect(fork).to_have_accessible_name(f"{LONG_TITLE} , forked from “{LONG_TITLE}”")
    title = fork.get_attribute("title")
    assert title is not None
    assert title.split("\n")[:2] == [LONG_TITLE, f"forked from “{LONG_TITLE}”"]
    cut = fork.locator(".session-title")
    assert cut.evaluate("e => e.scrollWidth > e.clientWidth")  # and so it has to be told on hover
    expect(page.locator(f"#sessions a[href='#{source}']")).to_have_accessible_name(LONG_TITLE)


def test_keys_do_what_the_sheet_says(url: str, visit: Visits) -> None:
    """The arrow edits the last question, Escape ends that, and the sheet shows all keys."""
    page = visit().open(url)
    expect(box(page)).to_be_focused()
    begin(page, "Alpha")
    ask(page, "Beta")
    wait_for_answer(page, "You said: Beta")
    page.keyboard.press("ArrowUp")
    expect(box(page)).to_have_value("Beta")
    expect(page.get_by_text("You are editing an earlier question.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(box(page)).to_have_value("")
    page.keyboard.press("ArrowUp")
    box(page).fill("Gamma")
    page.keyboard.press("Enter")
    wait_for_answer(page, "You said: Gamma")
    assert [each["content"] for each in stored(url, session_of(page))][::2] == ["Alpha", "Gamma"]
    box(page).fill("a line?")
    page.keyboard.press("ArrowUp")  # which moves in what is written
    expect(box(page)).to_have_value("a line?")
    page.keyboard.press("?")
    expect(box(page)).to_have_value("?a line?")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(sheet).to_be_hidden()
    page.keyboard.press("Control+/")
    expect(sheet).to_be_visible()
    expect(sheet.get_by_role("term")).to_have_count(9)
    shoot(page, "wide-shortcuts")
    page.keyboard.press("Escape")
    expect(box(page)).to_be_focused()
    page.get_by_role("button", name="Settings").focus()
    page.keyboard.press("?")
    expect(sheet).to_be_visible()
    sheet.get_by_role("button", name="Close").click()
    page.keyboard.press("Shift+Escape")
    expect(box(page)).to_be_focused()
    page.keyboard.press("Control+Shift+O")
    expect(page.get_by_role("heading", level=1)).to_have_text("New chat")


def test_the_list_is_put_away(url: str, visit: Visits) -> None:
    """On a wide window the list can be put away, stays so, and comes back for a search."""
    page = visit().open(url)
    button = page.get_by_role("button", name="Conversations", exact=True)
    expect(button).to_have_attribute("aria-expanded", "true")
    button.click()
    listed = page.get_by_role("navigation", name="Conversations")
    expect(listed).to_be_hidden()
    page.reload()
    expect(button).to_have_attribute("aria-expanded", "false")
    expect(listed).to_be_hidden()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("searchbox")).to_be_focused()
    expect(listed).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")


def test_drafts_live_through_a_reload(url: str, visit: Visits) -> None:
    """What was not sent is there after a reload, in its conversation, until it is sent."""
    page = visit().open(url)
    box(page).fill("for the new chat")
    page.reload()
    expect(box(page)).to_have_value("for the new chat")
    page.keyboard.press("Enter")
    wait_for_answer(page, "first message")
    box(page).fill("for this one")
    page.get_by_role("button", name="New chat", exact=True).click()
    expect(box(page)).to_have_value("")
    page.reload()
    expect(box(page)).to_have_value("")
    page.get_by_role("link", name="for the new chat").click()
    wait_for_answer(page, "first message")
    expect(box(page)).to_have_value("for this one")
    page.keyboard.press("Enter")
    wait_for_answer(page, "You said: for this one")
    page.reload()
    expect(box(page)).to_have_value("")
    drafts = "Object.keys(localStorage).filter((one) => /draft/.test(one))"
    assert page.evaluate(drafts) == []
    box(page).fill("to one that is deleted")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(box(page)).to_have_value("")
    assert page.evaluate(drafts) == []


@pytest.mark.parametrize("fault", ["throw new DOMException('', 'QuotaExceededError')", "throw 1"])
def test_a_storage_that_fails_is_no_error(url: str, visit: Visits, fault: str) -> None:
    """Where the storage is full or forbidden drafts are kept until the page is closed."""
    somebody = visit()
    somebody.context.add_init_script(
        f"for (const name of ['getItem', 'setItem', 'removeItem']) "
        f"Storage.prototype[name] = () => {{ {fault} }};"
    )
    page = somebody.open(url)
    begin(page, "Alpha")
    alpha = page.url
    box(page).fill("a draft")
    page.get_by_role("button", name="New chat", exact=True).click()
    expect(box(page)).to_have_value("")
    page.evaluate("(address) => { location.href = address }", alpha)
    expect(box(page)).to_have_value("a draft")


def test_forgotten_drafts_do_not_pile_up(url: str, visit: Visits) -> None:
    """The newest fifty drafts are kept."""
    page = visit().open(url)
    page.evaluate(
        """() => { for (let n = 0; n < 60; n += 1) {
            const draft = JSON.stringify({ text: "x", at: n });
            localStorage.setItem(`hermes-draft ${location.origin}/ s${n}`, draft);
        } }"""
    )
    page.reload()
    kept = page.evaluate("Object.keys(localStorage).filter((one) => /draft/.test(one)).length")
    assert kept == 50
    assert page.evaluate("localStorage.getItem(`hermes-draft ${location.origin}/ s59`)")


def test_messages_tell_their_times(url: str, visit: Visits) -> None:
    """Each message says when it was stored, as the server tells it, also what was said here."""
    somebody = visit()
    page = somebody.open(url)
    begin(page, "Alpha")
    times = page.locator("#messages time")
    expect(times).to_have_count(2)
    path = f"{url}/v1/sessions/{session_of(page)}/messages?include=created_at"
    told = httpx2.get(path).json()["created_at"]
    shown = times.evaluate_all("all => all.map((e) => e.dateTime)")
    here = [datetime.fromisoformat(time) for time in shown]
    there = [datetime.fromisoformat(time) for time in told]
    assert max(abs(a - b) for a, b in zip(here, there, strict=True)) < timedelta(seconds=60)
    page.reload()
    wait_for_answer(page, "first message")
    assert times.evaluate_all("all => all.map((e) => e.dateTime)") == told
    expect(times.first).to_have_text(re.compile(r"^\d\d:\d\d$"))


def test_a_server_that_tells_no_times_is_read_without(url: str, visit: Visits) -> None:
    """Where an older server does not know the parameter, messages are shown without times."""
    somebody = visit()
    somebody.expect("400")
    page = somebody.open(url)
    begin(page, "Alpha")
    refusal = {"error": {"message": "no", "type": "t", "param": None, "code": "invalid_query"}}
    somebody.context.route(
        "**/messages?*include=*", lambda route: route.fulfill(status=400, json=refusal)
    )
    page.reload()
    wait_for_answer(page, "first message")
    expect(page.locator("#messages time")).to_have_count(0)


def test_a_model_is_picked(tmp_path: Path, visit: Visits) -> None:
    """Where the server has several models one is picked below the box, and asked from then on."""

    def echo(exchange: Exchange) -> None:
        exchange.say(f"I am {exchange.body['model']}.")

    with upstream(echo) as server, demo(tmp_path, "--upstream", server.url) as served:
        page = visit().open(served)
        picker = page.get_by_role("combobox", name="Model")
        expect(picker.get_by_role("option")).to_have_text(["Default model", "raw", "other"])
        ask(page, "Who are you?")
        wait_for_answer(page, "I am raw.")
        picker.select_option("other")
        ask(page, "And now?")
        wait_for_answer(page, "I am other.")
        shoot(page, "wide-models")
        page.reload()
        expect(picker).to_have_value("other")
        ask(page, "And now?")
        wait_for_answer(page, "I am other.")


def test_one_model_is_no_choice(url: str, visit: Visits) -> None:
    """Where the server has one model nothing is to be picked."""
    page = visit().open(url)
    begin(page, "Alpha")
    expect(page.get_by_role("combobox", name="Model")).to_be_hidden()
