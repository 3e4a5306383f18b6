"""The page's parts that need no server: server-sent events, answers, errors, texts.

They run where they are used: in the browser, which imports the module.
"""

import json
import re
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


TEXTS = {
    "paragraphs": ("a\nb\n\n\nc", "<p>a\nb</p><p>c</p>"),
    "code": ("```py\na\n\n<b>\n```\nb", '<pre Code, py><code>a\n\n&lt;b&gt;</code></pre><p>b</p>'),
    "unended code": ("a\n~~~\nb", "<p>a</p><pre Code><code>b</code></pre>"),
    "longer fence": ("````\n```\n````", "<pre Code><code>```</code></pre>"),
    "inline code": ("a `b*` ``c`d`` `", "<p>a <code>b*</code> ``c`d`` `</p>"),
    "strong": ("**a** b** **c", "<p><strong>a</strong> b** **c</p>"),
    "list": ("a\n- b\n* c", "<p>a</p><ul><li>b</li><li>c</li></ul>"),
    "dashes": ("-a\n--\n-", "<p>-a\n--\n-</p>"),
    "markup": ("<img src=x> &lt;", "<p>&lt;img src=x&gt; &amp;lt;</p>"),
    "links": ("[a](javascript:b)", "<p>[a](javascript:b)</p>"),
    "line ends": ("a\r\nb\rc", "<p>a\nb\nc</p>"),
    "nothing": ("", ""),
    "white space": (" \n\t\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_texts_become_paragraphs_lists_and_code(page: Page, name: str) -> None:
    """A text is laid out by a few marks, and is text all the same."""
    text, markup = TEXTS[name]
    shown = page.evaluate(
        """async (text) => {
            const { render } = await import("/text.js");
            return render(text).map((node) => node.outerHTML).join("");
        }""",
        text,
    )
    assert (
        re.sub(r'<pre tabindex="0" role="group" aria-label="(.*?)">', r"<pre \1>", shown) == markup
    )


def test_a_hostile_text_takes_no_time(page: Page) -> None:
    """No text makes the layout run for long: each is done before a script is stopped."""
    for text in (
        "```\n" * 200_000,
        "`" * 50_000,
        "**a" * 20_000,
        "- " * 50_000,
        "~~~\n" * 20_000,
        "*" * 50_000,
    ):
        taken = page.evaluate(
            """async (text) => {
                const { render } = await import("/text.js");
                const start = performance.now();
                render(text);
                return performance.now() - start;
            }""",
            text,
        )
        assert taken < 10_000, text[:4]


@pytest.mark.parametrize("text", ["a\n\n" * 150_000, "- a\n" * 150_000, "`a` " * 150_000])
def test_a_text_may_have_any_number_of_parts(page: Page, text: str) -> None:
    """What a text becomes is put into the page, however much it is."""
    shown = page.evaluate(
        """async (text) => {
            const { render } = await import("/text.js");
            const { make } = await import("/dom.js");
            return make("div", {}, render(text)).textContent;
        }""",
        text,
    )
    assert shown.count("a") == 150_000


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
