"""The page's parts that need no server: server-sent events, answers, errors.

They run where they are used: in the browser, which imports the module.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from demo_app.web import FOLDER
from tests.support.browser import Visitor, browser
from tests.support.server import demo

__all__ = ["browser"]  # a fixture


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo, which serves the modules."""
    with demo(tmp_path_factory.mktemp("parts")) as running:
        yield running


@pytest.fixture(scope="module")
def visitor(browser: Browser) -> Iterator[Visitor]:
    """Somebody with a browser."""
    somebody = Visitor(browser)
    yield somebody
    somebody.leave()


@pytest.fixture(scope="module")
def page(visitor: Visitor, url: str) -> Page:
    """A page that can import the modules."""
    return visitor.open(url)


EVENTS = {
    "one": ("data: a\n\n", ["a"]),
    "two": ("data: a\n\ndata: b\n\n", ["a", "b"]),
    "carriage returns": ("data: a\r\rdata: b\r\r", ["a", "b"]),
    "both": ("data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
    "mixed": ("data: a\n\r\ndata: b\r\n\n", ["a", "b"]),
    "comments": (": ping\n\n:\ndata: a\n: ping\n\n", ["a"]),
    "many lines": ("data: a\ndata: b\ndata:\n\n", ["a\nb\n"]),
    "no space": ("data:a\n\n", ["a"]),
    "two spaces": ("data:  a\n\n", [" a"]),
    "no colon": ("data\n\n", [""]),
    "colons": ('data: {"a": ":"}\n\n', ['{"a": ":"}']),
    "other fields": ("id: 1\nretry: 5\nfoo: bar\ndata: a\n\n", ["a"]),
    "no data": ("event: ping\n\n", []),
    "cut off": ("data: a\n\ndata: b\n", ["a"]),
    "cut off in a line": ("data: a\n\ndata: b", ["a"]),
    "like a field": (" data: a\nDATA: b\ndatas: c\n\n", []),
    "line separators": ("data: a\u2028b\u0085c\x0bd\n\n", ["a\u2028b\u0085c\x0bd"]),
    "beyond the plane": ("data: \U0001f426 é\n\n", ["\U0001f426 é"]),
    "a mark": ("\ufeffdata: a\n\n", ["a"]),
    "nothing": ("", []),
    "only ends": ("\n\r\n\r\r\n", []),
}
IDS = "data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid: 2\0\ndata: d\n\nid:3\ndata: e\n\nid\ndata: f\n\n"

READ = """async ([bytes, size]) => {
    const { readEvents } = await import("/sse.js");
    const all = new Uint8Array(bytes);
    const body = new ReadableStream({
        start(controller) {
            for (let at = 0; at < all.length; at += size) {
                controller.enqueue(all.slice(at, at + size));
            }
            controller.close();
        },
    });
    const read = [];
    for await (const event of readEvents(body)) read.push(event);
    return read;
}"""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_read_however_they_are_cut(page: Page, size: int) -> None:
    """Line ends and characters may be cut in two anywhere, and an unended event is none."""
    read = {
        name: [event["data"] for event in page.evaluate(READ, [list(text.encode()), size])]
        for name, (text, _) in EVENTS.items()
    }  # fmt: skip
    assert read == {name: events for name, (_, events) in EVENTS.items()}


def test_an_event_has_the_last_id(page: Page) -> None:
    """An id holds until the next one, as browsers have it for their EventSource."""
    read = page.evaluate(READ, [list(IDS.encode()), 5])
    assert [event["id"] for event in read] == ["", "1", "1", "1", "3", ""]


def test_an_endless_event_is_given_up(page: Page) -> None:
    """A line without an end fills no memory."""
    refused = page.evaluate(
        """async () => {
            const { EventParser } = await import("/sse.js");
            const parser = new EventParser();
            try {
                for (let n = 0; n < 100; n += 1) parser.push("data: " + "x".repeat(100_000));
            } catch (error) {
                return error.message;
            }
        }"""
    )
    assert refused == "an event is too long"


def chunk(text: Any) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n"


DONE = "data: [DONE]\n\n"
FULL = 'data: {"error": {"message": "full"}}\n\n'
ODD = "ApiError: The server sent something that is no answer."
LOST = "ConnectionLost: The connection was lost before the answer was complete."
STREAM = "text/event-stream"
ANSWERS = {
    "whole": (STREAM, chunk("a") + chunk("b") + DONE, ["a", "b"], None),
    "after the end": (STREAM, chunk("a") + DONE + chunk("b"), ["a"], None),
    "no end": (STREAM, chunk("a") + chunk("b"), ["a", "b"], LOST),
    "half an end": (STREAM, chunk("a") + "data: [DONE]", ["a"], LOST),
    "nothing": (STREAM, "", [], LOST),
    "no text": (STREAM, 'data: {"choices": []}\n\n' + chunk(None) + chunk(7) + DONE, [], None),
    "usage": (STREAM, chunk("a") + 'data: {"choices": [], "usage": {}}\n\n' + DONE, ["a"], None),
    "an error": (STREAM, chunk("a") + FULL, ["a"], "ApiError: full"),
    "an error and an end": (STREAM, FULL + DONE, [], "ApiError: full"),
    "a named error": (STREAM, "event: error\ndata: not stored\n\n", [], "ApiError: not stored"),
    "no JSON": (STREAM, "data: <p>\n\n", [], ODD),
    "null": (STREAM, "data: null\n\n" + DONE, [], None),
    "charset": ("text/event-stream; charset=utf-8", chunk("a") + DONE, ["a"], None),
    "JSON": ("application/json", '{"choices": [{"message": {"content": "a"}}]}', ["a"], None),
    "half a JSON": ("application/json", '{"choices": [{"mess', [], LOST),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_only_done_ends_an_answer(page: Page, name: str) -> None:
    """A stream that ends otherwise broke off or failed, and JSON is an answer too."""
    kind, body, pieces, error = ANSWERS[name]
    read = page.evaluate(
        """async ([kind, body]) => {
            const { readAnswer } = await import("/answer.js");
            const response = new Response(body, { headers: { "Content-Type": kind } });
            const pieces = [];
            try {
                for await (const { text } of readAnswer(response, 5000)) {
                    if (text) pieces.push(text);
                }
            } catch (error) {
                return [pieces, `${error.constructor.name}: ${error.message}`];
            }
            return [pieces, null];
        }""",
        [kind, body],
    )
    assert read == [pieces, error]


def followed(state: str, *payloads: Any) -> str:
    """Return what the route of a running answer sends."""
    begin: dict[str, Any] = {"answer": "x", "question": [], "turn_id": None, "replace_from": None}
    events = [f"event: begin\ndata: {json.dumps(begin)}\n\n"]
    for number, payload in enumerate(payloads, 1):
        events.append(f"id: x:{number}\ndata: {json.dumps(payload)}\n\n")
    return "".join([*events, f'event: end\ndata: {{"state": "{state}"}}\n\n'])


def delta(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


FAILURE = {"type": "response.failed", "response": {"error": {"message": "full"}}}
FOLLOWED = {
    "a chat": (followed("completed", {"choices": []}, delta("a"), delta("b")), "ab", "completed"),
    "texts": (followed("stopped", "a", "b"), "ab", "stopped"),
    "responses": (
        followed(
            "incomplete",
            {"type": "response.created", "response": {"error": None}},
            {"type": "response.output_text.delta", "delta": "a"},
            {"type": "response.output_text.done", "text": "a"},
        ),
        "a",
        "incomplete",
    ),
    "an error": (followed("failed", delta("a"), {"error": {"message": "full"}}), "a", "full"),
    "an error of responses": (followed("failed", FAILURE), "", "full"),
    "another error of responses": (
        followed("failed", {"type": "error", "message": "full"}), "", "full"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_running_answer_is_read_whoever_asked_for_it(page: Page, name: str) -> None:
    """Events of a chat, of Responses, and texts give the text, its cursors, and the end."""
    body, text, end = FOLLOWED[name]
    read = page.evaluate(
        """async (body) => {
            const { readAnswer } = await import("/answer.js");
            const headers = { "Content-Type": "text/event-stream" };
            const pieces = readAnswer(new Response(body, { headers }), 5000);
            const { value } = await pieces.next();
            let text = "";
            const cursors = [];
            for (;;) {
                try {
                    const { done, value } = await pieces.next();
                    if (done) return [text, value, cursors];
                    text += value.text;
                    cursors.push(value.cursor);
                } catch (error) {
                    return [text, error.message, cursors];
                }
            }
        }""",
        body,
    )
    assert read[:2] == [text, end]
    assert read[2] == [f"x:{number}" for number in range(1, len(read[2]) + 1)]


def test_a_chunk_names_its_place(page: Page) -> None:
    """Chat chunks have their cursor in them, since their stream has no ids."""
    events = "".join(f'data: {{"event_id": "x:{number}", "choices": []}}\n\n' for number in (1, 2))
    cursors = page.evaluate(
        """async (body) => {
            const { readAnswer } = await import("/answer.js");
            const headers = { "Content-Type": "text/event-stream" };
            const cursors = [];
            for await (const { cursor } of readAnswer(new Response(body, { headers }), 5000)) {
                cursors.push(cursor);
            }
            return cursors;
        }""",
        events + DONE,
    )
    assert cursors == ["x:1", "x:2"]


def test_a_silent_answer_is_lost(page: Page) -> None:
    """Where nothing comes any more, though the connection stands, the answer broke off."""
    told = page.evaluate(
        """async () => {
            const { readAnswer } = await import("/answer.js");
            const headers = { "Content-Type": "text/event-stream" };
            const response = new Response(new ReadableStream({}), { headers });
            try {
                for await (const _ of readAnswer(response, 10)) ;
            } catch (error) {
                return `${error.constructor.name}: ${error.message}`;
            }
        }"""
    )
    assert told == "ConnectionLost: The server has fallen silent."


def test_comments_are_signs_of_life(visitor: Visitor, url: str) -> None:
    """A model may think for longer than a server may be silent, which sends comments meanwhile."""
    page = visitor.open("about:blank")
    page.clock.install(time=0)
    page.goto(url)
    page.clock.pause_at(60_000)
    page.evaluate(
        """async () => {
            const { readAnswer } = await import("/answer.js");
            const start = (controller) => { globalThis.sender = controller; };
            const body = new ReadableStream({ start });
            const headers = { "Content-Type": "text/event-stream" };
            const pieces = readAnswer(new Response(body, { headers }), 1000);
            globalThis.reading = pieces.next();
        }"""
    )
    send = "(text) => sender.enqueue(new TextEncoder().encode(text))"
    for _ in range(5):
        page.clock.run_for(900)
        page.evaluate(send, ": keepalive\n\n")
    page.evaluate(send, chunk("a"))
    assert page.evaluate("reading")["value"]["text"] == "a"


DELAYS = """async (rows) => {
    const { ApiError, ConnectionLost, delayAfter, secondsOf } = await import("/errors.js");
    return rows.map(([status, after, attempt]) => delayAfter(
        status ? new ApiError("", status, null, secondsOf(after)) : new ConnectionLost(), attempt,
    ));
}"""


def test_what_passes_is_tried_again_later_and_later(page: Page) -> None:
    """Lost connections back off, Retry-After is kept to, and the rest is not tried again."""
    lost = page.evaluate(DELAYS, [[0, None, attempt] for attempt in range(1, 10)])
    assert lost.pop() is None
    bounds = [1, 2, 4, 8, 16, 30, 30, 30]
    assert all(
        0.75 * bound <= delay <= 1.25 * bound for delay, bound in zip(lost, bounds, strict=True)
    )
    asked = page.evaluate(
        DELAYS, [[409, "5", 1], [503, "Fri, 01 Jan 2100 00:00:00 GMT", 1], [429, "99999", 1]]
    )
    assert asked == [5, 60, 60]
    never = [[400, None, 1], [401, "1", 1], [409, None, 1], [500, "1", 1], [503, "soon", 1]]
    assert page.evaluate(DELAYS, never) == [None] * 5


MESSAGES: dict[str, tuple[Any, str]] = {
    "text": ({"content": "a"}, "a"),
    "parts": ({"content": [{"type": "text", "text": "a"}, {"type": "image"}]}, "a\n\n[image]"),
    "calls": ({"content": None, "tool_calls": [{"function": {"name": "f"}}]}, "[calls f]"),
    "parts of other kinds": ({"content": [None, 1, {"type": {}}, {"text": 1}, {"text": "a"}]}, "a"),
    "calls of other kinds": (
        {"content": "a", "tool_calls": [None, {"function": {"name": {"toString": 1}}}]},
        "a\n\n[calls a tool]\n\n[calls a tool]"),
    "no calls": ({"content": "a", "tool_calls": "abc"}, "a"),
    "no content": ({"content": {"a": 1}}, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_of_any_shape_is_shown(page: Page, name: str) -> None:
    """Whatever a client has stored in a message, the page shows what it knows of it."""
    message, text = MESSAGES[name]
    run = "async (message) => (await import('/messages-view.js')).textOf(message)"
    assert page.evaluate(run, message) == text


ADDRESSES = {
    "": "{origin}/",
    "http://a.example:9000": "http://a.example:9000/",
    " https://a.example/v1/ ": "https://a.example/",
    "https://a.example/chat?x#y": "https://a.example/chat/",
    "javascript:alert(1)": None,
    "file:///etc": None,
    "http://": None,
}


def test_addresses_are_told_from_what_is_none(page: Page) -> None:
    """An API's address may be given as people give it, and is of the web."""
    run = "async (given) => given.map((await import('/storage.js')).addressOf)"
    origin = page.evaluate("location.origin")
    wanted = [each and each.replace("{origin}", origin) for each in ADDRESSES.values()]
    assert page.evaluate(run, list(ADDRESSES)) == wanted


def test_ids_are_what_the_middleware_takes_for_ids(page: Page) -> None:
    """A page opens no address whose id could not be one."""
    given = [
        "a",
        "A-z_0.9:~",
        "x" * 256,
        "",
        "x" * 257,
        "a b",
        "a/b",
        "..",
        "a..b",
        ".",
        "ä",
        "a%20",
    ]
    run = "async (given) => given.map((await import('/api.js')).isId)"
    assert page.evaluate(run, given) == [True] * 3 + [False] * 9


MODULES = sorted(FOLDER.glob("*.js"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_module_makes_markup_out_of_text(path: Path) -> None:
    """No module knows a way to parse text as HTML or to run it."""
    text = path.read_text()
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "DOMParser",
    ):
        assert way not in text


DAYS = {
    "a moment ago": ("2026-03-31T12:00:00", "2026-03-31T11:59:59", "Today"),
    "since midnight": ("2026-03-31T23:59:59", "2026-03-31T00:00:00", "Today"),
    "before midnight": ("2026-03-31T00:00:00", "2026-03-30T23:59:59.999", "Yesterday"),
    "the day before": ("2026-03-31T00:00:00", "2026-03-29T23:59:59", "Previous 7 days"),
    "a week ago": ("2026-03-31T12:00:00", "2026-03-24T00:00:00", "Previous 7 days"),
    "more than a week": ("2026-03-31T12:00:00", "2026-03-23T23:59:59", "Previous 30 days"),
    "thirty days": ("2026-03-31T12:00:00", "2026-03-01T00:00:00", "Previous 30 days"),
    "this year": ("2026-03-31T12:00:00", "2026-02-28T12:00:00", "February"),
    "the year before": ("2026-03-31T12:00:00", "2025-12-31T12:00:00", "2025"),
    "new year": ("2026-01-01T00:00:00", "2025-12-31T23:59:59", "Yesterday"),
    # Clocks went forward on the 29th of March, whose day had 23 hours, and back on 25 October.
    "over a short day": ("2026-03-30T00:30:00", "2026-03-29T00:15:00", "Yesterday"),
    "a short week": ("2026-04-04T00:30:00", "2026-03-28T23:30:00", "Previous 7 days"),
    "before a short week": ("2026-04-04T00:30:00", "2026-03-27T23:59:00", "Previous 30 days"),
    "over a long day": ("2026-10-26T00:30:00", "2026-10-25T00:15:00", "Yesterday"),
    "a long day's end": ("2026-10-25T23:59:00", "2026-10-25T00:01:00", "Today"),
    "before a long day": ("2026-10-26T23:59:00", "2026-10-24T23:59:00", "Previous 7 days"),
    "still to come": ("2026-03-31T12:00:00", "2026-04-02T12:00:00", "Today"),
    "no time": ("2026-03-31T12:00:00", None, "Today"),
    "none at all": ("2026-03-31T12:00:00", "soon", "Today"),
}


@pytest.fixture(scope="module")
def berlin(browser: Browser, url: str) -> Iterator[Page]:
    """A page where clocks are put forward and back."""
    context = browser.new_context(timezone_id="Europe/Berlin")
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


def test_days_are_those_of_the_local_calendar(berlin: Page) -> None:
    """Each conversation stands below its day's heading, at midnight and as clocks change too."""
    told = berlin.evaluate(
        """async (cases) => {
            const { labelOf } = await import("/days.js");
            return cases.map(([now, at]) => labelOf(at, new Date(now), "en"));
        }""",
        [[now, at] for now, at, _ in DAYS.values()],
    )
    assert dict(zip(DAYS, told, strict=True)) == {
        name: label for name, (_, _, label) in DAYS.items()
    }


def test_groups_keep_the_order_and_put_pinned_first(berlin: Page) -> None:
    """What is pinned comes first, whatever its day, and no group is told twice."""
    groups = berlin.evaluate(
        """async () => {
            const { groupsOf } = await import("/days.js");
            const item = (id, updated_at, pinned) => ({ id, updated_at, pinned });
            const items = [
                item("a", "2026-03-31T10:00:00"), item("b", "2026-03-30T10:00:00", true),
                item("c", "2026-03-30T09:00:00"), item("d", "2026-03-31T08:00:00", false),
            ];
            const groups = groupsOf(items, new Date("2026-03-31T12:00:00"), "en");
            return groups.map(({ label, items }) => [label, items.map(({ id }) => id).join("")]);
        }"""
    )
    assert groups == [["Pinned", "b"], ["Today", "ad"], ["Yesterday", "c"]]


def test_an_export_has_a_name_that_every_system_takes(page: Page) -> None:
    """A title becomes a file's name without what no file's name may have."""
    names = page.evaluate(
        """async (titles) => {
            const { save } = await import("/export.js");
            const names = [];
            HTMLAnchorElement.prototype.click = function () { names.push(this.download); };
            for (const title of titles) save(title, "");
            delete HTMLAnchorElement.prototype.click;
            return names;
        }""",
        ["a/b\\c: d?", "..", "\u202egnp.exe\n", "日" * 200, "~ Größe"],
    )
    expected = ["a b c d.md", "conversation.md", "gnp.exe.md", f"{'日' * 80}.md", "~ Größe.md"]
    assert names == expected


WORDS = {
    "too long": (
        (400, "context_length_exceeded", "This model's maximum ..."),
        "too long for the model",
    ),
    "too large": ((413, None, ""), "Shorten it"),
    "a proxy's limit": ((413, "message_too_large", "see --max-message-bytes"), "Shorten it"),
    "no such model": (
        (404, "model_not_found", "The model `x` does not exist"),
        "Choose another one",
    ),
    "a store that is away": ((503, "session_store_unavailable", "..."), "What was stored is safe"),
    "a failure": ((500, None, "Internal Server Error"), "finds the reason in its log"),
    "a server's own words": ((400, "another", "'n' is not 1"), "'n' is not 1"),
    "no words": ((418, None, ""), "finds the reason in its log"),
    "a key": ((401, None, "no"), "does not know this one"),
}


def test_errors_say_what_to_do(page: Page) -> None:
    """What went wrong is told in words for people, with what they can do about it."""
    told = page.evaluate(
        """async (cases) => {
            const { ApiError, ConnectionLost } = await import("/errors.js");
            const { inWords, wordsOfStatus, wordsOfSilence } = await import("/words.js");
            const words = cases.map(([status, code, message]) => (
                inWords(new ApiError(message, status, code))));
            const base = `${location.origin}/`;
            return [
                ...words, inWords(new ConnectionLost("It was lost.")), inWords(new Error("")),
                wordsOfStatus(404, base), wordsOfStatus(502, base), wordsOfStatus(501, base),
                wordsOfSilence(base), wordsOfSilence("http://127.0.0.1:9/"),
            ];
        }""",
        [list(error) for error, _ in WORDS.values()],
    )
    expected = [words for _, words in WORDS.values()]
    expected += [
        "It was lost.",
        "Something went wrong. Try again.",
        "Check the address",
        "a moment",
    ]
    expected += ["The server failed", "It may have been stopped", "does not allow pages of"]
    assert len(told) == len(expected)
    for text, part in zip(told, expected, strict=True):
        assert part in text


def test_times_are_as_short_as_they_are_clear(berlin: Page) -> None:
    """Today's have the clock alone, this week's the day as well, and older ones the date."""
    told = berlin.evaluate(
        """async () => {
            const { shortOf, timeOf } = await import("/times.js");
            const now = new Date("2026-03-31T12:00:00");
            const times = ["2026-03-31T00:05:00", "2026-03-30T23:55:00", "2026-03-20T09:00:00",
                "2025-12-24T18:00:00", "2026-04-01T08:00:00"];
            const made = timeOf("2026-03-31T09:00:00Z", now);
            return [
                ...times.map((time) => shortOf(new Date(time), now, "en-GB")),
                made.dateTime, made.textContent.includes("11"), made.title.includes("2026"),
                timeOf(null), timeOf("soon"),
            ];
        }"""
    )
    assert told[:5] == [
        "00:05",
        "Mon, 23:55",
        "20 Mar, 09:00",
        "24 Dec 2025, 18:00",
        "1 Apr, 08:00",
    ]
    assert told[5:] == ["2026-03-31T09:00:00Z", True, True, None, None]
