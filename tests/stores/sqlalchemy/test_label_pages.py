"""Pages of an owner's list by labels: an index finds them on each database, in its order."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from hermes_session_mw import Keyring, NotSupported, SQLAlchemyStore
from hermes_session_mw.stores.labels import PINNED, make_filter, tag_name
from hermes_session_mw.stores.pagination import FIRST, Position, encode_cursor
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from hermes_session_mw.stores.sqlalchemy.labels import _page
from hermes_session_mw.stores.sqlalchemy.statements import labelled_pages
from hermes_session_mw.testing.answer_writers import MOMENT, begun, wait_for_fold
from hermes_session_mw.testing.helpers import new_id, stored
from tests.stores.sqlalchemy.test_session_pages import (
    SECONDS,
    add,
    every_database,
    explained,
    store,
    tables,
)
from tests.support.own_databases import key_of

__all__ = ["store", "tables"]  # fixtures

INDEX = "ix_hermes_labels_name"
OF_LIST = "ix_hermes_sessions_updated_at"
LATER = Position(SECONDS[0] * 1_000_000 + 200_000_000, "8")


def label(tables: Engine, owner: str, ids: list[str], name: str) -> None:
    """Give the owner's sessions a label."""
    backend = tables.dialect.name
    of = "WHERE owner = :owner AND id = :id"
    columns = "has_labels = 1" + (", pinned = 1" if name == PINNED else "")
    with tables.begin() as connection:
        keys = [{"owner": key_of(backend, owner), "id": key_of(backend, each)} for each in ids]
        connection.execute(
            text(f"UPDATE hermes_sessions SET {columns}, updated_at = updated_at {of}"), keys
        )
        connection.execute(
            text(
                "INSERT INTO hermes_labels (owner, session_id, name, updated_at)"
                f" SELECT owner, id, :name, updated_at FROM hermes_sessions {of}"
            ),
            [{**key, "name": key_of(backend, name)} for key in keys],
        )


def fill(tables: Engine, owner: str) -> None:
    """Give an owner sessions enough that no database would read them all for a page."""
    ids = add(tables, owner, [SECONDS[0] + number // 10 for number in range(4_000)])
    label(tables, owner, ids[::4], tag_name("work"))
    label(tables, owner, ids[1::4], PINNED)
    others = new_id()
    label(tables, others, add(tables, others, [SECONDS[0]] * 200), tag_name("work"))
    names = ("hermes_sessions", "hermes_labels")
    with tables.begin() as connection:
        for statement in {
            "sqlite": ["ANALYZE"],
            "postgresql": [f"ANALYZE {name}" for name in names],
            "mysql": [f"ANALYZE TABLE {name}" for name in names],
        }[tables.dialect.name]:
            connection.execute(text(statement))


def without_few(plan: str) -> str:
    """Return a plan without what MariaDB reads of a page, and what sorts less than a page."""
    lines = (
        line for line in plan.splitlines() if not re.search("<derived|Sort (Key|Method):", line)
    )
    few = re.compile(
        rf"\| ({INDEX}|{OF_LIST}) \| \d+ \| [^|]* \| \d\d? \||Sort  \(.* rows=[1-4]?\d loops"
    )
    return "\n".join(line for line in lines if not few.search(line))


@every_database
async def test_pages_of_labels_are_read_from_an_index(
    store: SQLAlchemyStore, tables: Engine
) -> None:
    """A tag's page, the first as a later one, is as many entries of its index, in their order."""
    owner = new_id()
    fill(tables, owner)
    with explained(tables) as (database, plans):
        for after in (FIRST, LATER):
            wanted = make_filter(tag="work")
            assert len(labelled_pages.list_filtered(database, owner, 50, after, wanted)) == 50
        among_others = encode_cursor(*LATER, "others")
        for cursor, is_pinned in ((None, True), (among_others, False)):
            page = _page(database, owner, 50, cursor, make_filter(order="pinned"), "")
            assert [each.pinned for each in page.sessions] == [is_pinned] * 50
    assert store is not None  # whose tables they are
    assert len(plans) == 4
    for index, plan in zip((INDEX, INDEX, INDEX, OF_LIST), plans, strict=True):
        assert index in plan, plan
        for other in ("TEMP B-TREE", "filesort", "Sort", "Seq Scan", "| ALL |"):
            assert other not in without_few(plan), plan


@every_database
async def test_a_folded_answer_moves_its_session_up(store: SQLAlchemyStore, tables: Engine) -> None:
    """Once an answer that lost its writer is in the history, its session is first in lists."""
    owner = new_id()
    folded, other = ids = [await stored(store, 1, owner) for _ in range(2)]
    for each, second in zip(ids, SECONDS, strict=False):
        await store.label(each, owner, tags=["t"], pinned=True)
        change_time(tables, owner, each, second)
    wanted: dict[str, Any] = {"tag": "t", "pinned": True}
    assert [each.id for each in (await store.list(owner, **wanted)).sessions] == [other, folded]
    writer = await begun(store, folded, owner, lease=MOMENT)
    await writer.write(1, "Becau")
    assert (await wait_for_fold(writer)).length == 3
    page = await store.list(owner, **wanted)
    assert [each.id for each in page.sessions] == [folded, other]
    assert page == await store.list(owner) == await store.list(owner, order="pinned")


def change_time(tables: Engine, owner: str, session_id: str, second: int) -> None:
    """Have a session be changed at another time."""
    backend = tables.dialect.name
    at = {
        "sqlite": "datetime(:time, 'unixepoch')",
        "postgresql": "to_timestamp(:time)",
        "mysql": "from_unixtime(:time)",
    }[backend]
    key = {"owner": key_of(backend, owner), "id": key_of(backend, session_id), "time": second}
    with tables.begin() as connection:
        for table, column in (("sessions", "id"), ("labels", "session_id")):
            connection.execute(
                text(
                    f"UPDATE hermes_{table} SET updated_at = {at}"
                    f" WHERE owner = :owner AND {column} = :id"
                ),
                key,
            )


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_labels_of_what_is_encrypted(tmp_path: Path) -> None:
    """Titles, first words and pairs are read, and are no plain text; pairs are not listed by."""
    path = tmp_path / "encrypted.db"
    ring = Keyring({"k1": bytes(range(32))}, current="k1")
    store = SQLAlchemyStore(f"sqlite:///{path}", encryption=ring, title_from_first_words=True)
    said = [{"role": "user", "content": "Alfama first, please"}]
    await store.append("titled", said, "ada", title="Alfama by tram")
    await store.append("first", said, "ada")
    await store.append("bare", said, "ada")
    await store.rename("bare", None, "ada")
    await store.label("bare", "ada", tags=["trip"], metadata={"where": "Alfama"})
    found = {each.id: each for each in (await store.list("ada", first_words=True)).sessions}
    told = {name: (each.title, each.first_words) for name, each in found.items()}
    assert told == {
        "titled": ("Alfama by tram", None),
        "first": ("Alfama first, please", None),
        "bare": (None, "Alfama first, please"),
    }
    assert (await store.list("ada", tag="trip", first_words=True)).sessions == [found["bare"]]
    assert await store.info("bare", "ada", first_words=True) == found["bare"]
    assert found["bare"].metadata == {"where": "Alfama"}
    with pytest.raises(NotSupported, match="metadata"):
        await store.list("ada", metadata={"where": "Alfama"})
    look = AdminStore(f"sqlite:///{path}", encryption=ring)
    for tag in ("trip", "none"):
        wanted = make_filter(tag=tag)
        page = await look.list_owned(None, 50, None, wanted, first_words=True)
        assert [each.info for each in page.sessions] == [found["bare"]] * (tag == "trip")
    await look.aclose()
    await store.aclose()
    assert not [each for each in tmp_path.iterdir() if b"Alfama" in each.read_bytes()]
