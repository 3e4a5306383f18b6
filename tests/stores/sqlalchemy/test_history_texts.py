"""A long history is parsed in portions, and comes out as if it had been parsed at once."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw import StoreCorrupt
from hermes_session_mw.messages import encode_messages, parse_json
from hermes_session_mw.stores.sqlalchemy.statements import history_texts
from hermes_session_mw.stores.sqlalchemy.statements.history_texts import SEPARATOR, HistoryTexts
from hermes_session_mw.testing.helpers import numbered

JSON = st.recursive(
    st.none() | st.integers() | st.text('a,\n\r"{}[]:\\\u2028\u20ac', max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def texts_of(messages: list[dict[str, Any]]) -> HistoryTexts:
    """Return the texts of messages, as a statement reads them."""
    bodies = encode_messages(messages, max_messages=len(messages))
    return HistoryTexts(SEPARATOR.join(bodies), len(bodies), len(bodies) + 7)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_texts, "PORTION", 100)


@given(st.lists(st.dictionaries(st.text(max_size=3), JSON), min_size=1, max_size=20))
def test_portions_are_the_whole(messages: list[dict[str, Any]]) -> None:
    """Whatever the messages have, line ends and commas too, they come back as they are."""
    texts = texts_of(messages)
    with pytest.MonkeyPatch.context() as patched:
        for portion in (0, 1, 30, 1000):
            patched.setattr(history_texts, "PORTION", portion)
            history = texts.parse()
            assert history.messages == messages
            assert (history.length, history.exists) == (len(messages) + 7, True)
            assert asyncio.run(texts.parse_in_loop()) == history


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_text_of_several_lines_is_parsed_whole() -> None:
    """What somebody's own SQL has stored on many lines is read, if no portion can be."""
    messages = numbered(0, 100)
    lines = SEPARATOR.join(json.dumps(message, indent=1) for message in messages)
    texts = HistoryTexts(lines.replace(": ", ":\n"), len(messages), len(messages))
    assert texts.parse().messages == messages
    assert (await texts.parse_in_loop()).messages == messages


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "damage", [lambda text: text[:-1], lambda text: text + ",\n7,{", str.upper]
)
async def test_what_is_no_json_is_corrupt(damage: Callable[[str], str]) -> None:
    """A text that is no JSON is reported, in whatever portion it is."""
    whole = texts_of([{"a": True}, *numbered(0, 100)])
    texts = HistoryTexts(damage(whole.texts), whole.count, whole.length)
    with pytest.raises(StoreCorrupt):
        texts.parse()
    with pytest.raises(StoreCorrupt):
        await texts.parse_in_loop()
    with pytest.raises(StoreCorrupt):
        HistoryTexts(whole.texts, whole.count + 1, whole.length).parse()


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_others_have_a_turn_after_each_portion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several long histories one is parsed at a time, and the event loop turns meanwhile."""
    turn, parsed = 0, list[int]()

    def note(source: str) -> Any:
        parsed.append(turn)
        return parse_json(source)

    async def count_turns() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    monkeypatch.setattr(history_texts, "parse_json", note)
    counting = asyncio.create_task(count_turns())
    texts = texts_of(numbered(0, 100))
    histories = await asyncio.gather(*[texts.parse_in_loop() for _ in range(3)])
    counting.cancel()
    assert [history.messages for history in histories] == [numbered(0, 100)] * 3
    assert len(parsed) > 20
    assert len(set(parsed)) == len(parsed)
