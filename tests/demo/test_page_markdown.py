"""How the page shows Markdown, and what it touches while an answer streams."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import (
    Visits,
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

EVERYTHING = """\
# Everything

Some **bold** and *slanted* text, `code`, ~~no~~, [a link](https://example.com "Title"), a\\
break, and ![a *picture*](https://example.com/a.png).

## A list

1. One
2. Two
   - nested
     - deeper

- [x] done
- [ ] to do

> A quote
> > in a quote

| a | b | c |
|:--|:-:|--:|
| 1 | 2 | 3 |

---

```python
print("a line of code that is wider than the whole page " * 2, "and even wider than that", 1, 2, 3)
```

| wide | wider | widest | wide | wider | widest | wide | wider | widest |
|---|---|---|---|---|---|---|---|---|
| cell of text | cell of text | cell of text | cell | cell | cell of text | cell of text | c | d |

مرحبا Ada!

<b onclick="alert(1)">HTML</b>, [no](javascript:alert(1)), $a_b * c_d$
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo that answers at once."""
    with demo(tmp_path_factory.mktemp("markdown")) as served:
        yield served


def sow(url: str, session_id: str, *pairs: tuple[str, str]) -> None:
    """Store a conversation of questions and answers."""
    told = [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    body = {"messages": [*told, {"role": "user", "content": "The end."}]}
    headers = {"X-Hermes-Session-Id": session_id, "X-Hermes-History-Source": "request"}
    httpx2.post(f"{url}/v1/chat/completions", json=body, headers=headers).raise_for_status()


SHAPE = """(node) => {
    const shape = (node) => {
        if (node.nodeType === Node.TEXT_NODE) return node.data;
        if (["svg", "BUTTON"].includes(node.nodeName)) return null;
        const inside = [...node.childNodes].map(shape).filter((child) => child);
        return [node.nodeName.toLowerCase(), ...inside];
    };
    return shape(node).slice(1);
}"""


def test_markdown_becomes_elements(url: str, visit: Visits) -> None:
    """Each construct of an answer has its element, and a question is shown as it was typed."""
    question = "*Everything*,\n\n  - please: `a  b`\n"
    sow(url, "everything", (question, EVERYTHING))
    somebody = visit()
    somebody.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
    page = somebody.open(f"{url}/#everything")
    wait_for_answer(page, "The end.")
    assert page.locator("#messages .body").first.inner_text() == question.rstrip()
    body = page.locator("#messages .assistant .body").first
    nested = ["ul", ["li", ["div", ["p", "nested"], ["ul", ["li", ["div", ["p", "deeper"]]]]]]]
    assert body.evaluate(SHAPE)[:7] == [
        ["h3", "Everything"],
        ["p", "Some ", ["strong", "bold"], " and ", ["em", "slanted"], " text, ", ["code", "code"],
         ", ", ["del", "no"], ", ", ["a", "a link"], ", a", ["br"], "break, and ",
         ["a", "a picture"], "."],
        ["h4", "A list"],
        ["ol", ["li", ["div", ["p", "One"]]], ["li", ["div", ["p", "Two"], nested]]],
        ["ul", ["li", ["input"], ["div", ["p", "done"]]],
               ["li", ["input"], ["div", ["p", "to do"]]]],
        ["blockquote", ["p", "A quote"], ["blockquote", ["p", "in a quote"]]],
        ["div", ["table", ["thead", ["tr", ["th", "a"], ["th", "b"], ["th", "c"]]],
                 ["tbody", ["tr", ["td", "1"], ["td", "2"], ["td", "3"]]]]],
    ]  # fmt: skip
    expect(body.locator("p").last).to_have_text(
        '<b onclick="alert(1)">HTML</b>, [no](javascript:alert(1)), $a_b * c_d$'
    )
    links = body.locator("a").evaluate_all("all => all.map((a) => [a.href, a.target, a.rel])")
    addresses = ["https://example.com/", "https://example.com/a.png"]
    assert links == [[address, "_blank", "noopener noreferrer"] for address in addresses]
    expect(body.get_by_role("checkbox", name="Done")).to_be_checked()
    expect(body.get_by_role("checkbox", name="To do")).to_be_disabled()
    expect(body.get_by_role("link", name="a link")).to_have_attribute("title", "Title")
    assert page.locator("#messages :is(b, script, img)").count() == 0
    code = body.get_by_role("group", name="Code, python")
    assert code.evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 14
    body.get_by_role("button", name="Copy the code").click()
    expect(page.get_by_role("status")).to_have_text("The code was copied.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith('print("a line')
    assert "\n" not in copied
    # What is written from right to left is so without being told, and what is not, is not.
    directions = "all => all.map((e) => getComputedStyle(e).direction)"
    assert body.locator("> p").evaluate_all(directions) == ["ltr", "rtl", "ltr"]
    shoot(page, "wide-markdown")
    package = find_spec("axe_playwright_python")
    needs(None if package else "no axe-playwright-python: it is in the test group")
    assert package
    assert package.origin
    page.evaluate(Path(package.origin).with_name("axe.min.js").read_text())
    found = page.evaluate("axe.run('#messages')")
    assert [(each["id"], each["nodes"]) for each in found["violations"]] == []


def test_what_is_wide_is_scrolled_by_itself(url: str, visit: Visits) -> None:
    """At 320 pixels the page has its width, tables and code scroll, by keys too, and print."""
    sow(url, "narrow", ("Everything.", EVERYTHING))
    page = visit(phone=True, dark=True).open(f"{url}/#narrow")
    page.set_viewport_size({"width": 320, "height": 700})
    wait_for_answer(page, "The end.")
    width = "document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(width) <= 0
    scrolled = page.locator("#messages pre, #messages .table")
    inside = "all => all.map((e) => [e.scrollWidth > e.clientWidth, e.tabIndex])"
    assert scrolled.evaluate_all(inside) == [[False, 0], [True, 0], [True, 0]]
    code = scrolled.nth(1)
    code.evaluate("e => { e.addEventListener('scroll', () => e.dataset.scrolled = e.scrollLeft) }")
    code.focus()
    page.keyboard.press("ArrowRight")
    expect(code).to_have_attribute("data-scrolled", re.compile("[1-9]"))
    shoot(page, "phone-markdown")
    page.emulate_media(media="print")
    assert page.locator("#talk").evaluate("e => e.scrollHeight === e.clientHeight")
    expect(page.get_by_role("textbox", name="Message")).to_be_hidden()


STREAM = """async ([text, size]) => {
    const { MarkdownView, drawAll } = await import("/markdown-view.js");
    const body = document.createElement("div");
    body.className = "body";
    document.getElementById("messages").append(body);
    const longTasks = [];
    const observer = new PerformanceObserver((list) => longTasks.push(...list.getEntries()));
    observer.observe({ type: "longtask" });
    const view = new MarkdownView(body);
    const counts = [];
    const watch = { childList: true, characterData: true, subtree: true };
    const mutations = new MutationObserver(() => {});
    mutations.observe(body, watch);
    let [longest, read] = [0, 0];
    const reads = [];
    const { trim } = String.prototype; // which each text goes through that is read for marks
    String.prototype.trim = function counting() {
        read += 1;
        return trim.call(this);
    };
    for (let at = size; at < text.length + size; at += size) {
        const start = performance.now();
        view.grow(text.slice(0, at));
        body.offsetHeight;
        longest = Math.max(longest, performance.now() - start);
        reads.push(read);
        read = 0;
        const seen = mutations.takeRecords();
        const nodes = ({ addedNodes, removedNodes }) => 1 + addedNodes.length + removedNodes.length;
        counts.push(seen.reduce((sum, each) => sum + nodes(each), 0));
        await new Promise((go) => setTimeout(go)); // each piece is a task of its own
    }
    String.prototype.trim = trim;
    view.end(text);
    await new Promise((go) => setTimeout(go, 100));
    observer.disconnect();
    const same = document.createElement("div");
    const whole = new MarkdownView(same);
    whole.end(text);
    drawAll();
    const isSame = same.innerHTML === body.innerHTML;
    body.remove();
    const long = longTasks.map((task) => task.duration);
    const [most, mostRead] = [Math.max(...counts), Math.max(...reads)];
    return { most, mostRead, pushes: counts.length, isSame, longest, long };
}"""
LONG = {
    "paragraphs": "Some *words* in a paragraph, and `code`.\n\n" * 1000,
    "one list": "- an item with **bold** words in it\n" * 2000,
    "one block of code": "```js\n" + "const line = `of code`;\n" * 2000 + "```\n",
    "one table": "| a | b |\n|---|---|\n" + "| cell | *cell* |\n" * 2000,
    "one paragraph": "some *words* in a line, [linked](https://a.b), and `code`\n" * 300,
    "everything": (EVERYTHING + "\n") * 50,
}


@pytest.mark.parametrize("name", LONG)
def test_only_what_grows_is_touched(url: str, page: Page, name: str) -> None:
    """However long an answer is, a piece of 250 characters is read and drawn alone."""
    measured: dict[str, Any] = page.evaluate(STREAM, [LONG[name], 250])
    print(name, measured)  # how long it took, for people to look at
    assert measured["isSame"]
    assert measured["pushes"] > 60
    assert measured["most"] <= 150
    assert measured["mostRead"] <= 150


SLICES = """async ([text, isTyped]) => {
    const { MarkdownView, drawAll } = await import("/markdown-view.js");
    const body = document.createElement("div");
    const counts = [];
    let [made, read] = [0, 0];
    const { createElement, createTextNode } = document;
    const counting = (make) => function make_(...given) {
        made += 1;
        return make.apply(this, given);
    };
    const { trim } = String.prototype; // which each text goes through that is read for marks
    String.prototype.trim = function counted() {
        read += this.length;
        return trim.call(this);
    };
    document.createElement = counting(createElement);
    document.createTextNode = counting(createTextNode);
    const view = new MarkdownView(body, { isTyped });
    view.end(text);
    for (;;) {
        counts.push([made, read]);
        [made, read] = [0, 0];
        if (view.isDrawn) break;
        await new Promise((go) => setTimeout(go)); // a task of its own, as the slices are
    }
    Object.assign(document, { createElement, createTextNode });
    String.prototype.trim = trim;
    const lengths = [body, ...body.querySelectorAll("*")].map((element) => (
        [...element.childNodes].reduce((sum, { data }) => sum + (data?.length ?? 0), 0)));
    const rows = [...body.querySelectorAll("tbody")].map((element) => element.children.length);
    const whole = document.createElement("div");
    new MarkdownView(whole).end(text);
    drawAll();
    return {
        tasks: counts.length, made: Math.max(...counts.map(([made]) => made)),
        read: Math.max(...counts.map(([, read]) => read)), rows: Math.max(0, ...rows),
        laidOut: lengths.reduce((most, one) => Math.max(most, one), 0),
        isSame: isTyped || whole.innerHTML === body.innerHTML,
        text: body.textContent.replace(/\\s/g, "").length,
    };
}"""
EXTREME = {
    "marks": "*a* " * 50_000,
    "line breaks": "<br>" * 50_000,
    "one word": "w" * 200_000,
    "lines": "a *line* with [a link](https://a.b)\n" * 5500,
    "a list": "- a\n" * 20_000,
    "a table": "| a | b |\n|---|---|\n" + "| c | d |\n" * 10_000,
    "code": "```\n" + "line\n" * 40_000 + "```",
    "a line of code": f"```\n{'x' * 200_000}\n```",
}


@pytest.mark.parametrize("name", [*EXTREME, "typed"])
def test_a_long_text_is_drawn_in_slices(page: Page, name: str) -> None:
    """Of 200 kB in one block each task makes, reads and lays out no more than of a small one."""
    text = EXTREME["one word" if name == "typed" else name]
    measured: dict[str, Any] = page.evaluate(SLICES, [text, name == "typed"])
    assert measured["tasks"] >= len(text) // 4000
    assert measured["made"] <= 10_000
    assert measured["read"] <= 20_000
    assert measured["rows"] <= 200
    assert measured["laidOut"] <= 5000
    assert measured["isSame"]
    if name in {"one word", "typed", "a line of code"}:
        assert measured["text"] >= len(re.sub(r"[\s`]", "", text))


TOKENS = {
    "py": ("x = f('a') # b", {"name": ["f"], "string": ["'a'"], "comment": ["# b"]}),
    "JS": ("let a = `b` // c", {"keyword": ["let"], "string": ["`b`"], "comment": ["// c"]}),
    "sh": ("ls a#b # c", {"comment": ["# c"]}),
    "sql": ("Select 1 -- a", {"keyword": ["Select"], "number": ["1"], "comment": ["-- a"]}),
    "yaml": ("a: true # b", {"name": ["a"], "keyword": ["true"], "comment": ["# b"]}),
    "json": ('{"a": [1, "b"]}', {"name": ['"a"'], "number": ["1"], "string": ['"b"']}),
    "html": ('<a b="c">d', {"keyword": ["<a", ">"], "name": ["b"], "string": ['"c"']}),
    "css": ("a { b: 1px; }", {"name": ["b"], "number": ["1px"]}),
    "diff": ("-a\n+b\n c", {"removed": ["-a"], "added": ["+b"]}),
    "text": ("if 1", {}),
    "": ("if 1", {}),
}


def test_code_has_colours_and_no_more_elements(url: str, visit: Visits) -> None:
    """Code near the window is coloured by its language, in ranges, and no more once it is gone."""
    page = visit().open(url)
    told = page.evaluate(
        """async (cases) => {
            const { tokensOf } = await import("/highlight.js");
            return cases.map(([language, text]) => {
                const found = {};
                for (const { kind, start, end } of tokensOf(text, language)) {
                    (found[kind] ??= []).push(text.slice(start, end));
                }
                return found;
            });
        }""",
        [[language, text] for language, (text, _) in TOKENS.items()],
    )
    assert dict(zip(TOKENS, told, strict=True)) == {
        language: kinds for language, (_, kinds) in TOKENS.items()
    }
    ask(page, "this\n\n```py\nif 1:\n    run()  # on\n```\n\n")
    wait_for_answer(page, "first message")
    sizes = "Object.fromEntries([...CSS.highlights].map(([name, { size }]) => [name, size]))"
    once = "() => { const sizes = %s; return sizes['code-comment'] === %d && sizes; }"
    wanted = {"code-keyword": 1, "code-number": 1, "code-name": 1, "code-comment": 1}
    assert page.wait_for_function(once % (sizes, 1)).json_value() == wanted
    assert page.locator("#messages pre code *").count() == 0
    page.get_by_role("button", name="New chat", exact=True).click()
    page.wait_for_function(once % (sizes, 0))


@pytest.fixture(scope="module")
def page(url: str, browser: Any) -> Page:
    """A page that can import the modules."""
    opened: Page = browser.new_page()
    opened.goto(url)
    return opened


def test_selected_text_stays_selected_while_an_answer_streams(url: str, visit: Visits) -> None:
    """What is complete keeps its elements to the answer's end, and after it, with its selection."""
    page = visit().open(url)
    page.evaluate(
        """async () => {
            const { MessagesView } = await import("/messages-view.js");
            const question = { role: "user", content: "?" };
            const turn = { question: [question], place: 0, text: "", phase: "asking", error: null };
            globalThis.one = { shown: [], places: [], times: [], turn };
            globalThis.view = new MessagesView({});
            view.show(one);
        }"""
    )
    expect(page.get_by_text("The answer is on its way")).to_be_attached()
    text = "First **words**.\n\n- an item\n- another\n\nLast"
    show = """([text, phase]) => {
        one.turn.text = text;
        one.turn.phase = phase;
        view.show(one);
    }"""
    page.evaluate(show, [text, "answering"])
    page.evaluate(
        """() => {
            globalThis.nodes = [...document.querySelectorAll("#messages .assistant .body *")];
            getSelection().selectAllChildren(nodes[0]);
            getSelection().extend(nodes.at(-1).firstChild, 3);
        }"""
    )
    selected = page.evaluate("String(getSelection())")
    assert selected.endswith("another\n\nLas")
    page.evaluate(show, [text + " words, `and`", "answering"])
    page.evaluate(show, [text + " words, `and` *more*.", "stopping"])
    page.evaluate(
        """() => {
            const { question: [asked], text } = one.turn;
            const answer = { role: "assistant", content: `${text} End.` };
            Object.assign(one, { shown: [asked, answer], places: [0, 1], turn: null });
            view.show(one);
        }"""
    )
    assert page.evaluate("nodes.every((node) => node.isConnected)")
    assert page.evaluate("String(getSelection())") == selected
    assert messages(page)[1].endswith("Last words, and more. End.")
    expect(page.get_by_role("button", name="Regenerate the answer")).to_have_count(1)


def test_an_answer_streams_as_markdown(url: str, visit: Visits) -> None:
    """An answer that streams is shown as what it is read as once it is whole."""
    page = visit().open(url)
    ask(page, "this\n\n## Title\n\n- a\n- **b**\n\n```py\nx = 1\n```\n\n")
    wait_for_answer(page, "first message")
    body = page.locator("#messages .assistant .body")
    shape = body.evaluate(SHAPE)
    assert [each[0] for each in shape] == ["p", "p", "h4", "ul", "div", "p"]
    page.reload()
    wait_for_answer(page, "first message")
    assert body.evaluate(SHAPE) == shape
