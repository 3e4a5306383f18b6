"""A web client goes on with a conversation that began on another platform."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from hermes_session_mw import (
    HermesSession,
    HermesSessionMiddleware,
    HermesStateStore,
    SessionBusy,
    TurnConflict,
    get_session,
)
from tests.stores.hermes_state.agent import COMPRESSED, TIP, golden, hermes, without_times
from tests.support.asgi import request, stamp

ASKED = {"role": "user", "content": "And day 3?"}
ANSWERED = {"role": "assistant", "content": "Cascais."}


async def chat(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the history, and store a turn."""
    session = get_session(Request(scope))
    body = json.dumps(session.history).encode()
    await session.append(ASKED, ANSWERED, turn_id="web 1", expected_length=len(session.history))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def test_a_web_client_goes_on_under_the_id_that_it_holds(
    state: HermesStateStore, state_db: Path
) -> None:
    """A compressed Telegram session goes on at its tip; the client's id is the one it sent."""
    app = HermesSessionMiddleware(chat, state)
    log = await request(app, COMPRESSED)
    assert stamp(log) == COMPRESSED
    assert json.loads(log[1]["body"]) == golden(TIP)
    with hermes(state_db) as agent:
        assert without_times(agent.conversation(TIP)[4:]) == [ASKED, ANSWERED]
        agent.append(TIP, {"role": "user", "content": "from the phone"})
    seen: list[Any] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(get_session(Request(scope)).history)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await request(HermesSessionMiddleware(look, state), COMPRESSED)
    assert seen[-1]["content"] == "from the phone"
    assert len(seen) == 7


async def test_an_answer_that_breaks_off_is_kept(state_db: Path) -> None:
    """What had come of an answer is stored, and marked by its finish reason."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        async with get_session(Request(scope)).record(ASKED) as answer:
            answer.write("Casc")
            raise RuntimeError("the model")

    store = HermesStateStore(state_db)
    with pytest.raises(RuntimeError, match="the model"):
        await request(HermesSessionMiddleware(fails, store), COMPRESSED)
    messages = (await store.load(COMPRESSED, limit=2)).messages
    broken = {"role": "assistant", "content": "Casc", "finish_reason": "incomplete"}
    assert without_times(messages) == [ASKED, broken]
    await store.aclose()


async def test_a_session_finds_its_turn_and_takes_it_back(
    state: HermesStateStore, state_db: Path
) -> None:
    """A repeated request finds its answer, a rewind is Hermes' own, and one has the turn."""
    found: list[Any] = []

    async def again(scope: Scope, receive: Receive, send: Send) -> None:
        session = get_session(Request(scope))
        turn = await session.find_turn("web 1", question=[ASKED])
        assert turn is not None
        found.extend(turn.messages)
        async with session.turn():
            assert await session.rewind(4) == len(session.history) == 4
            with pytest.raises(SessionBusy):
                await HermesSession(state, TIP).turn(wait=0).acquire()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await request(HermesSessionMiddleware(chat, state), COMPRESSED)
    await request(HermesSessionMiddleware(again, state), COMPRESSED)
    assert found == [ASKED, ANSWERED]
    with hermes(state_db) as agent:
        assert agent.conversation(TIP) == golden(TIP)


async def test_a_turn_is_stored_without_its_requests_digest(state: HermesStateStore) -> None:
    """Hermes' table has no column for it: a repeated request is known by its messages."""
    session = HermesSession(state, "web", idempotency_key="k")
    async with session.record(ASKED, digest="d1") as answer:
        answer.write("Cascais.")
    (_, stored) = without_times((await state.load("web")).messages)
    assert stored == {"role": "assistant", "content": "Cascais."}
    assert await session.find_turn(told=[ASKED], digest="d2") is not None
    with pytest.raises(TurnConflict):
        await session.find_turn(told=[ANSWERED, {**ASKED, "content": "And?"}], digest="d1")
