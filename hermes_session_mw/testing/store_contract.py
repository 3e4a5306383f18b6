"""What every `Store` promises, as tests."""

import json
import random
import secrets
from typing import Any

import anyio
import pytest

from hermes_session_mw import (
    History,
    InvalidKey,
    InvalidMessage,
    SessionConflict,
    Store,
    TurnConflict,
)
from hermes_session_mw.testing import example_messages
from hermes_session_mw.testing.example_messages import random_messages
from hermes_session_mw.testing.helpers import UNKNOWN, new_id, numbered


@pytest.mark.anyio
class StoreOperations:
    """What a store does with its database: loads, appends, turn ids, concurrent writers."""

    async def test_an_unknown_session_is_empty(self, store: Store) -> None:
        """Loading an unknown session returns an empty history, and stores nothing."""
        session_id = new_id()
        assert await store.load(session_id) == UNKNOWN
        assert await store.load(session_id) == UNKNOWN

    async def test_messages_come_back_in_order(self, store: Store) -> None:
        """Appends add at the end, and return the new length."""
        session_id = new_id()
        assert await store.append(session_id, numbered(0, 2)) == 2
        assert await store.append(session_id, numbered(2)) == 3
        assert await store.append(session_id, numbered(3, 9)) == 12
        assert await store.load(session_id) == History(numbered(0, 12), 12, exists=True)

    @pytest.mark.parametrize(("limit", "first"), [(0, 5), (1, 4), (3, 2), (5, 0), (9, 0)])
    async def test_a_limit_gives_the_newest(self, store: Store, limit: int, first: int) -> None:
        """A limit gives the newest messages, oldest first, and the whole length."""
        session_id = new_id()
        await store.append(session_id, numbered(0, 5))
        messages = numbered(first, 5 - first)
        assert await store.load(session_id, limit=limit) == History(messages, 5, exists=True)
        assert await store.load(new_id(), limit=limit) == UNKNOWN

    async def test_messages_of_the_field_come_back_exactly(self, store: Store) -> None:
        """Unicode, nested tool calls, empty strings, nulls and key order survive the database."""
        session_id = new_id()
        sent = [*example_messages.REALISTIC, *example_messages.FINE.values()]
        await store.append(session_id, sent)
        history = await store.load(session_id)
        assert json.dumps(sent) == json.dumps(history.messages)

    async def test_any_json_comes_back_exactly(self, store: Store) -> None:
        """Any JSON object is returned unchanged, byte for byte."""
        seed = random.getrandbits(32)
        sent = random_messages(random.Random(seed), 30)
        session_id = new_id()
        await store.append(session_id, sent)
        history = await store.load(session_id)
        assert json.dumps(sent) == json.dumps(history.messages), f"seed {seed}"

    async def test_a_message_beyond_the_limit_leaves_nothing(self, store: Store) -> None:
        """A message of more than a megabyte is refused, one of just a megabyte is kept."""
        session_id = new_id()
        overhead = len('{"content":""}')
        with pytest.raises(InvalidMessage, match="1048577 bytes"):
            await store.append(session_id, [{"content": "x" * (2**20 - overhead + 1)}])
        assert await store.load(session_id) == UNKNOWN
        whole = {"content": "x" * (2**20 - overhead)}
        assert await store.append(session_id, [whole]) == 1
        assert (await store.load(session_id)).messages == [whole]

    async def test_a_repeated_turn_is_stored_once(self, store: Store) -> None:
        """A repeated turn id stores nothing, and returns the first append's length."""
        session_id = new_id()
        assert await store.append(session_id, numbered(0, 2), turn_id="t") == 2
        assert await store.append(session_id, numbered(2)) == 3
        assert await store.append(session_id, numbered(0, 2), turn_id="t") == 2
        assert await store.append(session_id, numbered(0, 2), turn_id="t", expected_length=0) == 2
        assert (await store.load(session_id)).messages == numbered(0, 3)

    async def test_a_turn_id_cannot_name_two_turns(self, store: Store) -> None:
        """The same turn id with other messages is an error, and stores nothing."""
        session_id = new_id()
        await store.append(session_id, numbered(0, 2), turn_id="t")
        for other in (numbered(1, 2), numbered(0), numbered(0, 3)):
            with pytest.raises(TurnConflict):
                await store.append(session_id, other, turn_id="t")
        assert await store.append(session_id, numbered(2), turn_id="T") == 3

    async def test_a_repeat_may_order_keys_anew_and_change_nothing_else(self, store: Store) -> None:
        """JSON objects have no order; but 1, 1.0 and true are three values."""
        session_id = new_id()
        assert await store.append(session_id, [{"a": 1, "b": 2}], turn_id="t") == 1
        assert await store.append(session_id, [{"b": 2, "a": 1}], turn_id="t") == 1
        for other in (1.0, True, "1"):
            with pytest.raises(TurnConflict):
                await store.append(session_id, [{"a": other, "b": 2}], turn_id="t")

    async def test_a_turn_id_belongs_to_its_session(self, store: Store) -> None:
        """The same turn id in another session, or for another owner, is another turn."""
        first, second = new_id(), new_id()
        assert await store.append(first, numbered(0), turn_id="t") == 1
        assert await store.append(second, numbered(1), turn_id="t") == 1
        assert await store.append(first, numbered(2), turn_id="t", owner="ada") == 1

    async def test_an_expected_length_must_be_met(self, store: Store) -> None:
        """A conditional append stores only at the expected length, and otherwise leaves no gap."""
        session_id = new_id()
        assert await store.append(session_id, numbered(0, 2), expected_length=0) == 2
        for wrong in (0, 1, 3, -1):
            with pytest.raises(SessionConflict) as caught:
                await store.append(session_id, numbered(9), expected_length=wrong)
            assert (caught.value.expected, caught.value.actual) == (wrong, 2)
        assert await store.append(session_id, numbered(2), expected_length=2) == 3
        assert (await store.load(session_id)).messages == numbered(0, 3)

    async def test_an_unmet_expectation_makes_no_session(self, store: Store) -> None:
        """A refused first append leaves the session unknown."""
        session_id = new_id()
        with pytest.raises(SessionConflict):
            await store.append(session_id, numbered(0), expected_length=1)
        assert await store.load(session_id, limit=0) == UNKNOWN

    async def test_another_owners_session_is_unknown(self, store: Store) -> None:
        """Owners share nothing, not even that an id exists."""
        session_id = new_id()
        for owner in ("", "ada", "ADA", "ad\u00e4", "ada "):
            assert await store.load(session_id, owner=owner) == UNKNOWN
            assert await store.append(session_id, [{"of": owner}], owner=owner) == 1
        for owner in ("", "ada", "ADA", "ad\u00e4", "ada "):
            history = await store.load(session_id, owner=owner)
            assert history.messages == [{"of": owner}]

    async def test_ids_compare_byte_for_byte(self, store: Store) -> None:
        """Ids that differ in case, in accents or in trailing characters are different sessions."""
        base = new_id()
        ids = [f"{base}{end}" for end in ("abc", "ABC", "abc.", "abc-", "ab\u00e7", "abc ")]
        for session_id in ids:
            await store.append(session_id, [{"id": session_id}])
        for session_id in ids:
            assert (await store.load(session_id)).messages == [{"id": session_id}]

    async def test_the_longest_keys_fit(self, store: Store) -> None:
        """Keys of the greatest length are stored, with characters of four bytes too."""
        session_id, owner, turn = secrets.token_hex(128), "\U0001f642" * 255, "\U0001f643" * 255
        assert await store.append(session_id, numbered(0), owner=owner, turn_id=turn) == 1
        assert await store.append(session_id, numbered(0), owner=owner, turn_id=turn) == 1
        assert (await store.load(session_id, owner=owner)).messages == numbered(0)

    async def test_turns_of_many_writers_never_interleave(self, store: Store) -> None:
        """Concurrent appends are each stored in a row; none is lost and none is torn."""
        session_id = new_id()
        lengths: list[int] = []

        async def write(writer: int) -> None:
            for turn in range(4):
                messages = [{"writer": writer, "turn": turn, "part": part} for part in range(3)]
                lengths.append(await store.append(session_id, messages))

        async with anyio.create_task_group() as tasks:
            for writer in range(5):
                tasks.start_soon(write, writer)
        messages = (await store.load(session_id)).messages
        turns = [messages[at : at + 3] for at in range(0, 60, 3)]
        assert sorted(lengths) == list(range(3, 61, 3))
        assert all([m["part"] for m in turn] == [0, 1, 2] for turn in turns)
        assert all(len({(m["writer"], m["turn"]) for m in turn}) == 1 for turn in turns)
        for writer in range(5):
            own = [turn[0]["turn"] for turn in turns if turn[0]["writer"] == writer]
            assert own == [0, 1, 2, 3]

    async def test_one_of_many_equal_turns_is_stored(self, store: Store) -> None:
        """Concurrent retries of one turn store it once, and all return its length."""
        session_id = new_id()
        lengths: list[int] = []

        async def write() -> None:
            lengths.append(await store.append(session_id, numbered(0, 2), turn_id="t"))

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(write)
        assert lengths == [2] * 8
        assert (await store.load(session_id)).messages == numbered(0, 2)

    async def test_one_of_many_conditional_turns_wins(self, store: Store) -> None:
        """Of appends that expect the same length, one is stored and the others are refused."""
        session_id = new_id()
        outcomes: list[str] = []

        async def write(writer: int) -> None:
            try:
                await store.append(session_id, [{"writer": writer}], expected_length=0)
            except SessionConflict:
                outcomes.append("told")
            else:
                outcomes.append("stored")

        async with anyio.create_task_group() as tasks:
            for writer in range(8):
                tasks.start_soon(write, writer)
        assert sorted(outcomes) == ["stored"] + ["told"] * 7
        assert (await store.load(session_id)).length == 1

    async def test_a_loaded_history_is_the_callers(self, store: Store) -> None:
        """Changing loaded or appended messages changes nothing that is stored."""
        session_id, message = new_id(), {"content": ["a"]}
        await store.append(session_id, [message])
        message["content"].append("b")
        (await store.load(session_id)).messages[0]["content"].append("c")
        assert (await store.load(session_id)).messages == [{"content": ["a"]}]

    async def test_a_closed_store_can_be_used_again(self, store: Store) -> None:
        """Closing releases the connections, and the next call opens them again."""
        session_id = new_id()
        await store.append(session_id, numbered(0))
        await store.aclose()
        await store.aclose()
        assert await store.append(session_id, numbered(1)) == 2


@pytest.mark.anyio
class StoreArguments:
    """What a store refuses before it asks its database: messages, keys and numbers."""

    async def test_a_negative_limit_is_refused(self, store: Store) -> None:
        """A negative limit is refused, though some databases read it as 'all'."""
        with pytest.raises(ValueError, match="negative"):
            await store.load(new_id(), limit=-1)

    @pytest.mark.parametrize(
        "message", [row[0] for row in example_messages.NOT_STORABLE.values()],
        ids=example_messages.NOT_STORABLE.keys(),
    )  # fmt: skip
    async def test_what_cannot_be_stored_leaves_nothing(self, store: Store, message: Any) -> None:
        """One message that cannot be stored makes the store refuse the whole turn."""
        session_id = new_id()
        with pytest.raises(InvalidMessage):
            await store.append(session_id, [*numbered(0), message])
        assert await store.load(session_id) == UNKNOWN

    async def test_an_empty_append_is_refused(self, store: Store) -> None:
        """A turn without messages is refused and makes no session."""
        session_id = new_id()
        with pytest.raises(InvalidMessage):
            await store.append(session_id, [])
        assert await store.load(session_id, limit=2**70) == UNKNOWN
        assert await store.load(session_id) == UNKNOWN

    @pytest.mark.parametrize("value", ["", "x" * 257, "a\0b", "\ud800", b"bytes", None, 7])
    async def test_a_key_that_cannot_be_stored_is_refused(self, store: Store, value: Any) -> None:
        """A session id that some database would refuse, or change, is refused by all."""
        with pytest.raises(InvalidKey, match="session_id"):
            await store.load(value)
        with pytest.raises(InvalidKey, match="session_id"):
            await store.append(value, numbered(0))

    @pytest.mark.parametrize("value", ["x" * 256, "a\0b", "\udfff", b"bytes", 7])
    async def test_other_keys_are_held_to_the_same(self, store: Store, value: Any) -> None:
        """An owner or a turn id that some database would refuse, or change, is refused by all."""
        with pytest.raises(InvalidKey, match="owner"):
            await store.load(new_id(), owner=value)
        with pytest.raises(InvalidKey, match="turn_id"):
            await store.append(new_id(), numbered(0), turn_id=value)


class StoreContract(StoreOperations, StoreArguments):
    """All that a `Store` promises; a subclass has the fixture ``store``."""
