"""The store contract, over a database that Hermes wrote.

A message of the contract is any JSON object, and one of Hermes' has a role: here each is the
content of a message. What Hermes' tables cannot express is overridden, with what happens instead.
"""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hermes_session_mw import (
    HermesStateStore,
    History,
    InvalidMessage,
    MemoryStore,
    SessionConflict,
    SessionTaken,
    StoreCorrupt,
)
from hermes_session_mw.testing import StoreContract, example_messages
from hermes_session_mw.testing.helpers import UNKNOWN, new_id, numbered
from hermes_session_mw.testing.metadata_contract import MetadataOperations
from tests.stores.hermes_state.agent import ask, copy_to


class Wrapped(HermesStateStore):
    """Carries each message as the content of a user's."""

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        history = await super().load(session_id, owner, limit)
        messages = [message["content"] for message in history.messages]
        return History(messages, history.length, history.exists)

    async def append(
        self,
        session_id: str,
        messages: Sequence[Any],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
        *,
        fence: int | None = None,
        replace_from: int | None = None,
    ) -> int:
        wrapped: list[Any] = [
            {"role": "user", "content": m} if type(m) is not str else m for m in messages
        ]
        options = {"fence": fence, "replace_from": replace_from}
        return await super().append(session_id, wrapped, owner, turn_id, expected_length, **options)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for all tests."""
    return copy_to(tmp_path_factory.mktemp("hermes"))


@pytest.fixture
async def store(path: Path) -> AsyncIterator[HermesStateStore]:
    """A store over it."""
    store = Wrapped(path)
    yield store
    await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
class TestContract(StoreContract):
    """The contract."""

    async def test_messages_of_the_field_come_back_exactly(self, store: Any) -> None:
        """Unicode, nested tool calls, empty strings, nulls and inner key order survive."""
        session_id = new_id()
        fine = {
            **example_messages.FINE,
            "100 levels": example_messages.nested(99),
        }  # and the message itself
        sent = [*example_messages.REALISTIC, *fine.values()]
        await store.append(session_id, sent)
        history = await store.load(session_id)
        assert json.dumps(sent) == json.dumps(history.messages)

    @pytest.mark.parametrize(
        "message",
        [
            row[0]
            for name, row in example_messages.NOT_STORABLE.items()
            if name not in ("a list", "None")
        ],
        ids=[name for name in example_messages.NOT_STORABLE if name not in ("a list", "None")],
    )
    async def test_what_cannot_be_stored_leaves_nothing(self, store: Any, message: Any) -> None:
        """One message that cannot be stored keeps the whole turn out, but a list is a content."""
        await super().test_what_cannot_be_stored_leaves_nothing(store, message)

    async def test_a_message_beyond_the_limit_leaves_nothing(self, store: Any) -> None:
        """The limit counts the whole message, its role too."""
        session_id = new_id()
        overhead = len('{"role":"user","content":{"x":""}}')
        with pytest.raises(InvalidMessage, match="1048577 bytes"):
            await store.append(session_id, [{"x": "x" * (2**20 - overhead + 1)}])
        assert await store.load(session_id) == UNKNOWN
        assert await store.append(session_id, [{"x": "x" * (2**20 - overhead)}]) == 1

    async def test_a_turn_id_belongs_to_its_session(self, store: Any) -> None:
        """The same turn id in another session is another turn."""
        first, second = new_id(), new_id()
        assert await store.append(first, numbered(0), turn_id="t") == 1
        assert await store.append(second, numbered(1), turn_id="t") == 1

    async def test_another_owners_session_is_unknown(self, store: Any) -> None:
        """Owners read nothing of each other's; an id is there once, and one of them has it."""
        session_id = new_id()
        await store.append(session_id, [{"of": "ada"}], owner="ada")
        for owner in ("ADA", "ad\u00e4", "ada "):
            assert await store.load(session_id, owner=owner) == UNKNOWN
            with pytest.raises(SessionTaken):
                await store.append(session_id, [{"of": owner}], owner=owner)
        for owner in ("ada", ""):  # no owner: who has the id has the session
            history = await store.load(session_id, owner=owner)
            assert history.messages == [{"of": "ada"}]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
class TestMetadata(MetadataOperations):
    """The contract of metadata, but for what the store does not have."""

    async def test_metadata_is_rotated_with_its_session(self) -> None:  # type: ignore[override]
        """The store does not rotate."""

    async def test_metadata_is_pruned_with_its_session(self) -> None:  # type: ignore[override]
        """The store does not prune."""

    async def test_an_id_with_metadata_is_in_use(self, store: Any) -> None:  # type: ignore[override]
        """No fork takes the id, and with it the metadata."""
        session_id, other = new_id(), new_id()
        await store.append(other, numbered(0))
        await store.set_metadata(session_id, {"a": "b"})
        with pytest.raises(SessionConflict):
            await store.fork(other, session_id)
        assert await store.find_metadata(session_id) == {"a": "b"}

    async def test_metadata_is_exported_and_not_forked(self, store: Any) -> None:
        """An export has it; a fork is a conversation of its own."""
        session_id, fork = new_id(), new_id()
        await store.append(session_id, numbered(0))
        await store.set_metadata(session_id, {"a": "b"})
        await store.fork(session_id, fork)
        assert await store.find_metadata(fork) is None
        lines = await store.export(session_id)
        elsewhere = MemoryStore()
        assert await elsewhere.import_(lines) == session_id
        assert await elsewhere.find_metadata(session_id) == {"a": "b"}

    async def test_metadata_is_one_owners(self, store: Any, path: Path) -> None:
        """Another owner sets none, and one that Hermes begins under the id later has none."""
        session_id = new_id()
        await store.set_metadata(session_id, {"a": "b"}, "ada")
        with pytest.raises(SessionTaken):
            await store.set_metadata(session_id, {"a": "b"}, "bob")
        assert await store.find_metadata(session_id, "bob") is None
        await store.append(session_id, numbered(0), "ada")
        with pytest.raises(SessionTaken):
            await store.set_metadata(session_id, {"a": "b"}, "bob")
        await store.set_metadata(session_id, {"c": 1}, "ada")
        ask(path, "UPDATE sessions SET started_at = 5 WHERE id = ?", session_id)
        assert await store.find_metadata(session_id, "ada") is None
        ask(path, "UPDATE state_meta SET value = '{' WHERE key LIKE 'hermes_session_mw:metadata:%'")
        with pytest.raises(StoreCorrupt, match="metadata"):
            await store.find_metadata(session_id, "ada")
