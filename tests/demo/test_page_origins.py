"""The chat page served from elsewhere, and with API keys."""

import sys
from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Page, Route, expect

from demo_app.web import FOLDER
from tests.support.browser import (
    Visits,
    ask,
    browser,
    messages,
    regenerate,
    requests_of,
    session_of,
    shoot,
    visit,
    wait_for_answer,
)
from tests.support.server import demo, free_port, serving

__all__ = ["browser", "visit"]  # fixtures


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's folder, on a server that serves files and nothing else."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    folder = tmp_path_factory.mktemp("elsewhere")
    with serving([*command, "--directory", str(FOLDER)], port, folder, ready="/"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, elsewhere: str) -> Iterator[str]:
    """A demo without keys, for pages of the other origin too."""
    with demo(tmp_path_factory.mktemp("open"), "--cors-origins", elsewhere) as served:
        yield served


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, elsewhere: str) -> Iterator[str]:
    """A demo with API keys, for pages of the other origin too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HERMES_API_KEYS", "ada-key,bob-key")
        with demo(tmp_path_factory.mktemp("keyed"), "--cors-origins", elsewhere) as url:
            yield url


def set_up(page: Page, *, base: str = "", key: str = "", remember: bool = False) -> None:
    """Give the page an address and a key."""
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label("API address").fill(base)
    page.get_by_label("API key").fill(key)
    page.get_by_label("Keep the key").set_checked(remember)
    page.get_by_role("button", name="Save").click()


def titles(page: Page) -> list[str]:
    return page.locator("#sessions .session-title").all_inner_texts()


def test_it_talks_to_another_origin(elsewhere: str, url: str, visit: Visits) -> None:
    """Served by any web server, the page uses an API that allows its origin, id and all."""
    somebody = visit()
    somebody.expect("404", "501")  # of the server of files, which is no API
    page = somebody.open(elsewhere)
    expect(page.get_by_role("alert")).to_contain_text("There is no such API")
    set_up(page, base=url)
    ask(page, "My name is Ada.")
    wait_for_answer(page, "first message")
    kept = httpx2.get(f"{url}/v1/sessions/{session_of(page)}/messages").json()
    assert [each["content"] for each in kept["data"]] == messages(page)
    regenerate(page)
    wait_for_answer(page, "first message")
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("textbox", name="Title").fill("From elsewhere")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("From elsewhere")
    page.reload()
    wait_for_answer(page, "first message")
    ask(page, "And after a reload?")
    wait_for_answer(page, "the first was: My name is Ada.")


def test_an_origin_that_is_not_allowed_reads_nothing(
    elsewhere: str, url: str, visit: Visits
) -> None:
    """A page of an origin that is not allowed is told nothing, and says what may be wrong."""
    somebody = visit()
    somebody.expect("404", "blocked by CORS policy", "net::ERR_FAILED")
    origin = elsewhere.replace("127.0.0.1", "localhost")
    page = somebody.open(origin)
    set_up(page, base=url)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(f"or does not allow pages of {origin}")
    shoot(page, "wide-refused")
    ask(page, "Hello?")
    page.get_by_role("button", name="Give up").click()
    assert messages(page) == []
    assert session_of(page) == ""


def test_a_key_is_asked_for(keyed: str, visit: Visits) -> None:
    """A page without a key says that one is needed, and is told where it is a wrong one."""
    somebody = visit(phone=True)
    somebody.expect("401")
    page = somebody.open(keyed)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("needs an API key")
    note = page.locator("#sessions-note")
    expect(note).to_have_text("Give an API key to see your conversations.")
    shoot(page, "phone-needs-key")
    page.get_by_role("button", name="Open the settings").click()
    page.get_by_label("API key").fill("no-such-key")
    page.keyboard.press("Enter")
    expect(note).to_have_text("This server needs an API key, or does not know this one.")
    expect(alert).to_contain_text("needs an API key, or does not know this one")
    page.get_by_role("button", name="Open the settings").click()
    page.get_by_label("API key").fill("ädä")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_be_visible()  # it could not be sent
    page.get_by_label("API key").fill("ada-key")
    page.keyboard.press("Enter")
    expect(alert).to_be_hidden()
    ask(page, "Hello.")
    wait_for_answer(page, "first message")
    page.get_by_role("button", name="Options of this conversation").click()
    page.get_by_role("menuitem", name="Delete").click()
    text = page.locator("#delete-text")
    expect(text).to_have_text("“Hello.” will be gone for good.", use_inner_text=True)


def test_the_settings_lose_nothing_that_was_written(keyed: str, visit: Visits) -> None:
    """A question that needed a key is in the box once there is one, and drafts stay as well."""
    somebody = visit()
    somebody.expect("401", "404")
    page = somebody.open(keyed)
    box = page.get_by_role("textbox", name="Message")
    ask(page, "My name is Ada.")
    expect(page.get_by_role("button", name="Give up")).to_be_visible()
    box.fill("And a draft.")
    page.get_by_role("button", name="Open the settings").click()
    page.get_by_label("API key").fill("ada-key")
    with page.expect_response("**/v1/sessions?*"), page.expect_response("**/v1/models"):
        page.keyboard.press("Enter")
    expect(box).to_have_value("My name is Ada.\n\nAnd a draft.")
    with requests_of(page) as asked:
        set_up(page, key="ada-key")  # nothing else than it was
        expect(box).to_have_value("My name is Ada.\n\nAnd a draft.")
    assert asked == []
    expect(page.locator("#models option")).to_have_count(1)  # the server's, to choose from
    set_up(page, key="ada-key", remember=True)
    box.press("Enter")
    wait_for_answer(page, "And a draft.")
    box.fill("Another draft.")
    set_up(page, key="bob-key")
    expect(page.get_by_text("Nothing is stored under this id yet.")).to_be_visible()
    expect(box).to_have_value("Another draft.")


def test_models_that_are_told_late_are_offered(keyed: str, visit: Visits) -> None:
    """A settings dialog that was opened before the server told its models offers them as well."""
    somebody = visit()
    somebody.expect("401")
    page = somebody.open("about:blank")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/v1/models", hold)
    with page.expect_request("**/v1/models"):
        page.goto(keyed)
    page.get_by_role("button", name="Settings", exact=True).click()
    model = page.get_by_role("dialog").get_by_label("Model")
    expect(model).to_be_visible()  # and so the dialog is there before the models are
    offered = "field => Array.from(field.list.options, (one) => one.value)"
    assert model.evaluate(offered) == []
    held[0].fulfill(json={"object": "list", "data": [{"id": "late"}]})
    expect(page.locator("#models option")).to_have_count(1)
    assert model.evaluate(offered) == ["late"]


def test_two_keys_see_their_own(keyed: str, elsewhere: str, visit: Visits) -> None:
    """Each key has its list, from the server; another's conversation does not exist."""
    ada, bob = visit(), visit()
    for somebody in (ada, bob):
        somebody.expect("401", "404")
    hers, his = ada.open(keyed), bob.open(elsewhere)
    set_up(hers, key="ada-key")
    set_up(his, base=keyed, key="bob-key")
    ask(hers, "Ada was here.")
    wait_for_answer(hers, "first message")
    ask(his, "Bob was here.")
    wait_for_answer(his, "first message")
    expect(hers.locator("#sessions a", has_text="Ada was here.")).to_be_visible()
    expect(his.locator("#sessions a", has_text="Bob was here.")).to_be_visible()
    assert "Bob was here." not in titles(hers)
    assert titles(his) == ["Bob was here."]
    his.goto(f"{elsewhere}/#{session_of(hers)}")
    expect(his.get_by_text("Nothing is stored under this id yet.")).to_be_visible()
    assert messages(his) == []


def test_a_key_is_kept_for_the_tab_or_for_longer(keyed: str, visit: Visits) -> None:
    """A key is gone with its tab, unless it is to be kept: then every tab has it, and the list."""
    somebody = visit()
    somebody.expect("401")
    first = somebody.open(keyed)
    set_up(first, key="bob-key")
    ask(first, "For this tab.")
    wait_for_answer(first, "first message")
    first.reload()
    wait_for_answer(first, "first message")
    second = somebody.open(keyed)
    expect(second.get_by_role("alert")).to_contain_text("needs an API key")
    set_up(first, key="bob-key", remember=True)
    second.get_by_role("link", name="For this tab.").click()
    wait_for_answer(second, "first message")


def test_a_key_goes_to_its_own_address_alone(keyed: str, url: str, visit: Visits) -> None:
    """Where another tab gives another address, this tab's key is not sent there."""
    somebody = visit()
    somebody.expect("401", "blocked by CORS policy", "net::ERR_FAILED", "403")
    sent: list[str] = []
    somebody.context.on(
        "request",
        lambda each: (
            sent.append(each.headers.get("authorization", "")) if each.url.startswith(url) else None
        ),
    )
    first = somebody.open(keyed)
    set_up(first, key="ada-key")
    ask(first, "Mine.")
    wait_for_answer(first, "You said")
    second = somebody.open(keyed)
    with first.expect_request(f"{url}/**"):
        set_up(second, base=url)
    with first.expect_request(f"{url}/**"):
        first.reload()
    assert set(sent) == {""}


def test_a_long_list_comes_in_pages(keyed: str, visit: Visits) -> None:
    """The list has its newest thirty at first, and the rest when asked for."""
    headers = {"Authorization": "Bearer ada-key"}
    for number in range(35):
        body = {"messages": [{"role": "user", "content": f"Thread {number}"}]}
        httpx2.post(f"{keyed}/v1/chat/completions", json=body, headers=headers).raise_for_status()
    somebody = visit()
    somebody.expect("401")
    page = somebody.open(keyed)
    set_up(page, key="ada-key")
    more = page.get_by_role("button", name="Load more")
    more.click()
    expect(more).to_be_hidden()
    assert {f"Thread {number}" for number in range(35)} <= set(titles(page))
    assert len(titles(page)) == len(page.evaluate(
        "[...new Set([...document.querySelectorAll('#sessions a')].map((a) => a.hash))]"
    ))  # fmt: skip
