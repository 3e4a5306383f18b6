"""LangGraph's checkpoints: `StoredCheckpointer`, a ``BaseCheckpointSaver`` over a store.

A thread is a session, whose id is the ``thread_id``. Checkpoints and writes are bytes of
LangGraph's serializer, which no other framework reads: they have tables of their own
(``stores/checkpoint_store.py``), and their metadata is JSON.

The conversation in the graph's state is the session's history as well, for every endpoint and every
other adapter. Whenever a checkpoint is put whose channel ``messages`` has a whole answer that its
parent had not, what the parent had not is appended in the same transaction: the question, tools'
calls and results, and the answer, as one turn, under the messages' ids. So a question whose run
fails is not in the history before one that succeeds. Nothing is taken out of the history again,
where a graph goes back to an earlier checkpoint or shortens its state: it is what was said.

The other way, a graph that begins over a session with messages takes them by `stored_messages`.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, Final, TypeVar

from hermes_session_mw.adapters.framework_import import needing

with needing("langgraph", "langchain_core", "langgraph"):
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        WRITES_IDX_MAP,
        BaseCheckpointSaver,
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
        get_checkpoint_id,
        get_serializable_checkpoint_metadata,
    )
    from langgraph.checkpoint.serde.base import SerializerProtocol

from hermes_session_mw.adapters.escaping import escape, escape_id, unescape, unescape_id
from hermes_session_mw.adapters.langgraph_messages import (
    LOADED,
    answered,
    id_of,
    load_messages,
    store_messages,
)
from hermes_session_mw.adapters.target import StoreOrSession, Target, run_fenced
from hermes_session_mw.exceptions import (
    ConfigurationError,
    SessionDeleted,
    SessionNotFound,
    StoreUnavailable,
)
from hermes_session_mw.messages import Message
from hermes_session_mw.session.session import HermesSession
from hermes_session_mw.session.store_client import StoreClient, run_uncancelled
from hermes_session_mw.stores import checkpoint_store as stored
from hermes_session_mw.stores.lifecycle import LifecycleStore
from hermes_session_mw.stores.message_store import MessageStore
from hermes_session_mw.stores.models import MAX_PAGE
from hermes_session_mw.stores.validation import check_keys

__all__ = ["StoredCheckpointer", "stored_messages"]

T = TypeVar("T")

_PAGE: Final = 20
_REMEMBERED: Final = 1024
"""Threads of which this remembers how far their history has come."""


class StoredCheckpointer(BaseCheckpointSaver[int]):
    """Keeps the checkpoints of an owner's threads in a store, and their messages in its sessions.

    Sync methods run in a thread of their own, where a store over an asyncio driver cannot be used
    that is used elsewhere too.
    """

    def __init__(
        self,
        store_or_session: StoreOrSession,
        owner: str = "",
        *,
        messages: str | None = "messages",
        serde: SerializerProtocol | None = None,
    ) -> None:
        """Check the arguments; nothing is read.

        Args:
            store_or_session: a store that has ``checkpoints``, or ``request.state.hermes_session``,
                whose owner and lease are taken, and whose ``Idempotency-Key`` is the id of the
                first turn that is appended to it.
            owner: whose threads they are, with a store; a session has its own.
            messages: the channel that has the conversation; None to append nothing to sessions.
            serde: LangGraph's serializer; by default its own for msgpack.

        Raises:
            TypeError: a session comes with an owner.
            InvalidKey: the owner cannot be stored.
            NotSupported: the store keeps no checkpoints.
            ConfigurationError: the serializer may use pickle.
        """
        super().__init__(serde=serde)
        if getattr(self.serde, "pickle_fallback", False):
            raise ConfigurationError("serde: pickle_fallback is on, and nothing is pickled here")
        self._session: HermesSession | None = None
        if isinstance(store_or_session, HermesSession):
            if owner:
                raise TypeError("the session has an owner: give none beside it")
            self._session = store_or_session
            self._client = store_or_session.store_client
        else:
            check_keys("-", owner)
            self._client = StoreClient(store_or_session)
        self._owner_given = owner
        self._store = self._client.checkpoints
        self._channel = messages
        # By session: a checkpoint, and how many messages of it are in the history with the last id.
        self._marks: dict[str, tuple[str, int, str | None]] = {}
        self._loop = _LoopThread()

    @property
    def _owner(self) -> str:
        return self._owner_given if self._session is None else self._session.known_owner()

    def _in_request(self, session_id: str) -> HermesSession | None:
        """Return the request's session, if this is its conversation."""
        session = self._session
        return session if session is not None and session.id == session_id else None

    def _fence(self, session_id: str) -> int | None:
        session = self._in_request(session_id)
        return None if session is None else session.fence

    def _is_no_turn(self, session_id: str) -> bool:
        """Tell whether the request stores nothing: its graph runs on what is stored already."""
        session = self._in_request(session_id)
        return session is not None and not session.is_turn

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the config's checkpoint, or the newest of its namespace; None without one."""
        session_id, namespace = _place_of(config)
        found = await self._store.find(
            session_id, get_checkpoint_id(config), self._owner, namespace=namespace
        )
        if found is None:
            return None
        loaded = self._tuple_of(found)
        if not namespace:
            self._note(session_id, loaded.checkpoint)
        return loaded

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  # LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield checkpoints, the newest first; without a config those of all threads."""
        given = {} if config is None else config["configurable"]
        chosen = {
            "session_id": escape_id(str(given["thread_id"])) if "thread_id" in given else None,
            "namespace": given.get("checkpoint_ns"),
            "checkpoint_id": given.get("checkpoint_id"),
            "before": None if before is None else get_checkpoint_id(before),
        }
        left = limit
        last: stored.StoredCheckpoint | None = None
        while left is None or left > 0:
            # A filter passes over some of a page.
            most = _PAGE if left is None or filter else min(left, MAX_PAGE)
            page = await self._store.list(self._owner, limit=most, after=last, **chosen)
            for each in page:
                if left is not None and left <= 0:
                    return
                metadata = unescape(each.checkpoint.metadata)
                if all(metadata.get(name) == value for name, value in (filter or {}).items()):
                    yield self._tuple_of(each)
                    left = None if left is None else left - 1
            if len(page) < most:
                return
            last = page[-1]

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002  # a checkpoint is stored whole
    ) -> RunnableConfig:
        """Store the checkpoint, and append what is new of an answered conversation."""
        session_id, namespace = _place_of(config)
        if self._is_no_turn(session_id):
            return _config_of(session_id, namespace, checkpoint["id"])
        parent_id = get_checkpoint_id(config)
        type_, body = self.serde.dumps_typed(checkpoint)
        described = get_serializable_checkpoint_metadata(config, metadata)
        run_id = described.get("run_id")
        new: list[tuple[BaseMessage, str]] = []
        if not namespace:
            new = await self._new_messages(session_id, parent_id, checkpoint)
        kept = stored.Checkpoint(
            checkpoint["id"],
            type_,
            body,
            escape(dict(described)),
            namespace,
            parent_id,
            str(run_id)[: stored.MAX_RUN_ID] if run_id else None,
        )
        await run_uncancelled(partial(self._put, session_id, kept, new))
        if not namespace:
            self._note(session_id, checkpoint)
        return _config_of(session_id, namespace, checkpoint["id"])

    async def _put(
        self, session_id: str, kept: stored.Checkpoint, new: Sequence[tuple[BaseMessage, str]]
    ) -> None:
        session = self._in_request(session_id)
        with nullcontext() if session is None or not new else session.part_key() as turn_id:
            messages: Sequence[Message] = store_messages([each for each, _ in new]) if new else ()
            if session is not None:
                messages = session.with_part_digest(messages, turn_id)
            await self._store.put(
                session_id,
                kept,
                self._owner,
                messages=messages,
                message_ids=[message_id for _, message_id in new] or None,
                turn_id=turn_id,
                fence=self._fence(session_id),
            )
        if session is not None and new:
            await session.note_write()

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task has written."""
        session_id, namespace = _place_of(config)
        if self._is_no_turn(session_id):
            return
        kept = [
            stored.CheckpointWrite(
                task_id, WRITES_IDX_MAP.get(channel, number), channel, type_, body, task_path
            )
            for number, (channel, value) in enumerate(writes)
            for type_, body in [self.serde.dumps_typed(value)]
        ]
        put = partial(
            self._store.put_writes,
            session_id,
            config["configurable"]["checkpoint_id"],
            kept,
            self._owner,
            namespace=namespace,
            fence=self._fence(session_id),
        )
        await run_uncancelled(put)

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove everything under the session's id, its messages too; the id can be used again."""
        session_id = escape_id(str(thread_id))
        self._marks.pop(session_id, None)
        clear = partial(self._client.call, MessageStore.clear, session_id, owner=self._owner)
        with suppress(SessionDeleted):
            await run_fenced(clear, MessageStore.clear, self._fence(session_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints of the runs; messages in sessions' histories stay."""
        await self._store.remove_runs([str(each) for each in run_ids], self._owner)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Fork the session, and copy its checkpoints.

        Raises:
            SessionConflict: the target is in use.
        """
        source, target = escape_id(str(source_thread_id)), escape_id(str(target_thread_id))
        await run_uncancelled(partial(self._copy, source, target))

    async def _copy(self, source: str, target: str) -> None:
        with suppress(SessionNotFound):  # as of checkpoints without a message
            await self._client.call(LifecycleStore.fork, source, target, owner=self._owner)
        await self._store.copy(source, target, self._owner)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove checkpoints: all with "delete", else those before the newest of each namespace.

        What a ``DeltaChannel`` of the newest one is replayed from stays. Messages stay.

        Raises:
            ValueError: for another strategy.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"strategy: {strategy!r} is neither 'keep_latest' nor 'delete'")
        for thread_id in thread_ids:
            session_id = escape_id(str(thread_id))
            if strategy == "delete":
                await self._store.remove(session_id, self._owner)
                continue
            for namespace, head in (await self._store.heads(session_id, self._owner)).items():
                oldest = await self._oldest_needed(session_id, namespace, head)
                await self._store.remove(
                    session_id, self._owner, namespace=namespace, before=oldest
                )

    async def _oldest_needed(self, session_id: str, namespace: str, head: str) -> str:
        """Return the oldest checkpoint from which the head's delta channels are replayed."""
        oldest, missing = head, {""}
        at: str | None = head
        while at is not None and missing:
            found = await self._store.find(session_id, at, self._owner, namespace=namespace)
            if found is None:
                break
            if at == head:
                counters = unescape(found.checkpoint.metadata).get("counters_since_delta_snapshot")
                missing = set(counters or ())
            if missing:
                state = self.serde.loads_typed((found.checkpoint.type, found.checkpoint.body))
                missing -= set(state["channel_values"])
            oldest, at = min(oldest, at), found.checkpoint.parent_id
        return oldest

    # The conversation

    async def _new_messages(
        self, session_id: str, parent_id: str | None, checkpoint: Checkpoint
    ) -> list[tuple[BaseMessage, str]]:
        """Return the messages that are to be appended, with their ids."""
        messages = self._messages_in(checkpoint)
        end = answered(messages)
        if not end:
            return []
        mark = self._marks.get(session_id)
        if parent_id is None:
            mark = ("", 0, None)
        elif mark is None or mark[0] != parent_id:
            mark = self._mark_of(await self._parent(session_id, parent_id))
        _, start, last_id = mark
        if start == 0 or (start <= end and messages[start - 1].id == last_id):
            new = [*enumerate(messages[start:end], start)]
        else:  # the state was shortened, or rewritten
            assert parent_id is not None
            before = self._messages_in(await self._parent(session_id, parent_id))
            known = {message.id for message in before}
            new = [each for each in enumerate(messages[:end]) if each[1].id not in known]
        found: dict[str, BaseMessage] = {}
        for at, message in new:
            if (message.id or "").startswith(LOADED):
                continue
            otherwise = f"{checkpoint['id']}.{at}"
            message_id = id_of(message, otherwise)
            found[otherwise if message_id in found else message_id] = message
        return [(message, message_id) for message_id, message in found.items()]

    async def _parent(self, session_id: str, parent_id: str) -> Checkpoint | None:
        found = await self._store.find(session_id, parent_id, self._owner)
        return None if found is None else self._tuple_of(found).checkpoint

    def _messages_in(self, checkpoint: Checkpoint | None) -> list[BaseMessage]:
        if checkpoint is None or self._channel is None:
            return []
        value = checkpoint["channel_values"].get(self._channel)
        # The last one stands for all, of which there may be many.
        is_ours = isinstance(value, list) and value and isinstance(value[-1], BaseMessage)
        return value if is_ours else []

    def _mark_of(self, checkpoint: Checkpoint | None) -> tuple[str, int, str | None]:
        messages = self._messages_in(checkpoint)
        end = answered(messages)
        return (
            "" if checkpoint is None else checkpoint["id"],
            end,
            messages[end - 1].id if end else None,
        )

    def _note(self, session_id: str, checkpoint: Checkpoint) -> None:
        """Remember how far the history has come with a checkpoint."""
        self._marks.pop(session_id, None)
        while len(self._marks) >= _REMEMBERED:
            self._marks.pop(next(iter(self._marks)), None)
        self._marks[session_id] = self._mark_of(checkpoint)

    def _tuple_of(self, found: stored.StoredCheckpoint) -> CheckpointTuple:
        kept = found.checkpoint
        parent = kept.parent_id
        return CheckpointTuple(
            _config_of(found.session_id, kept.namespace, kept.checkpoint_id),
            self.serde.loads_typed((kept.type, kept.body)),
            unescape(kept.metadata),
            None if parent is None else _config_of(found.session_id, kept.namespace, parent),
            [
                (each.task_id, each.channel, self.serde.loads_typed((each.type, each.body)))
                for each in found.writes
            ],
        )

    # The same for callers without an event loop

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """See ``aget_tuple``."""
        return self._loop.run(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  # LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """See ``alist``."""
        found = self.alist(config, filter=filter, before=before, limit=limit)
        while (each := self._loop.run(_next_of(found))) is not None:
            yield each

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See ``aput``."""
        return self._loop.run(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """See ``aput_writes``."""
        self._loop.run(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """See ``adelete_thread``."""
        self._loop.run(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """See ``adelete_for_runs``."""
        self._loop.run(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """See ``acopy_thread``."""
        self._loop.run(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """See ``aprune``."""
        self._loop.run(self.aprune(thread_ids, strategy=strategy))


class _LoopThread:
    """An event loop in a thread of its own, which is started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the outcome of a coroutine.

        Raises:
            StoreUnavailable: the system cannot start a thread.
        """
        with self._lock:
            if self._loop is None:
                try:
                    self._loop = _start_loop()
                except RuntimeError as exc:
                    work.close()
                    raise StoreUnavailable(_NO_THREAD) from exc
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


_NO_THREAD: Final = (
    "the system cannot start a thread, which a checkpointer's synchronous methods need: await those"
    " whose names begin with a, as graph.ainvoke does"
)


def _start_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    name = "hermes-checkpointer"
    try:
        threading.Thread(target=loop.run_forever, name=name, daemon=True).start()
    except RuntimeError:
        loop.close()
        raise
    return loop


async def stored_messages(
    store_or_session: StoreOrSession, thread_id: str | None = None, owner: str = ""
) -> list[BaseMessage]:
    """Return a session's messages, for the state of a graph that begins over them.

    Messages of LangGraph are as they were, and others are made of their chat form. Given to the
    graph as a part of its input, they are not appended to the session again.
    """
    session_id = None if thread_id is None else escape_id(thread_id)
    target = Target(store_or_session, session_id, owner)
    found = await target.read(MessageStore.load_range)
    return load_messages(found.messages)


async def _next_of(found: AsyncIterator[T]) -> T | None:
    return await anext(found, None)


def _place_of(config: RunnableConfig) -> tuple[str, str]:
    """Return the session's id, and the namespace."""
    given = config["configurable"]
    return escape_id(str(given["thread_id"])), given.get("checkpoint_ns", "")


def _config_of(session_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": unescape_id(session_id),
            "checkpoint_ns": namespace,
            "checkpoint_id": checkpoint_id,
        }
    }
