"""What a model is given: clean, paired, and in windows whose beginning moves in steps."""

import json
from collections.abc import AsyncIterator, Sequence
from copy import deepcopy
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from hermes_session_mw import (
    HermesSession,
    HermesSessionMiddleware,
    HistoryNotLoaded,
    InvalidMessage,
    MemoryStore,
    SessionConflict,
    StoreUnavailable,
    get_session,
)
from hermes_session_mw.messages import Message
from hermes_session_mw.session.prompts import (
    STORED_ONLY,
    WindowLimits,
    estimate_tokens,
    prompt_of,
    window_of,
)
from hermes_session_mw.session.recording import INCOMPLETE
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.session.tool_calls import starts_turn
from hermes_session_mw.stores.hermes_state.message_codec import COLUMNS, decode
from hermes_session_mw.stores.hermes_state.rules import rules_of
from tests.support.asgi import http_scope
from tests.support.conversations import call, conversations, message_of, result, turn
from tests.support.strict_server import KEYS, refusal_of, strict
from tests.support.upstreams import upstream

USER: Message = {"role": "user", "content": "Hi"}
SAID: Message = {"role": "assistant", "content": "Well."}
SYSTEM: Message = {"role": "system", "content": "Be kind."}
CALLING: Message = {"role": "assistant", "content": None, "tool_calls": [call("1")]}
BACK = {
    "name": "ada",
    "refusal": None,
    "annotations": [],
    "audio": {"id": "audio_1"},
    "reasoning_content": "Hm.",
    "reasoning": "Hm.",
    "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}],
    "extra_content": {"google": {"thought_signature": "x"}},
}

PROMPTS: dict[str, tuple[list[Message], list[Message]]] = {
    "nothing": ([], []),
    "an answer that broke off": ([USER, SAID | INCOMPLETE], [USER, SAID]),
    "an answer of which nothing came": ([USER, {**SAID, "content": ""} | INCOMPLETE], [USER]),
    "an answer that says nothing": ([USER, {**SAID, "content": None, "refusal": None}], [USER]),
    "a call that broke off": ([USER, CALLING | INCOMPLETE, USER], [USER, USER]),
    "text and a call that broke off": (
        [USER, SAID | {"tool_calls": [call("1")]} | INCOMPLETE], [USER, SAID],
    ),
    "a call and its result": (
        [USER, CALLING, result("1") | {"tool_name": "f", "timestamp": 1.5}, SAID],
        [USER, CALLING, result("1"), SAID],
    ),
    "a refusal": ([{**SAID, "content": None, "refusal": "No."}],) * 2,
    "an answer that was spoken": ([{**SAID, "content": None, "audio": {"id": "audio_1"}}],) * 2,
    "what has to go back": ([SAID | BACK], [SAID | BACK]),
    "the application's own": ([USER | {"metadata": {"ip": "::1"}}], [USER]),
    "what Hermes Agent has written": (
        [SAID | {"reasoning": "Hm.", "reasoning_content": "Hm.", "timestamp": 1.5}],
        [SAID | {"reasoning_content": "Hm."}],
    ),
    "what came with the response": (
        [SAID | {"finish_reason": "length", "model": "m", "usage": {"total_tokens": 1},
                  "response": {}}],
        [SAID],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("history", "prompt"), PROMPTS.values(), ids=PROMPTS)
async def test_a_prompt_is_what_a_model_takes(
    history: list[Message], prompt: list[Message]
) -> None:
    """What is for the store alone is left out, and so is what no provider takes; nothing else."""
    session = await stored(*history)
    assert session.prompt() == session.window() == prompt
    assert session.prompt(USER) == [*prompt, USER]
    assert session.history == history


async def test_a_prompt_is_the_callers_own() -> None:
    """Whoever changes a prompt's messages changes nothing of what is stored."""
    session = await stored(USER, SAID)
    for message in (*session.prompt(), *session.window()):
        message["content"] = "changed"
    assert session.history == [USER, SAID]


def test_a_strict_server_has_no_use_for_what_is_stored_only() -> None:
    """No key that is left out is one of Chat Completions, and what marks a broken answer is one."""
    assert STORED_ONLY.isdisjoint(set().union(*KEYS.values()))
    assert set(INCOMPLETE) <= STORED_ONLY


def test_a_row_of_hermes_is_what_a_strict_server_takes() -> None:
    """Of Hermes' own columns only those go to a model that providers have."""
    row = dict.fromkeys(COLUMNS, "[1]") | {"role": "assistant", "tool_calls": None}
    (message,) = prompt_of([decode(row, rules_of(None))])
    assert set(message) - KEYS["assistant"] == {"reasoning_content", "reasoning_details",
                                                "tool_call_id"}  # fmt: skip


async def test_a_prompt_may_replace_the_historys_end() -> None:
    """With replace_from it is the first messages and what is new, as they will be stored."""
    session = await stored(USER, SAID, USER, SAID, limit=2)
    other = {"role": "user", "content": "Or so?"}
    assert session.prompt(other, replace_from=3) == [USER, other]
    assert session.window(other, replace_from=3, max_messages=1) == [other]
    assert session.prompt(replace_from=4) == [USER, SAID]
    assert session.prompt(other, replace_from=0) == [other]
    with pytest.raises(SessionConflict, match="at least 5"):
        session.prompt(replace_from=5)
    with pytest.raises(ValueError, match="negative"):
        session.window(replace_from=-1)
    for place in ("1", 1.0, True):
        for given_to in (session.prompt, session.window):
            with pytest.raises(TypeError, match="replace_from"):
                given_to(replace_from=place)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [1, 2])
async def test_a_prompt_of_what_is_not_loaded_is_refused(place: int) -> None:
    """Where nothing of what is to be kept is loaded, that is told, and all can be loaded."""
    session = await stored(USER, SAID, USER, SAID, limit=2)
    for given_to in (session.prompt, session.window):
        with pytest.raises(HistoryNotLoaded, match=r"load\(limit=None\)"):
            given_to(USER, replace_from=place)
    await session.load(limit=None)
    assert session.prompt(USER, replace_from=place) == [*[USER, SAID][:place], USER]
    # Without a limit, a window of all has all.
    assert session.window() == [USER, SAID, USER, SAID]
    await session.load(limit=3)
    assert len(session.history) == 2  # from where a turn begins
    await session.load(limit=4)
    assert len(session.history) == 4
    assert len(await session.load()) == 2
    with pytest.raises(ValueError, match="more than 0"):
        await session.load(limit=0)


async def test_a_window_knows_what_was_loaded() -> None:
    """Its steps are those of the limit that the history was loaded with."""
    session = await stored(*[USER, SAID] * 20, limit=4)
    await session.load(limit=30)
    assert 15 <= len(session.window()) <= 30
    await session.load()
    assert len(session.window()) <= 4


async def test_a_degraded_session_has_nothing_to_keep() -> None:
    """Where the history could not be loaded, what is to be kept is not known: try again."""

    class Failing(MemoryStore):
        async def load(self, *_: Any, **__: Any) -> Any:
            raise StoreUnavailable("down")

    session = HermesSession(StoreClient(Failing(), degrade=True), "id")
    assert await session.load() == []
    for given_to in (session.prompt, session.window):
        with pytest.raises(StoreUnavailable, match="replace_from"):
            given_to(USER, replace_from=2)
        assert given_to(USER, replace_from=0) == given_to(USER) == [USER]
    session.record(USER, replace_from=2)  # the store decides


async def test_what_is_no_message_is_refused() -> None:
    """A list in place of messages is told at once, and so is a history that is not loaded."""
    session = await stored(USER)
    with pytest.raises(TypeError, match="list"):
        session.prompt([USER])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="str"):
        session.window("Hi")  # type: ignore[arg-type]
    unloaded = HermesSession(MemoryStore(), "id")
    for name in ("prompt", "window", "unanswered_calls"):
        with pytest.raises(HistoryNotLoaded):
            getattr(unloaded, name)()


async def test_the_session_says_which_calls_are_unanswered() -> None:
    """After a fork or a rewind to any length, it names the calls that the end waits for."""
    calls = [call("1"), call("2")]
    session = await stored(USER, CALLING | {"tool_calls": calls}, result("2"), result("1"), SAID)
    assert session.unanswered_calls == []
    child = await session.fork(3)
    assert child.unanswered_calls == [calls[0]]
    assert child.prompt()[1]["tool_calls"] == [calls[1]]
    assert child.prompt(result("1"))[1]["tool_calls"] == calls
    await session.rewind(2)
    assert session.unanswered_calls == calls
    assert session.prompt(USER) == [USER, USER]
    await session.append(result("1"), result("2"))
    assert session.unanswered_calls == []


@pytest.mark.filterwarnings("ignore:.*[Aa]sync.generator")  # which Starlette drops
async def test_a_conversation_goes_on_after_a_stream_was_cut() -> None:
    """A server that refuses unknown keys goes on with an answer that the client cut off."""
    store = MemoryStore()

    async def endpoint(request: Request) -> StreamingResponse:
        session = get_session(request)
        user = {"role": "user", "content": "Count to three."}
        answer = session.record(user)

        async def pieces() -> AsyncIterator[str]:
            async with answer:
                async for piece in model(session.prompt(user)):
                    answer.write(piece)
                    yield piece

        return StreamingResponse(pieces())

    async def model(messages: list[Message]) -> AsyncIterator[str]:
        prompts.append(messages)
        for piece in ("one ", "two ", "three"):
            yield piece

    async def leave_after_two(message: Any) -> None:
        if message.get("body") == b"two ":
            raise OSError("the client left")

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    prompts: list[list[Message]] = []
    app = HermesSessionMiddleware(Starlette(routes=[Route("/", endpoint)]), store)
    scope = http_scope([(b"x-hermes-session-id", b"id")])
    for _ in range(2):
        with pytest.raises(Exception):  # noqa: B017, PT011  # as the server's versions have it
            await app(dict(scope, asgi={"version": "3.0", "spec_version": "2.4"}), receive,
                      leave_after_two)  # fmt: skip
    history = (await store.load("id")).messages
    assert [message.get("status") for message in history] == [None, "incomplete"] * 2
    with upstream(strict) as server:
        first, then = [_ask(server.url, each) for each in ([*history, USER], [*prompts[1], USER])]
    assert (first.status_code, then.status_code) == (400, 200)
    assert first.json()["error"]["message"] == "messages[1].status"


def _ask(url: str, messages: list[Message]) -> httpx2.Response:
    return httpx2.post(f"{url}/chat/completions", json={"messages": messages})


@given(conversations(), st.lists(st.sampled_from("urac"), max_size=3), st.data())
def test_every_window_is_valid(
    history: list[Message], letters: list[str], data: st.DataObject
) -> None:
    """Of any history and limits a strict server takes the window, which begins where it may."""
    new = [message_of(letter) for letter in letters]
    most, tokens = (data.draw(st.none() | st.integers(1, 20)) for _ in range(2))
    limits = WindowLimits(most, tokens, count=lambda _: 2)
    skipped = data.draw(st.integers(0, 9))
    before = deepcopy(history)
    for prompt in (prompt_of([*history, *new]), window_of(history, new, limits, skipped=skipped)):
        assert refusal_of(prompt) is None
    assert history == before
    whole = prompt_of([*history, *new])
    window = window_of(history, new, limits, skipped=skipped)
    assert most or tokens or skipped or window == whole
    front = 0
    while front < len(window) and window[front]["role"] == "system":
        front += 1
    assert window[front:] == whole[len(whole) - len(window[front:]) :]
    bound = min(most or len(whole), tokens // 2 if tokens else len(whole))
    extra = len(new) + 4 if letters[:1] == ["r"] else len(new)  # with the calls that they answer
    assert len(window) <= max(bound, extra)


@pytest.mark.parametrize(
    ("turns", "limits"),
    [
        pytest.param(1_200, WindowLimits(max_messages=240), id="messages"),
        pytest.param(600, WindowLimits(max_tokens=16_000), id="tokens"),
        pytest.param(600, WindowLimits(max_messages=300, max_tokens=18_000), id="both"),
        pytest.param(600, WindowLimits(loaded=300), id="what is loaded"),
        pytest.param(
            600, WindowLimits(max_tokens=24_000, loaded=400), id="tokens of what is loaded"
        ),
    ],
)
def test_a_prompt_cache_keeps_hitting(turns: int, limits: WindowLimits) -> None:
    """Asked after each turn, 95 % of a window's bytes are what the last window began with."""
    history: list[Message] = []
    ends = [0]  # bytes of what is stored, up to each message
    sent = shared = last = before = 0
    for number in range(turns):
        question, *rest = turn(number)
        skipped = max(len(history) - limits.loaded, 0) if limits.loaded else 0
        while skipped and not starts_turn(history, skipped):
            skipped += 1
        window = window_of(history[skipped:], [question], limits, skipped=skipped)
        begins = len(history) + 1 - len(window)
        assert window[0] == [*history[begins : begins + 1], question][0]
        assert number % 100 or window == [*history[begins:], question]
        assert begins == 0 or starts_turn(history, begins)
        assert len(window) <= (limits.max_messages or limits.loaded or len(window)) + 1
        asked = len(history)
        history += [question, *rest]
        for message in history[asked:]:
            ends.append(ends[-1] + len(json.dumps(message)))
        sent += ends[asked + 1] - ends[begins]
        if begins == last:
            shared += ends[before] - ends[begins]
        last, before = begins, asked + 1
    assert shared >= 0.95 * sent


class Watched(Sequence[Message]):
    """A conversation that is made as it is looked at, and counts how often it is."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.visited = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(self._length))]
        self.visited += 1
        return message_of("ucra"[at % 4])


class Counted:
    """Counts each message as one token, and how often it is asked."""

    times = 0

    def __call__(self, _: Message) -> int:
        self.times += 1
        return 1


@pytest.mark.parametrize("limit", ["max_messages", "max_tokens"])
@pytest.mark.parametrize("new", [[USER], [result("1")]], ids=["a question", "a result"])
def test_a_window_looks_at_the_end_alone(limit: str, new: list[Message]) -> None:
    """Of a million messages it looks at no more than of a hundred, and counts each once."""
    visited = []
    for length in (100, 1_000_000):
        history, counted = Watched(length), Counted()
        most, tokens = (40, None) if limit == "max_messages" else (None, 40)
        window = window_of(history, new, WindowLimits(most, tokens, counted))
        assert len(window) <= 41
        assert counted.times <= 43
        visited.append(history.visited)
    assert max(visited) < 300


def test_the_first_instructions_stay_in_front() -> None:
    """The system messages that a conversation begins with are in every window, and count."""
    history = [SYSTEM, SYSTEM, *(message_of(letter) for letter in "uauauaua")]
    assert window_of(history, [USER], WindowLimits(max_messages=5)) == [
        SYSTEM,
        SYSTEM,
        *history[8:],
        USER,
    ]
    assert window_of(history, [USER], WindowLimits(max_messages=99)) == [*history, USER]
    alone = [*[SYSTEM] * 9, USER]
    assert window_of(alone, [], WindowLimits(max_messages=4)) == [SYSTEM] * 4
    tokens = WindowLimits(max_tokens=20, count=lambda each: 9 if each == SYSTEM else 1)
    assert window_of(history, [USER], tokens) == [SYSTEM, SYSTEM, SAID | {"content": "!"}, USER]
    assert window_of(alone, [], tokens) == [SYSTEM, SYSTEM, USER]
    assert window_of(history[2:], [], WindowLimits(max_messages=2), skipped=2) == history[8:]


def test_the_first_instructions_give_way_to_what_is_new() -> None:
    """What is new is always there, with the call that it answers; the front is if there is room."""
    asked = [SYSTEM, *(message_of(letter) for letter in "uaua")]
    assert window_of([SYSTEM], [USER], WindowLimits(max_messages=1)) == [USER]
    assert window_of(asked, [USER], WindowLimits(max_messages=1)) == [USER]
    assert window_of(asked, [USER], WindowLimits(max_messages=2)) == [SYSTEM, USER]
    assert window_of([SYSTEM, *asked], [USER, USER], WindowLimits(max_messages=1)) == [USER, USER]
    calling = [SYSTEM, USER, CALLING]
    assert window_of(calling, [result("1")], WindowLimits(max_messages=2)) == [CALLING, result("1")]
    tokens = WindowLimits(max_tokens=9, count=lambda each: 6 if each == USER else 4)
    assert window_of([SYSTEM], [USER], tokens) == [USER]
    assert window_of([SYSTEM, SAID], [SAID], tokens) == [SYSTEM, SAID]


TURN = [message_of(letter) for letter in "ucra"]
LONG = [message_of(letter) for letter in "ucrcrcra"]


@pytest.mark.parametrize(
    ("history", "new", "most", "start"),
    [
        ([*TURN, *TURN], [USER], 5, 4),
        ([*TURN, *TURN], [USER], 4, 7),  # a turn that is too long begins later
        ([*TURN, *LONG], [], 6, 7),
        ([*LONG, *TURN], [USER], 8, 8),
        (LONG, [USER], 6, 3),
        ([*TURN, *LONG[:-1]], [], 4, 9),
        ([*TURN, *LONG[:-1]], [], 1, 11),
        (LONG[:-2], [result("1")], 1, 5),  # results stay with the message that calls
        (LONG[:-2], [result("1"), USER], 9, 0),
        ([result("1")] * 3, [USER], 2, 3),
        ([result("1")] * 3, [result("1")], 2, 3),
        (TURN, [USER, USER, USER], 2, 4),  # what is new is always there
        ([], [USER], 1, 0),
        ([], [], 1, 0),
    ],
)
def test_a_long_turn_is_begun_later(
    history: list[Message], new: list[Message], most: int, start: int
) -> None:
    """Where whole turns are not within the limits, the window begins at no result all the same."""
    window = window_of(history, new, WindowLimits(max_messages=most))
    assert window == prompt_of([*history[start:], *new])


@pytest.mark.parametrize("name", ["max_messages", "max_tokens"])
@pytest.mark.parametrize("limit", [float("inf"), 2.0, "2", True])
async def test_a_limit_is_a_whole_number(name: str, limit: Any) -> None:
    """A number that is no int is refused, also infinity, up to which nothing can be counted."""
    session = HermesSession(MemoryStore(), "id", is_new=True)
    with pytest.raises(TypeError, match=name):
        session.window(USER, **{name: limit})


def containing_itself() -> Message:
    message: Message = {"role": "user", "content": []}
    message["content"] += [message, {"part": message}]
    return message


def nested(depth: int) -> Message:
    value: Any = "deep"
    for _ in range(depth - 1):
        value = [value]
    return {"role": "user", "content": value}


@pytest.mark.parametrize(
    "message", [containing_itself(), nested(101), nested(100_000)], ids=["itself", "101", "deep"]
)
async def test_what_nests_too_deep_is_not_counted(message: Message) -> None:
    """A message that no store would take, as it is too deep or has no end, is refused at once."""
    session = HermesSession(MemoryStore(), "id", is_new=True)
    with pytest.raises(InvalidMessage, match="deeper than 100 levels"):
        session.window(message, max_tokens=1000)


async def test_what_nests_as_deep_as_can_be_is_counted() -> None:
    """The deepest message that can be stored has its tokens estimated."""
    message = nested(100)
    session = HermesSession(MemoryStore(), "id", is_new=True)
    session.check(message)
    assert session.window(message, max_tokens=1000) == [message]


@pytest.mark.parametrize("limit", [{"max_messages": 0}, {"max_tokens": -1}])
async def test_a_limit_is_more_than_nothing(limit: dict[str, Any]) -> None:
    """A window of nothing is a mistake."""
    with pytest.raises(ValueError, match="more than 0"):
        (await stored(USER)).window(**limit)


async def test_a_window_counts_tokens_as_it_is_told() -> None:
    """The given function counts messages as they are sent; without one tokens are estimated."""
    asked: list[Message] = []

    def count(message: Message) -> int:
        asked.append(message)
        return 1

    session = await stored(USER | {"metadata": {"long": "x" * 4000}}, SAID, USER, SAID)
    assert session.window(max_tokens=4, count=count) == [USER, SAID, USER, SAID]
    assert asked == [SAID, USER, SAID, USER]
    assert session.window(max_tokens=30) == [USER, SAID]
    assert session.window(max_tokens=60) == [USER, SAID, USER, SAID]


def test_tokens_are_estimated_by_bytes() -> None:
    """A token for 4 bytes of text, a few for the message, and a thousand for a file in it."""
    assert estimate_tokens({"role": "user", "content": "x" * 4000}) == 4 + (4000 + 15) // 4
    assert estimate_tokens({"content": "é" * 2000}) == 4 + 4007 // 4
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
    assert 1000 < estimate_tokens({"role": "user", "content": [picture], "n": 1.5}) < 1050


LOADS: dict[str, tuple[str, int, int, int]] = {
    # what is stored, history_limit, where the history begins, how often the store is read
    "the issue's": ("ucraua", 4, 4, 1),
    "all of it": ("ucraua", 6, 0, 1),
    "whole turns": ("uaucraua", 7, 2, 1),
    "the last answer": ("ua", 1, 1, 1),
    "a long turn": ("uaucrcrcra", 3, 2, 2),
    "a long turn that has not ended": ("uaucrcrcr", 3, 2, 2),
    "a long first turn": ("acrcrcr", 3, 0, 2),
    "a turn that is longer than what is read": ("u" + "cr" * 80, 3, 159, 2),
    "another": ("u" + "cr" * 79 + "c", 1, 159, 2),
    "results alone": ("u" + "r" * 150, 2, 151, 2),
}


@pytest.mark.parametrize(("letters", "limit", "start", "reads"), LOADS.values(), ids=LOADS)
async def test_a_limited_history_begins_with_a_turn(
    letters: str, limit: int, start: int, reads: int
) -> None:
    """It never begins with a result whose call was cut off; only for a long turn is more read."""
    store = CountingStore()
    history = [message_of(letter) for letter in letters]
    session = await stored(*history, store=store, limit=limit)
    assert (session.history, session.length) == (history[start:], len(history))
    assert store.reads == reads
    assert session.window() == session.prompt() == prompt_of(history[start:])


class CountingStore(MemoryStore):
    """A store that counts how often it is read."""

    reads = 0

    async def load(self, *args: Any, **options: Any) -> Any:
        self.reads += 1
        return await super().load(*args, **options)


async def test_more_of_a_history_is_not_there_any_more() -> None:
    """Where the history was shortened before the rest of a long turn is read, what is left is."""

    class Shortened(MemoryStore):
        async def load(self, *args: Any, **options: Any) -> Any:
            history = await super().load(*args, **options)
            await self.rewind("id", 2)
            return history

    session = await stored(
        *(message_of(letter) for letter in "ucrcrcr"), store=Shortened(), limit=3
    )
    assert session.history == [message_of(letter) for letter in "uc"]


async def stored(
    *messages: Message, store: MemoryStore | None = None, limit: int | None = None
) -> HermesSession:
    """Return a loaded session with the messages."""
    kept = store or MemoryStore()
    if messages:
        await kept.append("id", messages)
    session = HermesSession(StoreClient(kept, limit=limit), "id")
    await session.load()
    return session
