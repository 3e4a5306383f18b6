"""A model whose answers come piece by piece, each when the test says so."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.upstreams import Exchange, upstream

_END, _FAILURE, _LEFT = object(), object(), object()


class SteppedModel:
    """An upstream for the demo. What it is told to say goes to the answer that is under way.

    Attributes:
        url: where it is, as ``--upstream`` takes it.
        asked: how often it was asked.
    """

    def __init__(self) -> None:
        self._steps: queue.Queue[object] = queue.Queue()
        self._left = threading.Event()
        self.url = ""
        self.asked = 0

    def say(self, *pieces: str) -> None:
        """Say these pieces, as soon as there is an answer."""
        for piece in pieces:
            self._steps.put(piece)

    def end(self, *pieces: str) -> None:
        """Say these pieces, and end the answer."""
        self.say(*pieces)
        self._steps.put(_END)

    def fail(self) -> None:
        """Break the answer off."""
        self._steps.put(_FAILURE)

    def wait_until_left(self) -> None:
        """Wait until the demo closes the connection of the answer under way."""
        self._steps.put(_LEFT)
        assert self._left.wait(60)
        self._left = threading.Event()

    def forget(self) -> None:
        """End what a test before has left, and know nothing of it."""
        self._steps.put(_END)
        self._steps, self._left, self.asked = queue.Queue(), threading.Event(), 0

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve until the block ends."""
        with upstream(self._answer) as server:
            self.url = server.url
            try:
                yield
            finally:
                self.end()  # also where a test has failed before

    def _answer(self, exchange: Exchange) -> None:
        self.asked += 1
        steps, left = self._steps, self._left
        with suppress(OSError):  # of a demo that was killed
            exchange.head()
            exchange.delta(role="assistant", content="")
            while (step := steps.get(timeout=60)) not in (_END, _FAILURE, _LEFT):
                exchange.delta(content=step)
            if step is _END:
                exchange.delta(reason="stop")
                exchange.event("[DONE]")
            if step is _LEFT:
                exchange.wait_for_the_end()
                left.set()


@contextmanager
def stepped_model() -> Iterator[SteppedModel]:
    """Serve a model until the block ends."""
    model = SteppedModel()
    with model.serving():
        yield model
