"""Programs that ask a server keep its session's id, and read its answers to their end."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import anyio
import httpx
import httpx2
import pytest

from hermes_session_mw.client import (
    AnswerLost,
    AnswerReader,
    AsyncAnswerReader,
    KeptSession,
    keep_session,
)
from tests.support.cutting_proxy import CuttingProxy, cutting
from tests.support.server import demo
from tests.support.stepped_model import SteppedModel, stepped_model

HEADER = "X-Hermes-Session-Id"
CHAT = "/v1/chat/completions"
DEMOS: dict[str, Any] = {"answer_url": "/v1/sessions/{id}/answer", "delay": 0.05}
Handler = Callable[[httpx.Request], httpx.Response]


class Served(NamedTuple):
    """A demo behind a proxy, whose model says what it is told."""

    model: SteppedModel
    proxy: CuttingProxy
    port: int


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with (
        stepped_model() as model,
        demo(tmp_path_factory.mktemp("demo"), "--upstream", model.url) as url,
        cutting(int(url.rpartition(":")[2])) as proxy,
    ):
        yield Served(model, proxy, int(url.rpartition(":")[2]))


def asked(text: str) -> dict[str, Any]:
    return {"stream": True, "messages": [{"role": "user", "content": text}]}


def text_of(chunk: Any) -> str:
    return "".join(each["delta"].get("content") or "" for each in chunk["choices"])


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_chat_is_read_over_cuts_and_its_session_kept(
    served: Served, library: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Chunks come once and in order, the next question continues the session, all in silence."""
    model, proxy, _ = served
    model.forget()
    caplog.set_level(logging.DEBUG)
    with library.Client(base_url=proxy.url) as client:
        kept = keep_session(client)
        text, pieces = "", iter(["b", "c"])
        with AnswerReader(
            client, client.build_request("POST", CHAT, json=asked("Hi")), **DEMOS
        ) as a:
            model.say("a")
            for chunk, _ in a:
                text += text_of(chunk)
                if text_of(chunk):
                    proxy.drop()
                    if (following := next(pieces, None)) is None:
                        model.end()
                    else:
                        model.say(following)
        assert (text, a.state, a.error) == ("abc", "completed", None)
        session_id = kept.id_of(proxy.url)
        assert session_id
        model.end("d")
        again = AnswerReader(
            client, client.build_request("POST", CHAT, json=asked("And?")), **DEMOS
        )
        assert "".join(text_of(chunk) for chunk, _ in again) == "d"
        told = client.get(f"/v1/sessions/{session_id}/messages").json()["data"]
        assert [each["content"] for each in told] == ["Hi", "abc", "And?", "d"]
    ours = [each for each in caplog.records if each.name.startswith("hermes")]
    assert ours == []
    assert session_id not in repr(kept) + repr(a)


async def test_an_answer_is_followed_and_stopped(served: Served) -> None:
    """Another client follows it by GET over a cut, and stops it; both learn how it ended."""
    model, proxy, port = served
    model.forget()
    session_id = f"stopped-{anyio.get_current_task().id}"
    url = f"/v1/sessions/{session_id}/answer"
    seen: list[Any] = []
    headers = {HEADER: session_id}
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as first,
        httpx.AsyncClient(base_url=proxy.url, headers=headers) as second,
        anyio.create_task_group() as tasks,
    ):
        mine = AsyncAnswerReader(
            first, first.build_request("POST", CHAT, json=asked("Hi")), **DEMOS
        )
        is_running = anyio.Event()

        async def ask() -> None:
            async for chunk, _ in mine:
                seen.append(chunk)
                is_running.set()

        model.say("one ")
        tasks.start_soon(ask)
        await is_running.wait()
        text = ""
        async with AsyncAnswerReader(second, second.build_request("GET", url), delay=0.05) as a:
            async for chunk, _ in a:
                text += text_of(chunk)
                if text == "one ":
                    model.say("two")
                    await anyio.to_thread.run_sync(proxy.drop)
                elif text == "one two":
                    assert await a.stop()
        assert a.begin["question"] == [{"role": "user", "content": "Hi"}]
        assert (text, a.state) == ("one two", "stopped")
    assert "".join(map(text_of, seen)) == "one two"
    assert (mine.state, mine.error["code"]) == ("stopped", "answer_stopped")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        nothing = AnswerReader(client, client.build_request("GET", url, headers=headers))
        assert not nothing.stop()
        with pytest.raises(AnswerLost, match="has ended") as lost:
            list(nothing)
        assert (lost.value.reason, lost.value.status) == ("over", 204)


def test_retries_end(served: Served) -> None:
    """A server is tried again as often as said; the cursor leads to the rest later."""
    model, proxy, _ = served
    model.forget()
    headers = {HEADER: "away"}
    model.say("a")
    with httpx.Client(base_url=proxy.url, headers=headers) as client:
        request = client.build_request("POST", CHAT, json=asked("Hi"))
        answer = AnswerReader(client, request, **DEMOS | {"retries": 3, "delay": 0.01})
        text = ""
        before = proxy.refused
        with pytest.raises(AnswerLost) as lost:  # noqa: PT012
            for chunk, _ in answer:
                text += text_of(chunk)
                if text:
                    proxy.cut()
        assert (lost.value.reason, text, proxy.refused - before) == ("unreachable", "a", 3)
        assert isinstance(lost.value.__cause__, httpx.TransportError)
        proxy.mend()
        model.end("b")
        request = client.build_request("GET", "/v1/sessions/away/answer")
        rest = AnswerReader(client, request, after=lost.value.cursor)
        assert "".join(text_of(chunk) for chunk, _ in rest) == "b"
        assert rest.state == "completed"


def test_an_id_stays_with_its_origin() -> None:
    """Redirects to another origin do not carry it, and each origin has its own."""
    seen: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((str(request.url), request.headers.get(HEADER)))
        if request.url.path == "/forgotten":
            kept.forget()  # meanwhile, by another thread
        to = {"/away": "http://b.test/", "/back": "http://a.test/away"}.get(request.url.path)
        stamp = {HEADER: f"{request.url.host}-{len(seen)}"}
        return httpx.Response(307 if to else 200, headers=stamp | ({"Location": to} if to else {}))

    with httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=True) as client:
        kept = keep_session(client)
        for url in (
            "http://a.test/",
            "http://a.test/away",
            "http://b.test/back",
            "http://a.test:81",
        ):
            client.get(url)
        client.get("http://a.test/away", headers={HEADER: "mine"})
        kept.forget()
        client.get("http://a.test/")
        assert kept.id_of("http://a.test/") == "a.test-10"
        client.get("http://a.test/forgotten")
        assert kept.id_of("http://a.test/") is None
    assert [id_ for _, id_ in seen] == [
        None, "a.test-1", None, "b.test-3", "a.test-2", "b.test-4", None, "mine", "b.test-6", None,
        "a.test-10",
    ]  # fmt: skip
    kept = KeptSession()
    for url, id_ in (("/relative", "x"), ("http://a.test", "two words")):
        with pytest.raises(ValueError, match=r"url|session_id"):
            kept.keep(url, id_)


async def test_a_refusal_takes_no_ids_place() -> None:
    """A new id on a 400 is not kept if there is one; two ids are none; other names are options."""
    stamps = [("x-chat", "first", 500), ("x-chat", "new", 400), ("x-chat", "a b", 200)]
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("x-chat"))
        name, value, status = stamps[len(seen) - 1]
        return httpx.Response(status, headers=[(name, value)])

    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://a.test/api/") as client:
        kept = keep_session(client, header_name="X-Chat")
        for _ in stamps:
            await client.get("x")
        assert (seen, kept.id_of("http://a.test:80")) == ([None, "first", "first"], "first")
        keep_session(client, header_name="X-Chat", session_id="given")


def events(*told: Any) -> httpx.Response:
    lines = [each if isinstance(each, str) else f"data: {json.dumps(each)}\n\n" for each in told]
    headers = {"content-type": "text/event-stream; charset=utf-8", HEADER: "id"}
    return httpx.Response(200, text="".join(lines), headers=headers)


def refused(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code}}, headers=headers)


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": None}], **more}


ONE, TWO = 'id: x:1\ndata: "one"\n\n', 'id: x:2\ndata: "two"\n\n'
OPENING = {"choices": [{"delta": {"role": "assistant"}, "finish_reason": None}]}
IDLE: dict[str, Any] = {"choices": [{"delta": {}, "finish_reason": None}]}
END = 'event: end\ndata: {"state": "completed"}\n\n'
CASES: dict[str, tuple[list[Any], list[Any], str]] = {
    "its end alone was lost": ([events(ONE, TWO), events(TWO, END)], ["one", "two"], "completed"),
    "before the first piece": ([events(": x\n\n"), events(ONE, END)], ["one"], "completed"),
    "the head, then a stored turn": (
        [events(), httpx.Response(200, json={"role": "assistant"})],
        [{"role": "assistant"}],
        "completed",
    ),
    "the server fails to tell it": (
        [events(ONE, {"error": {"code": None}}), events(TWO, END)],
        ["one", "two"],
        "completed",
    ),
    "busy, then away": (
        [refused(409, "session_busy"), refused(503, "x"), events(ONE, END)],
        ["one"],
        "completed",
    ),
    "an opening chunk comes again, an idle one says nothing": (
        [events(OPENING, IDLE), events(OPENING, said("a", event_id="x:2"), "data: [DONE]\n\n")],
        [OPENING, said("a", event_id="x:2")],
        "completed",
    ),
    "an upstream's error": ([events(said("a"), {"error": {"code": "x"}})], [said("a")], "failed"),
    "another answer": ([events(ONE), refused(409, "cursor_conflict")], ["one"], "replaced 409"),
    "the routes are not there": ([events(ONE), refused(404, "y z")], ["one"], "refused 404"),
    "nothing is told any more": ([events(ONE), httpx.Response(204)], ["one"], "over 204"),
    "a redirect": (
        [events(ONE), httpx.Response(307, headers={"location": "http://b.test/"})],
        ["one"],
        "refused 307",
    ),
    "no JSON": ([events("data: {\n\n")], [], "unreadable None"),
    "too deep": ([events("data: " + "[" * 100_000 + "\n\n")], [], "unreadable None"),
    "a page that is too deep": ([httpx.Response(200, text="[" * 100_000)], [], "unreadable 200"),
    "an end without a state": ([events("event: end\ndata: [1]\n\n")], [], "unreadable None"),
    "places and choices of other types": (
        [events({"event_id": [1]}, {"choices": [1]}, {"choices": 1}), events(*[{}] * 3, END)],
        [{"event_id": [1]}, {"choices": [1]}, {"choices": 1}],
        "completed",
    ),
    "a place beyond ASCII": (
        [events('id: é:1\ndata: "one"\n\n'), events(END)],
        ["one"],
        "completed",
    ),
    "no end of an event": ([events("data: " + "x" * 17_000_000)], [], "unreadable None"),
    "a page": ([httpx.Response(200, text="<html>")], [], "unreadable 200"),
    "in doubt": ([httpx.ReadError("")], [], "in_doubt None"),
    "not sent": ([httpx.ConnectError(""), events(ONE, END)], ["one"], "completed"),
}


@pytest.mark.parametrize("case", CASES)
def test_how_an_answer_goes_on(case: str) -> None:
    """What the server sends next decides what the pieces are, and the end."""
    responses, pieces, end = CASES[case]
    left: list[httpx.Response | Exception] = list(responses)
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        following = left.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    transport, base = httpx.MockTransport(answer), "http://a.test"
    with httpx.Client(transport=transport, base_url=base, follow_redirects=True) as client:
        reader = AnswerReader(client, client.build_request("POST", "/chat", json={}), delay=0)
        with pytest.raises(AnswerLost, match="has not said"):
            reader.stop()
        got = []
        try:
            for payload, _ in reader:
                got.append(payload)
            ended = reader.state
        except AnswerLost as lost:
            ended = f"{lost.reason} {lost.status}"
        assert (got, ended, left) == (pieces, end, [])
    keys = {each.headers["idempotency-key"] for each in requests if each.method == "POST"}
    assert len(keys) == 1
    rejoining = [each for each in requests if each.method == "GET"]
    assert {each.url.path for each in rejoining} <= {"/sessions/id/answer"}


async def test_a_stop_goes_to_the_answers_own_url() -> None:
    """It names the session that the response told, and a refusal of it is raised."""
    asked: list[tuple[str, str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path, request.headers.get(HEADER)))
        if request.url.path.endswith("/stop"):
            return httpx.Response(202) if len(asked) == 2 else refused(403, "not_yours")
        return events(ONE) if len(asked) == 1 else httpx.Response(503, text="down")

    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://a.test/v1") as client:
        request = client.build_request("POST", "chat", json={})
        async with AsyncAnswerReader(client, request, delay=0, retries=1) as reader:
            assert await anext(aiter(reader)) == ("one", "x:1")
            assert await reader.stop()
            with pytest.raises(AnswerLost, match="403, not_yours"):
                await reader.stop()
            with pytest.raises(AnswerLost, match="rejoined"):
                await anext(aiter(reader))
    stop = ("POST", "/v1/sessions/id/answer/stop", "id")
    rejoined = ("GET", "/v1/sessions/id/answer", "id")
    assert asked == [("POST", "/v1/chat", None), stop, stop, rejoined]


def test_the_rest_is_asked_of_the_same_origin_alone() -> None:
    """An answer's URL elsewhere is refused before the id is sent there."""
    transport = httpx.MockTransport(lambda _: events(ONE))
    with httpx.Client(transport=transport) as client:
        request = client.build_request("POST", "http://a.test/chat")
        reader = AnswerReader(client, request, answer_url="http://b.test/{id}", delay=0)
        with pytest.raises(AnswerLost) as lost:
            list(reader)
        assert lost.value.reason == "refused"
