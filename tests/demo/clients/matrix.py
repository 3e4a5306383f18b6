"""Clients, each in an environment of its own, and what each of them is tried with."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from tests.demo.clients.demos import Demo
from tests.demo.clients.scripted import PICTURE, digest, text_of
from tests.support.server import ROOT

ENVIRONMENTS = ROOT / ".clients"
PROXY = ROOT / ".litellm"
DRIVERS = Path(__file__).parent / "drivers"
DRIVERS_PACKAGE = "tests.demo.clients.drivers"
STYLES = ("chat", "responses")
QUESTIONS = ["I am Ada.", "I live in Oslo.", "It rains.", "Who am I?"]


class Client(NamedTuple):
    """A client.

    Attributes:
        name: as the page has it.
        environment: the folder in ``.clients``, or ``.litellm``.
        driver: the program in ``drivers/``, with its arguments.
        styles: the APIs that it speaks.
        ways: by what a conversation of it goes on without the header, with the Responses API.
        background: how it gets an answer that is made in the background, with the Responses API.
        proxied: whether LiteLLM's proxy stands between it and the demo.
    """

    name: str
    environment: str
    driver: str
    styles: tuple[str, ...] = STYLES
    ways: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    proxied: bool = False

    def tried(self) -> "Iterator[tuple[str, str, Callable[[Case], Any]]]":
        """Yield what it is tried with: an API, a feature's name, and what tries it."""
        for style in self.styles:
            yield from ((style, name, feature) for name, feature in FEATURES.items())
        yield from (("responses", way, WAYS[way]) for way in self.ways)
        yield from (("responses", how, BACKGROUND[how]) for how in self.background)

    @property
    def folder(self) -> Path:
        """Where it is installed."""
        return (
            ROOT / self.environment if "." in self.environment else ENVIRONMENTS / self.environment
        )

    @property
    def missing(self) -> str | None:
        """What is missing, or None."""
        folders = [self.folder, *([PROXY] if self.proxied else [])]
        found = all((folder / ".installed").exists() for folder in folders)
        return None if found else f"no {self.name}: run 'make clients'"

    @property
    def command(self) -> list[str]:
        """What runs its driver, in the project's folder."""
        program, *arguments = self.driver.split()
        if program.endswith(".mjs"):
            where = self.folder / "package.json"
            return [node(), str(DRIVERS / program), str(where), *arguments]
        module = f"{DRIVERS_PACKAGE}.{program}"
        return [str(self.folder / "bin" / "python"), "-m", module, *arguments]


def node() -> str:
    """Return the newest Node that there is: of the packages, or else of the machine."""
    found = list((ENVIRONMENTS / "node" / "node_modules").glob("node-*/bin/node"))
    return str(found[0]) if found else "node"


class Driver:
    """The running program of a client."""

    def __init__(self, process: "subprocess.Popen[str]", api: str) -> None:
        self._process = process
        self._api = api

    @cached_property
    def versions(self) -> str:
        """Of what it is made of: its first line, for which it has to be imported."""
        return str(self._line()["versions"])

    def ask(self, style: str, session: str, *texts: str, **options: Any) -> Any:
        """Have it say these texts, and return what it saw, which is no error."""
        seen = self.attempt(style, session, *texts, **options)
        assert seen["error"] is None, f"{seen['error']['type']}: {seen['error']['message']}"
        return seen

    def attempt(self, style: str, session: str, *texts: str, **options: Any) -> Any:
        """Have it say these texts, and return what it saw."""
        assert self._process.stdin is not None
        assert self.versions
        asked = {"url": self._api, "style": style, "session": session, "texts": texts, **options}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the driver ended"
        return json.loads(line)


@contextmanager
def driving(client: Client, api: str, log: Path) -> Iterator[Driver]:
    """Run a client's driver until the block ends."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            client.command,
            cwd=ROOT,
            env={**kept, "PYTHONWARNINGS": "ignore", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Driver(process, api)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)


class Case(NamedTuple):
    """A client at work."""

    driver: Driver
    style: str
    demo: Demo
    session: str


def chat(case: Case, **options: Any) -> None:
    """Two questions, each sent alone: the second is answered with the first at hand."""
    case.driver.ask(case.style, case.session, "I am Ada.", **options)
    restart(case, **options)


def stream(case: Case) -> None:
    """The same, streamed: the answer comes in pieces."""
    chat(case, stream=True)
    seen = case.driver.ask(case.style, case.session, "I am Ada.", stream=True)
    assert seen["pieces"] > 1, "it came in one piece"


def tools(case: Case, *, stream: bool = False) -> None:
    """Two questions, for each of which the client calls a tool; it sends its whole history."""
    asked = ["The weather in Oslo?", "And in Rome?"]
    seen = case.driver.ask(case.style, case.session, *asked, tools=True, whole=True, stream=stream)
    equal(seen["texts"], ["It is 7 degrees in Oslo.", "It is 21 degrees in Rome."])
    roles = [message["role"] for message in case.demo.stored(case.session)]
    equal(roles, ["user", "assistant", "tool", "assistant"] * 2)


def tools_streamed(case: Case) -> None:
    """The same, streamed."""
    tools(case, stream=True)


def structured(case: Case) -> None:
    """An answer by a JSON schema is what the client makes of it."""
    seen = case.driver.ask(case.style, case.session, "The weather in Oslo?", structured=True)
    equal(seen["value"], {"city": "Oslo", "degrees": 7})


def picture(case: Case) -> None:
    """A picture in a message reaches the model as it was."""
    seen = case.driver.ask(case.style, case.session, "What is this?", picture=PICTURE)
    equal(seen["texts"], [f"I see {digest(PICTURE)}."])


def error(case: Case, text: str = "Fail.", **options: Any) -> str:
    """What the model refuses is an exception."""
    told = case.driver.attempt(case.style, case.session, text, **options)["error"]
    assert told is not None, "no error"
    return str(told["type"])


def broken(case: Case) -> str:
    """A streamed answer that breaks off is an exception."""
    return error(case, "Break off.", stream=True)


def reads_the_id(case: Case) -> str:
    """The session's id is found where the client shows a response's headers, or an error's."""
    ids = case.driver.ask(case.style, case.session, "Hello.")["ids"]
    failed = case.driver.attempt(case.style, case.session, "Fail.")["error"]
    places = {"answers": ids[-1] == case.session, "errors": failed["id"] == case.session}
    return ", ".join(place for place, found in places.items() if found) or "-"


def whole(case: Case) -> None:
    """Four questions, each with the whole history before it, are eight messages."""
    seen = case.driver.ask(case.style, case.session, *QUESTIONS, whole=True)
    told = [f"You said: {' / '.join(QUESTIONS[: n + 1])}" for n in range(4)]
    equal(seen["texts"], told)
    stored = [text_of(message).strip() for message in case.demo.stored(case.session)]
    equal(stored, [text for pair in zip(QUESTIONS, told, strict=True) for text in pair])


def unnamed(case: Case) -> None:
    """Four questions with the whole history and no header are one session, by an id derived."""
    first, *more = f"I am {case.session}.", *QUESTIONS[1:]
    case.driver.ask(case.style, "", first, *more, whole=True)
    headers = {"Authorization": f"Bearer {case.demo.key}"}
    listed = httpx2.get(f"{case.demo.api}/sessions", headers=headers).json()["data"]
    equal([each["length"] for each in listed if each["title"] == first], [8])


def restart(case: Case, **options: Any) -> None:
    """What was said before, and before the server's restart, is known."""
    seen = case.driver.ask(case.style, case.session, "Who am I?", **options)
    equal(seen["texts"], ["You said: I am Ada. / Who am I?"])


def previous(case: Case) -> None:
    """A response goes on from the one before it, by its id."""
    _goes_on(case, "previous_response_id")


def conversation(case: Case) -> None:
    """Responses of a conversation that was created go on from each other."""
    _goes_on(case, "conversation")


def session(case: Case) -> None:
    """The client's own store of conversations works over those of the server."""
    equal(_goes_on(case, "session"), [4, 8])


def _goes_on(case: Case, via: str) -> list[Any]:
    """See that two questions, and two with tools, go on from each other, without the header."""
    talk = case.driver.ask(case.style, "", "I am Ada.", "Who am I?", via=via)
    equal(talk["texts"], ["You said: I am Ada.", "You said: I am Ada. / Who am I?"])
    called = case.driver.ask(
        case.style, "", "The weather in Oslo?", "And in Rome?", via=via, tools=True
    )
    equal(called["texts"], ["It is 7 degrees in Oslo.", "It is 21 degrees in Rome."])
    return [talk["value"], called["value"]]


def polled(case: Case) -> None:
    """An answer that is made in the background is polled until it is complete."""
    in_background(case, stream=False)


def followed(case: Case) -> None:
    """It is streamed, and the client that can follows it again."""
    in_background(case, stream=True)


def in_background(case: Case, *, stream: bool) -> None:
    """Two questions, each sent alone: the second is answered with the first at hand."""
    options = {"background": True, "stream": stream}
    case.driver.ask(case.style, case.session, "I am Ada.", **options)
    restart(case, **options)
    equal(len(case.demo.stored(case.session)), 4)


def equal(seen: Any, expected: Any) -> None:
    """See that both are the same; white space around texts does not count."""
    if isinstance(seen, list):
        seen = [text.strip() if isinstance(text, str) else text for text in seen]
    assert seen == expected, f"{seen} in the place of {expected}"


FEATURES: dict[str, Callable[[Case], Any]] = {
    "answer": chat,
    "stream": stream,
    "tools": tools,
    "tools, streamed": tools_streamed,
    "structured": structured,
    "picture": picture,
    "whole history": whole,
    "no header": unnamed,
    "restart": restart,
    "error": error,
    "broken stream": broken,
    "id in": reads_the_id,
}


WAYS: dict[str, Callable[[Case], Any]] = {
    "`previous_response_id`": previous,
    "`conversation`": conversation,
    "`OpenAIConversationsSession`": session,
}


BACKGROUND: dict[str, Callable[[Case], Any]] = {
    "polled": polled,
    "followed": followed,
}


def cell(feature: Callable[[Case], Any], case: Case) -> str:
    """Return what the table says, which begins with ``no: `` where it is not as it should be."""
    try:
        return feature(case) or "yes"
    except AssertionError as exc:
        return f"no: {exc}"
