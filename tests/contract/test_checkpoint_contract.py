"""Every `CheckpointStore` that the package brings, each driver on one loop."""

from datetime import timedelta

import pytest

from hermes_session_mw import (
    InvalidKey,
    InvalidMessage,
    MemoryStore,
    SessionConflict,
    SessionDeleted,
    SQLAlchemyStore,
    TurnLost,
)
from hermes_session_mw.stores.checkpoint_store import (
    Checkpoint,
    CheckpointStore,
    CheckpointWrite,
    StoredCheckpoint,
)
from hermes_session_mw.testing.helpers import new_id, numbered, pruned
from tests.contract.test_store_contract import Case, anyio_backend, case, checked_out, store

__all__ = ["anyio_backend", "case", "checked_out", "store"]  # fixtures

AnyStore = SQLAlchemyStore | MemoryStore

CASES = (
    Case("memory", "asyncio"),
    Case("sqlite", "trio"),
    Case("sqlite+aiosqlite", "asyncio"),
    Case("postgresql+psycopg", "trio"),
    Case("postgresql+psycopg2", "asyncio"),
    Case("postgresql+asyncpg", "asyncio", borrowed=True),
    Case("mysql+pymysql", "trio"),
    Case("mysql+asyncmy", "asyncio"),
)
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("case", CASES, ids=str, indirect=True, scope="module"),
]

BYTES = bytes(range(256)) * 300  # more than MySQL's BLOB, and than a page of SQLite's
NESTED = "inner:" + "\u00e9" * 3000


def made(number: int, namespace: str = "", run_id: str | None = None) -> Checkpoint:
    """Return a checkpoint whose parent is the one before."""
    parent = f"c{number - 1}" if number else None
    return Checkpoint(
        f"c{number}", "msgpack", BYTES, {"n": number, "t": "\0\u00e9"}, namespace, parent, run_id
    )


def write(number: int, body: bytes, task: str = "t1", path: str = "") -> CheckpointWrite:
    return CheckpointWrite(task, number, "channel", "bytes", body, path)


def ids(found: object) -> list[str]:
    assert isinstance(found, list)
    return [each.checkpoint.checkpoint_id for each in found]


async def test_a_checkpoint_comes_back(store: AnyStore) -> None:
    """The newest of a namespace is returned, or the one with an id; of this owner alone."""
    assert isinstance(store.checkpoints, CheckpointStore)
    one, checkpoints = new_id(), store.checkpoints
    assert await checkpoints.find(one) is None
    for each in (made(0), made(1), made(2, NESTED)):
        await checkpoints.put(one, each, "anna")
    assert await checkpoints.find(one, None, "anna") == StoredCheckpoint(one, made(1), [])
    assert await checkpoints.find(one, "c0", "anna") == StoredCheckpoint(one, made(0), [])
    found = await checkpoints.find(one, None, "anna", namespace=NESTED)
    assert found == StoredCheckpoint(one, made(2, NESTED), [])
    assert await checkpoints.heads(one, "anna") == {"": "c1", NESTED: "c2"}
    assert await checkpoints.find(one, None, "bert") is None
    assert await store.info(one, "anna") is None


async def test_what_is_put_again_replaces(store: AnyStore) -> None:
    """A checkpoint is replaced; of writes the first stays, and with a negative number the last."""
    one, checkpoints = new_id(), store.checkpoints
    await checkpoints.put_writes(
        one, "c0", [write(0, b"first"), write(-1, b"error"), write(1, b"")]
    )
    assert await checkpoints.find(one) is None
    await checkpoints.put(one, Checkpoint("c0", "json", b"{}", {}))
    await checkpoints.put(one, made(0))
    await checkpoints.put_writes(one, "c0", [write(0, b"second"), write(-1, b"other")])
    await checkpoints.put_writes(one, "c0", [write(0, b"\0", "t0", "path")])
    writes = [write(-1, b"other"), write(0, b"first"), write(1, b""), write(0, b"\0", "t0", "path")]
    assert await checkpoints.find(one) == StoredCheckpoint(one, made(0), writes)


async def test_checkpoints_are_listed(store: AnyStore) -> None:
    """Pages have the greatest ids first, of what was asked for, each with its writes."""
    one, other, owner, checkpoints = new_id(), new_id(), new_id(), store.checkpoints
    for number in range(4):
        await checkpoints.put(one, made(number, "" if number % 2 else "inner"), owner)
        await checkpoints.put(other, made(number), owner)
    await checkpoints.put_writes(one, "c1", [write(0, b"x")], owner)
    assert ids(await checkpoints.list(owner, one)) == ["c3", "c2", "c1", "c0"]
    assert ids(await checkpoints.list(owner, one, namespace="")) == ["c3", "c1"]
    assert ids(await checkpoints.list(owner, one, before="c2")) == ["c1", "c0"]
    assert ids(await checkpoints.list(owner, one, checkpoint_id="c2")) == ["c2"]
    assert await checkpoints.list(owner, one, namespace="", before="c3") == [
        StoredCheckpoint(one, made(1), [write(0, b"x")])
    ]
    seen, after = [], None
    while page := await checkpoints.list(owner, limit=3, after=after):
        seen += [(each.session_id, each.checkpoint.checkpoint_id) for each in page]
        after = page[-1]
    pairs = [(id_, f"c{n}") for n in (3, 2, 1, 0) for id_ in sorted((one, other), reverse=True)]
    assert seen == pairs
    assert await checkpoints.list(new_id()) == []


async def test_messages_are_stored_with_a_checkpoint(store: AnyStore) -> None:
    """A turn is appended in the same transaction, once; if it cannot be, neither is stored."""
    one, checkpoints = new_id(), store.checkpoints
    for _ in range(2):
        await checkpoints.put(one, made(0), messages=numbered(0, 2), message_ids=["a", "b"])
    await checkpoints.put(one, made(1), messages=numbered(1, 2), message_ids=["b", "c"])
    for _ in range(2):
        await checkpoints.put(one, made(1), messages=numbered(3), turn_id="turn")
    assert (await store.load(one)).messages == numbered(0, 4)
    fence = await store.acquire(one, 60)
    with pytest.raises(TurnLost):
        await checkpoints.put(one, made(2), messages=numbered(4), fence=fence + 1)
    with pytest.raises(InvalidMessage):
        await checkpoints.put(one, made(2), messages=[{"n": float("nan")}], fence=fence)
    assert await checkpoints.heads(one) == {"": "c1"}
    assert (await store.load(one)).length == 4


async def test_checkpoints_are_removed(store: AnyStore) -> None:
    """Those before one, those of a namespace, of runs, or all of a session's, with their writes."""
    one, owner, checkpoints = new_id(), new_id(), store.checkpoints
    for number, run in enumerate(["r1", "r1", "r2", None]):
        await checkpoints.put(one, made(number, run_id=run), owner)
        await checkpoints.put(one, made(number, "inner", run), owner)
        await checkpoints.put_writes(one, f"c{number}", [write(0, b"x")], owner)
    assert await checkpoints.remove(one, owner, namespace="inner", before="c2") == 2
    assert ids(await checkpoints.list(owner, one, namespace="inner")) == ["c3", "c2"]
    assert await checkpoints.remove_runs(["r1", "r2", "none"], owner) == 4
    assert await checkpoints.remove_runs(["r1"], "another") == 0
    assert ids(await checkpoints.list(owner)) == ["c3", "c3"]
    await checkpoints.put(one, made(0), owner)
    assert (await checkpoints.list(owner, one, checkpoint_id="c0"))[0].writes == []
    assert await checkpoints.remove(one, owner) == 3
    assert await checkpoints.remove(one, owner) == 0


async def test_checkpoints_are_copied(store: AnyStore) -> None:
    """A copy has all checkpoints and writes, and goes where there are none."""
    one, other, checkpoints = new_id(), new_id(), store.checkpoints
    await checkpoints.put(one, made(0))
    await checkpoints.put_writes(one, "c0", [write(0, b"x")])
    assert await checkpoints.copy(new_id(), other) == 0
    assert await checkpoints.copy(one, other) == 1
    assert await checkpoints.find(other) == StoredCheckpoint(other, made(0), [write(0, b"x")])
    with pytest.raises(SessionConflict):
        await checkpoints.copy(one, other)


async def test_a_sessions_end_takes_its_checkpoints(store: AnyStore) -> None:
    """Clearing, deleting and pruning remove them, and a rotation moves them."""
    one, moved, checkpoints = new_id(), new_id(), store.checkpoints
    await checkpoints.put(one, made(0))
    await checkpoints.put_writes(one, "c0", [write(0, b"x")])
    assert await store.rotate(one, moved)
    assert await checkpoints.find(one) is None
    with pytest.raises(SessionConflict):
        await store.import_(await exported(store), session_id=moved)
    assert await store.clear(moved)
    assert await checkpoints.find(moved) is None
    assert not await store.clear(moved)
    await checkpoints.put(moved, made(0))
    found = await checkpoints.find(moved)
    assert found is not None
    assert found.writes == []
    assert await store.delete(moved)
    assert await checkpoints.list("", moved) == []
    with pytest.raises(SessionDeleted):
        await checkpoints.put(moved, made(0))
    with pytest.raises(SessionDeleted):
        await checkpoints.put_writes(moved, "c0", [write(0, b"x")])
    await checkpoints.put(one := new_id(), made(0))
    await pruned(store, one)
    assert await checkpoints.list("", one) == []
    assert await store.prune(timedelta(days=1)) == 0


async def exported(store: AnyStore) -> str:
    await store.append(one := new_id(), numbered(0))
    return await store.export(one)


async def test_what_cannot_be_stored_is_refused(store: AnyStore) -> None:
    """Ids that no database takes raise before any is asked."""
    checkpoints = store.checkpoints
    for bad in ("", "x" * 101, "\0", "\ud800"):
        with pytest.raises(InvalidKey):
            await checkpoints.put("id", Checkpoint(bad, "json", b"", {}))
        with pytest.raises(InvalidKey):
            await checkpoints.put_writes("id", "c0", [write(0, b"", bad)])
    with pytest.raises(InvalidKey):
        await checkpoints.put("id", Checkpoint("c0", "json", b"", {}, run_id="x" * 256))
    with pytest.raises(ValueError, match="limit"):
        await checkpoints.list(limit=0)
