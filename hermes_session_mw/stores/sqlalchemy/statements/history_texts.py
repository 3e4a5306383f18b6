"""Parses long histories in an event loop so that it has pauses meanwhile.

A history of thousands of messages takes a JSON parser milliseconds. So a long one is parsed in
portions, and others have their turn between two of them. Of several histories one is parsed at a
time: otherwise all would be done last.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from hermes_session_mw.database.workers.worker_pool import PerLoop
from hermes_session_mw.messages import Message, parse_json, parse_messages
from hermes_session_mw.stores.base import History

SEPARATOR = ",\n"
"""What comes between the JSON texts of messages: this package writes none with an end of line."""

PORTION = 65_536
"""Characters that are parsed without a pause, about."""

_in_loop: PerLoop[asyncio.Lock] = PerLoop()


@dataclass(frozen=True, slots=True)
class HistoryTexts:
    """A long history that is not parsed yet.

    Attributes:
        texts: the JSON texts of its messages, with `SEPARATOR` between.
        count: how many these are.
        length: how many messages the whole history has.
    """

    texts: str
    count: int
    length: int

    def parse(self) -> History:
        """Return the history, parsed at once; in a worker thread."""
        return self._history(parse_messages(self.texts, self.count))

    async def parse_in_loop(self) -> History:
        """Return the history; in asyncio's event loop."""
        lock = _in_loop.get()
        if lock is None:
            lock = asyncio.Lock()
            _in_loop.set(lock)
        parsed: list[list[Message]] = []
        async with lock:
            for messages in self._parse_portions():
                parsed.append(messages)
                await asyncio.sleep(0)
            return self._put_together(parsed)

    def _parse_portions(self) -> Iterator[list[Message]]:
        """Parse one portion after the other; stop at one that is no JSON."""
        start = end = 0
        while end >= 0:
            end = self.texts.find(SEPARATOR, start + PORTION)
            portion = self.texts[start:end] if end >= 0 else self.texts[start:]
            try:
                yield parse_json(f"[{portion}]")
            except (ValueError, RecursionError):
                return
            start = end + len(SEPARATOR)

    def _put_together(self, parsed: list[list[Message]]) -> History:
        messages = [message for portion in parsed for message in portion]
        # Somebody's own SQL may have stored a text of several lines: then a portion is none.
        return self._history(messages) if len(messages) == self.count else self.parse()

    def _history(self, messages: list[Message]) -> History:
        return History(messages, self.length, exists=True)
