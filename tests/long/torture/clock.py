"""Setting the clock back and forth while writers write: nothing may be ordered by it."""

import itertools
import os
import tempfile
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from sqlalchemy import URL, create_engine, select
from sqlalchemy.pool import NullPool

from hermes_session_mw.stores.sqlalchemy.schema.tables import messages
from tests.long.torture.checker import Outcome, outcome
from tests.long.torture.writers import Writers

OFFSETS = [timedelta(hours=-1), timedelta(days=1), timedelta()]
PLACES = ["lib/*/faketime", "lib*/faketime", "local/lib/faketime"]


def library() -> Path | None:
    """Return libfaketime, if the machine has it."""
    found = (each for place in PLACES for each in Path("/usr").glob(f"{place}/libfaketimeMT.so.1"))
    return next(found, None)


class Clock:
    """A clock that can be set while processes look at it, for as long as the block lasts."""

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix="hermes-clock-")
        folder = Path(self._temporary.name)
        folder.chmod(0o755)  # a server has a user of its own, as below
        self._file = folder / "offset"
        self.set(timedelta())
        return self

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()
        _tidy_up()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to look at this clock."""
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": os.fspath(self._file),
            "FAKETIME_NO_CACHE": "1",
            # Setting a machine's clock does not touch this one either.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, offset: timedelta) -> None:
        """Set it so far from the real time."""
        new = self._file.with_name("new")
        new.write_text(f"{offset.total_seconds():+.0f}\n")
        new.chmod(0o644)
        new.replace(self._file)  # who reads it finds the one or the other, never half of it


def turn_clock(
    clock: Clock, url: URL, folder: Path, jumps: int, environment: dict[str, str]
) -> Outcome:
    """Let the clock jump ``jumps`` times; ``environment`` is for the writers."""
    clock.set(timedelta())
    with Writers(folder, url, mode="trust", environment=environment) as writers:
        for offset in itertools.islice(itertools.cycle(OFFSETS), jumps):
            clock.set(offset)
            # A writer's first turn may have begun before; its second and third have not.
            writers.wait_for_turns(3, of_each=False)
    # Without its going back the clock would have stood still, and the rest would show nothing.
    forward = len(range(1, jumps, len(OFFSETS)))
    assert _steps_back(url, writers.session_id) >= jumps - forward
    return outcome(writers, url, jumps)


def _steps_back(url: URL, session_id: str) -> int:
    """Return how often a message is older, by half an hour or more, than the one before it."""
    times = select(messages.c.created_at).where(messages.c.session_id == session_id)
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        found = connection.execute(times.order_by(messages.c.seq)).scalars().all()
    assert all(isinstance(each, datetime) for each in found)
    return sum(
        before - after > timedelta(minutes=30) for before, after in itertools.pairwise(found)
    )


def _tidy_up() -> None:
    # The library keeps something there for each process, which one that is killed leaves behind.
    for left in Path("/dev/shm").glob("*faketime_s*_*"):
        if not Path("/proc", left.name.rpartition("_")[2]).exists():
            with suppress(PermissionError):  # another user's
                left.unlink(missing_ok=True)
