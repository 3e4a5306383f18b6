"""Holds what is stored, and what clients saw, against what the model gave and who was killed."""

from collections import Counter, defaultdict
from typing import Any

from tests.long.cuts.app import BEAT
from tests.long.cuts.record import Record, Sighting
from tests.long.cuts.scripts import Script, script_of
from tests.long.cuts.stored import Answer, Stored
from tests.long.cuts.timeline import Run, Timeline

LEASE = 6.0
"""Seconds after its last write from which on others may fold an answer."""

BATCH = 0.2
"""Seconds before a worker's death from which on pieces may be lost."""

IDLE = round(BATCH / BEAT) + 2
"""Beats of a process in that time, at most, by timers that are as late as those of its writes."""

_NOTHING = Script([], [], fails=False)


class Judge:
    """Judges a run.

    Attributes:
        violations: what must not be.
        states: how many answers there are of each kind and state.
        lost, doubled: characters, of all answers whose worker lived; or that are in no answer.
        ages: of each answer whose worker was killed and that has lost a piece, how many seconds
            before that the oldest one was given.
        outages: the seconds for which the database was away, each time.
    """

    def __init__(self, timeline: Timeline, stored: Stored, record: Record) -> None:
        self.violations: list[str] = []
        self.states: Counter[str] = Counter()
        self.lost: int = 0
        self.doubled: int = 0
        self.ages: list[float] = []
        self.outages: list[float] = timeline.outages
        self._timeline, self._stored, self._record = timeline, stored, record

    def judge(self) -> None:
        """Judge all of it."""
        for answer in self._stored.answers.values():
            self._judge_answer(answer)
        self._judge_calls()
        self._judge_histories()
        for sighting in self._record.sightings:
            self._judge_sighting(sighting)
        self._judge_replays()

    # Answers

    def _judge_answer(self, answer: Answer) -> None:
        run = self._timeline.runs.get(answer.id)
        if run is None:  # whoever began it was not told that it was stored, and asked no model
            self._count("never run", answer)
            self._hold(not answer.texts and answer.state == "incomplete", answer, "is of nobody")
            return
        self._compare(answer.texts, self._script(run), answer)
        self._judge_message(answer)
        died = self._timeline.died(run)
        if "TurnLost" in run.errors and run.ended is None:
            self._judge_lapsed(answer, run)
        elif run.is_given_up:
            self._judge_given_up(answer, run)
        elif died is not None:
            self._judge_killed(answer, run, died)
        else:
            self._judge_lived(answer, run, run.ended)

    def _judge_lived(self, answer: Answer, run: Run, ended: str | None) -> None:
        self._count("lived", answer)
        script = self._script(run)
        given, stored = len(run.pieces), len(answer.texts)
        self._hold(answer.state == ended, answer, f"was to end as {ended}")
        if answer.state in ("completed", "failed"):
            is_failure = answer.state == "failed"
            self._hold(script.fails == is_failure, answer, "has another end than the model's")
            self._hold(stored == len(script.pieces), answer, f"has {stored} pieces: too few")
            self.lost += len("".join(script.pieces[stored:]))
        else:
            by = answer.session in self._record.stoppable, run.worker in self._timeline.stopped
            self._hold(by[answer.state == "incomplete"], answer, "was ended by nobody")
            # One may have been given when the end came, and was taken by nobody.
            self._hold(stored >= given - 1, answer, f"has {stored} pieces of {given}")

    def _judge_killed(self, answer: Answer, run: Run, died: float) -> None:
        if answer.state != "incomplete":  # its end was being stored
            self._judge_lived(answer, run, run.ending)
            return
        self._count("killed", answer)
        stored = len(answer.texts)
        self._hold(stored >= run.written, answer, f"has {stored} pieces of {run.written} written")
        if stored < len(run.pieces):
            given = run.pieces[stored]
            self.ages.append(died - given)
            idle = self._timeline.idle(run, given, died)
            self._hold(
                idle <= IDLE,
                answer,
                f"lacks a piece that was given {died - given:.3f} s before the end, and its worker "
                f"could have written it at {idle} beats",
            )

    def _judge_lapsed(self, answer: Answer, run: Run) -> None:
        """Its worker lived, but was kept from writing until the lease had expired."""
        done = [write.since for write in run.writes if write.is_done]
        refused = next(write.until for write in reversed(run.writes) if write.until is not None)
        last = done[-1] if done else run.begun - run.took
        pauses = self._timeline.paused[run.worker]
        is_paused = any(since < refused and last < until for since, until in pauses)
        self._count("worker paused" if is_paused else "database away", answer)
        silent = refused - last
        self._hold(silent >= LEASE, answer, f"has lost its lease after {silent:.3f} s")

    def _judge_given_up(self, answer: Answer, run: Run) -> None:
        """Its end could not be stored in time: what was acknowledged is there."""
        self._count("database away", answer)
        self._hold(answer.state in ("incomplete", run.ending), answer, "was ended by nobody")
        stored = len(answer.texts)
        self._hold(stored >= run.written, answer, f"has {stored} pieces of {run.written} written")
        self._hold(len(answer.texts) >= run.written, answer, "lacks what was written")

    def _judge_message(self, answer: Answer) -> None:
        text = "".join(answer.texts)
        message: Any = {"role": "assistant", "content": text}
        if answer.state != "completed":
            message = {**message, "status": "incomplete"} if text else None
        if answer.state == "failed" and answer.replace_from is not None:
            message = None  # the old turn stays
        stored = None if answer.message is None else without_digest(answer.message)
        self._hold(stored == message, answer, f"is {stored!r}, not {message!r}")

    def _compare(self, texts: list[str], script: Script, answer: Answer) -> None:
        same = 0
        for own, other in zip(texts, script.pieces, strict=False):
            if own != other:
                break
            same += 1
        self.doubled += len("".join(texts[same:]))
        self._hold(same == len(texts), answer, f"has another piece {same + 1} than was given")

    # The model, the histories and the clients

    def _judge_calls(self) -> None:
        of_calls = {run.call: run for run in self._timeline.runs.values()}
        for call in self._timeline.calls:
            run = of_calls.get(call)
            if run is None or run.answer not in self._stored.answers:
                self.violations.append(f"call {call}: its answer is not stored")
        completed = Counter(
            answer.key for answer in self._stored.answers.values() if answer.state == "completed"
        )
        for key, count in completed.items():
            if count > 1:
                self.violations.append(f"{key}: {count} complete answers")

    def _judge_histories(self) -> None:
        histories = self._histories()
        for session, stored in self._stored.histories.items():
            if stored != histories[session][-1]:
                self.violations.append(f"{session}: {stored!r} is not {histories[session][-1]!r}")
        for session, seen in self._record.looks:
            if seen not in histories[session]:
                self.violations.append(f"{session}: {seen!r} was never its history")

    def _histories(self) -> defaultdict[str, list[list[Any]]]:
        """Return the histories that each session had, one after another."""
        histories: defaultdict[str, list[list[Any]]] = defaultdict(lambda: [[]])
        for answer in self._stored.answers.values():
            if answer.length is None:
                continue
            history = histories[answer.session][-1]
            turn = [*answer.question, *([answer.message] if answer.message else [])]
            history = [*history[: answer.replace_from], *turn]
            histories[answer.session].append(history)
            self._hold(answer.length == len(history), answer, f"ends at {len(history)}")
        return histories

    def _judge_sighting(self, sighting: Sighting) -> None:
        answer = self._stored.answers.get(sighting.answer)
        if answer is None:
            self.violations.append(f"{sighting.client}: saw {sighting.answer}, which is not stored")
            return
        run = self._timeline.runs.get(answer.id)
        script = _NOTHING if run is None else self._script(run)
        seen, stored = len(sighting.texts), len(answer.texts)
        is_same = sighting.texts == script.pieces[:seen]
        self._hold(is_same, answer, f"was seen otherwise by {sighting.client}")
        if sighting.key not in (None, answer.key):
            self._hold(False, answer, f"was told to answer {sighting.key} to {sighting.client}")
        if sighting.told is not None or sighting.is_whole:
            self._hold(seen >= stored, answer, f"{seen} of {stored} came to {sighting.client}")
        # Whoever follows in its process is told that it has failed; it is folded later.
        told = answer.state, "failed" if run is not None and run.is_given_up else None
        if sighting.told is not None and sighting.told not in told:
            self._hold(False, answer, f"was told to be {sighting.told} to {sighting.client}")
        if run is not None and run.ended is not None:
            self._hold(seen <= stored, answer, f"{seen} were seen by {sighting.client}")

    def _judge_replays(self) -> None:
        complete = {
            answer.key: [*answer.question, without_digest(answer.message)]
            for answer in self._stored.answers.values()
            if answer.state == "completed"
        }
        for key, messages in self._record.replays:
            if [*map(without_digest, messages)] != complete.get(key):
                self.violations.append(f"{key}: {messages!r} was told again")

    def _script(self, run: Run) -> Script:
        return _NOTHING if run.call is None else script_of(run.call)

    def _count(self, kind: str, answer: Answer) -> None:
        self.states[f"{kind}, {answer.state}"] += 1

    def _hold(self, condition: bool, answer: Answer, otherwise: str) -> None:
        if not condition:
            self.violations.append(f"answer {answer.id} ({answer.key}, {answer.state}) {otherwise}")


def without_digest(message: dict[str, Any]) -> dict[str, Any]:
    """Return a stored message without the digest of the request that it answers."""
    return {name: value for name, value in message.items() if name != "request_digest"}
