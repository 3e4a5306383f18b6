"""Conversations of several clients, each by a plan that follows from the seed and its number."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

from tests.long.cuts.clients import Client, Outcome, Question, Way
from tests.long.cuts.exchanges import Cut
from tests.long.cuts.record import Record

_MOST_ATTEMPTS = 400
"""Requests after which a client that has not come to an end never will."""


class Conversation:
    """One session: questions, sometimes at once, those who follow the answers, and who stops them.

    ``is_over`` tells whether enough was cut: what has begun then comes to its end without cuts.
    """

    def __init__(
        self, record: Record, port: int, seed: int, number: int, is_over: Callable[[], bool]
    ) -> None:
        self._rng = random.Random(f"{seed}:{number}")
        self._record, self._port, self._is_over = record, port, is_over
        self._session = f"s{seed}-{number}"

    async def run(self) -> None:
        """Ask all questions, and look at the conversation at the end."""
        rng = self._rng
        async with asyncio.TaskGroup() as tasks:
            for number in range(rng.randint(1, 4)):
                question = Question(
                    f"{self._session}.{number}",
                    again=number > 0 and rng.random() < 0.15,
                    payloads=rng.random() < 0.25,
                    stops=rng.random() < 0.05,
                )
                asking = tasks.create_task(self._ask(question))
                if rng.random() < 0.8:
                    await asyncio.wait([asking])
                else:  # the next one meets the open answer of this one
                    await asyncio.sleep(rng.uniform(0, 0.5))
                if self._is_over():
                    break
        await self._client("look").look()

    async def _ask(self, question: Question) -> None:
        """Ask one question, and return when its answer is known by all who are interested."""
        rng = self._rng
        is_answered = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for number in range(rng.choice([0, 0, 0, 1, 1, 2])):
                name = f"{question.key}, follower {number}"
                tasks.create_task(self._follow(name, is_answered))
            if rng.random() < 0.05:
                tasks.create_task(self._stop_later())
            async with asyncio.TaskGroup() as askers:
                askers.create_task(self._ask_until_answered(question, "asker"))
                if rng.random() < 0.1:  # a double click
                    twin = replace(question, stops=False)
                    askers.create_task(self._ask_until_answered(twin, "twin"))
            is_answered.set()

    async def _ask_until_answered(self, question: Question, role: str) -> None:
        client = self._client(f"{question.key}, {role}")
        plan = Plan(self._rng, self._is_over, question.key)
        way: Way = "post"
        for _ in range(_MOST_ATTEMPTS):
            outcome = await client.visit(way, question, plan.cut())
            if plan.is_content(outcome, way):
                return
            await asyncio.sleep(plan.pause(outcome))
            way = plan.way(outcome, client)
        self._record.violations.append(f"{question.key}, {role}: found no end")

    async def _follow(self, name: str, is_answered: asyncio.Event) -> None:
        client = self._client(name)
        plan = Plan(self._rng, self._is_over)
        way: Way = "start"
        for _ in range(_MOST_ATTEMPTS):
            outcome = await client.visit(way, cut=plan.cut())
            if outcome.kind in ("ended", "nothing") and is_answered.is_set():
                return
            has_more = outcome.kind in ("cut", "lost", "unavailable") and client.newest is not None
            way = plan.cursor() if has_more else "start"
            await asyncio.sleep(plan.pause(outcome))
        self._record.violations.append(f"{name}: found no end")

    async def _stop_later(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.1, 2))
        await self._client("stop").stop()

    def _client(self, name: str) -> Client:
        return Client(self._record, self._port, self._session, name)


class Plan:
    """What one client does: where it is cut, how it comes back, and when it is content."""

    def __init__(
        self, rng: random.Random, is_over: Callable[[], bool], key: str | None = None
    ) -> None:
        self._rng = random.Random(rng.random())
        self._is_over, self._key = is_over, key
        self._cuts = self._rng.choice([0, 1, 1, 1, 2, 2, 3, 5])
        self._leaves = self._rng.random() < 0.1
        self._insists = self._rng.random() < 0.5

    def cut(self) -> Cut | None:
        """Return where the next connection is cut."""
        rng = self._rng
        if not self._cuts or self._is_over():
            return None
        self._cuts -= 1
        sent = rng.randint(0, 250) if rng.random() < 0.08 else None
        return Cut(sent, rng.randint(0, 2600), rng.choice(["RST", "FIN"]))

    def is_content(self, outcome: Outcome, way: Way) -> bool:
        """Return whether the client is through with its question."""
        match outcome.kind:
            case "replayed":
                return True
            case "ended":
                is_own = outcome.key in (self._key, None)  # None: nothing came of it
                return is_own and (outcome.detail == "completed" or not self._insists)
            case "nothing":
                return way != "start"
            case "cut":
                return self._leaves
            case _:  # another answer is running: this one is in the history
                return outcome.detail == "cursor_conflict"

    def pause(self, outcome: Outcome) -> float:
        """Return the seconds before the next request."""
        if outcome.kind == "cut":
            return self._rng.choice([0, 0, 0.05, 0.3, 1.0, 3.0]) * self._rng.random()
        return self._rng.uniform(0.1, 0.5)

    def way(self, outcome: Outcome, client: Client) -> Way:
        """Return how the one who has asked comes back."""
        if outcome.kind in ("ended", "nothing", "refused"):
            return "post"
        if client.newest is None:
            return "post" if self._rng.random() < 0.8 else "start"
        return "post" if self._rng.random() < 0.3 else self.cursor()

    def cursor(self) -> Way:
        """Return how a cursor is sent."""
        return "header" if self._rng.random() < 0.5 else "after"
