"""The chat page in a real Chromium, as the demo serves it."""

import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import httpx2
import pytest
from playwright.sync_api import expect

from hermes_session_mw import HermesSession, SQLAlchemyStore
from tests.support.browser import (
    UNFINISHED,
    Visits,
    ask,
    browser,
    come_back,
    messages,
    regenerate,
    session_of,
    shoot,
    stored,
    visit,
    wait_for_a_piece,
    wait_for_answer,
)
from tests.support.cutting_proxy import CuttingProxy, cutting
from tests.support.server import demo, free_port, serving

__all__ = ["browser", "visit"]  # fixtures

PACE = "0.02"
ITEM_ALONE: dict[str, object] = {
    "hermes_item": {"format": "another", "item": {"type": "reasoning"}}
}
LONG = " ".join(f"word{number}" for number in range(90))  # an answer of two seconds


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo that answers at once."""
    with demo(tmp_path_factory.mktemp("quick")) as url:
        yield url


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo that thinks between words."""
    with demo(tmp_path_factory.mktemp("slow"), "--pace", PACE) as url:
        yield url


def say(url: str, session_id: str, text: str, earlier: list[dict[str, str]] | None = None) -> None:
    """Go on with a conversation from elsewhere, or begin one that has been longer than this."""
    body = {"messages": [*(earlier or []), {"role": "user", "content": text}]}
    headers = {"X-Hermes-Session-Id": session_id}
    if earlier:
        headers["X-Hermes-History-Source"] = "request"
    httpx2.post(f"{url}/v1/chat/completions", json=body, headers=headers).raise_for_status()


def test_an_answer_streams_in(slow: str, visit: Visits) -> None:
    """What has come of an answer is shown before the rest of it is there."""
    page = visit().open(slow)
    ask(page, f"My name is Ada. {LONG}")
    early = wait_for_a_piece(page, "word3")
    assert "first message" not in early
    shoot(page, "wide-streaming")
    expect(page.get_by_role("button", name="Stop the answer")).to_be_visible()
    wait_for_answer(page, "This is your first message in this conversation.")
    assert len(messages(page)) == 2


def test_the_list_tells_what_is_being_answered(slow: str, visit: Visits) -> None:
    """A conversation whose answer streams while another one is open is marked until its end."""
    page = visit().open(slow)
    ask(page, f"Begin. {LONG}")
    wait_for_a_piece(page, "word3")
    page.get_by_role("button", name="New chat").click()
    row = page.get_by_role("navigation").get_by_role("link", name="Begin.")
    expect(row).to_have_accessible_name(re.compile("being answered"))
    ask(page, "Another.")
    wait_for_answer(page, "first message")
    expect(row).not_to_have_accessible_name(re.compile("being answered"))
    row.click()
    wait_for_answer(page, "word89 | This is your first message")


def test_the_id_is_shown_and_copied(quick: str, visit: Visits) -> None:
    """The session's id stands behind a button and in the address, and another one copies it."""
    somebody = visit()
    somebody.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=quick)
    page = somebody.open(quick)
    shoot(page, "wide-empty")
    ask(page, "My name is Ada.")
    wait_for_answer(page, "first message")
    session_id = session_of(page)
    assert len(session_id) == 32
    expect(page.get_by_text(session_id)).to_be_hidden()
    page.get_by_role("button", name="Session id").click()
    expect(page.get_by_text(session_id)).to_be_visible()
    page.get_by_role("button", name="Copy the session id").click()
    expect(page.get_by_role("status")).to_have_text("The session id was copied.")
    assert page.evaluate("navigator.clipboard.readText()") == session_id
    assert [each["content"] for each in stored(quick, session_id)] == messages(page)


def test_the_id_is_copied_over_plain_http_too(quick: str, visit: Visits) -> None:
    """Where a browser has no clipboard for pages, as over plain http, the button works as well."""
    somebody = visit()
    somebody.context.add_init_script("Object.defineProperty(navigator, 'clipboard', {})")
    page = somebody.open(quick)
    ask(page, "Hello.")
    wait_for_answer(page, "first message")
    page.get_by_role("button", name="Session id").click()
    page.get_by_role("button", name="Copy the session id").click()
    expect(page.get_by_role("status")).to_have_text("The session id was copied.")
    page.keyboard.press("Escape")
    box = page.get_by_role("textbox", name="Message")
    box.press("Control+V")
    expect(box).to_have_value(session_of(page))


def test_a_reload_keeps_the_conversation(quick: str, visit: Visits) -> None:
    """After a reload the conversation, its title and its list are there, and it goes on."""
    page = visit().open(quick)
    ask(page, "My name is Ada.")
    wait_for_answer(page, "first message")
    before = messages(page)
    page.reload()
    wait_for_answer(page, "first message")
    assert messages(page) == before
    expect(page.get_by_role("heading", level=1)).to_have_text("My name is Ada.")
    current = page.get_by_role("navigation").get_by_role("link", name="My name is Ada.")
    expect(current).to_have_attribute("aria-current", "page")
    ask(page, "And now?")
    wait_for_answer(page, "the first was: My name is Ada.")
    shoot(page, "wide-conversation")


def test_a_second_tab_sees_it(quick: str, visit: Visits) -> None:
    """Two tabs of a browser show the same conversation, and what is said in either, at once."""
    somebody = visit()
    first = somebody.open(quick)
    ask(first, "My name is Ada.")
    wait_for_answer(first, "first message")
    second = somebody.open(first.url)
    wait_for_answer(second, "first message")
    ask(second, "And from here?")
    wait_for_answer(first, "You said: And from here?")
    ask(first, "And from there?")
    wait_for_answer(second, "You said: And from there?")
    assert messages(first) == messages(second)
    assert len(messages(first)) == 6


def test_what_is_said_elsewhere_appears(quick: str, visit: Visits) -> None:
    """A page that is looked at again shows how its conversation has grown elsewhere."""
    page = visit().open(quick)
    ask(page, "Hello.")
    wait_for_answer(page, "first message")
    say(quick, session_of(page), "This is another device.")
    come_back(page)
    wait_for_answer(page, "You said: This is another device.")
    assert len(messages(page)) == 4


def test_stop_and_regenerate(slow: str, visit: Visits) -> None:
    """A stopped answer stays, marked, also in the store; regenerating gives a whole one."""
    page = visit().open(slow)
    ask(page, "My name is Ada.")
    wait_for_answer(page, "first message")
    ask(page, LONG)
    wait_for_a_piece(page, "word3")
    page.get_by_role("button", name="Stop the answer").click()
    expect(page.get_by_text(UNFINISHED)).to_be_visible()
    shoot(page, "wide-stopped")
    page.reload()  # it is what the store says, and not the page alone
    expect(page.get_by_text(UNFINISHED)).to_be_visible()
    assert stored(slow, session_of(page))[3]["status"] == "incomplete"
    page.get_by_role("button", name="Try again").click()
    wait_for_answer(page, "I remember 1 earlier message; the first was: My name is Ada.")
    kept = stored(slow, session_of(page))
    assert [each["content"] for each in kept] == messages(page)
    assert len(kept) == 4
    assert "status" not in kept[3]


def test_escape_stops(slow: str, visit: Visits) -> None:
    """Escape stops an answer, and the box has the focus for the next question."""
    page = visit().open(slow)
    ask(page, LONG)
    wait_for_a_piece(page)
    page.keyboard.press("Escape")
    expect(page.get_by_text(UNFINISHED)).to_be_visible()
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()


def test_a_question_is_edited(quick: str, visit: Visits) -> None:
    """An edited question takes the old one's place, with all that came after it."""
    page = visit().open(quick)
    for text in ("My name is Ada.", "Two.", "Three."):
        ask(page, text)
        wait_for_answer(page, f"You said: {text}")
    question = page.locator("#messages > li", has_text="Two.").first
    question.hover()
    question.get_by_role("button", name="Edit the question").click()
    box = page.get_by_role("textbox", name="Message")
    expect(box).to_have_value("Two.")
    expect(question).to_contain_class("edited")
    expect(page.locator(".replaced")).to_have_count(3)
    shoot(page, "wide-editing")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".edited, .replaced")).to_have_count(0)
    page.set_viewport_size({"width": 1280, "height": 420})
    question.get_by_role("button", name="Edit the question").click()
    expect(question.locator(".body")).to_be_in_viewport(ratio=1)
    ask(page, "Zwei.")
    wait_for_answer(page, "You said: Zwei.")
    kept = [each["content"] for each in stored(quick, session_of(page))]
    assert kept == messages(page)
    assert (len(kept), kept[0], kept[2]) == (4, "My name is Ada.", "Zwei.")
    expect(page.locator(".edited, .replaced")).to_have_count(0)


@pytest.fixture
def proxy(slow: str) -> Iterator[CuttingProxy]:
    """The slow demo, over a network that can be cut."""
    with cutting(int(slow.rpartition(":")[2])) as between:
        yield between


def test_a_dropped_connection_says_so_and_recovers(
    slow: str, proxy: CuttingProxy, visit: Visits
) -> None:
    """An answer that is cut off is said to be, is joined again, and is one turn in the end."""
    somebody = visit()
    somebody.expect("net::ERR_")
    page = somebody.open(proxy.url)
    page.set_viewport_size({"width": 700, "height": 420})
    ask(page, f"Are you there? {LONG}")
    wait_for_a_piece(page, "word40")
    page.get_by_role("button", name="Newest").click()
    wait_for_a_piece(page, "word70")
    proxy.cut()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("What came so far is kept.")
    # The notice takes some of the room, and the reader stays at the end: also after two frames.
    page.evaluate("new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")
    left = "e => e.scrollHeight - e.scrollTop - e.clientHeight"
    assert page.locator("#talk").evaluate(left) < 48
    expect(page.get_by_text("The connection was lost here.")).to_be_in_viewport(ratio=1)
    shoot(page, "wide-dropped")
    page.get_by_role("button", name="Try again").click()
    expect(alert).to_contain_text("cannot be reached")
    assert proxy.refused
    proxy.mend()
    wait_for_answer(page, "This is your first message in this conversation.")  # by itself
    expect(alert).to_be_hidden()
    kept = stored(slow, session_of(page))
    assert [each["content"] for each in kept] == messages(page)
    assert (len(kept), "status" in kept[1]) == (2, False)


def test_an_answer_whose_end_was_lost_is_stored_once(
    slow: str, proxy: CuttingProxy, visit: Visits
) -> None:
    """Where the connection breaks before the first word too, the repeated question is one turn."""
    somebody = visit()
    somebody.expect("net::ERR_")
    page = somebody.open(proxy.url)
    ask(page, "Hello.")
    wait_for_answer(page, "first message")
    proxy.cut()
    ask(page, "Once?")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    proxy.mend()
    page.get_by_role("button", name="Try again").click()
    wait_for_answer(page, "You said: Once?")
    assert [each["content"] for each in stored(slow, session_of(page))] == messages(page)


def test_a_question_that_is_given_up_goes_back_into_the_box(
    proxy: CuttingProxy, visit: Visits
) -> None:
    """Whoever gives up has his question to send or to change, and nothing is lost."""
    somebody = visit()
    somebody.expect("net::ERR_")
    page = somebody.open(proxy.url)
    expect(page.get_by_role("heading", name="A conversation that goes on")).to_be_visible()
    proxy.cut()
    ask(page, "Anybody?")
    page.get_by_role("button", name="Give up").click()
    box = page.get_by_role("textbox", name="Message")
    expect(box).to_have_value("Anybody?")
    assert messages(page) == []
    proxy.mend()
    box.press("Enter")
    wait_for_answer(page, "You said: Anybody? | This is your first message")


def test_a_restarted_server_is_found_again(tmp_path: Path, visit: Visits) -> None:
    """What was said before the server's end is there after it, and the conversation goes on."""
    somebody = visit()
    somebody.expect("net::ERR_")
    with demo(tmp_path) as url, cutting(int(url.rpartition(":")[2])) as between:
        page = somebody.open(between.url)
        ask(page, "My name is Ada.")
        wait_for_answer(page, "first message")
        here = between.port
    ask(page, "Still there?")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    with demo(tmp_path) as url, cutting(int(url.rpartition(":")[2]), own_port=here) as between:
        wait_for_answer(page, "the first was: My name is Ada.")
        assert len(stored(url, session_of(page))) == 4


def test_a_server_that_is_killed_loses_no_question(tmp_path: Path, visit: Visits) -> None:
    """What a killed server had said is there once it runs again, marked, and is asked for again."""
    port = free_port()
    command = [sys.executable, "-m", "demo_app", "--port", str(port), "--pace", PACE]
    somebody = visit()
    somebody.expect("net::ERR_", "404")
    with serving(command, port, tmp_path, ready="/healthz") as process:
        page = somebody.open(f"http://127.0.0.1:{port}")
        ask(page, f"Are you there? {LONG}")
        wait_for_a_piece(page, "word30")  # the words before it are stored
        process.kill()
        expect(page.get_by_role("alert")).to_contain_text("What came so far is kept.")
    expect(page.locator("#sessions a")).to_have_count(1)
    with serving(command, port, tmp_path, ready="/healthz"):
        expect(page.get_by_text(UNFINISHED)).to_be_visible()  # by itself
        expect(page.get_by_role("textbox", name="Message")).to_have_value("")
        assert messages(page)[0] == f"Are you there? {LONG}"
        assert messages(page)[1].startswith("You said: Are you there? word0 word1 ")
        page.get_by_role("button", name="Try again").click()
        wait_for_answer(page, "This is your first message in this conversation.")
        assert len(stored(f"http://127.0.0.1:{port}", session_of(page))) == 2


IMPATIENT = """
from demo_app import __main__, turns
turns.WAIT = 0.05  # seconds, before a second question is refused
__main__.main()
"""


def test_a_busy_conversation_says_so_and_is_asked_again(tmp_path: Path, visit: Visits) -> None:
    """While another program writes to the conversation, a question waits, and is asked then."""
    port = free_port()
    command = [sys.executable, "-c", IMPATIENT, "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    somebody = visit()
    somebody.expect("409")
    with serving(command, port, tmp_path, ready="/healthz"):
        page = somebody.open(url)
        ask(page, "Hi.")
        wait_for_answer(page, "first message")
        with turn_of(tmp_path / "hermes_demo.db", session_of(page)):
            ask(page, "Me too!")
            alert = page.get_by_role("alert")
            expect(alert).to_contain_text("still busy with another question")
            expect(page.locator("#notice")).to_contain_text("It is free again in ")
            page.get_by_role("button", name="Try again").click()
            expect(alert).to_contain_text("Trying again")
            expect(page.locator("#notice")).to_contain_text("It is free again in ")
            shoot(page, "wide-busy")
        come_back(page)
        wait_for_answer(page, "I remember 1 earlier message; the first was: Hi.")
        expect(alert).to_be_hidden()
        assert [each["content"] for each in stored(url, session_of(page))] == messages(page)


@contextmanager
def turn_of(file: Path, session_id: str) -> Iterator[None]:
    """Hold the session's turn in the block, as another program does that uses the database."""
    held, done = threading.Event(), threading.Event()

    async def hold() -> None:
        store = SQLAlchemyStore(f"sqlite:///{file}")
        async with HermesSession(store, session_id).turn(lease=300):
            held.set()
            await anyio.to_thread.run_sync(done.wait)
        await store.aclose()

    with ThreadPoolExecutor() as threads:
        holding = threads.submit(anyio.run, hold)
        try:
            assert held.wait(30)
            yield
        finally:
            done.set()
            holding.result()


def test_hostile_text_is_text(quick: str, visit: Visits) -> None:
    """Whatever a message or a title holds is shown as it was written, and does nothing."""
    hostile = (
        "<script>document.title='x'</script> <img src=x onerror=alert(1)> <b>bold</b> "
        "[a](javascript:alert(1)) </textarea>&lt; \u202e \u0000"
    ).replace("\u0000", "")
    page = visit().open(quick)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    ask(page, hostile)
    wait_for_answer(page, "first message")
    ask(page, "```\n<script>alert(2)</script>\n```\n- <i>one</i>\n- `<u>two</u>` **<s>three</s>**")
    wait_for_answer(page, "<s>three</s>")
    assert messages(page)[0] == hostile.strip()
    assert page.locator("#messages :is(script, img, b, i:not(.typing i), u, s, a)").count() == 0
    assert page.locator("#messages pre code").first.inner_text() == "<script>alert(2)</script>"
    assert "<script>" in page.locator("#sessions .session-title").inner_text()


def test_rename_fork_and_delete(quick: str, visit: Visits) -> None:
    """A conversation is renamed, forked into another, and deleted only after a question."""
    page = visit().open(quick)
    ask(page, "My name is Ada.")
    wait_for_answer(page, "first message")
    first = session_of(page)
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("textbox", name="Title").fill("All about Ada")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("All about Ada")
    expect(page.get_by_role("navigation").get_by_role("link", name="All about Ada")).to_be_visible()
    page.get_by_role("button", name="Fork").click()
    page.wait_for_function("id => location.hash.slice(1) !== id", arg=first)
    expect(page.get_by_role("heading", level=1)).to_have_text("All about Ada")
    wait_for_answer(page, "first message")
    fork = session_of(page)
    ask(page, "In the fork.")
    wait_for_answer(page, "You said: In the fork.")
    assert len(stored(quick, first)) == 2
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Keep it").click()
    assert len(stored(quick, fork)) == 4
    page.get_by_role("button", name="Delete").click()
    text = page.locator("#delete-text")
    expect(text).to_contain_text("for everyone who has its id.", use_inner_text=True)
    shoot(page, "wide-delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("New chat")
    assert httpx2.get(f"{quick}/v1/sessions/{fork}").status_code == 404
    assert page.locator("#sessions a").count() == 1


def test_a_long_conversation_opens_at_its_end(quick: str, visit: Visits) -> None:
    """Earlier messages come when asked for, and regenerating loses none that is not shown."""
    pairs = [(f"Message {number}.", f"Answer {number}.") for number in range(59)]
    told = [{"role": role, "content": text} for pair in pairs
            for role, text in zip(("user", "assistant"), pair, strict=True)]  # fmt: skip
    say(quick, "long", "Message 59.", told)
    page = visit().open(f"{quick}/#long")
    wait_for_answer(page, "You said: Message 59.")
    assert len(messages(page)) == 100
    expect(page.locator("#messages > li:last-child")).to_be_in_viewport()
    regenerate(page)
    wait_for_answer(page, "I remember 59 earlier messages; the first was: Message 0.")
    kept = httpx2.get(f"{quick}/v1/sessions/long/messages?limit=500").json()
    assert kept["length"] == 120
    page.reload()
    wait_for_answer(page, "You said: Message 59.")
    page.get_by_role("button", name="Load earlier messages").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#messages > li")).to_have_count(120)
    expect(page.get_by_role("region", name="Messages")).to_be_focused()
    page.keyboard.press("Home")
    expect(page.locator("#messages > li").first).to_be_in_viewport()
    assert messages(page)[0] == "Message 0."


def test_what_another_framework_stored_is_not_shown(tmp_path: Path, visit: Visits) -> None:
    """Its items are no messages here, and a question after them is edited in its own place."""
    sown: list[dict[str, object]] = [ITEM_ALONE]
    for n in range(3):
        question, answer = f"Message {n}.", str(n)
        sown += [{"role": "user", "content": question}, ITEM_ALONE]
        sown += [{"role": "assistant", "content": answer}]

    async def sow() -> None:
        store = SQLAlchemyStore(f"sqlite:///{tmp_path / 'hermes_demo.db'}")
        await store.append("mixed", sown)
        await store.aclose()

    with demo(tmp_path) as url:
        with ThreadPoolExecutor() as threads:  # this one has Playwright's loop
            threads.submit(anyio.run, sow).result()
        page = visit().open(f"{url}/#mixed")
        expect(page.locator("#messages > li")).to_have_count(6)
        assert messages(page) == ["Message 0.", "0", "Message 1.", "1", "Message 2.", "2"]
        asked = page.locator("#messages > li", has_text="Message 1.").first
        asked.hover()
        asked.get_by_role("button", name="Edit the question").click()
        expect(page.locator(".replaced")).to_have_count(3)
        ask(page, "Another one.")
        wait_for_answer(page, "You said: Another one.")
        assert messages(page)[:3] == ["Message 0.", "0", "Another one."]
        assert len(messages(page)) == 4
        kept = httpx2.get(f"{url}/v1/sessions/mixed/messages").json()
        assert (kept["positions"], kept["length"]) == ([1, 3, 4, 5], 6)


def test_an_id_without_a_conversation_can_begin_one(quick: str, visit: Visits) -> None:
    """A link to an id that nobody has used says so, and a first message begins there."""
    somebody = visit()
    somebody.expect("404")
    page = somebody.open(f"{quick}/#an-id-of-my-own")
    expect(page.get_by_text("Nothing is stored under this id yet.")).to_be_visible()
    expect(page.get_by_role("heading", name="Nothing here yet")).to_be_visible()
    ask(page, "Hello.")
    wait_for_answer(page, "first message")
    assert session_of(page) == "an-id-of-my-own"
    page.goto(f"{quick}/#@5")  # a place in nothing
    expect(page.get_by_role("heading", level=1)).to_have_text("New chat")
    page.goto(f"{quick}/#no id <b>")
    expect(page.get_by_role("alert")).to_have_text("That link has no valid id.")
    expect(page.get_by_role("heading", level=1)).to_have_text("New chat")
    assert session_of(page) == ""
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_deletion_in_another_tab_is_told(quick: str, visit: Visits) -> None:
    """Who looks at a conversation that another tab deletes is told so, and keeps his draft."""
    somebody = visit()
    somebody.expect("404")
    first = somebody.open(quick)
    ask(first, "My name is Ada.")
    wait_for_answer(first, "first message")
    second = somebody.open(first.url)
    wait_for_answer(second, "first message")
    box = second.get_by_role("textbox", name="Message")
    box.fill("And now?")
    first.get_by_role("button", name="Delete").click()
    first.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(second.get_by_text("This conversation was deleted.")).to_be_visible()
    expect(second.get_by_role("heading", level=1)).to_have_text("Deleted")
    expect(second.locator("#sessions a")).to_have_count(0)
    shoot(second, "wide-deleted")
    box.press("Enter")
    wait_for_answer(second, "You said: And now? | This is your first message")


def test_a_refusal_is_told_in_words(quick: str, visit: Visits) -> None:
    """What the server refuses is told as it says it, and the question can be changed."""
    somebody = visit()
    somebody.expect("400", "404")  # the id has no conversation yet
    page = somebody.open(quick)
    page.evaluate("document.getElementById('text').value = 'Half a character: \\ud83d'")
    box = page.get_by_role("textbox", name="Message")
    box.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("surrogate")
    page.get_by_role("button", name="Give up").click()
    assert box.input_value().startswith("Half a character")
    ask(page, "Short.")
    wait_for_answer(page, "You said: Short.")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_conversation_that_was_deleted_elsewhere_begins_anew(quick: str, visit: Visits) -> None:
    """A deleted id is not used again: the page goes on under the new one that the answer has."""
    somebody = visit()
    somebody.expect("404")
    page = somebody.open(quick)
    ask(page, "My name is Ada.")
    wait_for_answer(page, "first message")
    old = session_of(page)
    httpx2.delete(f"{quick}/v1/sessions/{old}").raise_for_status()
    ask(page, "Still there?")
    wait_for_answer(page, "You said: Still there? | This is your first message")
    expect(page.locator("#messages > li")).to_have_count(2)
    assert session_of(page) != old
    assert [each["content"] for each in stored(quick, session_of(page))] == messages(page)
