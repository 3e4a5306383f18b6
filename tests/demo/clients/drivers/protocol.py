"""What a driver is asked for and answers, one line of JSON each."""

import asyncio
import inspect
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import BaseModel

WEATHER = {"Oslo": 7, "Rome": 21}
HEADER = "X-Hermes-Session-Id"


class Weather(BaseModel):
    """A structured answer."""

    city: str
    degrees: int


@dataclass(frozen=True)
class Ask:
    """What the driver is to do, in one conversation.

    Attributes:
        texts: what the user says, one after another.
        whole: whether the client sends its own whole history with each of them.
        session: its id, or "" for no header.
        via: by what the conversation goes on, without the header: ``previous_response_id``,
            ``conversation`` or ``session``.
        background: whether the answer is made in the background, and polled, or streamed.
    """

    url: str
    style: str
    session: str
    texts: list[str]
    stream: bool = False
    whole: bool = False
    tools: bool = False
    structured: bool = False
    picture: str | None = None
    via: str | None = None
    background: bool = False
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", {HEADER: self.session} if self.session else {})


@dataclass
class Seen:
    """What came of it.

    Attributes:
        texts: the answers.
        ids: the session's id as the client shows it, for each answer; None where it shows none.
        pieces: in how many pieces the last answer came.
        value: the structured answer.
        error: the type of what was raised, its status, and the session's id in it.
    """

    texts: list[str] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    pieces: int = 0
    value: Any = None
    error: dict[str, Any] | None = None


def error_seen(exc: BaseException, headers: Any = None) -> dict[str, Any]:
    """Describe an exception; ``headers`` are the response's, where the client has them."""
    return {
        "type": type(exc).__name__,
        "status": getattr(exc, "status_code", None),
        "id": id_in(headers),
        "message": str(exc),
    }


def id_in(headers: Any) -> str | None:
    """Return the session's id; LiteLLM gives the headers of the server that it asked a prefix."""
    name, found = HEADER.lower(), headers or {}
    return found.get(name) or found.get(f"llm_provider-{name}")


def headers_of(exc: BaseException) -> Any:
    """Return the response's headers, by the exception or by the one that it was raised from."""
    told = getattr(exc, "litellm_response_headers", None)
    response = getattr(exc, "response", None) or getattr(exc.__cause__, "response", None)
    return told or getattr(response, "headers", None)


def weather_in(city: str) -> str:
    """Answer for the tool."""
    return f"{WEATHER.get(city, 'unknown')} degrees in {city}"


def serve(versions: str, drive: Callable[[Ask, Seen], Any]) -> None:
    """Do what each line asks for, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a client prints is no answer
    print(json.dumps({"versions": versions}), file=answers, flush=True)
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            seen = Seen()
            try:
                running = drive(Ask(**json.loads(line)), seen)
                if inspect.isawaitable(running):
                    runner.run(_finished(running))
            except Exception as exc:  # noqa: BLE001  # which kind it is the test judges
                seen.error = error_seen(exc, headers_of(exc))
            print(json.dumps(asdict(seen)), file=answers, flush=True)


async def _finished(running: Any) -> None:
    await running
