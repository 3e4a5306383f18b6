"""What becomes of an answer's log in the store.

An `AnswerWriter` writes it to an `AnswerStore`. Over any other store a `TurnWriter` stores the
answer's turn at its end, and until then holds the session's lease, where the store has leases. An
answer of a request that is no turn has a `NoWriter`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import anyio

from hermes_session_mw.exceptions import (
    SessionBusy,
    SessionDeleted,
    StoreMisconfigured,
    TurnConflict,
)
from hermes_session_mw.ids import mint_turn_id
from hermes_session_mw.logging import fingerprint, logger
from hermes_session_mw.messages import Message
from hermes_session_mw.session.answer_plan import AnswerPlan
from hermes_session_mw.session.answer_tasks import AnswerTasks
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.stores.answers import AnswerRecord, AnswerState, AnswerStore
from hermes_session_mw.stores.lifecycle import LifecycleStore
from hermes_session_mw.stores.validation import check_replaced

ANSWER_LEASE = 6.0
"""Seconds after which the session of a process that was killed is free."""

RENEWAL = 2.0
"""Seconds after which a lease is renewed, if nothing was written."""


class NoWriter:
    """Writes nothing.

    Attributes:
        stores: whether the answer's turn is stored at its end, and others can find the answer.
        keeps: whether the store knows the answer after its end.
    """

    stores: bool = False
    keeps: bool = False

    def __init__(self, store: StoreClient, session_id: str, answer_id: str, owner: str) -> None:
        self._store = store
        self._session_id, self._answer_id, self._owner = session_id, answer_id, owner

    @property
    def retry_timeout(self) -> float:
        """Seconds for which storing the end is tried again."""
        return self._store.retry_timeout

    async def write(
        self,
        first: int,  # noqa: ARG002
        events: Sequence[str],  # noqa: ARG002
        growth: str | None,  # noqa: ARG002
    ) -> bool:
        """Write the next events, and renew the lease; return whether a stop was requested."""
        return False

    async def end(
        self,
        first: int,  # noqa: ARG002
        events: Sequence[str],  # noqa: ARG002
        messages: Sequence[Message],  # noqa: ARG002
        state: AnswerState,  # noqa: ARG002
    ) -> int | None:
        """Store the last events, and the turn; see `AnswerStore.end_answer`."""
        return None

    def watching_stop(
        self,
        wake: Callable[[], None],  # noqa: ARG002
    ) -> AbstractContextManager[object]:
        """Have ``wake`` called for a request to stop, if the store can; else a write tells it."""
        return nullcontext()

    async def find(self) -> AnswerRecord | None:
        """Return the answer as it is stored."""
        return None

    async def sweep(self, retention: float) -> None:
        """Remove answers that ended long ago."""


class AnswerWriter(NoWriter):
    """Writes the log of an answer that has begun to an `AnswerStore`."""

    stores = keeps = True

    def __init__(
        self,
        store: StoreClient,
        session_id: str,
        answer_id: str,
        owner: str,
        fence: int,
        title: str | None,
    ) -> None:
        super().__init__(store, session_id, answer_id, owner)
        self._fence = fence
        # A store that gives no titles need not take one.
        self._title = {} if title is None else {"title": title}

    async def write(self, first: int, events: Sequence[str], growth: str | None) -> bool:
        """See `AnswerStore.write_events`."""
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
            **self._title,
        )

    def watching_stop(self, wake: Callable[[], None]) -> AbstractContextManager[object]:
        """Have ``wake`` called for a request to stop, if the store can; else a write tells it."""
        return self._store.watching_stop(self._answer_id, self._owner, wake)

    async def find(self) -> AnswerRecord | None:
        """Return the answer as it is stored."""
        return await self._store.run(
            AnswerStore.find_answer, self._session_id, self._answer_id, self._owner
        )

    async def sweep(self, retention: float) -> None:
        """Remove answers that ended long ago."""
        await self._store.run(AnswerStore.sweep_answers, "", retention)


class TurnWriter(NoWriter):
    """Stores the turn of an answer whose log is in memory alone, by the store's ``append``."""

    stores = True

    def __init__(
        self,
        store: StoreClient,
        session_id: str,
        answer_id: str,
        owner: str,
        plan: AnswerPlan,
        fence: int | None,
    ) -> None:
        super().__init__(store, session_id, answer_id, owner)
        self._fence = fence
        self._turn_id, self._replace_from = plan.turn_id, plan.replace_from
        self._expires_after, self._title = plan.expires_after, plan.title
        self._made_id: str | None = mint_turn_id()
        self._renewal = 0.0

    async def write(
        self,
        first: int,  # noqa: ARG002
        events: Sequence[str],  # noqa: ARG002
        growth: str | None,  # noqa: ARG002
    ) -> bool:
        """Renew the lease now and then."""
        if self._fence is not None and anyio.current_time() >= self._renewal:
            await self._extend()
        return False

    async def _extend(self) -> None:
        session_id, fence = self._session_id, self._fence or 0
        await self._store.call(LifecycleStore.extend, session_id, fence, ANSWER_LEASE, self._owner)
        self._renewal = anyio.current_time() + RENEWAL

    async def end(
        self,
        first: int,  # noqa: ARG002
        events: Sequence[str],  # noqa: ARG002
        messages: Sequence[Message],
        state: AnswerState,
    ) -> int | None:
        """Append the turn, and release the lease."""
        turn_id = self._turn_id if state == "completed" else None
        length = await self._append(messages, turn_id) if messages else None
        if self._fence is not None:
            await self._release(self._fence)
        return length

    async def _append(self, messages: Sequence[Message], turn_id: str | None) -> int:
        where = self._session_id, messages, self._owner
        append = partial(
            self._store.append,
            expected_length=None,
            fence=self._fence,
            replace_from=self._replace_from,
            expires_after=self._expires_after,
            title=self._title,
        )
        try:
            return await append(*where, turn_id=turn_id or self._made_id)
        except StoreMisconfigured:
            if turn_id is not None or self._made_id is None:
                raise
            self._made_id = None  # an old Hermes database stores no ids
            return await append(*where, turn_id=None)

    async def _release(self, fence: int) -> None:
        try:
            await self._store.call(LifecycleStore.release, self._session_id, fence, self._owner)
        except Exception as exc:  # noqa: BLE001  # a third party's store raises what it likes
            name = fingerprint(self._session_id)
            logger.warning("session %s keeps its lease: %s", name, type(exc).__name__)
            logger.debug("the failure in full", exc_info=exc)


async def begin_writing(
    store: StoreClient,
    tasks: AnswerTasks,
    session_id: str,
    answer_id: str,
    owner: str,
    plan: AnswerPlan,
    *,
    begun: Message | None,
    fence: int | None,
) -> NoWriter:
    """Store the question if the store can, have the session's lease, and return the writer.

    ``fence`` is that of the turn that the request is in, whose lease is taken over.
    """
    if not store.keeps_answers:
        fence = await _begin_in_memory(store, tasks, session_id, owner, plan, fence)
        return TurnWriter(store, session_id, answer_id, owner, plan, fence)
    more = {} if plan.expires_after is None else {"expires_after": plan.expires_after}
    fence = await store.call(
        AnswerStore.begin_answer,
        session_id,
        answer_id,
        plan.question,
        owner,
        lease=ANSWER_LEASE,
        turn_id=plan.turn_id,
        replace_from=plan.replace_from,
        digest=plan.request_digest,
        fence=fence,
        begun=begun,
        **more,
    )
    return AnswerWriter(store, session_id, answer_id, owner, fence, plan.title)


async def _begin_in_memory(
    store: StoreClient,
    tasks: AnswerTasks,
    session_id: str,
    owner: str,
    plan: AnswerPlan,
    fence: int | None,
) -> int | None:
    """Check what can be known, as `AnswerStore.begin_answer` does, and return the lease's fence."""
    await _check_turn(store, session_id, owner, plan)
    if store.has("acquire"):
        if fence is None:
            return await store.call(LifecycleStore.acquire, session_id, ANSWER_LEASE, owner)
        await store.call(LifecycleStore.extend, session_id, fence, ANSWER_LEASE, owner)
    # Without leases there is at most one in this process. Nothing is awaited before it is added.
    elif tasks.find_running(session_id, owner) is not None:
        raise SessionBusy(RENEWAL)
    return fence


async def _check_turn(store: StoreClient, session_id: str, owner: str, plan: AnswerPlan) -> None:
    if plan.question:
        store.check(plan.question)
    history = await store.load(session_id, owner, 0)
    if history.deleted:
        raise SessionDeleted
    if plan.replace_from is not None:
        check_replaced(plan.replace_from, history.length)
    if plan.turn_id is not None and store.has("find_turn"):
        turn = await store.call(LifecycleStore.find_turn, session_id, plan.turn_id, owner)
        if turn is not None:
            raise TurnConflict
