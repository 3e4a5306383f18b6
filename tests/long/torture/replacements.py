"""Killing writers that append and replace, and the server that they write to."""

import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import URL

from hermes_session_mw import ArchivedMessage, History, SQLAlchemyStore
from tests.long.torture.checker import Outcome, check_numbers
from tests.long.torture.writers import Report, Writers
from tests.support.database_server import OwnServer

CRASHES = 10
"""Of so many rounds one crashes the server, where it is one that may be crashed."""

Turn = tuple[str, int]
"""Who wrote it, and its number."""


def kill_replacing_writers(
    urls: Sequence[URL], folder: Path, rounds: int, server: OwnServer | None = None
) -> Outcome:
    """Kill one of eight writers in each round, and look at the history: it never gets shorter.

    ``urls`` lead to one database, with the drivers that the writers get in turn.
    """
    length = 0
    with Writers(folder, *urls, mode="replace") as writers:
        for number in range(1, rounds + 1):
            time.sleep(random.uniform(0, 0.1))
            if server is not None and number % CRASHES == 0:
                server.kill()
                writers.replace_one()
                server.start()
                writers.wait_for_turns(1, of_each=False)
            else:
                writers.replace_one()
            history = anyio.run(_history, urls[0], writers.session_id)
            turns_of(history.messages)
            assert history.length >= length, (history.length, length)
            length = history.length
    reports = writers.reports()
    history = anyio.run(_history, urls[0], writers.session_id)
    archived = anyio.run(_archived, urls[0], writers.session_id)
    check_numbers(urls[0], writers.session_id, history.length)
    return Outcome(
        rounds,
        stored=check_replaced(history, archived, reports),
        acknowledged=sum(len(report.acknowledged) for report in reports.values()),
        in_doubt=sum(report.doubts for report in reports.values()),
        unavailable=sum(report.unavailable for report in reports.values()),
    )


def check_replaced(
    history: History, archived: Sequence[ArchivedMessage], reports: Mapping[str, Report]
) -> int:
    """Hold what is there, and was, against what was acknowledged; return how many turns that is.

    Each turn says which one it replaced: that one alone is in the archive, and whole.
    """
    standing = turns_of(history.messages)
    gone = turns_of([old.message for old in archived])
    assert {old.reason for old in archived} <= {"replace"}
    assert not standing.keys() & gone.keys(), "both in the history and archived"
    replaced = [each for each in (standing | gone).values() if each is not None]
    assert len(set(replaced)) == len(replaced), "replaced twice"
    assert set(replaced) == gone.keys(), "archived, and by nobody replaced; or the other way round"
    stored = standing.keys() | gone.keys()
    for name, report in reports.items():
        own = {number for writer, number in stored if writer == name}
        lost = report.acknowledged.keys() - own
        assert not lost, (name, lost)
        unsaid = own - report.acknowledged.keys() - report.in_doubt
        assert unsaid <= {report.next_turn}, (name, unsaid, report.next_turn)
    return len(stored)


def turns_of(messages: Sequence[dict[str, Any]]) -> dict[Turn, Turn | None]:
    """Return the turns that the messages are, and which one each has replaced.

    None is torn or there twice, and none stands within another.
    """
    turns: dict[Turn, Turn | None] = {}
    assert len(messages) % 3 == 0, len(messages)
    for at in range(0, len(messages), 3):
        turn = messages[at : at + 3]
        assert [message["part"] for message in turn] == [0, 1, 2], turn
        ((writer, number),) = {(message["writer"], message["turn"]) for message in turn}
        assert (writer, number) not in turns, f"twice: {turn[0]}"
        replaced = turn[0]["replaces"]
        turns[writer, number] = None if replaced is None else (replaced[0], replaced[1])
    return turns


async def _history(url: URL, session_id: str) -> History:
    async with _store(url) as store:
        return await store.load(session_id)


async def _archived(url: URL, session_id: str) -> Sequence[ArchivedMessage]:
    async with _store(url) as store:
        return await store.archived(session_id)


@asynccontextmanager
async def _store(url: URL) -> AsyncIterator[SQLAlchemyStore]:
    store = SQLAlchemyStore(url, timeout=600)  # whatever else the machine does
    yield store
    await store.aclose()
