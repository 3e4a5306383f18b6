"""The chat page for everybody: keyboards, screen readers, phones, both colours."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import (
    Visits,
    another_answer,
    ask,
    browser,
    messages,
    shoot,
    visit,
    wait_for_answer,
)
from tests.support.requirements import needs
from tests.support.server import demo

__all__ = ["browser", "visit"]  # fixtures

BUBBLES = (
    "My name is Ada, and I would like a short function.\n\n```python\ndef f(x):\n    return x\n```"
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo that answers at once."""
    with demo(tmp_path_factory.mktemp("page")) as served:
        yield served


def focused(page: Page) -> Locator:
    return page.locator(":focus")


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element of this name has the focus, which has to be seen."""
    for _ in range(30):
        page.keyboard.press("Tab")
        at = page.locator(":focus, body:not(:has(:focus))")  # beyond its end is the browser
        label = at.evaluate("e => e.ariaLabel ?? e.labels?.[0]?.innerText ?? e.innerText")
        if name in label:
            assert at.evaluate("e => e.matches(':focus-visible')")
            return
    pytest.fail(f"no Tab leads to {name!r}")


def test_the_keyboard_is_enough(url: str, visit: Visits) -> None:
    """Everything is done without a mouse, and the focus is never lost."""
    page = visit().open(url)
    box = page.get_by_role("textbox", name="Message")
    expect(box).to_be_focused()
    page.get_by_role("button", name="New chat").focus()
    page.keyboard.press("Shift+Tab")
    expect(focused(page)).to_have_text("Skip to the message box")
    page.keyboard.press("Enter")
    expect(box).to_be_focused()
    page.keyboard.type("One line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("and another.")
    page.keyboard.press("Enter")
    wait_for_answer(page, "first message")
    assert messages(page)[0] == "One line\nand another."
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(focused(page)).to_have_accessible_name("Regenerate the answer")
    with another_answer(page):
        page.keyboard.press("Enter")
    wait_for_answer(page, "first message")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.reload()
    tab_to(page, "Rename")
    page.keyboard.press("Enter")
    expect(focused(page)).to_have_accessible_name("Title")
    page.keyboard.type("By keyboard")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("By keyboard")
    expect(focused(page)).to_have_accessible_name("Rename")
    tab_to(page, "Delete")
    page.keyboard.press("Enter")
    expect(focused(page)).to_have_text("Keep it")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("New chat")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()


def test_a_finished_answer_is_announced_once(url: str, visit: Visits) -> None:
    """Screen readers are told the whole answer at its end, and not each of its words."""
    page = visit().open(url)
    page.evaluate(
        """() => {
            globalThis.said = [];
            const status = document.getElementById("announcer");
            new MutationObserver(() => said.push(status.textContent))
                .observe(status, { childList: true });
        }"""
    )
    ask(page, "Hello.")
    wait_for_answer(page, "first message")
    whole = "Assistant: You said: Hello. | This is your first message in this conversation."
    expect(page.get_by_role("status")).to_have_text(whole)
    assert page.evaluate("said") == [whole]


def test_the_page_says_what_it_is(url: str, visit: Visits) -> None:
    """Landmarks, headings and names give the page its shape without its looks."""
    page = visit().open(url)
    ask(page, "Hello.")
    wait_for_answer(page, "first message")
    expect(page.locator("body")).to_match_aria_snapshot(
        """
        - complementary "Conversations":
          - button "New chat"
          - search:
            - searchbox "Search the conversations"
          - navigation "Conversations":
            - list:
              - listitem:
                - heading "Today" [level=2]
                - list:
                  - listitem:
                    - link /Hello\\./
                    - button "Options of “Hello.”"
          - button "Settings"
          - 'button "Colours: System"'
          - button "Keyboard shortcuts"
        - main:
          - heading "Hello." [level=1]
          - button "Session id"
          - group "This conversation":
            - button "Rename"
            - button "Fork into a new conversation"
            - button "Delete"
          - region "Messages":
            - list:
              - listitem:
                - article "You"
              - listitem:
                - article "Assistant"
          - form "New message":
            - textbox "Message"
            - button "Send"
        """
    )


@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
def test_axe_finds_nothing(url: str, visit: Visits, phone: bool) -> None:
    """The rules of axe-core, WCAG's and its own, find nothing wrong in any state, light or dark."""
    package = find_spec("axe_playwright_python")
    needs(None if package else "no axe-playwright-python: it is in the test group")
    assert package
    assert package.origin
    rules = Path(package.origin).with_name("axe.min.js").read_text()
    somebody = visit(phone=phone)
    somebody.expect("503")
    page = somebody.open(url)
    page.evaluate(rules)  # not as a script element, which the page's policy forbids

    def check(state: str, overlay: Locator | None = None) -> None:
        if overlay:
            expect(overlay).to_be_visible()
        for colours, options in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
            page.emulate_media(color_scheme=colours)  # type: ignore[arg-type]  # it is a literal
            found = page.evaluate("(options) => axe.run(options)", options)
            told = [(one["id"], [n["html"] for n in one["nodes"]]) for one in found["violations"]]
            assert told == [], f"{state}, {colours}"

    def button(name: str) -> Locator:
        return page.get_by_role("button", name=name, exact=True)

    check("empty")
    ask(page, BUBBLES)
    wait_for_answer(page, "first message")
    check("a conversation")
    button("Edit the question").click()
    check("editing")
    page.keyboard.press("Escape")

    def in_the_bar(name: str) -> Locator:
        if not phone:
            return button(name)
        button("Options of this conversation").click()
        return page.get_by_role("menuitem", name=name)

    in_the_bar("Session id").click()
    check("the id", button("Copy the session id"))
    page.keyboard.press("Escape")
    in_the_bar("Delete").click()
    check("a question", page.get_by_role("dialog"))
    button("Keep it").click()
    somebody.context.route("**/v1/chat/completions", lambda route: route.fulfill(status=503))
    ask(page, "Hello?")
    expect(page.get_by_role("alert")).to_be_visible()
    check("an error")
    button("Give up").click()
    if phone:
        button("Conversations").click()
        check("the drawer")
    page.get_by_role("navigation").get_by_role("button", name="Options of").click()
    check("a menu", page.get_by_role("menu"))
    page.keyboard.press("Escape")
    page.keyboard.press("Control+/")
    check("the keys", page.get_by_role("dialog"))
    button("Close").click()
    button("Settings").click()
    check("the settings", page.get_by_role("dialog"))


def test_every_button_can_be_reached_and_has_a_name(url: str, visit: Visits) -> None:
    """Tab comes by every control that is seen, but those of a menu, and each says what it is."""
    page = visit().open(url)
    ask(page, BUBBLES)
    wait_for_answer(page, "first message")
    controls = page.locator("a, button, input, textarea, select, [tabindex='0']").filter(
        visible=True
    )
    wanted = controls.evaluate_all(
        "all => { all.forEach((e, at) => { e.dataset.at = at }); return all.length; }"
    )
    page.locator("#skip").focus()
    reached = set()
    for _ in range(wanted):
        reached.add(page.evaluate("document.activeElement.dataset.at ?? 'none'"))
        name = focused(page).evaluate("e => e.ariaLabel ?? (e.labels?.[0] ?? e).innerText")
        assert name.strip()
        page.keyboard.press("Tab")
    assert reached == {str(at) for at in range(wanted)}


def overflow(page: Page) -> int:
    width: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return width


def test_it_fits_on_a_phone(url: str, visit: Visits) -> None:
    """At 360 pixels nothing is wider than the page, and the list is a drawer."""
    page = visit(phone=True).open(url)
    assert overflow(page) <= 0
    shoot(page, "phone-empty")
    ask(page, f"{BUBBLES}\n\n{'w' * 300}")
    wait_for_answer(page, "first message")
    assert overflow(page) <= 0
    shoot(page, "phone-conversation")
    opener = page.get_by_role("button", name="Conversations")
    expect(opener).to_have_attribute("aria-expanded", "false")
    opener.tap()
    expect(page.get_by_role("button", name="Close the list")).to_be_focused()
    # Nothing behind the drawer can be reached.
    expect(page.locator("main")).to_have_js_property("inert", value=True)
    assert overflow(page) <= 0
    shoot(page, "phone-drawer")
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    opener.tap()
    page.get_by_role("link", name="My name is Ada").tap()
    expect(page.get_by_role("button", name="Close the list")).not_to_be_in_viewport()
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    small = page.evaluate(
        "[...document.querySelectorAll('input:not([type=checkbox]), textarea')]"
        ".filter((e) => parseFloat(getComputedStyle(e).fontSize) < 16).length"
    )
    assert small == 0  # below that a phone zooms in


def test_a_phone_shows_the_empty_page_from_its_beginning(url: str, visit: Visits) -> None:
    """A window too low for the first page shows its beginning, beside a notice too."""
    somebody = visit(phone=True)
    somebody.expect("503")
    somebody.context.route("**/v1/models", lambda route: route.fulfill(status=503))
    page = somebody.open(url)
    for width, height in ((320, 568), (844, 390)):
        page.set_viewport_size({"width": width, "height": height})
        expect(page.get_by_role("alert")).to_be_visible()
        page.reload()
        expect(page.get_by_role("alert")).to_be_visible()
        heading = page.get_by_role("heading", name="A conversation that goes on")
        expect(heading).to_be_visible()
        assert page.locator("#talk").evaluate("e => e.scrollHeight > e.clientHeight"), width
        assert page.locator("#talk").evaluate("e => e.scrollTop") == 0
        expect(page.get_by_role("button", name="Newest")).to_be_hidden()
        shoot(page, f"phone-empty-{width}")


def test_a_long_word_fits_into_titles_and_dialogs(url: str, visit: Visits) -> None:
    """A title without a space is cut where it is asked about, and leaves room for its buttons."""
    page = visit(phone=True).open(url)
    page.set_viewport_size({"width": 390, "height": 700})
    ask(page, "w" * 300)
    wait_for_answer(page, "first message")
    assert overflow(page) <= 0
    sizes = page.locator(".bar button:visible").evaluate_all(
        "all => all.map((e) => [e.offsetWidth, e.offsetHeight])"
    )
    assert len(sizes) == 3
    assert all(min(size) >= 40 for size in sizes)
    shoot(page, "phone-long-title")
    page.get_by_role("button", name="Options of this conversation").tap()
    page.get_by_role("menuitem", name="Delete").tap()
    dialog = page.get_by_role("dialog")
    assert dialog.evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    expect(dialog).to_contain_text(f"“{'w' * 59}…”")
    shoot(page, "phone-long-delete")


def ground(page: Page) -> str:
    colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return colour


def test_light_and_dark(url: str, visit: Visits) -> None:
    """The system's colours are taken, and a button has others, which stay after a reload."""
    page = visit(dark=True).open(url)
    ask(page, BUBBLES)
    wait_for_answer(page, "first message")
    dark = ground(page)
    shoot(page, "wide-dark")
    page.emulate_media(color_scheme="light")
    light = ground(page)
    assert dark != light
    button = page.get_by_role("button", name="Colours: System")
    button.click()
    button = page.get_by_role("button", name="Colours: Light")
    button.click()
    expect(page.get_by_role("button", name="Colours: Dark")).to_be_visible()
    assert ground(page) == dark
    page.reload()
    expect(page.get_by_role("button", name="Colours: Dark")).to_be_visible()
    assert ground(page) == dark
    page.get_by_role("button", name="Colours: Dark").click()
    assert ground(page) == light


RIGHT_TO_LEFT = "\u0645\u0631\u062d\u0628\u0627, hello"


def test_text_from_right_to_left_stands_at_the_right(url: str, visit: Visits) -> None:
    """What is written from right to left is shown so, in the box, the messages and the titles."""
    page = visit().open(url)
    box = page.get_by_role("textbox", name="Message")
    box.fill(RIGHT_TO_LEFT)
    assert box.evaluate("e => getComputedStyle(e).direction") == "rtl"
    page.keyboard.press("Enter")
    wait_for_answer(page, "first message")
    direction = "e => getComputedStyle(e).direction"
    assert page.locator(".user .body p").evaluate(direction) == "rtl"
    assert page.locator(".assistant .body p").evaluate(direction) == "ltr"
    assert page.get_by_role("heading", level=1).evaluate(direction) == "rtl"
    assert page.locator(".session-title").evaluate(direction) == "rtl"
    assert overflow(page) <= 0
    shoot(page, "wide-right-to-left")


OVER_THE_EDGE = """[...document.querySelectorAll("dialog[open], :popover-open")].filter((e) => (
    e.getBoundingClientRect().right > innerWidth || e.scrollWidth > e.clientWidth
)).map((e) => e.id)"""


OPENED = {
    "options": "#options-menu",
    "open-side": "#close-side",
    "sessions button": "#menu",
    "open-settings": "#settings",
}


def test_it_fits_on_320_pixels(url: str, visit: Visits) -> None:
    """At 320 pixels, as at 400 percent, nothing scrolls to the side, in any state."""
    page = visit(phone=True).open(url)
    page.set_viewport_size({"width": 320, "height": 568})
    assert overflow(page) <= 0
    ask(page, f"{BUBBLES}\n\n{'w' * 100}\n\n| a | b |\n|---|---|\n| {'long ' * 40} | c |")
    wait_for_answer(page, "first message")
    page.keyboard.press("Control+/")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate(OVER_THE_EDGE) == []
    shoot(page, "phone-320-keys")
    page.keyboard.press("Escape")
    for opener, opened in OPENED.items():
        page.locator(f"#{opener}").click()
        expect(page.locator(opened)).to_be_visible()
        assert overflow(page) <= 0, opener
        assert page.evaluate(OVER_THE_EDGE) == [], opener
        shoot(page, f"phone-320-{opener.split()[0]}")
        if opener == "options":
            page.get_by_role("menuitem", name="Session id").click()
            expect(page.get_by_role("button", name="Copy the session id")).to_be_visible()
            assert page.evaluate(OVER_THE_EDGE) == []
        if opener != "open-side":
            page.keyboard.press("Escape")


def test_nothing_moves_for_who_wants_no_motion(url: str, visit: Visits) -> None:
    """Where motion is to be reduced nothing is animated, not even the drawer."""
    page = visit(phone=True).open(url)  # visitors want less motion
    page.get_by_role("button", name="Conversations").click()
    assert page.evaluate("document.getAnimations().length") == 0
    page.emulate_media(reduced_motion="no-preference")
    page.keyboard.press("Escape")
    assert page.evaluate("document.getAnimations().length") > 0  # it is looked at the right way


def test_it_prints_the_messages_alone(url: str, visit: Visits) -> None:
    """On paper the whole conversation stands, black on white, and nothing to press."""
    page = visit(dark=True).open(url)
    lines = "\n\n".join(f"Line {number}" for number in range(80))
    ask(page, lines)
    wait_for_answer(page, "first message")
    page.emulate_media(media="print")
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("textbox")).to_have_count(0)
    expect(page.get_by_role("article")).to_have_count(2)
    talk = page.locator("#talk")
    assert talk.evaluate("e => e.scrollHeight - e.clientHeight") <= 0
    assert page.evaluate("document.documentElement.scrollHeight > 2 * innerHeight")
    assert page.locator("body").evaluate("e => getComputedStyle(e).colorScheme") in (
        "light",
        "normal",
    )
    shoot(page, "print")


def test_the_first_load_is_small(url: str, visit: Visits) -> None:
    """With a conversation the page loads less than 200 kB, and 75 kB on their way."""
    page = visit().open(url)
    ask(page, "Hello.")
    wait_for_answer(page, "first message")
    page = visit().open(page.url)
    wait_for_answer(page, "first message")
    page.wait_for_load_state("networkidle")
    sizes = page.evaluate(
        """["encodedBodySize", "decodedBodySize"].map((size) => (
            ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type))
                .filter(({ name }) => !name.includes("/v1/"))
                .reduce((sum, entry) => sum + entry[size], 0)))"""
    )
    print(sizes)
    assert 30_000 < sizes[0] < 75_000
    assert 150_000 < sizes[1] < 200_000
