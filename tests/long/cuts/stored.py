"""What a database has when a run is over."""

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import anyio
from sqlalchemy import URL, Engine, create_engine, func, select
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
    anyio.run(_fold_all, url)
    engine = create_engine(url, poolclass=NullPool)
    texts: defaultdict[str, list[str]] = defaultdict(list)
    with engine.connect() as connection:
        columns = answer_events.c
        events = select(columns.answer_id, columns.first, columns.last, columns.body)
        for name, first, last, body in connection.execute(events.order_by(columns.first)):
            answer = text_of(name)
            batch = json.loads(body)
            assert (first, last) == (len(texts[answer]) + 1, first + len(batch) - 1), answer
            texts[answer] += [each["delta"] if isinstance(each, dict) else each for each in batch]
        rows = connection.execute(select(answers).order_by(answers.c.ended_at)).mappings()
        found = [_answer(row, texts[text_of(row["id"])]) for row in rows]
    histories = anyio.run(_load_all, url, {each.session for each in found})
    for session, history in histories.items():
        if history:
            check_numbers(url, session, len(history))
    return Stored({each.id: each for each in found}, histories)


def _answer(row: Any, texts: list[str]) -> Answer:
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


async def _fold_all(url: URL) -> None:
    store = SQLAlchemyStore(url, timeout=30)
    engine = create_engine(url, poolclass=NullPool)
    until = time.monotonic() + 60
    running = select(func.count()).select_from(answers).where(answers.c.state == "running")
    while True:
        await store.sweep_answers(_FOREVER)
        with engine.connect() as connection:
            if not connection.execute(running).scalar_one():
                break
        assert time.monotonic() < until, "an answer is open, and its lease does not expire"
        await anyio.sleep(0.2)
    await store.aclose()


async def _load_all(url: URL, sessions: set[str]) -> dict[str, list[Any]]:
    store = SQLAlchemyStore(url, timeout=30)
    histories = {each: (await store.load(each)).messages for each in sorted(sessions)}
    await store.aclose()
    return histories
