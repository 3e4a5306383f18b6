"""What every `LifecycleStore` promises beside `Store`, as tests."""

import json
import math
from typing import Any

import pytest

from hermes_session_mw import (
    InvalidKey,
    InvalidMessage,
    LifecycleStore,
)
from hermes_session_mw.testing.edit_contract import EditOperations
from hermes_session_mw.testing.helpers import (
    SUMMARY,
    UNKNOWN,
    new_id,
    numbered,
    stored,
)
from hermes_session_mw.testing.lease_contract import LeaseOperations
from hermes_session_mw.testing.metadata_contract import MetadataOperations
from hermes_session_mw.testing.session_list_contract import SessionListOperations


class LifecycleOperations(
    EditOperations, LeaseOperations, SessionListOperations, MetadataOperations
):
    """What a store does with its database: edits, leases, lists, exports, keys and metadata."""


@pytest.mark.anyio
class LifecycleArguments:
    """What a store refuses before it asks its database: keys, numbers, cursors, exports."""

    @pytest.mark.parametrize("number", [1.0, 1.5, float("nan"), True, "1"])
    async def test_a_number_of_messages_is_an_int(self, store: LifecycleStore, number: Any) -> None:
        """A number that is not an int is refused at once: databases round it differently."""
        session_id = await stored(store)
        before = await store.load(session_id)
        for mistaken in (
            lambda: store.load(session_id, limit=number),
            lambda: store.append(session_id, numbered(9), expected_length=number),
            lambda: store.rewind(session_id, number),
            lambda: store.fork(session_id, new_id(), length=number),
            lambda: store.compact(session_id, [], SUMMARY, skipped=number),
            lambda: store.list(limit=number),
        ):
            with pytest.raises(TypeError, match="not an int"):
                await mistaken()
        assert await store.load(session_id) == before

    @pytest.mark.parametrize("seconds", [0, -1, 2_592_001, 1e300, math.inf, math.nan])
    async def test_a_lease_has_its_bounds(self, store: LifecycleStore, seconds: float) -> None:
        """A lease of no time, or of too much, is refused, and nothing is acquired."""
        session_id = await stored(store)
        with pytest.raises(ValueError, match="lease"):
            await store.acquire(session_id, seconds)
        fence = await store.acquire(session_id, 30)
        with pytest.raises(ValueError, match="lease"):
            await store.extend(session_id, fence, seconds)
        assert await store.append(session_id, numbered(4), fence=fence) == 5

    @pytest.mark.parametrize("value", ["", "x" * 257, "a\0b", "\ud800", b"bytes", None])
    async def test_keys_that_cannot_be_stored_are_refused(
        self, store: LifecycleStore, value: Any
    ) -> None:
        """Each method refuses an id that some database could not hold, before it is asked."""
        for work in (
            lambda: store.rewind(value, 0),
            lambda: store.compact(value, numbered(0), SUMMARY),
            lambda: store.find_turn(value, "t"),
            lambda: store.fork(new_id(), value),
            lambda: store.rotate(new_id(), value),
            lambda: store.acquire(value, 1),
            lambda: store.info(value),
            lambda: store.bind_key(value, new_id()),
            lambda: store.move_key(new_id(), value),
        ):
            with pytest.raises(InvalidKey):
                await work()

    @pytest.mark.parametrize("limit", [0, -1, 501])
    async def test_a_page_has_its_bounds(self, store: LifecycleStore, limit: int) -> None:
        """A page without sessions, or with too many, is a mistake."""
        with pytest.raises(ValueError, match="limit"):
            await store.list(new_id(), limit)

    @pytest.mark.parametrize(
        "cursor",
        [
            *["", "x", "\u00e4", "[" * 9999],
            *["WzEsMl0=", "W10=", "bnVsbA==", "WzEuNSwgImEiXQ==", "WzEsICJhIl0"],
            *["WzFlOTk5LCAiYSJd", "WzEsIG51bGxd", "W3RydWUsICJhIl0="],
        ],
    )
    async def test_a_cursor_has_to_be_a_pages(self, store: LifecycleStore, cursor: str) -> None:
        """A cursor that does not come from a page is refused before any query."""
        with pytest.raises(ValueError, match="cursor"):
            await store.list(new_id(), cursor=cursor)

    @pytest.mark.parametrize("change", range(24))
    async def test_what_is_no_export_is_refused(self, store: LifecycleStore, change: int) -> None:
        """Lines that are not an export are refused, never quoted, and store nothing."""
        session_id = new_id()
        head = {
            "hermes_session": 1,
            "id": session_id,
            "title": None,
            "created_at": "2026-01-31T12:00:00Z",
        }
        row = {"turn_id": "t", "message": {"secret": 1}}
        bad: list[tuple[Any, ...]] = [
            (),
            (head,),
            (row,),
            ({**head, "hermes_session": 2}, row),
            ({**head, "id": "a\0"}, row),
            ({**head, "id": 7}, row),
            ({**head, "created_at": "2026-01-31T12:00:00"}, row),
            ({**head, "created_at": "secret"}, row),
            ({**head, "created_at": 5}, row),
            ({**head, "updated_at": "secret"}, row),
            ({**head, "updated_at": "2026-01-31T12:00:00"}, row),
            ({**head, "title": "x" * 501}, row),
            ({key: head[key] for key in ("hermes_session", "id")}, row),
            (head, row, "secret"),
            (head, row, [row]),
            (head, {**row, "turn_id": ""}),
            (head, {"message": row["message"]}),
            (head, {"turn_id": "t"}),
            (head, {**row, "message": "secret"}),
            (head, {**row, "turn_id": None}),
            (head, row, {**row, "turn_id": "u"}, row),
            (head, {**row, "created_at": "secret"}),
            (head, {**row, "created_at": "2026-01-31T12:00:00"}),
            (head, {**row, "created_at": 5}),
        ]
        assert len(bad) == 24
        lines = "\n".join(
            each if isinstance(each, str) else json.dumps(each) for each in bad[change]
        )
        with pytest.raises(InvalidMessage) as caught:
            await store.import_(lines)
        assert "secret" not in str(caught.value)
        assert await store.load(session_id) == UNKNOWN


class LifecycleContract(LifecycleOperations, LifecycleArguments):
    """What a `LifecycleStore` promises beside `Store`; a subclass has the fixture ``store``."""
