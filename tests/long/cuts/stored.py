"""What a database has when a run is over."""

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import anyio
from sqlalchemy import URL, Connection, Engine, RowMapping, create_engine, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.database.connection import text_of
from hermes_session_mw.stores.sqlalchemy.schema.tables import answer_events, answers
from tests.long.torture.checker import check_numbers

_FOREVER = 1e9


@dataclass(frozen=True)
class Answer:
    """A row of the answers, with the texts of its events."""

    id: str
    session: str
    key: str | None
    state: str
    question: list[Any]
    replace_from: int | None
    message: Any
    length: int | None
    ended_at: int
    texts: list[str]


@dataclass(frozen=True)
class Stored:
    """All answers by their ids, in the order of their ends, and each session's history."""

    answers: dict[str, Answer]
    histories: dict[str, list[Any]]


class OpenTurns:
    """Looks for sessions with two open answers, while the run goes on.

    Attributes:
        looks: how often it could look.
        found: the sessions that had two.
    """

    def __init__(self, url: URL) -> None:
        self.looks: int = 0
        self.found: set[str] = set()
        self._engine: Engine = create_engine(url, poolclass=NullPool)
        self._query = (
            select(answers.c.session_id)
            .where(answers.c.state == "running")
            .group_by(answers.c.owner, answers.c.session_id)
            .having(func.count() > 1)
        )

    def look(self) -> None:
        """Look once; a database that is away is looked at the next time."""
        try:
            with self._engine.connect() as connection:
                self.found |= set(map(text_of, connection.execute(self._query).scalars()))
        except DBAPIError:
            return
        self.looks += 1


def read(url: URL) -> Stored:
    """Fold what nobody runs any more, and return what is stored then."""
    return anyio.run(_read, url)


async def _read(url: URL) -> Stored:
    store = SQLAlchemyStore(url, timeout=30)
    engine = create_engine(url, poolclass=NullPool)
    await _fold_all(store, engine)
    with engine.connect() as connection:
        check_events(connection)
        rows = connection.execute(select(answers).order_by(answers.c.ended_at)).mappings().all()
    found = [_answer(row, await _texts(store, text_of(row["id"]))) for row in rows]
    sessions = sorted({each.session for each in found})
    histories = {each: (await store.load(each)).messages for each in sessions}
    await store.aclose()
    for session, history in histories.items():
        if history:
            check_numbers(url, session, len(history))
    return Stored({each.id: each for each in found}, histories)


def check_events(connection: Connection) -> None:
    """Check that the numbers of each answer's events are one after another, from 1."""
    columns = answer_events.c
    ranges = select(columns.answer_id, columns.first, columns.last).order_by(columns.first)
    newest: Counter[str] = Counter()
    for answer, first, last in connection.execute(ranges):
        assert first == newest[text_of(answer)] + 1 <= last, (answer, first, last)
        newest[text_of(answer)] = last


async def _texts(store: SQLAlchemyStore, answer: str) -> list[str]:
    texts: list[str] = []
    while True:
        found = await store.read_events(answer, after=len(texts))
        assert found is not None
        _, events = found
        if not events:
            return texts
        loaded = map(json.loads, events)
        texts += [each["delta"] if isinstance(each, dict) else each for each in loaded]


def _answer(row: RowMapping, texts: list[str]) -> Answer:
    message = None if row["message"] is None else json.loads(row["message"])
    return Answer(
        text_of(row["id"]),
        text_of(row["session_id"]),
        None if row["turn_id"] is None else text_of(row["turn_id"]),
        row["state"],
        json.loads(row["question"]),
        row["replace_from"],
        message,
        row["length"],
        row["ended_at"],
        texts,
    )


async def _fold_all(store: SQLAlchemyStore, engine: Engine) -> None:
    until = time.monotonic() + 60
    running = select(func.count()).select_from(answers).where(answers.c.state == "running")
    while True:
        await store.sweep_answers(_FOREVER)
        with engine.connect() as connection:
            if not connection.execute(running).scalar_one():
                return
        assert time.monotonic() < until, "an answer is open, and its lease does not expire"
        await anyio.sleep(0.2)
