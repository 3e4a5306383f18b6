"""Where the reader of the page is, and stays: at a question, at the end, or far up."""

from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import expect

from tests.support.browser import (
    Visits,
    ask,
    browser,
    come_back,
    visit,
    wait_for_a_piece,
    wait_for_answer,
)
from tests.support.server import demo

__all__ = ["browser", "visit"]  # fixtures

LONG = "\n\n".join(f"word{number}" for number in range(60))  # higher than the window
TOP = """(li) => {
    const talk = document.getElementById("talk");
    return li.getBoundingClientRect().top - talk.getBoundingClientRect().top;
}"""
SEEN = """() => {
    const { top } = document.getElementById("talk").getBoundingClientRect();
    const isSeen = (li) => li.getBoundingClientRect().top >= top;
    return [...document.querySelectorAll("#messages > li")].find(isSeen);
}"""
LEFT = "e => e.scrollHeight - e.scrollTop - e.clientHeight"
FRAMES = "new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo that thinks between words."""
    with demo(tmp_path_factory.mktemp("place"), "--pace", "0.01") as served:
        yield served


def sow(url: str, session_id: str, count: int) -> None:
    """Store a conversation of as many messages."""
    roles = ("user", "assistant")
    told = [
        {"role": roles[n % 2], "content": f"Message {n}.\n\n" * (n % 5 + 1)}
        for n in range(count - 2)
    ]
    say(url, session_id, "The end.", told)


def say(url: str, session_id: str, text: str, earlier: list[dict[str, str]] | None = None) -> None:
    """Go on with a conversation from elsewhere, or begin one."""
    headers = {"X-Hermes-Session-Id": session_id}
    if earlier:
        headers["X-Hermes-History-Source"] = "request"
    body = {"messages": [*(earlier or []), {"role": "user", "content": text}]}
    httpx2.post(
        f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60
    ).raise_for_status()


def test_a_question_stands_at_the_top_while_its_answer_grows(url: str, visit: Visits) -> None:
    """Sending brings the question into view, with its answer below; the reader moves from there."""
    sow(url, "asked", 20)
    page = visit().open(f"{url}/#asked")
    wait_for_answer(page, "The end.")
    talk = page.locator("#talk")
    talk.evaluate("e => { e.scrollTop = 0 }")  # from wherever it is asked
    ask(page, f"Question\n\n{LONG[:20]}")
    question = page.locator("#messages > li", has_text="Question").first
    expect(question).to_be_in_viewport()
    assert 0 <= question.evaluate(TOP) <= 24
    wait_for_answer(page, "remember")
    assert 0 <= question.evaluate(TOP) <= 24
    expect(page.locator("#messages > li:last-child")).to_be_in_viewport()
    # An answer higher than the window is read from its beginning, until the reader goes to its end.
    ask(page, "Short?")
    wait_for_answer(page, "Short?")
    ask(page, LONG)
    answer = page.locator("#messages > li.assistant:last-child .body")
    expect(answer).to_contain_text("word50")  # the answer may have ended by then
    newest = page.get_by_role("button", name="Newest")
    expect(newest).to_be_visible()
    expect(answer.locator("> p").first).to_be_in_viewport()
    newest.click()
    expect(newest).to_be_hidden()
    wait_for_answer(page, "remember")
    assert talk.evaluate(LEFT) < 48


def test_a_reader_who_has_gone_up_is_left_alone(url: str, visit: Visits) -> None:
    """While an answer streams, and at its end, what somebody reads further up stays where it is."""
    sow(url, "alone", 60)
    page = visit().open(f"{url}/#alone")
    wait_for_answer(page, "The end.")
    ask(page, LONG)
    wait_for_a_piece(page, "word5")
    page.locator("#talk").hover()
    page.mouse.wheel(0, -1500)
    page.evaluate(FRAMES)
    seen = page.evaluate_handle(SEEN)
    before = seen.evaluate(TOP)
    answer = page.locator("#messages > li.assistant:last-child .body")
    expect(answer).to_contain_text("word40")
    assert abs(seen.evaluate(TOP) - before) <= 1
    wait_for_answer(page, "remember")
    assert abs(seen.evaluate(TOP) - before) <= 1


def test_earlier_messages_come_by_scrolling_and_keep_the_place(url: str, visit: Visits) -> None:
    """Near the beginning more is loaded, to the first message, and what is seen does not move."""
    sow(url, "earlier", 330)
    page = visit().open(f"{url}/#earlier")
    wait_for_answer(page, "The end.")
    items = page.locator("#messages > li")
    assert items.count() == 100
    page.evaluate(
        """() => {
            globalThis.removed = 0;
            const count = (each) => { removed += each.removedNodes.length; };
            const list = document.getElementById("messages");
            new MutationObserver((seen) => seen.forEach(count)).observe(list, { childList: true });
        }"""
    )
    talk = page.locator("#talk")
    for count in (200, 300, 330):
        oldest = items.first
        oldest.evaluate("e => { globalThis.oldest = e }")
        talk.evaluate("e => { e.scrollTop = 0 }")  # as the key Home does, before anything has come
        before = page.evaluate(f"({TOP})(oldest)")
        expect(items).to_have_count(count)
        page.evaluate(FRAMES)
        assert abs(page.evaluate(f"({TOP})(oldest)") - before) <= 1
    assert page.evaluate("removed") == 0
    expect(page.get_by_role("button", name="Load earlier messages")).to_be_hidden()
    # What happens elsewhere adds to what is shown, and does not take it away.
    middle = items.nth(150)
    middle.evaluate("e => e.scrollIntoView()")
    page.evaluate(FRAMES)
    before = middle.evaluate(TOP)
    say(url, "earlier", "From elsewhere.")
    come_back(page)
    expect(items).to_have_count(332)
    assert abs(middle.evaluate(TOP) - before) <= 1
    assert page.evaluate("removed") == 0


WINDOW = """async (count) => {
    const { MessagesView } = await import("/messages-view.js");
    const text = "Some **words** of an answer, and `code`.\\n\\n- a list\\n- of two";
    const role = (at) => (at % 2 ? "assistant" : "user");
    const shown = Array.from({ length: count }, (_, at) => (
        { role: role(at), content: `${at}: ${text}` }));
    const view = new MessagesView({ older: () => false });
    view.show({ shown, places: shown.map((_, at) => at), times: [], turn: null });
    const list = document.getElementById("messages");
    const talk = document.getElementById("talk");
    const frame = () => new Promise((go) => requestAnimationFrame(() => setTimeout(go)));
    const counts = [];
    const firsts = [];
    for (const [top, times] of [[0, 8], [1e9, 3]]) {
        for (let time = 0; time < times; time += 1) {
            const { firstChild } = list;
            while (list.firstChild === firstChild) { // more comes by scrolling
                talk.scrollTop = top;
                await frame();
            }
            const body = list.firstChild.querySelector(".body");
            while (!body.textContent) await frame(); // it is drawn in its turn
            firsts.push(parseInt(body.textContent));
            counts.push([list.children.length, list.querySelectorAll("*").length]);
        }
    }
    return [firsts, Math.max(...counts.map(([all]) => all)), Math.max(...counts.map((c) => c[1]))];
}"""


def test_a_conversation_of_thousands_has_few_elements(url: str, visit: Visits) -> None:
    """However far somebody scrolls, only the messages around have elements."""
    page = visit().open(url)
    firsts, messages, elements = page.evaluate(WINDOW, 10_000)
    assert firsts[:8] == [9800 - 100 * step for step in range(8)]
    assert firsts[8:] == [9200, 9300, 9400]
    assert messages == 400
    assert elements < 400 * 30


def test_a_link_to_a_message_goes_there(url: str, visit: Visits) -> None:
    """A link to a message shows it, marked, also far from the newest, and print has all of them."""
    sow(url, "linked", 630)
    page = visit().open(f"{url}/#linked@20")
    hit = page.locator("#messages > li.hit")
    expect(hit).to_contain_text("Message 20.")
    expect(hit.locator("article")).to_be_focused()
    page.evaluate(FRAMES)
    expect(hit).to_be_in_viewport()
    assert page.evaluate("location.hash") == "#linked"
    page.locator("#talk").focus()
    page.keyboard.press("End")
    expect(page.locator("#messages > li:last-child")).to_contain_text("The end.")
    expect(page.locator("#messages > li:last-child")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Newest")).to_be_hidden()
    # A question that is asked from far up has its place at the end.
    page.evaluate("location.hash = 'linked@300'")
    expect(hit).to_contain_text("Message 300.")
    ask(page, "From the middle?")
    wait_for_answer(page, "You said: From the middle?")
    page.reload()
    wait_for_answer(page, "You said: From the middle?")
    items, paper = page.locator("#messages > li"), page.locator("#paper")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(paper).to_contain_text("The first 532 messages are not loaded")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.evaluate(  # a function that sets it: one that is the value of what is evaluated is called
        """() => {
            globalThis.printed = new Promise((done) => {
                globalThis.print = () => {
                    dispatchEvent(new Event("beforeprint"));
                    const told = document.getElementById("paper").textContent;
                    done([document.querySelectorAll("#messages > li").length, told]);
                    dispatchEvent(new Event("afterprint"));
                };
            });
        }"""
    )
    page.keyboard.press("Control+p")
    assert page.evaluate("printed") == [632, ""]
    expect(items).to_have_count(100)
