"""A model that answers with what it was told, and that can be held, or fail."""

import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support.upstreams import Exchange, Upstream, upstream

USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
MERGED = "\n\n"
"""Between questions of which the ones before have no answer, in one message."""

INSTRUCTION = re.compile(r"Answer in \w+\.")


class _Upstream(Upstream):
    def models(self, exchange: Exchange) -> None:
        """List the model, with all that OpenAI's list has."""
        model = {"id": "raw", "object": "model", "created": 0, "owned_by": "tests"}
        exchange.answer(200, {"object": "list", "data": [model]})


class Gate:
    """Where an answer is held.

    Attributes:
        reached: the model was asked.
        opened: the model may go on.
        closed: whoever asked has closed the connection before the answer's end.
        enough: an answer that goes on and on may end.
        ended: nothing more is sent.
    """

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.closed, self.enough, self.ended = (threading.Event() for _ in range(3))


class Model:
    """A server in the shape of OpenAI's. The last message's first word says what it does.

    ``Fail`` is refused, ``Hold`` is held at its gate, ``Leave`` goes on until its reader leaves.

    Attributes:
        url: where it is.
        gates: by the last message's text.
        asked: how often, by the last message's text.
        tools: the names of the tools that were offered, by the last message's text.
    """

    def __init__(self) -> None:
        self.url = ""
        self.gates: defaultdict[str, Gate] = defaultdict(Gate)
        self.asked: Counter[str] = Counter()
        self.tools: dict[str, list[str]] = {}

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve until the block ends."""
        with upstream(self._answer, kind=_Upstream) as server:
            self.url = server.url
            yield

    def _answer(self, exchange: Exchange) -> None:
        if not exchange.body or "messages" not in exchange.body:
            exchange.answer(404, {"error": {"message": "there is no such path"}})
            return
        messages = exchange.body["messages"]
        last = _text(messages[-1]).rpartition(MERGED)[2]
        self.asked[last] += 1
        offered = exchange.body.get("tools") or []
        self.tools[last] = [tool["function"]["name"] for tool in offered]
        if last.startswith("Fail"):
            exchange.answer(400, {"error": {"message": "no", "type": "invalid_request_error"}})
            return
        exchange.head()
        exchange.delta(role="assistant", content="")
        gate = self.gates[last]
        gate.reached.set()
        if last.startswith("Hold"):
            assert gate.opened.wait(30)
        if last.startswith("Leave") and not _is_read_on(exchange, gate):
            return
        exchange.delta(content=" / ".join(_told(messages)))
        exchange.delta(reason="stop")
        exchange.event({"object": "chat.completion.chunk", "choices": [], "usage": USAGE})
        exchange.event("[DONE]")
        gate.ended.set()


def _is_read_on(exchange: Exchange, gate: Gate) -> bool:
    """Say more and more; return whether it was read until that was enough."""
    exchange.delta(content="More ")
    assert gate.opened.wait(30)
    try:
        while not gate.enough.is_set():
            exchange.delta(content="and more ")
            time.sleep(0.02)
    except ConnectionError:
        gate.closed.set()
        return False
    return True


def _told(messages: Sequence[Any]) -> Iterator[str]:
    """Yield the users' texts, a star for each answer, and the client's instruction."""
    for message in messages:
        role, text = message["role"], _text(message)
        if role == "user":
            yield text.replace(MERGED, " + ")
        elif role == "assistant":
            yield "*"
        elif found := INSTRUCTION.search(text):
            yield found[0]


def _text(message: Any) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)
