"""`AnswerWriter`, which writes one answer's log to the store."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from hermes_session_mw.messages import Message
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.stores.answers import AnswerRecord, AnswerState, AnswerStore

ANSWER_LEASE = 6.0
"""Seconds after which the session of a process that was killed is free."""


class AnswerWriter:
    """Writes the log of an answer that has begun; without a fence, of one that is not stored.

    Attributes:
        retry_timeout: seconds for which storing the end is tried again.
        stores: whether anything is stored.
    """

    def __init__(
        self, store: StoreClient, session_id: str, answer_id: str, owner: str, fence: int | None
    ) -> None:
        self.retry_timeout: float = store.retry_timeout
        self._store = store
        self._session_id, self._answer_id, self._owner = session_id, answer_id, owner
        self._fence = fence
        self.stores: bool = fence is not None

    async def write(self, first: int, events: Sequence[str], growth: str | None) -> bool:
        """See `AnswerStore.write_events`."""
        if self._fence is None:
            return False
        return await self._store.call(
            AnswerStore.write_events,
            self._session_id,
            self._answer_id,
            first,
            events,
            self._owner,
            fence=self._fence,
            lease=ANSWER_LEASE,
            growth=growth,
        )

    async def end(
        self, first: int, events: Sequence[str], messages: Sequence[Message], state: AnswerState
    ) -> int | None:
        """See `AnswerStore.end_answer`."""
        if self._fence is None:
            return None
        return await self._store.call(
            AnswerStore.end_answer,
            self._session_id,
            self._answer_id,
            first,
            events,
            messages,
            self._owner,
            fence=self._fence,
            state=state,
        )

    def watching_stop(self, wake: Callable[[], None]) -> AbstractContextManager[object]:
        """Have ``wake`` called for a request to stop, if the store can; else a write tells it."""
        if self._fence is None:
            return nullcontext()
        return self._store.watching_stop(self._answer_id, self._owner, wake)

    async def find(self) -> AnswerRecord | None:
        """Return the answer as it is stored."""
        return await self._store.run(
            AnswerStore.find_answer, self._session_id, self._answer_id, self._owner
        )

    async def sweep(self, retention: float) -> None:
        """Remove answers that ended long ago."""
        if self._fence is not None:
            await self._store.run(AnswerStore.sweep_answers, "", retention)
