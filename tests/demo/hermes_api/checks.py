"""The checks: each says in a few words what one of the servers does."""

import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from itertools import groupby
from typing import Any, Literal, NamedTuple

from tests.demo.hermes_api.servers import CHAT, ID, ORIGIN, OTHER_KEY, RESPONSES, Answer, Server
from tests.demo.hermes_api.servers import chat_body as body_of

Verdict = Literal["same", "better", "differs"]

SYSTEM = {"role": "system", "content": "Answer in French."}
DEVELOPER = {"role": "developer", "content": "Answer in Latin."}
UNKNOWN_RESPONSE = "resp_" + "0" * 28
TWICE = "the model is told the first question once, and not twice"
KEY_HEADER = "X-Hermes-Session-Key"


class Check(NamedTuple):
    """A row of the table.

    Attributes:
        label: what is tried.
        run: returns what the server does.
        verdict: of the demo, beside Hermes.
        reason: why it is not the same.
    """

    label: str
    run: Callable[[Server], str]
    verdict: Verdict
    reason: str


CHECKS: list[Check] = []


def same(label: str) -> Callable[[Callable[[Server], str]], Callable[[Server], str]]:
    """Add a check in which the two do the same."""
    return _adding(label, "same", "")


def better(label: str, reason: str) -> Callable[[Callable[[Server], str]], Callable[[Server], str]]:
    """Add a check in which the demo does more for its clients."""
    return _adding(label, "better", reason)


def differs(
    label: str, reason: str
) -> Callable[[Callable[[Server], str]], Callable[[Server], str]]:
    """Add a check in which they differ, and a client has to know it."""
    return _adding(label, "differs", reason)


def _adding(
    label: str, verdict: Verdict, reason: str
) -> Callable[[Callable[[Server], str]], Callable[[Server], str]]:
    def add(run: Callable[[Server], str]) -> Callable[[Server], str]:
        CHECKS.append(Check(label, run, verdict, reason))
        return run

    return add


# The id


@same("the client's id, in a response")
def _echoed(server: Server) -> str:
    session = server.session("echoed")
    return _id(server.chat("Hi.", session=session), session)


@same("the client's id, in a stream's head")
def _echoed_on_a_stream(server: Server) -> str:
    session = server.session("streamed")
    return _id(server.chat("Hi.", session=session, stream=True), session)


@better(
    "the client's id, in a 400, a 401 and a 404",
    "each response has an id, so that a client need not know which do not",
)
def _echoed_on_errors(server: Server) -> str:
    session = server.session("errors")
    answers = [
        server.chat(session=session),
        server.chat("Hi.", session=session, key="wrong"),
        server.send("GET", f"{RESPONSES}/{UNKNOWN_RESPONSE}", headers={ID: session}),
    ]
    assert [answer.status for answer in answers] == [400, 401, 404]
    return _words(_id(answer, session) for answer in answers)


@same("an id that nobody has had")
def _unknown_id(server: Server) -> str:
    session = server.session("unknown")
    first = server.chat("One.", session=session)
    second = server.chat("Two.", session=session)
    assert first.id == second.id == session
    return f"begins a conversation: {second.told}"


@better(
    "two conversations without an id, with the same first message",
    "they are two; with `--derive-ids` a client that sends its whole conversation has one, "
    "within its API key",
)
def _no_id(server: Server) -> str:
    text = f"Hello to {server.name}."
    first, second = server.chat(text), server.chat(text)
    third = server.chat("Next.", session=second.id)
    kind = "one id" if first.id == second.id else "two ids"
    return f"{kind}; the second goes on with: {third.told.replace(text, 'Hello.')}"


@same("an id of 256 characters, and of 257")
def _length(server: Server) -> str:
    longest = server.session("long").ljust(256, "x")
    return _words(
        _taken(server.chat("Hi.", session=session), session) for session in (longest, longest + "x")
    )


@same("an id that could be a path: `a/b`, `..`, `C:x`")
def _paths(server: Server) -> str:
    ids = ["a/b", "a..b", "C:x"]
    return _words(_taken(server.chat("Hi.", session=each), each) for each in ids)


@differs(
    "an id with a space or an `@`",
    "ids have [one grammar](reference/wire.md), which no cookie, log or URL has to quote; "
    "none that Hermes makes is outside of it, and the option `valid_id` takes others",
)
def _other_characters(server: Server) -> str:
    ids = [server.session("a b"), server.session("a@b")]
    return _words(_taken(server.chat("Hi.", session=each), each) for each in ids)


@better("two ids in one request", "nobody has to guess which of them counts")
def _two_ids(server: Server) -> str:
    ids = [server.session("first"), server.session("second")]
    fields = [(ID, each) for each in ids]
    answer = server.send("POST", CHAT, body_of(["Hi."], {}), fields)
    return "the first counts" if answer.id == ids[0] else str(answer.status)


@same("a conversation that the other server has begun")
def _over_both(server: Server) -> str:
    session = server.session("both")
    assert server.other is not None
    server.other.chat("One.", session=session)
    answer = (server.keyless or server).chat("Two.", session=session)
    return f"goes on: {answer.told}"


# Keys


@same("no API key, and a wrong one")
def _wrong_key(server: Server) -> str:
    answers = [server.chat("Hi.", key=each) for each in (None, "wrong")]
    return _words(f"{answer.status} {answer.error['code']}" for answer in answers)


@better("what a 401 says of how to send a key", "RFC 9110 asks for it")
def _challenge(server: Server) -> str:
    found: str | None = server.chat("Hi.", key=None).headers.get("WWW-Authenticate")
    return f"`WWW-Authenticate: {found}`" if found else "nothing"


@better(
    "a second client's API key, and the first one's conversation",
    "each key is an owner, and sees only its own conversations; Hermes' database has each id once",
)
def _second_key(server: Server) -> str:
    session = server.session("owned")
    server.chat("Mine.", session=session)
    answer = server.chat("Whose?", session=session, key=OTHER_KEY)
    if answer.status == HTTPStatus.UNAUTHORIZED:
        return "401: all clients have one key, and one another's conversations"
    return f"{answer.status} {answer.error['code']}"


@differs(
    "started without an API key",
    "Hermes' agent has tools on its machine, and the demo has none: whoever has a "
    "conversation's id can read it, and there is no list of ids",
)
def _without_keys(server: Server) -> str:
    if server.keyless is None:
        return "does not start"
    return f"serves: {server.keyless.chat('Hi.').status}"


@same("`X-Hermes-Session-Key`, and of 257 characters")
def _session_key(server: Server) -> str:
    session, keys = server.session("key"), ["work", "x" * 257]
    answers = [server.chat("Hi.", session=session, headers={KEY_HEADER: key}) for key in keys]
    first = "echoed" if answers[0].headers.get(KEY_HEADER) == "work" else "not echoed"
    return f"{first}; {answers[1].status}"


@same("a session key without an id")
def _key_without_id(server: Server) -> str:
    one, two = (server.chat(text, headers={KEY_HEADER: "home"}) for text in ("One.", "Two."))
    return f"{'one conversation' if one.id == two.id else 'names no conversation'}: {two.told}"


# History


@same("the history in the body, beside an id")
def _history_beside_an_id(server: Server) -> str:
    session = server.session("history")
    server.chat("Stored.", session=session)
    other = {"role": "assistant", "content": "Other."}
    answer = server.chat("Other?", other, "Next.", session=session)
    return f"the stored one counts: {answer.told}"


@same("the history in the body, without an id")
def _history_without_id(server: Server) -> str:
    answer = server.chat("One.", {"role": "assistant", "content": "Answer."}, "Two.")
    return f"counts: {answer.told}"


@better(
    "`X-Hermes-History-Source: request`, and another history",
    "a message can be edited, and an answer regenerated",
)
def _edit(server: Server) -> str:
    session = server.session("edit")
    server.chat("Mistaken.", session=session)
    answer = server.chat(
        "Corrected.", session=session, headers={"X-Hermes-History-Source": "request"}
    )
    return answer.told


@same("a system message")
def _system(server: Server) -> str:
    session = server.session("system")
    first = server.chat(SYSTEM, "One.", session=session)
    second = server.chat("Two.", session=session)
    return f"for one request: {first.told}; {second.told}"


@better("a developer message", "newer clients send it instead of a system message")
def _developer(server: Server) -> str:
    return server.chat(DEVELOPER, "Hi.", session=server.session("developer")).told


@differs(
    "the `tools` of a request",
    "Hermes' agent has tools of its own, and runs them itself; the demo passes the client's to "
    "the model, and the client runs them",
)
def _tools(server: Server) -> str:
    text = f"Tools for {server.name}?"
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    server.chat(text, session=server.session("tools"), tools=[tool])
    return "passed on" if server.model.tools[text] == ["look_up"] else "ignored"


@better(
    "a question to a conversation whose answer is still coming",
    "turns run one at a time, in any process: each knows the ones before",
)
def _two_at_once(server: Server) -> str:
    session, held = server.session("two"), f"Hold {server.name}."
    gate, second = server.model.gates[held], f"Second to {server.name}."
    answers: list[Answer] = []
    threads = [
        threading.Thread(
            target=lambda text=text: answers.append(server.chat(text, session=session))
        )
        for text in (held, second)
    ]
    threads[0].start()
    assert gate.reached.wait(30)
    threads[1].start()
    server.model.gates[second].reached.wait(server.patience)
    gate.opened.set()
    for thread in threads:
        thread.join()
    (told,) = [answer.told for answer in answers if second in answer.told]
    return "waits, and knows the answer" if "*" in told else "does not know the answer"


@better("an `Idempotency-Key` again, with another question", "a mistake is told")
def _key_of_another(server: Server) -> str:
    session, key = server.session("reused"), {"Idempotency-Key": server.session("reused")}
    server.chat("One.", session=session, headers=key)
    answer = server.chat("Another.", session=session, headers=key)
    if answer.status == HTTPStatus.OK:
        return f"200: {answer.told}"
    return f"{answer.status} {answer.error['code']}"


@same("an `Idempotency-Key` again, with the same question")
def _repeated(server: Server) -> str:
    return _again(server, "Repeated", stream=False)


@better("the same, of a stream", "a stream is what most clients ask for")
def _repeated_stream(server: Server) -> str:
    return _again(server, "Streamed", stream=True)


# Streams and answers


@same("what a chat's answer has")
def _whole(server: Server) -> str:
    answer = server.chat("Hi.", session=server.session("whole")).json
    (choice,) = answer["choices"]
    names = [name for name in ("id", "object", "created", "model", "usage") if name in answer]
    usage = ", ".join(name for name in answer["usage"] if name.endswith("_tokens"))
    return f"{', '.join(names)} ({usage}); {choice['finish_reason']}"


@differs(
    "a stream's pieces",
    "as OpenAI's own: the usage comes only to those who ask for it by "
    "`stream_options.include_usage`",
)
def _pieces(server: Server) -> str:
    answer = server.chat("Hi.", session=server.session("pieces"), stream=True)
    return _shape(answer)


@better(
    "the same, with `include_usage`",
    "the usage comes in a chunk without choices, where OpenAI's clients look for it",
)
def _pieces_with_usage(server: Server) -> str:
    session, options = server.session("usage"), {"include_usage": True}
    return _shape(server.chat("Hi.", session=session, stream=True, stream_options=options))


@better("the model refuses", "the status of a refusal, which is not to be retried")
def _failure(server: Server) -> str:
    answer = server.chat(f"Fail {server.name}.", session=server.session("fails"))
    if answer.status == HTTPStatus.OK:
        return f"200, `finish_reason` {answer.json['choices'][0]['finish_reason']}"
    return f"{answer.status}, an error"


@better("the model refuses, before a stream", "a status code, which every client understands")
def _failure_of_a_stream(server: Server) -> str:
    answer = server.chat(f"Fail {server.name}.", session=server.session("fails-2"), stream=True)
    if answer.status != HTTPStatus.OK:
        return f"{answer.status}, an error"
    return f"200, {_shape(answer)}"


@differs(
    "the client leaves a stream",
    "the answer is kept, and [can be come back to](answers.md); `X-Hermes-On-Disconnect: stop` "
    "stops the model here as well",
)
def _leaves(server: Server) -> str:
    session, text = server.session("leaves"), f"Leave {server.name}."
    gate = server.model.gates[text]
    body = body_of([text], {"stream": True})
    connection = server.begin("POST", CHAT, body, {ID: session})
    response = connection.getresponse()
    response.read(10)
    response.close()
    connection.close()
    gate.opened.set()
    if gate.closed.wait(server.patience):
        return "the model is stopped"
    gate.enough.set()
    assert gate.ended.wait(30)
    answer = server.chat("Next.", session=session).told
    return f"the answer goes on: {answer.replace(text, 'First.')}"


# Responses


@better("the client's id, at `/v1/responses`", "it names the conversation there as well")
def _id_of_a_response(server: Server) -> str:
    session = server.session("responses")
    server.chat("In the chat.", session=session)
    answer = server.respond("A response.", session=session)
    return f"{_id(answer, session)}: {answer.told}"


@better("`previous_response_id`", TWICE)
def _previous(server: Server) -> str:
    first = server.respond("One.")
    second = server.respond("Two.", previous_response_id=first.json["id"])
    return f"{'the same id' if second.id == first.id else 'another id'}: {second.told}"


@better(
    "`previous_response_id` of one that is not the last",
    "a fork, whose id is its own: two answers do not meet in one conversation",
)
def _branch(server: Server) -> str:
    first = server.respond("One.")
    server.respond("Two.", previous_response_id=first.json["id"])
    third = server.respond("Three.", previous_response_id=first.json["id"])
    return f"{'the same id' if third.id == first.id else 'an id of its own'}: {third.told}"


@same("a `previous_response_id` that there is not")
def _no_previous(server: Server) -> str:
    return _status(server.respond("Hi.", previous_response_id=UNKNOWN_RESPONSE))


@better("the same `conversation` twice", TWICE)
def _conversation(server: Server) -> str:
    name = server.session("conversation")
    server.respond("One.", conversation=name)
    return f"goes on: {server.respond('Two.', conversation=name).told}"


@same("`conversation` and `previous_response_id`")
def _both_names(server: Server) -> str:
    return _status(server.respond("Hi.", conversation="any", previous_response_id=UNKNOWN_RESPONSE))


@same('a response: read, deleted, read; and one with `"store": false`, read')
def _stored(server: Server) -> str:
    path = f"{RESPONSES}/{server.respond('One.').json['id']}"
    answers = [server.send(method, path) for method in ("GET", "DELETE", "GET")]
    unstored = server.respond("Two.", store=False).json["id"]
    answers.append(server.send("GET", f"{RESPONSES}/{unstored}"))
    return _words(str(answer.status) for answer in answers)


@better("the events of a response's stream", "all those of OpenAI's, in their order")
def _events(server: Server) -> str:
    answer = server.respond("Hi.", stream=True)
    kinds = [event["type"].removeprefix("response.") for event in answer.events]
    return ", ".join(f"`{kind}`" for kind, _ in groupby(kinds))


# The rest


@same("the list of models")
def _models(server: Server) -> str:
    listed = server.send("GET", "/v1/models").json
    keys = [key for key in ("id", "object", "created", "owned_by") if key in listed["data"][0]]
    return f"`{listed['object']}` of {', '.join(keys)}"


@same("health, without a key, where `/v1/capabilities` says")
def _health(server: Server) -> str:
    capabilities = server.send("GET", "/v1/capabilities").json
    answer = server.send("GET", capabilities["endpoints"]["health"]["path"], key=None)
    return f"{answer.status}, {answer.json['status']}"


@same("`/health` and `/v1/health`, without a key")
def _health_paths(server: Server) -> str:
    return _words(_status(server.send("GET", each, key=None)) for each in ("/health", "/v1/health"))


@same("the header that `/v1/capabilities` names")
def _capabilities(server: Server) -> str:
    features = server.send("GET", "/v1/capabilities").json["features"]
    return f"`{features['session_continuity_header']}`"


@better(
    "a preflight of an origin that may ask, with the id's header",
    "a page of another origin can send the id, and read it",
)
def _preflight(server: Server) -> str:
    fields = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-hermes-session-id",
    }
    answer = server.send("OPTIONS", CHAT, None, fields, key=None)
    allowed = answer.headers.get("Access-Control-Allow-Headers", "").lower()
    asked = server.chat("Hi.", session=server.session("cors"), headers={"Origin": ORIGIN})
    exposed = asked.headers.get("Access-Control-Expose-Headers", "").lower()
    told = [
        f"{answer.status}",
        "allowed" if ID.lower() in allowed else "not allowed",
        "exposed" if ID.lower() in exposed else "not exposed",
    ]
    return ", ".join(told)


@same("a page of any other origin")
def _other_origin(server: Server) -> str:
    return _status(server.chat("Hi.", headers={"Origin": "https://other.example"}))


@better("what errors have", "OpenAI's shape, the same in each")
def _errors(server: Server) -> str:
    answers = [
        server.send("POST", CHAT, b"{"),
        server.chat(),
        server.chat("Hi.", session="a/b"),
        server.chat("Hi.", key="wrong"),
    ]
    assert [answer.status for answer in answers] == [400, 400, 400, 401]
    shapes = [tuple(answer.error) for answer in answers]
    return "; or ".join(", ".join(shape) for shape in dict.fromkeys(shapes))


def _id(answer: Answer, expected: str) -> str:
    if answer.id is None:
        return "none"
    return "echoed" if answer.id == expected else "another"


def _taken(answer: Answer, session: str) -> str:
    return "taken" if answer.id == session else str(answer.status)


def _status(answer: Answer) -> str:
    return str(answer.status)


def _words(found: Iterable[str]) -> str:
    """Return what was found, once if it is all the same."""
    words = list(found)
    return words[0] if len(set(words)) == 1 else ", ".join(words)


def _again(server: Server, word: str, **fields: Any) -> str:
    session, text = server.session(word), f"{word} by {server.name}."
    for _ in range(2):
        server.chat(text, session=session, headers={"Idempotency-Key": session}, **fields)
    told = server.chat("Next.", session=session).told.replace(text, "Question.")
    times = {1: "once", 2: "twice"}[server.model.asked[text]]
    return f"the model is asked {times}; stored: {told.removesuffix(' / Next.')}"


def _shape(answer: Answer) -> str:
    return ", ".join(each for each, _ in groupby(map(_piece, answer.events)))


def _piece(event: Any) -> str:
    if event == "[DONE]":
        return "`[DONE]`"
    has_usage = bool(event.get("usage"))
    if not event.get("choices"):
        return "usage" if has_usage else "error"
    (choice,) = event["choices"]
    delta, reason = choice["delta"], choice.get("finish_reason")
    if reason:
        return f"{reason}{' with usage' if has_usage else ''}"
    return "role" if "role" in delta and not delta.get("content") else "text"
