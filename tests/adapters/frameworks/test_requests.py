"""What every adapter does inside a request, seen from the request's client."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from agents import Agent, Runner
from httpx2 import ASGITransport, AsyncClient, Response
from llama_index.core.base.llms.types import ChatMessage
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hermes_session_mw import (
    HermesSession,
    HermesSessionMiddleware,
    request_digest,
)
from hermes_session_mw.adapters.llama_index import StoredChatStore
from hermes_session_mw.adapters.openai_agents import StoredSession
from hermes_session_mw.messages import chat_messages
from tests.adapters.frameworks.participants import (
    ID,
    OWNER,
    PARTICIPANTS,
    AnyStore,
    Participant,
    Turn,
    write_llama_index,
)
from tests.adapters.frameworks.test_openai_agents import ScriptedModel, answer, calls, look, user

FRAMEWORKS = [each for each in PARTICIPANTS if each.name != "an endpoint"]
KEYED = [
    each
    for each in FRAMEWORKS
    if each.name in ("OpenAI Agents SDK", "Agent Framework", "LlamaIndex", "LangGraph")
]


def named(each: Participant) -> str:
    return each.name


@dataclass
class Client:
    """Asks an endpoint that runs an agent, under one key."""

    store: AnyStore
    run: Callable[[HermesSession], Awaitable[object]]
    looks: bool = True

    async def ask(self, text: str = "Q", **headers: str) -> Response:
        app = HermesSessionMiddleware(
            Starlette(routes=[Route("/", self._endpoint, methods=["POST"])]),
            self.store,
            owner=lambda _: OWNER,
        )
        transport = ASGITransport(app=app, raise_app_exceptions=False)
        named = {"X-Hermes-Session-Id": ID, "Idempotency-Key": "k", **headers}
        async with AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.post("/", json={"text": text}, headers=named)

    async def _endpoint(self, request: Request) -> JSONResponse:
        session: HermesSession = request.state.hermes_session
        digest = request_digest(await request.json())
        async with session.turn():
            done = await session.find_turn(digest=digest) if self.looks else None
            if done is not None and done.is_answered:
                session.mark_replayed()
                return JSONResponse(done.messages[-1]["content"])
            return JSONResponse(await self.run(session))

    async def texts(self) -> list[Any]:
        """Return what is said in the stored messages that are for everybody."""
        history = await self.store.load(ID, OWNER)
        return [each["content"] for each in chat_messages(history.messages)]


async def test_a_cut_run_is_gone_on_with_and_an_answered_one_is_replayed(store: AnyStore) -> None:
    """A retry asks the model, once, and is given the answer; another body is refused."""
    # A model without an answer raises: the first run is cut after its question, the second after a
    # tool's result.
    model = ScriptedModel()

    async def run(session: HermesSession) -> object:
        agent = Agent(name="a", model=model, tools=[look])
        return (await Runner.run(agent, "Q", session=StoredSession(session))).final_output

    client = Client(store, run)
    for given in ([], [calls(1)]):
        model._answers += given
        assert (await client.ask()).status_code == 500
    model._answers += [calls(2), answer("A")]
    again = await client.ask()
    assert (again.status_code, again.json()) == (200, "A")
    assert [given.count(user("Q")) for given in model.given] == [1] * 5
    asked, stored = len(model.given), await client.texts()
    assert (stored.count("Q"), stored.count("A")) == (1, 1)
    replayed = await client.ask()
    assert (replayed.json(), replayed.headers["Idempotency-Replayed"]) == ("A", "true")
    assert (await client.ask("another")).status_code == 409
    assert (len(model.given), await client.texts()) == (asked, stored)


@pytest.mark.parametrize("participant", KEYED, ids=named)
async def test_a_repeated_run_is_stored_once(store: AnyStore, participant: Participant) -> None:
    """An endpoint that does not look has the model answer otherwise, and stores no second turn."""
    turns = [Turn(1), Turn(1)]
    turns[1].answer = "Somewhere else."

    async def run(session: HermesSession) -> None:
        await participant.write(session, turns.pop(0))

    client = Client(store, run, looks=False)
    assert (await client.ask()).status_code == 200
    stored = await client.texts()
    assert (await client.ask()).status_code == 200
    assert await client.texts() == stored


@pytest.mark.parametrize("participant", KEYED, ids=named)
async def test_a_key_is_one_requests(store: AnyStore, participant: Participant) -> None:
    """The same body is given the whole turn's answer, and another one is refused."""

    async def run(session: HermesSession) -> None:
        await participant.write(session, Turn(1))

    client = Client(store, run)
    assert (await client.ask()).status_code == 200
    assert (await client.ask()).json() == Turn(1).answer
    assert (await client.ask("another")).status_code == 409
    assert await participant.read(store) == Turn(1).said()


async def test_parts_that_were_not_stored_are_stored_by_the_repetition(store: AnyStore) -> None:
    """A run in several appends is stored as far as it came, and then the rest, once."""
    given = [["Q"], ["Q", "A"], ["Q", "B"]]

    async def run(session: HermesSession) -> object:
        chat_store = StoredChatStore(session)
        for text, role in zip(given.pop(0), ("user", "assistant"), strict=False):
            await chat_store.add_messages("any", [ChatMessage(role=role, content=text)])
        return [each.content for each in await chat_store.get_messages("any")]

    client = Client(store, run, looks=False)
    for told in (["Q"], ["Q", "A"], ["Q", "A"]):
        assert (await client.ask()).json() == told
        assert await client.texts() == told


@pytest.mark.parametrize("participant", FRAMEWORKS, ids=named)
async def test_a_request_that_is_no_turn_stores_nothing(
    store: AnyStore, participant: Participant
) -> None:
    """It runs to its end, over a new conversation and over one that is stored."""

    async def run(session: HermesSession) -> None:
        await participant.write(session, Turn(2))

    client = Client(store, run)
    none = {"X-Hermes-Turn": "none"}
    assert (await client.ask(**none)).status_code == 200
    assert await store.load(ID, OWNER) == await store.load("other", OWNER)
    await participant.write(HermesSession(store, ID, owner=OWNER), Turn(1))
    stored = await store.load(ID, OWNER)
    assert (await client.ask(**none)).status_code == 200
    assert await store.load(ID, OWNER) == stored


async def test_a_framework_reads_what_a_request_that_is_no_turn_has_added(store: AnyStore) -> None:
    """LlamaIndex reads the question before it asks the model, and so it is there."""

    async def run(session: HermesSession) -> object:
        chat_store = StoredChatStore(session)
        await chat_store.add_messages("any", [ChatMessage(role="user", content="T")])
        return [each.content for each in await chat_store.get_messages("any")]

    await write_llama_index(HermesSession(store, ID, owner=OWNER), Turn(1))
    told = (await Client(store, run).ask(**{"X-Hermes-Turn": "none"})).json()
    assert told[-2:] == [Turn(1).answer, "T"]


@pytest.mark.parametrize("participant", FRAMEWORKS, ids=named)
async def test_a_session_knows_what_was_stored(store: AnyStore, participant: Participant) -> None:
    """After a run the endpoint appends to the length that its session has."""

    async def run(session: HermesSession) -> object:
        await participant.write(session, Turn(1))
        stored = await store.load(ID, OWNER)
        assert (session.history, session.length) == (stored.messages, stored.length)
        rated = {"role": "user", "content": "Thanks."}
        return await session.append(rated, expected_length=session.length)

    client = Client(store, run)
    assert (await client.ask()).status_code == 200
    assert (await client.texts())[-1] == "Thanks."
