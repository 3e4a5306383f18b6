"""Holding what is stored against what was acknowledged."""

from collections.abc import Mapping
from dataclasses import dataclass

import anyio
from sqlalchemy import URL, create_engine, func, select
from sqlalchemy.pool import NullPool

from hermes_session_mw import History, SQLAlchemyStore
from hermes_session_mw.stores.sqlalchemy.schema.tables import messages, sessions
from tests.long.torture.writers import Report, Writers


@dataclass(frozen=True)
class Outcome:
    """How a run ended: nothing acknowledged was lost, or there would be none."""

    rounds: int
    stored: int
    acknowledged: int
    in_doubt: int
    unavailable: int

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds; turns: {self.stored} stored, {self.acknowledged} acknowledged; "
            f"answers: {self.in_doubt} in doubt, {self.unavailable} unavailable"
        )


def outcome(writers: Writers, url: URL, rounds: int) -> Outcome:
    """Check what the writers, which have ended, left behind."""
    reports = writers.reports()
    history = anyio.run(_load, url, writers.session_id)
    check_numbers(url, writers.session_id, history.length)
    return Outcome(
        rounds,
        stored=check(history, reports),
        acknowledged=sum(len(report.acknowledged) for report in reports.values()),
        in_doubt=sum(report.doubts for report in reports.values()),
        unavailable=sum(report.unavailable for report in reports.values()),
    )


def check(history: History, reports: Mapping[str, Report]) -> int:
    """Hold the stored turns against the acknowledged ones; return how many are stored."""
    assert len(history.messages) == history.length
    turns = [history.messages[at : at + 3] for at in range(0, history.length, 3)]
    for turn in turns:  # none torn, none interleaved
        assert [message["part"] for message in turn] == [0, 1, 2], turn
        assert len({(message["writer"], message["turn"]) for message in turn}) == 1, turn
    stored: dict[str, dict[int, int]] = {name: {} for name in reports}
    for at, turn in enumerate(turns, 1):
        own, number = stored[turn[0]["writer"]], turn[0]["turn"]
        assert number not in own, f"twice: {turn[0]}"
        own[number] = 3 * at
    for name, report in reports.items():
        _check_one(name, stored[name], report)
    return len(turns)


def _check_one(name: str, stored: Mapping[int, int], report: Report) -> None:
    for turn, length in report.acknowledged.items():  # none lost, none moved
        assert stored.get(turn) == length, (name, turn, stored.get(turn), length)
    assert list(stored) == sorted(stored), f"out of order: writer {name}"
    unsaid = stored.keys() - report.acknowledged.keys() - report.in_doubt
    assert unsaid <= {report.next_turn}, (name, unsaid, report.next_turn)


def check_numbers(url: URL, session_id: str, length: int) -> None:
    """Check that the messages' numbers have no gaps, and that the counter is behind them."""
    own = messages.c.session_id == session_id
    numbers = select(func.count(), func.min(messages.c.seq), func.max(messages.c.seq)).where(own)
    counter = select(sessions.c.next_seq).where(sessions.c.id == session_id)
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        assert tuple(connection.execute(numbers).one()) == (length, 0, length - 1)
        assert connection.execute(counter).scalar_one() == length


async def _load(url: URL, session_id: str) -> History:
    store = SQLAlchemyStore(url)
    with anyio.fail_after(300):
        history = await store.load(session_id)
    await store.aclose()
    return history
