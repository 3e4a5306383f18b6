"""The events of an upstream's response, however its bytes come."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw.openai_api.event_reader import Event, EventReader, EventTooLarge

EVENTS: dict[str, tuple[str | bytes, list[tuple[str, str]]]] = {
    "nothing": ("", []),
    "one": ("data: a\n\n", [("", "a")]),
    "two": ("data: a\n\ndata: b\n\n", [("", "a"), ("", "b")]),
    "lines that end otherwise": ("data: a\r\n\r\ndata: b\r\rdata: c\n\r\n", [
        ("", "a"), ("", "b"), ("", "c")]),
    "a byte order mark": ("\ufeffdata: a\n\n", [("", "a")]),
    "several lines": ("data: a\ndata:b\ndata:  c\n\n", [("", "a\nb\n c")]),
    "a name": ("event: ping\ndata: {}\n\ndata: a\n\n", [("ping", "{}"), ("", "a")]),
    "a name alone": ("event: ping\n\ndata: a\n\n", [("", "a")]),
    "empty data": ("data:\n\ndata\n\ndata: a\n\n", [("", "a")]),
    "comments and ids": (": hello\n\nid: 1\n\nretry: 10\n\n: x\ndata: a\n: y\n\n", [("", "a")]),
    "an unknown field": ("x: y\ndata: a\n\n", [("", "a")]),
    "no blank line at the end": ("data: a\n\ndata: b\n", [("", "a"), ("", "b")]),
    "no line end at the end": ("data: a\n\ndata: b", [("", "a"), ("", "b")]),
    "a body": ('{"a": "\u00e9\\n"}\n', [("", '{"a": "\u00e9\\n"}\n')]),
    "a body after white space": ("\n\n  [1]", [("", "\n\n  [1]")]),
    "a character": ("data: \u00e9\u65e5\U0001f600\n\n", [("", "\u00e9\u65e5\U0001f600")]),
    "bytes that are none": (b"data: a\xffb\xe6\n\n", [("", "a\ufffdb\ufffd")]),
    "a page": ("<html>\n<p>data</p>\n", []),
}  # fmt: skip


def read(pieces: Iterable[bytes], limit: int = 1000) -> list[Event]:
    reader = EventReader(limit)
    events = [event for piece in pieces for event in reader.feed(piece)]
    return [*events, *reader.end()]


@pytest.mark.parametrize(("text", "events"), EVENTS.values(), ids=EVENTS)
def test_events_are_read_as_they_are_meant(
    text: str | bytes, events: list[tuple[str, str]]
) -> None:
    """By the standard, and a little beyond it; in one piece, and byte by byte."""
    data = text if isinstance(text, bytes) else text.encode()
    assert [*map(strip, read([data]))] == [*map(strip, events)]
    assert [*map(strip, read([bytes([byte]) for byte in data]))] == [*map(strip, events)]


def strip(event: tuple[str, str]) -> tuple[str, str]:
    """Return an event without white space around its data, of which a body has some."""
    name, data = event
    return name, data.strip() if data.lstrip()[:1] in ("{", "[") else data


@given(st.data(), st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_events_are_the_same_however_their_bytes_are_cut(
    data: st.DataObject, texts: list[str]
) -> None:
    """Also in the middle of a character and of a line's end."""
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    sent = "".join(
        f"data: {json.dumps(text, ensure_ascii=False)}{end}{end}" for text in texts
    ).encode()
    places = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    cuts = zip([0, *places], [*places, len(sent)], strict=True)
    events = read([sent[a:b] for a, b in cuts], 100_000)
    assert [json.loads(event.data) for event in events] == texts


@pytest.mark.parametrize("text", ["data: " + "x" * 20, "x" * 21, "{" + "x" * 20, "data: a\n" * 4])
def test_an_event_has_a_limit(text: str) -> None:
    """Whether its end comes or not; and a body, too."""
    with pytest.raises(EventTooLarge):
        read([text.encode()], 20)
    with pytest.raises(EventTooLarge):
        read([bytes([byte]) for byte in text.encode()], 20)


def test_the_limit_is_that_of_one_event() -> None:
    """A stream may have any number of them, and of comments."""
    events = read([b"data: abcdefghij\n\n", b": abcdefghij\n"] * 100, 20)
    assert len(events) == 100
