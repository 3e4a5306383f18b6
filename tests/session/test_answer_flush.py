"""The logs of all answers of an event loop are written by one task, several at once."""

import math
from typing import Any, cast

import anyio

from hermes_session_mw.session.answer_flush import AnswerFlush, Flusher
from tests.support.answers import until


class SlowFlush:
    """An answer whose log is written for as long as the test says."""

    def __init__(self) -> None:
        self.due, self.is_writing = -math.inf, False
        self.begun, self.may_end = anyio.Event(), anyio.Event()

    async def write(self) -> None:
        self.begun.set()
        await self.may_end.wait()
        self.due, self.is_writing = math.inf, False


async def test_an_answer_is_written_while_the_writes_of_others_last() -> None:
    """However many writes are under way, below the most: none of them delays another answer's."""
    known: dict[Any, Flusher] = {}
    flusher, answers = Flusher.here(known), [SlowFlush() for _ in range(8)]
    for answer in answers:
        flusher.add(cast(AnswerFlush, answer))
        flusher.note_due(answer.due)
        with anyio.fail_after(60):
            await answer.begun.wait()
    for answer in answers:
        flusher.discard(cast(AnswerFlush, answer))
        answer.may_end.set()

    async def is_over() -> bool:
        return not known

    await until(is_over)
