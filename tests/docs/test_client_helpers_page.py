"""What docs/client-helpers.md shows in JavaScript, and the modules in clients/js, in Node."""

import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.demo.clients.matrix import node
from tests.docs.chats import AI_SDK, ai_sdk_options, said
from tests.docs.pages import KEYS, Backend, Client, Driver, backend, driving, laid_out
from tests.support.cutting_proxy import CuttingProxy, cutting
from tests.support.server import ROOT, demo
from tests.support.stepped_model import SteppedModel, stepped_model

PAGE = "client-helpers.md"

TYPED = """
import type { ChatTransport, UIMessage } from 'ai';
import { HermesChatTransport } from './clients/ai-sdk-transport.js';

export const transport: ChatTransport<UIMessage> = new HermesChatTransport();
"""
TYPE_CHECKER = (
    "--noEmit --allowJs --checkJs --strict --skipLibCheck --target es2022 --module nodenext "
    "--lib es2022,dom,dom.iterable"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """The page's files beside the modules, and what drives them."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "clients").symlink_to(ROOT / "clients")
    with driving(PAGE, AI_SDK.environment, "client_helpers.mjs", folder) as driver:
        yield driver


@pytest.fixture(scope="module")
def model() -> Iterator[SteppedModel]:
    """The demo's model."""
    with stepped_model() as model:
        yield model


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, model: SteppedModel) -> Iterator[CuttingProxy]:
    """A proxy before the demo."""
    folder = tmp_path_factory.mktemp("demo")
    with (
        demo(folder, "--upstream", model.url, HERMES_API_KEYS=KEYS["ada"]) as url,
        cutting(int(url.rpartition(":")[2])) as proxy,
    ):
        yield proxy


@pytest.fixture
def conversation(driver: Driver, proxy: CuttingProxy, model: SteppedModel) -> Callable[[], Client]:
    """Opens conversations with the demo; those of a test have one id, in one storage."""
    model.forget()

    def open_one() -> Client:
        options = {"url": f"{proxy.url}/v1", "key": KEYS["ada"]}
        return driver.open(secrets.token_hex(4), "conversation", options)

    open_one().do("forget")
    return open_one


def value(client: Client, method: str, *given: Any) -> Any:
    """Return what a method of the client returns."""
    client.do("ask", method, *given)
    told = client.settled()
    assert told["end"] in {None, "completed", "stopped"}, told["end"]
    return told["value"]


def test_a_conversation_goes_on_over_cuts(
    conversation: Callable[[], Client], model: SteppedModel, proxy: CuttingProxy
) -> None:
    """Pieces come once and in order; the id is kept in the storage, and listed by the routes."""
    mine = conversation()
    mine.do("say", "Hi")
    for piece in ("a", "b"):
        model.say(piece)
        mine.shows(piece)
        proxy.drop()
    model.end("c")
    told = mine.settled()
    assert (told["messages"], told["end"]) == ([["assistant", "abc"]], "completed")
    session_id = told["id"]
    assert told["kept"] == [session_id]
    again = conversation_of(mine, model, "And?", "d")
    assert (again["id"], again["messages"]) == (session_id, [["assistant", "abcd"]])
    contents = [each["content"] for each in value(mine, "messages")["data"]]
    assert contents == ["Hi", "abc", "And?", "d"]
    assert value(mine, "rename", session_id, "Letters")["title"] == "Letters"
    fork = value(mine, "fork", session_id, 2)
    listed = value(mine, "list", {"limit": 1})
    assert (listed["data"][0]["id"], listed["has_more"]) == (fork["id"], True)
    following = value(mine, "list", {"cursor": listed["next_cursor"]})["data"]
    assert session_id in [each["id"] for each in following]
    assert fork["length"] == 2
    mine.do("ask", "delete", session_id)
    assert mine.settled()["id"] is None
    mine.do("ask", "info", session_id)
    assert "404, session_not_found" in mine.settled()["end"]


def conversation_of(client: Client, model: SteppedModel, question: str, answer: str) -> Any:
    """Ask and be answered; return what the client tells."""
    model.end(answer)
    client.do("say", question)
    return client.settled()


def test_an_answer_is_followed_and_stopped(
    conversation: Callable[[], Client], model: SteppedModel, proxy: CuttingProxy
) -> None:
    """A page that is loaded meanwhile has all of it, over a cut; a later one has nothing."""
    first = conversation()
    first.do("say", "Hi")
    model.say("one ")
    first.shows("one ")
    second = conversation()  # by the id in the storage
    second.do("follow")
    second.shows("one ")
    proxy.drop()
    model.say("two")
    second.shows("one two")
    assert value(conversation(), "stop") is True
    for each in (first, second):
        told = each.settled()
        assert (told["messages"], told["end"]) == ([["assistant", "one two"]], "stopped")
    assert value(conversation(), "stop") is False
    later = conversation()
    later.do("follow")
    told = later.settled()
    assert (told["messages"], told["end"]) == ([["assistant", ""]], None)
    second.do("request", "http://other.test/")
    assert "another origin" in second.settled()["end"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """The server of the page about the AI SDK."""
    with backend(AI_SDK.page, tmp_path_factory.mktemp("server")) as served:
        yield served


def test_use_chat_sees_one_stream(driver: Driver, served: Backend) -> None:
    """An answer that is cut off comes whole and once, whether it runs or has ended meanwhile."""
    name, (model, proxy) = secrets.token_hex(8), (served.model, served.proxy)
    options = ai_sdk_options(proxy.url, name, KEYS["ada"])
    first, second, third = (driver.open(secrets.token_hex(4), "chat", options) for _ in range(3))
    first.do("send", "Hello.")
    model.say("one ")
    first.shows("one ")
    second.do("resume")
    second.shows("one ")
    proxy.drop()
    model.say("two ")
    for each in (first, second):
        assert each.shows("two ")["end"] == "streaming"
    third.do("stop")
    for each, asked in ((first, True), (second, False)):
        told = each.settled()
        assert (told["messages"][asked:], told["end"]) == ([["assistant", "one two "]], "ready")
    model.end()
    first.do("send", "Again.")
    model.say("three ")
    first.shows("three ")
    proxy.cut()
    model.say("four")
    model.end()
    proxy.mend()
    told = first.settled()
    assert told["messages"] == said("Hello.", "one two ", "Again.", "three four")
    assert told["end"] == "ready"
    second.do("resume")
    assert second.settled()["end"] == "ready"
    assert len(model.asked) == 2


def test_the_types_of_the_modules_are_right_and_fit_the_ai_sdk(tmp_path: Path) -> None:
    """TypeScript finds no fault in the modules, and takes the transport for one of the AI SDK."""
    laid_out(PAGE, AI_SDK.environment, tmp_path)
    shutil.copytree(ROOT / "clients" / "js", tmp_path / "clients")
    (tmp_path / "typed.ts").write_text(TYPED)
    command = [node(), "node_modules/typescript/bin/tsc", *TYPE_CHECKER.split(), "typed.ts"]
    checked = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert (checked.stdout, checked.returncode) == ("", 0)


ODD_EVENTS = """
import { HermesClient } from './clients/hermes-client.js';
const bodies = [
  'event: end\\ndata: null\\n\\n',
  'data: {"event_id": [1]}\\n\\ndata: {"choices": [null]}\\n\\n',
  'id: \\u00e9\\u4e00:2\\ndata: "x"\\n\\n',
];
for (const body of bodies) {
  const sent = [];
  const fetch = async (url, { headers }) => {
    sent.push(headers.get('Last-Event-ID'));
    const told = { 'Content-Type': 'text/event-stream', 'X-Hermes-Session-Id': 's' };
    return sent.length === 1
      ? new Response(body, { headers: told })
      : new Response(null, { status: 204 });
  };
  const client = new HermesClient({ url: 'http://a.test/', fetch, delay: 0 });
  const pieces = [];
  try {
    for await (const { payload } of client.ask('chat', {})) pieces.push(payload);
  } catch (error) {
    console.log(error.reason, JSON.stringify(pieces), JSON.stringify(sent.slice(1)));
  }
}
"""


def test_events_of_another_shape_are_told_as_such(tmp_path: Path) -> None:
    """An end without a state is unreadable, and a place beyond ASCII is sent as UTF-8."""
    shutil.copytree(ROOT / "clients" / "js", tmp_path / "clients")
    (tmp_path / "odd.mjs").write_text(ODD_EVENTS)
    command = [node(), "odd.mjs"]
    ran = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
    place = "é一:1".encode().decode("latin-1")
    assert ran.stdout.splitlines() == [
        "unreadable [] []",
        'over [{"event_id":[1]}] [null]',
        f'over ["x"] ["{place}"]',
    ]
