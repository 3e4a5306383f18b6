"""The journal of a run, told by answer."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

WRITES_AT_ONCE = 8
"""How many answers a process writes at once; others wait."""

TRIED = 10.0
"""Seconds for which storing an end is tried: twice a store's time."""


@dataclass
class Write:
    """One attempt to write; ``until`` and ``is_done`` are None where its process died in it."""

    since: float
    is_end: bool
    until: float | None = None
    is_done: bool | None = None


@dataclass
class Run:
    """An answer as the process that ran it noted it.

    Attributes:
        answer, session, key: whose it is.
        worker: the process.
        begun: when its question was stored, and known to be.
        took: the seconds that storing it took.
        call: the name of the model's call; None if the model was not asked.
        pieces: when each piece was given by the model.
        written: how many events are acknowledged by writes.
        writes: its writes, the one of its end too, in order.
        ending: the state that was to be stored at the end.
        ended: the state whose storing was acknowledged.
        errors: the errors of writes, by their names.
    """

    answer: str
    session: str
    key: str
    worker: str
    begun: float
    took: float = 0.0
    call: str | None = None
    pieces: list[float] = field(default_factory=list)
    written: int = 0
    writes: list[Write] = field(default_factory=list)
    ending: str | None = None
    ended: str | None = None
    errors: list[str] = field(default_factory=list)

    @property
    def is_given_up(self) -> bool:
        """Whether the database was away for as long as its end is tried to be stored."""
        ends = [write for write in self.writes if write.is_end]
        if self.ended is not None or not ends or ends[-1].until is None:
            return False
        return ends[-1].until - ends[0].since >= TRIED


class Timeline:
    """All answers, calls and ends of processes.

    Attributes:
        runs: by the answer's id, in the order of their beginnings.
        calls: the key of each call, by its name; of all calls.
        killed: when a worker was killed, by its name.
        stopped: when a worker was told to end.
        paused: from when to when a worker was stopped, by its name, each time.
        outages: the seconds that the database was away, each time.
    """

    def __init__(self, lines: Iterable[dict[str, Any]]) -> None:
        self.runs: dict[str, Run] = {}
        self.calls: dict[str, str] = {}
        self.killed: dict[str, float] = {}
        self.stopped: dict[str, float] = {}
        self.paused: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self.outages: list[float] = []
        self._beats: defaultdict[str, list[float]] = defaultdict(list)
        self._by_call: dict[str, Run] = {}
        self._uncalled: dict[tuple[str, str], Run] = {}
        self._down = 0.0
        self._pausing: dict[str, float] = {}
        for line in lines:
            getattr(self, f"_on_{line['what']}")(line)

    def died(self, run: Run) -> float | None:
        """Return when the answer's process was killed before the answer had ended, if it was."""
        return self.killed.get(run.worker) if run.ended is None else None

    def idle(self, run: Run, since: float, until: float) -> int:
        """Return the beats of the answer's process at which it could have begun to write.

        Those are left out in which it was writing this answer, or trying to, or as many others as
        it writes at once. While it stands still it has no beats.
        """
        busy = [*self._writing(run, until), *self._crowded(run.worker, until)]
        beats = self._beats[run.worker]
        return sum(
            not any(begin <= beat <= end for begin, end in busy)
            for beat in beats[bisect_right(beats, since) : bisect_right(beats, until)]
        )

    def _writing(self, run: Run, until: float) -> Iterator[tuple[float, float]]:
        for number, write in enumerate(run.writes):
            following = run.writes[number + 1].since if number + 1 < len(run.writes) else until
            end = write.until if write.is_done else following  # what failed is tried again
            yield write.since, until if end is None else end

    def _crowded(self, worker: str, until: float) -> Iterator[tuple[float, float]]:
        """Yield when the process had as many writes under way as it has at once."""
        writes = [
            write
            for run in self.runs.values()
            if run.worker == worker
            for write in run.writes
            if not write.is_end
        ]
        changes = [(write.since, 1) for write in writes]
        changes += [(until if write.until is None else write.until, -1) for write in writes]
        count, began = 0, 0.0
        for time, change in sorted(changes):
            if change > 0 and count + change == WRITES_AT_ONCE:
                began = time
            elif change < 0 and count == WRITES_AT_ONCE:
                yield began, time
            count += change

    def _on_begun(self, line: dict[str, Any]) -> None:
        whose = line["answer"], line["session"], line["key"], line["worker"]
        run = Run(*whose, line["t"], line["took"])
        self.runs[run.answer] = self._uncalled[run.worker, run.key] = run

    def _on_called(self, line: dict[str, Any]) -> None:
        self.calls[line["call"]] = line["key"]
        run = self._uncalled.pop((line["worker"], line["key"]), None)
        if run is not None:
            run.call = line["call"]
            self._by_call[run.call] = run

    def _on_piece(self, line: dict[str, Any]) -> None:
        run = self._by_call.get(line["call"])
        if run is not None:
            run.pieces.append(line["t"])

    def _on_writing(self, line: dict[str, Any]) -> None:
        self.runs[line["answer"]].writes.append(Write(line["t"], line["what"] == "ending"))

    def _on_written(self, line: dict[str, Any]) -> None:
        run = self._close(line, is_end=False, is_done=True)
        run.written = max(run.written, line["last"])

    def _on_unwritten(self, line: dict[str, Any]) -> None:
        self._close(line, is_end=False, is_done=False).errors.append(line["error"])

    def _on_ending(self, line: dict[str, Any]) -> None:
        self._on_writing(line)
        self.runs[line["answer"]].ending = line["state"]

    def _on_ended(self, line: dict[str, Any]) -> None:
        self._close(line, is_end=True, is_done=True).ended = line["state"]

    def _on_unended(self, line: dict[str, Any]) -> None:
        self._close(line, is_end=True, is_done=False).errors.append(line["error"])

    def _close(self, line: dict[str, Any], *, is_end: bool, is_done: bool) -> Run:
        run = self.runs[line["answer"]]
        # The end may be stored while events are being written.
        write = next(write for write in reversed(run.writes) if write.is_end == is_end)
        write.until, write.is_done = line["t"], is_done
        return run

    def _on_beat(self, line: dict[str, Any]) -> None:
        self._beats[line["worker"]].append(line["t"])

    def _on_killing(self, line: dict[str, Any]) -> None:
        self.killed[line["victim"]] = line["t"]

    def _on_stopping(self, line: dict[str, Any]) -> None:
        self.stopped[line["victim"]] = line["t"]

    def _on_pausing(self, line: dict[str, Any]) -> None:
        self._pausing[line["victim"]] = line["t"]

    def _on_continuing(self, line: dict[str, Any]) -> None:
        self.paused[line["victim"]].append((self._pausing[line["victim"]], line["t"]))

    def _on_down(self, line: dict[str, Any]) -> None:
        self._down = line["t"]

    def _on_up(self, line: dict[str, Any]) -> None:
        self.outages.append(line["t"] - self._down)
