"""The chat page and answers that outlive their connection: it joins them, follows and stops them.

The model says each piece when the test says so, so that an answer is under way as long as it is
looked at.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import (
    UNFINISHED,
    Visits,
    ask,
    browser,
    come_back,
    messages,
    requests_of,
    session_of,
    set_seen,
    shoot,
    stored,
    visit,
    wait_for_a_piece,
    wait_for_answer,
    wait_until_stored,
)
from tests.support.cutting_proxy import CuttingProxy, cutting
from tests.support.server import demo
from tests.support.stepped_model import SteppedModel, stepped_model

__all__ = ["browser", "visit"]  # fixtures


@pytest.fixture(scope="module")
def served() -> Iterator[SteppedModel]:
    """A model for the module's demo."""
    with stepped_model() as model:
        yield model


@pytest.fixture(scope="module")
def url(served: SteppedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo whose answers come from the model."""
    with demo(tmp_path_factory.mktemp("answers"), "--upstream", served.url) as running:
        yield running


@pytest.fixture
def model(served: SteppedModel) -> SteppedModel:
    """The model, which has not been asked yet in this test."""
    served.forget()
    return served


@pytest.fixture
def proxy(url: str) -> Iterator[CuttingProxy]:
    """The demo, over a network that can be cut."""
    with cutting(port_of(url)) as between:
        yield between


def begin(page: Page, model: SteppedModel, question: str = "Count.") -> str:
    """Ask, wait for the answer's first piece, and return the session's id."""
    ask(page, question)
    model.say("one")
    wait_for_a_piece(page, "one")
    return session_of(page)


def answer_at_once(page: Page, model: SteppedModel, question: str, answer: str) -> str:
    """Ask, and have a whole answer; return the session's id."""
    ask(page, question)
    model.end(answer)
    wait_for_answer(page, answer)
    return session_of(page)


def two_tabs(url: str, model: SteppedModel, visit: Visits) -> tuple[Page, Page]:
    """Return two tabs of somebody's, with a conversation that has one turn."""
    somebody = visit()
    first = somebody.open(url)
    answer_at_once(first, model, "Hello.", "Good day.")
    return first, somebody.open(first.url)


def test_a_cut_stream_is_joined_again(
    url: str, model: SteppedModel, proxy: CuttingProxy, visit: Visits
) -> None:
    """What an answer says while the connection is cut comes after it, and nothing comes twice."""
    somebody = visit()
    somebody.expect("net::ERR_")
    page = somebody.open(proxy.url)
    session_id = begin(page, model)
    proxy.cut()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("What came so far is kept.")
    expect(page.get_by_text("The connection was lost here.")).to_be_visible()
    shoot(page, "wide-cut")
    model.say(" two")
    proxy.mend()
    wait_for_a_piece(page, "one two")  # by itself
    expect(alert).to_be_hidden()
    proxy.cut()
    expect(alert).to_contain_text("What came so far is kept.")
    proxy.mend()
    page.get_by_role("button", name="Try again").click()
    model.end(" three")
    wait_for_answer(page, "one two three")
    assert messages(page) == ["Count.", "one two three"]
    assert [each["content"] for each in stored(url, session_id)] == messages(page)
    assert model.asked == 1


def test_a_short_cut_is_not_even_told(
    model: SteppedModel, proxy: CuttingProxy, visit: Visits
) -> None:
    """Where a stream is cut and the server is there, the page joins the answer without a word."""
    somebody = visit()
    somebody.expect("net::ERR_")
    page = somebody.open(proxy.url)
    note_texts(page, "notice-text")
    begin(page, model)
    proxy.drop()
    model.end(" two")
    wait_for_answer(page, "one two")
    assert page.evaluate("noted") == []
    assert model.asked == 1


def test_an_answer_that_ended_while_nobody_listened_is_loaded(
    url: str, model: SteppedModel, proxy: CuttingProxy, visit: Visits
) -> None:
    """Whoever comes back after the end of an answer finds it whole, and the model is asked once."""
    somebody = visit()
    somebody.expect("net::ERR_")
    page = somebody.open(proxy.url)
    session_id = begin(page, model)
    proxy.cut()
    model.end(" two three")
    wait_until_stored(url, session_id, 2)
    proxy.mend()
    come_back(page)
    wait_for_answer(page, "one two three")
    assert messages(page) == ["Count.", "one two three"]
    assert model.asked == 1


def test_an_answer_that_nobody_knows_any_more_is_asked_for_again(
    model: SteppedModel, tmp_path: Path, visit: Visits
) -> None:
    """Where a server comes back without its database, the question is asked again."""
    somebody = visit()
    somebody.expect("net::ERR_", "404")
    options = ["--upstream", model.url, "--store"]
    with demo(tmp_path, *options, f"sqlite:///{tmp_path}/first.db") as url:
        with cutting(port_of(url)) as proxy:
            page = somebody.open(proxy.url)
            begin(page, model)
        model.end("two")
    second = demo(tmp_path, *options, f"sqlite:///{tmp_path}/second.db")
    with second as url, cutting(port_of(url), own_port=proxy.port):
        model.end("uno ", "due")
        wait_for_answer(page, "uno due")
        assert messages(page) == ["Count.", "uno due"]
        assert [each["content"] for each in stored(url, session_of(page))] == messages(page)
    assert model.asked == 2


def test_a_reload_and_another_device_find_a_running_answer(
    url: str, model: SteppedModel, visit: Visits
) -> None:
    """A conversation that is opened during an answer shows it so far, and then the rest."""
    somebody, other = visit(), visit()
    somebody.expect("404")  # the conversation is not stored before its first turn has ended
    other.expect("404")
    page = somebody.open(url)
    begin(page, model)
    page.reload()
    device = other.open(page.url)
    for each in (page, device):
        wait_for_a_piece(each, "one")
        assert messages(each)[0] == "Count."
        expect(each.get_by_role("button", name="Stop the answer")).to_be_visible()
        expect(each.get_by_role("heading", level=1)).to_have_text("Count.")
    model.say(" two")
    for each in (page, device):
        wait_for_a_piece(each, "one two")
    model.end(" three")
    for each in (page, device):
        wait_for_answer(each, "one two three")
        assert messages(each) == ["Count.", "one two three"]
    assert model.asked == 1


def test_a_closed_tab_does_not_end_the_answer(url: str, model: SteppedModel, visit: Visits) -> None:
    """Whoever closes a tab in the middle of an answer finds the whole of it later."""
    somebody = visit()
    page = somebody.open(url)
    session_id = begin(page, model)
    address = page.url
    page.close()
    model.end(" two three")
    wait_until_stored(url, session_id, 2)
    page = somebody.open(address)
    wait_for_answer(page, "one two three")
    assert model.asked == 1


def test_another_tab_follows_from_the_question_on(
    url: str, model: SteppedModel, visit: Visits
) -> None:
    """What is asked in one tab streams in the other as well, and each announces it once."""
    first, second = two_tabs(url, model, visit)
    wait_for_answer(second, "Good day.")
    for page in (first, second):
        note_texts(page, "announcer")
    second.get_by_role("textbox", name="Message").fill("A draft.")
    begin(first, model)
    wait_for_a_piece(second, "one")
    assert messages(second)[2] == "Count."
    box = second.get_by_role("textbox", name="Message")
    expect(box).to_be_focused()
    box.press("Enter")  # nothing can be asked meanwhile
    expect(box).to_have_value("A draft.")
    shoot(second, "wide-followed")
    model.end(" two")
    for page in (first, second):
        wait_for_answer(page, "one two")
        assert messages(page) == ["Hello.", "Good day.", "Count.", "one two"]
        assert page.evaluate("noted") == ["Assistant: one two"]
    expect(box).to_have_value("A draft.")
    answer_at_once(second, model, "And on?", "On.")
    wait_for_answer(first, "On.")
    assert len(messages(first)) == 6


def test_an_idle_page_asks_nothing(url: str, model: SteppedModel, visit: Visits) -> None:
    """Neither a page at rest nor one that follows an answer asks the server by the clock."""
    somebody = visit()
    page = somebody.open("about:blank")
    page.clock.install()
    page.goto(url)
    session_id = answer_at_once(page, model, "Hello.", "Good day.")
    with requests_of(page) as asked:
        page.clock.run_for(600_000)
    assert asked == []
    ask_elsewhere(url, session_id, model)
    come_back(page)
    wait_for_a_piece(page, "elsewhere")
    with requests_of(page, beside=1) as asked:
        page.clock.run_for(20_000)
    assert asked == []
    model.end()
    wait_for_answer(page, "elsewhere")


def test_whoever_comes_back_follows_what_was_asked_elsewhere(
    url: str, model: SteppedModel, visit: Visits
) -> None:
    """A page that is looked at again shows what another device asks in its conversation."""
    page = visit().open(url)
    session_id = answer_at_once(page, model, "Hello.", "Good day.")
    ask_elsewhere(url, session_id, model)
    come_back(page)
    wait_for_a_piece(page, "elsewhere")
    assert messages(page)[2] == "Another device."
    model.end(" ends")
    wait_for_answer(page, "elsewhere ends")
    assert [each["content"] for each in stored(url, session_id)] == messages(page)


def test_a_question_waits_while_another_device_asks(
    url: str, model: SteppedModel, visit: Visits
) -> None:
    """Who sends a question meanwhile sees the other's answer, and keeps his own to send later."""
    page = visit().open(url)
    session_id = answer_at_once(page, model, "Hello.", "Good day.")
    ask_elsewhere(url, session_id, model)
    ask(page, "Me too!")
    wait_for_a_piece(page, "elsewhere")
    box = page.get_by_role("textbox", name="Message")
    expect(box).to_have_value("Me too!")
    expect(box).to_be_focused()
    assert messages(page)[2:] == ["Another device.", "elsewhere"]
    model.end()
    wait_for_answer(page, "elsewhere")
    box.press("Enter")
    model.end("You too.")
    wait_for_answer(page, "You too.")
    assert [each["content"] for each in stored(url, session_id)] == messages(page)
    assert model.asked == 3


@pytest.mark.parametrize("own", [True, False], ids=["own", "another tab's"])
def test_the_stop_button_stops_the_model(
    url: str, model: SteppedModel, visit: Visits, own: bool
) -> None:
    """An answer is stopped in whatever tab, the model with it, and what came stays, marked."""
    first, second = two_tabs(url, model, visit)
    session_id = begin(first, model)
    wait_for_a_piece(second, "one")
    (first if own else second).get_by_role("button", name="Stop the answer").click()
    model.wait_until_left()
    for page in (first, second):
        expect(page.get_by_text(UNFINISHED)).to_be_visible()
        expect(page.get_by_role("alert")).to_be_hidden()
        assert messages(page)[2:] == ["Count.", "one"]
        expect(page.get_by_role("button", name="Send")).to_be_visible()
    shoot(first, "wide-stopped")
    kept = stored(url, session_id)
    assert (kept[3]["content"], kept[3]["status"]) == ("one", "incomplete")
    second.get_by_role("button", name="Try again").click()
    model.end("two")
    for page in (first, second):
        wait_for_answer(page, "two")
        assert messages(page)[2:] == ["Count.", "two"]


@pytest.mark.parametrize("begun", [False, True], ids=["asking", "begun"])
def test_a_question_is_taken_back_before_its_answer(
    url: str, model: SteppedModel, visit: Visits, begun: bool
) -> None:
    """Who stops before anything is said has his question in the box, and the model is left."""
    page = visit().open(url)
    answer_at_once(page, model, "Hello.", "Good day.")
    waits_for = page.expect_response if begun else page.expect_request
    with waits_for("**/chat/completions"):  # whose head comes after a while, without a piece
        ask(page, "Count.")
    page.keyboard.press("Escape")
    expect(page.get_by_role("textbox", name="Message")).to_have_value("Count.")
    model.wait_until_left()


def test_an_edit_replaces_the_old_turn_in_all_tabs(
    url: str, model: SteppedModel, visit: Visits
) -> None:
    """What another tab edits or regenerates is not shown any more while the new answer streams."""
    somebody = visit()
    first = somebody.open(url)
    answer_at_once(first, model, "Hello.", "Good day.")
    answer_at_once(first, model, "Two.", "Twice.")
    second = somebody.open(first.url)
    wait_for_answer(second, "Twice.")
    first.get_by_role("button", name="Regenerate the answer").click()
    model.say("one")
    wait_for_a_piece(second, "one")
    assert messages(second) == ["Hello.", "Good day.", "Two.", "one"]
    model.end(" two")
    wait_for_answer(second, "one two")
    wait_for_answer(first, "one two")
    question = first.locator("#messages > li", has_text="Hello.")
    question.hover()
    question.get_by_role("button", name="Edit the question").click()
    begin(first, model, "Anew.")
    wait_for_a_piece(second, "one")
    assert messages(second) == messages(first) == ["Anew.", "one"]
    first.get_by_role("button", name="Stop the answer").click()
    model.wait_until_left()
    for page in (first, second):
        expect(page.get_by_text(UNFINISHED)).to_be_visible()
        assert messages(page) == [
            each["content"].strip() for each in stored(url, session_of(first))
        ]


def test_a_hidden_tab_holds_no_connection(url: str, model: SteppedModel, visit: Visits) -> None:
    """A tab that follows lets the stream go while it is hidden, and catches up when it is seen."""
    first, second = two_tabs(url, model, visit)
    wait_for_answer(second, "Good day.")
    begin(first, model)
    wait_for_a_piece(second, "one")
    with second.expect_event("requestfailed", lambda each: each.url.endswith("/answer")):
        set_seen(second, False)
    model.say(" two")
    wait_for_a_piece(first, "one two")
    set_seen(second, True)
    wait_for_a_piece(second, "one two")
    model.end(" three")
    wait_for_answer(second, "one two three")


def test_a_network_that_is_back_is_used_at_once(
    url: str, model: SteppedModel, visit: Visits
) -> None:
    """A page whose network was away joins its answer when the browser says that it is back."""
    somebody = visit()
    somebody.expect("net::ERR_")
    page = somebody.open(url)
    begin(page, model)
    somebody.context.set_offline(True)
    with page.expect_request("**/answer?after=*"):
        somebody.context.set_offline(False)
    model.end(" two")
    wait_for_answer(page, "one two")
    assert model.asked == 1


def test_a_model_that_fails_is_told_in_all_tabs(
    url: str, model: SteppedModel, visit: Visits
) -> None:
    """An answer that breaks off says why, what came is marked, and it can be asked for again."""
    first, second = two_tabs(url, model, visit)
    begin(first, model)
    wait_for_a_piece(second, "one")
    model.fail()
    for page in (first, second):
        expect(page.get_by_role("alert")).to_contain_text("broke off")
        assert messages(page)[2:] == ["Count.", "one"]
    expect(second.get_by_text(UNFINISHED)).to_be_visible()
    first.get_by_role("button", name="Try again").click()
    model.end("two")
    for page in (first, second):
        wait_for_answer(page, "two")
        expect(page.get_by_role("alert")).to_be_hidden()
    assert len(stored(url, session_of(first))) == 4


def test_a_question_that_failed_makes_way_for_the_next(
    url: str, model: SteppedModel, visit: Visits
) -> None:
    """A question of which nothing has come says so, is not written again, and keeps no other up."""
    page = visit().open(url)
    answer_at_once(page, model, "Hello.", "Good day.")
    box, alert = page.get_by_role("textbox", name="Message"), page.get_by_role("alert")
    for question in ("Count.", "Count again."):
        ask(page, question)
        model.fail()
        expect(alert).to_contain_text("broke off")
        expect(page.locator("#messages > li:last-child")).to_contain_text("has no answer yet")
        expect(page.get_by_role("button", name="Stop the answer")).to_be_hidden()
        if question == "Count.":
            page.get_by_role("button", name="Give up").click()
            expect(page.get_by_role("button", name="Try again")).to_have_count(1)
            expect(alert).to_be_hidden()
    answer_at_once(page, model, "And now?", "Now.")
    expect(box).to_have_value("")
    texts = ["Hello.", "Good day.", "Count.", "Count again.", "And now?", "Now."]
    assert messages(page) == texts
    assert [each["content"] for each in stored(url, session_of(page))] == texts


def test_a_deleted_conversation_ends_its_answer(
    url: str, model: SteppedModel, visit: Visits
) -> None:
    """Who deletes a conversation in the middle of an answer has a new chat, and no complaints."""
    somebody = visit()
    somebody.expect("404")
    page = somebody.open(url)
    answer_at_once(page, model, "Hello.", "Good day.")
    begin(page, model)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("New chat")
    model.wait_until_left()
    expect(page.get_by_role("alert")).to_be_hidden()
    answer_at_once(page, model, "Hello.", "Good evening.")
    assert messages(page) == ["Hello.", "Good evening."]


def ask_elsewhere(url: str, session_id: str, model: SteppedModel) -> None:
    """Ask from another device, which leaves once the answer has begun."""
    model.say("elsewhere")
    body = {"stream": True, "messages": [{"role": "user", "content": "Another device."}]}
    headers = {"X-Hermes-Session-Id": session_id}
    with httpx2.stream(
        "POST", f"{url}/v1/chat/completions", json=body, headers=headers
    ) as response:
        next(line for line in response.iter_lines() if "elsewhere" in line)


def note_texts(page: Page, element: str) -> None:
    """Have the page note each text that an element gets, in ``noted``."""
    page.evaluate(
        """(id) => {
            globalThis.noted = [];
            const element = document.getElementById(id);
            const note = () => { if (element.textContent) noted.push(element.textContent); };
            new MutationObserver(note).observe(element, { childList: true });
        }""",
        element,
    )


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])
