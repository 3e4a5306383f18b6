"""What befalls the servers while clients are cut: in a random order, spread over the run."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tests.long.cuts.journal import Journal
from tests.long.cuts.record import Record, until
from tests.long.cuts.site import WORKERS, Site
from tests.support.database_server import OwnServer

_SHARES = {
    "kill": 0.04,
    "stop": 0.005,
    "pause": 0.004,
    "nginx": 0.03,
    "proxy": 0.03,
    "database": 0.01,
}
"""How many of all cuts are of which kind; the others are the clients'."""


@dataclass(frozen=True)
class Database:
    """The database server, which can be restarted.

    Attributes:
        server: the server.
        shut_down_by: the signal that ends it in order.
    """

    server: OwnServer
    shut_down_by: signal.Signals


class Disturber:
    """Cuts what is not the clients', so often that it is in step with them."""

    def __init__(
        self,
        site: Site,
        database: Database | None,
        journal: Journal,
        record: Record,
        *,
        cuts: int,
        seed: int,
    ) -> None:
        self._site, self._database, self._journal, self._record = site, database, journal, record
        self._rng = random.Random(f"{seed}:disturber")
        self._cuts = cuts
        self._beside: set[asyncio.Task[None]] = set()
        actions: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self._kill,
            "stop": self._stop,
            "pause": self._pause,
            "nginx": self._disturb_nginx,
            "proxy": self._disturb_proxy,
            "database": self._restart_database,
        }
        if database is None:
            del actions["database"]
        plan = [name for name in actions for _ in range(max(round(_SHARES[name] * cuts), 1))]
        self._rng.shuffle(plan)
        self._plan = [actions[name] for name in plan]

    async def run(self) -> None:
        """Cut all that is planned, and leave every worker running."""
        for number, action in enumerate(self._plan, 1):
            due = number / (len(self._plan) + 1) * self._cuts
            await until(lambda: self._record.cut >= due)  # noqa: B023  # called before it changes
            await action()
        await asyncio.gather(*self._beside)

    async def _kill(self) -> None:
        number = await self._choose()
        self._record.cuts["worker, SIGKILL"] += 1
        self._site.kill(number)
        self._restart(number)

    async def _stop(self) -> None:
        number = await self._choose()
        self._record.cuts["worker, SIGTERM"] += 1
        await self._site.stop(number)
        self._restart(number)

    async def _pause(self) -> None:
        number = await self._choose()
        self._record.cuts["worker, SIGSTOP"] += 1
        self._site.pause(number)
        self._run_beside(self._site.go_on(number, self._rng.choice([1, 3, 9])))

    async def _choose(self) -> int:
        await until(lambda: len(self._site.alive) >= WORKERS - 1)  # at most one is down
        return self._rng.choice(sorted(self._site.alive))

    def _restart(self, number: int) -> None:
        async def restart() -> None:
            await asyncio.sleep(self._rng.uniform(0, 0.5))
            await self._site.start(number)

        self._run_beside(restart())

    def _run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        self._beside.add(asyncio.create_task(work))

    async def _disturb_nginx(self) -> None:
        if self._rng.random() < 0.5:
            self._record.cuts["proxy, nginx reloaded"] += 1
            self._site.reload_nginx()
        else:
            self._record.cuts["proxy, nginx killed"] += 1
            self._site.crash_nginx()

    async def _disturb_proxy(self) -> None:
        if self._rng.random() < 0.5:
            self._record.cuts["proxy, RST"] += 1
            self._site.reset(self._rng)
        else:
            self._record.cuts["proxy, FIN"] += 1
            await self._site.close(self._rng)

    async def _restart_database(self) -> None:
        assert self._database is not None
        server, how = self._database.server, self._rng.choice(["killed", "shut down"])
        self._record.cuts[f"database, {how}"] += 1
        self._journal.note("down")
        if how == "killed":
            await asyncio.to_thread(server.kill)
        else:
            await asyncio.to_thread(server.shut_down, self._database.shut_down_by)
        await asyncio.to_thread(server.start)
        self._journal.note("up")
