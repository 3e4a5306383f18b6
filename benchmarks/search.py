"""Search on SQLite: what an append costs with it and without, and how long a query takes.

A turn's round has as many appends as are indexed together, so that each has its part in that. The
words are made up, and as rare as words of a language are.
"""

import asyncio
import itertools
import random
import string
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from statistics import quantiles
from tempfile import TemporaryDirectory

from benchmarks.measuring import SHORT, Cell, Dose, Operation, Sample, Subject, compare
from benchmarks.peers.everyone import OURS
from benchmarks.peers.operations import APPEND
from benchmarks.peers.table import show
from hermes_session_mw import SQLAlchemyStore

_QUESTION, _ANSWER = 30, 150  # words
_BATCH = 250  # turns of two messages
_VOCABULARY = 30_000
_MESSAGES, _MESSAGES_SHORT = 100_000, 2_000
_TURN = 1_000  # messages that are stored at once
_QUERIES = 200


def measure(dose: Dose) -> list[Cell]:
    """Measure an append, and queries."""
    return asyncio.run(_measure(dose))


async def _measure(dose: Dose) -> list[Cell]:
    words = _words()
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(TemporaryDirectory())

        def opened(name: str, *, search: bool) -> SQLAlchemyStore:
            store = SQLAlchemyStore(f"sqlite:///{directory}/{name}.db", search=search)
            stack.push_async_callback(store.aclose)
            return store

        subjects = [
            Subject.here(OURS, _append(opened("with", search=True), words)),
            Subject.here("without search", _append(opened("without", search=False), words)),
        ]
        count = _BATCH if dose.full else 10
        conditions = {"operation": APPEND, "messages": 2}
        appends = await compare("search", conditions, subjects, dose=dose, count=count)
        messages = _MESSAGES if dose.full else _MESSAGES_SHORT
        sample = await _queries(opened("found", search=True), words, messages)
    return [appends, Cell("search", {"operation": "query", "messages": messages}, [sample])]


def _words() -> Callable[[int], str]:
    chance = random.Random(1)  # noqa: S311  # no secret
    vocabulary = [
        "".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 10)))
        for _ in range(_VOCABULARY)
    ]

    def text(count: int) -> str:
        places = (min(_VOCABULARY, int(chance.paretovariate(0.6))) for _ in range(count))
        return " ".join(vocabulary[place - 1] for place in places)

    return text


def _append(store: SQLAlchemyStore, words: Callable[[int], str]) -> Operation:
    turns = itertools.cycle(
        [
            {"role": "user", "content": words(_QUESTION)},
            {"role": "assistant", "content": words(_ANSWER)},
        ]
        for _ in range(_BATCH)
    )

    async def append() -> None:
        await store.append("a", next(turns))

    return append


async def _queries(store: SQLAlchemyStore, words: Callable[[int], str], messages: int) -> Sample:
    """Store the messages, and search for one word or two."""
    for number in range(0, messages, _TURN):
        some = [{"role": "user", "content": words(_QUESTION)} for _ in range(_TURN)]
        await store.append(f"s{number}", some)
    await store.build_search_index()
    sample = Sample(OURS)
    for number in range(_QUERIES):
        query = words(1 + number % 2)
        cpu, wall = time.process_time(), time.perf_counter()
        await store.search("", query)
        sample.wall.append(time.perf_counter() - wall)
        sample.cpu.append(time.process_time() - cpu)
    sample.figures["p99 ms"] = quantiles(sample.wall, n=100)[-1] * 1e3
    return sample


if __name__ == "__main__":
    show(measure(SHORT))
