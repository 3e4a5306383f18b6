"""What hostile answers and leftovers in the browser's storage do to the page: nothing."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import Visitor, Visits, ask, browser, visit, wait_for_answer
from tests.support.server import demo

__all__ = ["browser", "visit"]  # fixtures


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo that answers at once."""
    with demo(tmp_path_factory.mktemp("hostile")) as served:
        yield served


@pytest.fixture(scope="module")
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A page that can import the modules, and errs nowhere."""
    somebody = Visitor(browser)
    yield somebody.open(url)
    somebody.leave()


SCRIPTS = [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)",
    "java\u0001script:alert(1)", "\u0001javascript:alert(1)", "\u00a0javascript:alert(1)",
    "&#106;avascript:alert(1)", "javascript&colon;alert(1)",
    "&#x6A;&#x61;vascript&#58;alert(1)", "java&#10;script:alert(1)", "java&#0;script:alert(1)",
    "j\\avascript:alert(1)", "javascript\\:alert(1)", "vbscript:msgbox(1)",
    "data:text/html,<script>alert(1)</script>", "DATA:text/html;base64,PHNjcmlwdD4=",
    "blob:http://127.0.0.1/x", "file:///etc/passwd", "view-source:http://a.example",
    "//evil.example", "/v1/sessions", "#other", "?x", ".", "https:evil.example",
    "http:/evil.example", "https:\\\\evil.example", "ftp://evil.example", "about:blank",
    "intent://x#Intent;end", "https&#58;javascript:alert(1)", "%6aavascript:alert(1)",
    "http://", "https:///evil", "mailto:", "feed:javascript:alert(1)", "filesystem:http://a/",
    "\u202ejavascript:alert(1)",
]  # fmt: skip
FORMS = [
    "[text]({})", "[text](<{}>)", "[text]({} \"title\")", "![text]({})", "![text](<{}>)",
    "<{}>", "{}", "[a [b](https://in.example) c]({})", "[![i]({})](https://out.example)",
    "[![i](https://in.example)]({})", "[text]: {}\n\n[text]", "# [h]({})", "> - [q]({})",
    "| [c]({}) |\n|---|\n| ![d]({}) |", "**[s]({})**", "- [ ] [t]({})", "[text](\n{}\n)",
    "[te\nxt]({} 'x')", "`a` [`c`]({})",
]  # fmt: skip
TAGS = "P H3 H4 UL OL LI DIV BLOCKQUOTE TABLE THEAD TBODY TR TH TD PRE CODE EM STRONG DEL BR A SPAN"
DRAW = """async ([texts, tags]) => {
    const { MarkdownView, drawAll } = await import("/markdown-view.js");
    const host = document.body.appendChild(document.createElement("div"));
    const odd = [];
    for (const text of texts) {
        host.replaceChildren();
        new MarkdownView(host).end(text);
        drawAll();
        for (const e of host.querySelectorAll("*")) {
            if (e.closest("button, svg, input")) continue;
            if (!tags.includes(e.nodeName)) odd.push([text, e.nodeName]);
            const names = [...e.attributes].map(({ name }) => name);
            if (names.some((name) => /^(on|src|style)/.test(name))) odd.push([text, names]);
        }
        for (const a of host.querySelectorAll("a")) {
            const { protocol, host: where } = new URL(a.href);
            const isWeb = ["http:", "https:", "mailto:"].includes(protocol);
            const isApart = a.target === "_blank" && /noopener/.test(a.rel);
            if (!isWeb || !isApart || where === location.host) odd.push([text, a.href]);
        }
    }
    host.remove();
    return odd;
}"""


def test_no_link_of_any_form_leads_to_a_script_or_into_the_page(page: Page) -> None:
    """A link of another scheme than http, https and mailto is text, however it is written."""
    texts = [form.replace("{}", each) for form in FORMS for each in SCRIPTS]
    assert page.evaluate(DRAW, [texts, TAGS.split()]) == []


APPENDED = """async (text) => {
    const { MarkdownView } = await import("/markdown-view.js");
    const host = document.createElement("div");
    const observer = new MutationObserver(() => {});
    observer.observe(host, { childList: true, subtree: true });
    const view = new MarkdownView(host);
    const counts = [];
    const count = () => {
        const targets = observer.takeRecords().map(({ target }) => target.closest("[dir]"));
        counts.push(targets.filter((directed) => directed).length);
    };
    view.grow(text.repeat(100));
    count();
    view.end(text.repeat(200));
    count();
    return counts;
}"""


@pytest.mark.parametrize("text", ["*a* ", "<br>", "`a` ", "- a\n", "> a\n\n"])
def test_a_text_is_drawn_before_its_direction_is_asked_for(page: Page, text: str) -> None:
    """A block has its elements before its direction, which is looked for again with each more."""
    first, later = page.evaluate(APPENDED, text)
    assert first == 0  # 50,000 one by one took half a minute
    assert later <= (103 if text == "- a\n" else 3)


JUNK: list[Any] = [
    5, [None, 5, "x", {}], {"base": 5, "key": {}, "model": [1], "remember": True},
    {"base": "javascript:alert(1)", "model": {"a": 1}, "remember": "x"},
    {"remember": True, "key": "\n\u20ac"},
    [{"id": "a", "title": 5, "updated_at": {}, "parent_id": 7, "pinned": "x"}, {"id": ""},
     {"id": "b", "title": {"a": 1}, "first_words": [1]}, {"id": "b", "updated_at": "x"},
     {"id": "<b>../x", "title": "<img src=x onerror=alert(1)>", "parent_id": "a", "archived": 1}],
]  # fmt: skip


def test_what_another_version_has_kept_is_no_error(url: str, visit: Visits) -> None:
    """Whatever the browser's storage holds, a question is answered and stands in the list."""
    names = ["hermes-settings", f"hermes-sessions {url}/", f"hermes-draft {url}/ ", "hermes-theme"]
    page = visit().open(url)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    for number, junk in enumerate(["{no json", *map(json.dumps, JUNK)]):
        page.evaluate(
            """([names, junk]) => {
                for (const storage of [localStorage, sessionStorage]) {
                    storage.clear();
                    for (const name of names) storage.setItem(name, junk);
                }
                history.replaceState(null, "", location.pathname);
            }""",
            [names, junk],
        )
        page.reload()
        ask(page, f"Number {number}")
        wait_for_answer(page, f"You said: Number {number}")
        expect(
            page.locator("#sessions .session-title", has_text=f"Number {number}")
        ).to_be_visible()


def test_names_are_text_and_stay_in_their_places(url: str, visit: Visits) -> None:
    """Markup and marks of direction in names do nothing, and a long one displaces nothing."""
    name = "<img src=x onerror=alert(1)> \u202egnp.\u2066 </option></select> [a](javascript:b) " * 3
    somebody = visit()
    models = {"data": [{"id": name}, {"id": "b<script>"}, {"id": 5}]}
    somebody.context.route("**/v1/models", lambda route: route.fulfill(json=models))
    page = somebody.open(url)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    expect(page.get_by_role("combobox", name="Model")).to_be_visible()
    # The hint beside it has its one line.
    assert page.locator(".under").evaluate("(e) => e.offsetHeight") < 50
    ask(page, name)
    wait_for_answer(page, "You said: ")
    assert page.locator("#sessions :is(img, script), #model-picker :not(option)").count() == 0
    page.get_by_role("button", name="Delete", exact=True).click()
    # An isolate is not enough: its end would close the name's own one that is open.
    title = page.locator("#delete-name")
    assert title.evaluate("(e) => getComputedStyle(e).display") == "inline-block"
