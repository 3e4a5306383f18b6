r"""Reads the events of an upstream's response as its bytes come, however they are cut.

Rules of this file: pure; ``EventReader`` keeps no more than one event. What servers send is
taken as it is meant:

    bytes of the response                      events
    data: a\n\n                                "a"; also after a byte order mark
    data: a\r\n\r\n, data: a\r\r                "a"
    data:a\ndata: b\n\n                        "a\nb"
    event: ping\ndata: {}\n\n                  "{}", by the name "ping"
    : comment\n\n, id: 1\n\n, retry: 1\n\n      none
    event: ping\n\n, data:\n\n                 none: without data the standard ignores an event
    data: a                                    "a" at the end, though its blank line is missing
    {"choices": ...}                           the whole body, at the end: it was not streamed

The standard is https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream.
"""

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE_END = re.compile(r"\r\n|\n|\r")


class Event(NamedTuple):
    """An event that has data.

    Attributes:
        name: its name; ``""`` for none.
        data: its data, or a whole body that is JSON.
    """

    name: str
    data: str


class EventTooLarge(ValueError):
    """An event, or a body that was not streamed, is longer than the limit."""


class EventReader:
    """Finds the events in a response's bytes.

    Attributes:
        event_id: the ``id:`` among the lines of the event that was yielded last; ``""`` for none.
    """

    event_id: str = ""

    def __init__(self, max_length: int) -> None:
        """Take how many characters one event may have."""
        self._max_length = max_length
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._is_json: bool | None = None  # until the first character is there
        self._line: list[str] = []  # the beginning of the line to come, in pieces
        self._name = self._id = ""
        self._data: list[str] = []
        self._length = 0
        self._after_return = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events that are complete now.

        Raises:
            EventTooLarge: one is longer than the limit.
        """
        return self._read(self._decode(data))

    def end(self) -> Iterator[Event]:
        """Yield the last event, if its end is missing, or the body that was not streamed.

        Raises:
            EventTooLarge: it is longer than the limit.
        """
        yield from self._read(self._decode(b"", final=True))
        if self._is_json:
            yield Event("", "".join(self._line))
        else:
            yield from self._read("\n\n")

    def _read(self, text: str) -> Iterator[Event]:
        if self._is_json is None and text.strip():
            self._is_json = text.lstrip()[0] in "{["
        if self._is_json:
            self._keep(text)
            return
        if self._after_return and text.startswith("\n"):
            text = text[1:]  # of a \r\n that was cut in two
        self._after_return = text.endswith("\r") if text else self._after_return
        *lines, rest = _LINE_END.split(text)
        for line in lines:
            self._keep(line)
            complete, self._line = "".join(self._line), []
            if event := self._take(complete):
                yield event
        self._keep(rest)

    def _keep(self, text: str) -> None:
        self._line.append(text)
        self._length += len(text)
        if self._length > self._max_length:
            raise EventTooLarge(f"an event is longer than {self._max_length} characters")

    def _take(self, line: str) -> Event | None:
        """Add a line to the event; return the event that it ends, if it has data."""
        if not line:
            event, self.event_id = Event(self._name, "\n".join(self._data)), self._id
            self._name, self._id, self._data, self._length = "", "", [], 0
            return event if event.data else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "id":
            self._id = value
        else:
            self._length -= len(line)  # comments are not kept
        return None
