"""What the operator's store tells of answers, and does about those that nobody ends."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import URL, text

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from hermes_session_mw.stores.sqlalchemy.admin.models import Problem
from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import PruneCounts
from hermes_session_mw.testing.answer_writers import ASKED, LEASE, TURN, as_text, part
from hermes_session_mw.testing.helpers import numbered
from tests.stores.sqlalchemy.test_admin_store import (
    ENGINES,
    anew,
    anyio_backend,
    run,
    sql,
    url,
)

__all__ = ["anew", "anyio_backend", "url"]  # fixtures

EXPIRE = "UPDATE hermes_sessions SET leased_until = 0"
OFF = {
    "sqlite": "PRAGMA foreign_keys = OFF",
    "postgresql": "SET session_replication_role = replica",
    "mysql": "SET foreign_key_checks = 0",
}


async def answered(url: URL) -> None:
    """Store an open answer "a" of ada's "talk", and one that has ended, "z" of nobody's "done"."""
    store = SQLAlchemyStore(url)
    await store.append("talk", numbered(0), "ada")
    for session_id, answer_id, owner in (("talk", "a", "ada"), ("done", "z", "")):
        fence = await store.begin_answer(session_id, answer_id, [ASKED], owner, lease=LEASE)
        held: dict[str, Any] = {"fence": fence, "lease": LEASE}
        for first, events in ((1, ["Be", "cau"]), (3, ["se"])):
            texts = [as_text(event) for event in events]
            await store.write_events(session_id, answer_id, first, texts, owner, **held)
    await store.end_answer("done", "z", 4, [], TURN, fence=fence, state="completed")
    await store.aclose()


def damage(url: URL, statement: str) -> None:
    """Run a statement that no foreign key refuses."""

    def work(connection: Any) -> None:
        connection.execute(text(OFF[url.get_backend_name()]))
        connection.execute(text(statement))

    run(url, work)


async def test_answers_are_counted(url: URL) -> None:
    """Totals have the open answers, those that have ended, and the events of both."""
    store = AdminStore(url)

    async def counts(owner: str | None = None) -> tuple[int | None, ...]:
        totals = await store.totals(owner)
        return totals.open_answers, totals.ended_answers, totals.answer_events

    assert await counts() == (0, 0, 0)
    await answered(url)
    assert await counts() == (1, 1, 6)
    assert await counts("ada") == (1, 0, 3)
    assert await counts("") == (0, 1, 3)
    assert await counts("bob") == (0, 0, 0)
    await store.aclose()


async def test_looking_folds_nothing(url: URL) -> None:
    """What only reads tells what is stored, also where an answer has lost its writer."""
    await answered(url)
    sql(url, EXPIRE)
    look = AdminStore(url)
    assert (await look.load("talk", "ada")).messages == numbered(0)
    info = await look.info("talk", "ada")
    assert info is not None
    assert info.length == 1
    exported = await look.export_snapshot("talk", "ada")
    assert exported is not None
    assert len(exported.splitlines()) == 2
    assert await look.find_turn("talk", "t", "ada") is None
    assert list(await look.archived("talk", "ada")) == []
    assert list(await look.check_integrity(lambda _: None)) == []
    assert (await look.totals()).open_answers == 1
    await look.aclose()


async def test_a_prune_sweeps_answers(url: URL) -> None:
    """It forgets answers that ended before, and folds those that have lost their writer."""
    await answered(url)
    store = AdminStore(url, access="write")
    early = await store.cutoff(timedelta(days=1))
    late = early + 2 * 24 * 60 * 60
    assert await store.count_stale(early) == PruneCounts()
    assert await store.count_stale(late, "ada") == PruneCounts()  # it has a lease
    assert await store.count_stale(late, "") == PruneCounts(1, 2, answers=1)
    sql(url, EXPIRE)
    assert await store.count_stale(early) == PruneCounts(folded=1)
    assert await store.count_stale(early, "") == PruneCounts()
    assert await store.prune_stale(early, "", lambda _: None) == PruneCounts()
    assert await store.prune_stale(early, None, lambda _: None) == PruneCounts(folded=1)
    assert (await store.load("talk", "ada")).messages == [*numbered(0), ASKED, part("Because")]
    sql(url, "UPDATE hermes_answers SET ended_at = 1000")
    assert await store.count_stale(early) == PruneCounts(answers=2)
    assert await store.prune_stale(early, "ada", lambda _: None) == PruneCounts(answers=1)
    assert await store.prune_stale(early, None, lambda _: None) == PruneCounts(answers=1)
    totals = await store.totals()
    assert (totals.sessions, totals.messages, totals.answer_events) == (2, 5, 0)
    assert list(await store.check_integrity(lambda _: None)) == []
    await store.aclose()


FENCE = "it does not name the open answer a"
NONE = "it names an open answer that it does not have"
STATE = "its other columns say something else"
DAMAGE: dict[str, list[tuple[str | None, str, str]]] = {
    "UPDATE hermes_sessions SET answer_fence = NULL": [("talk", "ada", FENCE)],
    "UPDATE hermes_sessions SET answer_fence = 99 WHERE id = 'talk'": [
        ("talk", "ada", NONE),
        ("talk", "ada", FENCE),
    ],
    "UPDATE hermes_sessions SET answer_fence = 1 WHERE id = 'done'": [("done", "", NONE)],
    "UPDATE hermes_answers SET state = 'stopped' WHERE id = 'a'": [
        ("talk", "ada", NONE),
        ("talk", "ada", f"answer a: its state is stopped, and {STATE}"),
    ],
    "UPDATE hermes_answers SET message = '{}' WHERE id = 'a'": [
        ("talk", "ada", f"answer a: its state is running, and {STATE}"),
    ],
    "UPDATE hermes_answers SET ended_at = NULL WHERE id = 'z'": [
        ("done", "", f"answer z: its state is completed, and {STATE}"),
    ],
    "UPDATE hermes_answers SET message = '[', question = '[1]' WHERE id = 'z'": [
        ("done", "", "answer z: its question is not a JSON array of objects"),
        ("done", "", "answer z: its message is not a JSON object"),
    ],
    "DELETE FROM hermes_answer_events WHERE owner = 'ada' AND first = 1": [
        ("talk", "ada", "answer a: event 1 is missing"),
    ],
    "UPDATE hermes_answer_events SET first = 2 WHERE owner = '' AND first = 3": [
        ("done", "", "answer z: event 2 is there twice"),
        ("done", "", "answer z: it has 1 events under the numbers 2 to 3"),
    ],
    "UPDATE hermes_answer_events SET body = '{' WHERE owner = '' AND first = 3": [
        ("done", "", "answer z: event 3 is not JSON"),
    ],
    "DELETE FROM hermes_answers": [
        (None, "", "there is no answer for the events of 1"),
        (None, "ada", "there is no answer for the events of 1"),
        ("talk", "ada", NONE),
    ],
    "DELETE FROM hermes_sessions WHERE id = 'talk'": [
        ("talk", "ada", "there is no session for 1 messages"),
        ("talk", "ada", "there is no session for 1 answers"),
    ],
    "UPDATE hermes_sessions SET deleted_at = updated_at, next_seq = 0 WHERE id = 'done'": [
        ("done", "", "it counts 0 messages, numbered from 0, and has 2"),
        ("done", "", "there is no session for 1 answers"),
    ],
}  # fmt: skip


@ENGINES
@pytest.mark.parametrize("statement", DAMAGE)
async def test_answers_that_do_not_fit_together_are_told(url: URL, statement: str) -> None:
    """Answers that are lost, not named, of two states, with gaps or without JSON are each told."""
    await answered(url)
    store = AdminStore(url)
    assert list(await store.check_integrity(lambda _: None)) == []
    damage(url, statement)
    found = await store.check_integrity(lambda _: None)
    expected = [Problem(what, id_, owner) for id_, owner, what in DAMAGE[statement]]
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    await store.aclose()


@ENGINES
async def test_a_sweep_heals_what_it_can(url: URL) -> None:
    """Where a session does not name its open answer, a prune folds it, and nothing is told."""
    await answered(url)
    sql(url, "UPDATE hermes_sessions SET answer_fence = NULL, leased_until = 0")
    store = AdminStore(url, access="write")
    early = await store.cutoff(timedelta(days=1))
    assert (await store.prune_stale(early, None, lambda _: None)).folded == 1
    assert list(await store.check_integrity(lambda _: None)) == []
    assert (await store.load("talk", "ada")).length == 3
    await store.aclose()
