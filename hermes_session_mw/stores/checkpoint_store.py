"""`CheckpointStore`, the protocol for checkpoints: keyed blobs beside a session's messages.

A graph that runs in steps keeps its whole state after each of them, as bytes that only its own
framework reads, and what its tasks have written since. Neither is a message. Both have tables of
their own, which are made when they are first used; ``store.checkpoints`` has the operations, and a
store without the attribute keeps none.

A checkpoint is stored under a session, a *namespace* ("" for the graph itself, another for a graph
inside of it) and an id. The greatest id of a namespace is its newest checkpoint, its *head*. Who
uses a session's id again after ``delete`` gets ``SessionDeleted``; ``clear``, ``delete`` and
``prune`` remove a session's checkpoints, and ``rotate`` moves them. A fork and an export have none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hermes_session_mw.exceptions import InvalidKey
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.models import PAGE
from hermes_session_mw.stores.validation import check_keys, check_text

MAX_CHECKPOINT_KEY = 100
"""Characters that the id of a checkpoint, or of a task, may have."""

MAX_RUN_ID = 255
"""Characters that the id of a run may have."""

MAX_NAMESPACE = 8192
"""Characters that a namespace, a channel's name or a task's path may have."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state of a graph.

    Attributes:
        checkpoint_id: its id, which is greater than those of earlier ones.
        type: what ``body`` is, in the framework's own word.
        body: the state.
        metadata: a JSON object.
        namespace: "" for the graph itself.
        parent_id: the checkpoint that the step began with; nothing checks that there is one.
        run_id: the run that has made it, if `CheckpointStore.remove_runs` is to find it.
    """

    checkpoint_id: str
    type: str
    body: bytes
    metadata: Message
    namespace: str = ""
    parent_id: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class CheckpointWrite:
    """What a task has written after a checkpoint.

    Attributes:
        task_id: the task's id.
        index: its number among the task's writes. A write of the same task and number is stored
            once, and later ones are ignored; with a negative number the last one counts.
        channel: what it was written to.
        type, body: as of a `Checkpoint`.
        task_path: where the task is in the graph.
    """

    task_id: str
    index: int
    channel: str
    type: str
    body: bytes
    task_path: str = ""


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint, whose session it is of, and its writes in the order of task and number."""

    session_id: str
    checkpoint: Checkpoint
    writes: Sequence[CheckpointWrite] = ()


@runtime_checkable
class CheckpointStore(Protocol):
    """The checkpoints of a store's sessions.

    Every method raises ``InvalidKey`` for ids that cannot be stored, and ``StoreError`` if the
    store failed.
    """

    async def put(
        self,
        session_id: str,
        checkpoint: Checkpoint,
        owner: str = "",
        *,
        messages: Sequence[Message] = (),
        message_ids: Sequence[str | None] | None = None,
        turn_id: str | None = None,
        fence: int | None = None,
    ) -> None:
        """Store the checkpoint, in place of one under the same id; its writes stay.

        ``messages`` are appended to the history in the same transaction, as a turn; the other
        arguments are those of `MessageStore.append`. The session counts as changed,
        if it has not been for a minute.

        Raises:
            InvalidMessage: the metadata, or a message, cannot be stored as it is.
            SessionDeleted: the conversation was deleted.
            TurnLost: the session's lease was acquired again since ``fence``.
        """
        ...

    async def put_writes(
        self,
        session_id: str,
        checkpoint_id: str,
        writes: Sequence[CheckpointWrite],
        owner: str = "",
        *,
        namespace: str = "",
        fence: int | None = None,
    ) -> None:
        """Store writes of a checkpoint, all or none; it need not be stored itself yet.

        Raises:
            SessionDeleted, TurnLost: as ``put``.
        """
        ...

    async def find(
        self,
        session_id: str,
        checkpoint_id: str | None = None,
        owner: str = "",
        *,
        namespace: str = "",
    ) -> StoredCheckpoint | None:
        """Return the checkpoint, by default the newest of the namespace; None without one."""
        ...

    async def list(
        self,
        owner: str = "",
        session_id: str | None = None,
        *,
        namespace: str | None = None,
        checkpoint_id: str | None = None,
        before: str | None = None,
        limit: int = PAGE,
        after: StoredCheckpoint | None = None,
    ) -> Sequence[StoredCheckpoint]:
        """Return up to ``limit`` checkpoints, the greatest ids first.

        They are those of the session, else of all of the owner's; of the namespace, else of all;
        with ids less than ``before``. ``after`` is the last one of the page before.

        Raises:
            ValueError: ``limit`` is not between 1 and 500.
        """
        ...

    async def heads(self, session_id: str, owner: str = "") -> dict[str, str]:
        """Return the newest checkpoint's id of each namespace."""
        ...

    async def remove(
        self,
        session_id: str,
        owner: str = "",
        *,
        namespace: str | None = None,
        before: str | None = None,
    ) -> int:
        """Remove checkpoints with their writes, and return how many.

        They are all of the session's; or those of the namespace; or those with ids less than
        ``before``.
        """
        ...

    async def remove_runs(self, run_ids: Sequence[str], owner: str = "") -> int:
        """Remove all checkpoints of the runs, with their writes; return how many."""
        ...

    async def copy(self, session_id: str, new_id: str, owner: str = "") -> int:
        """Copy all of the session's checkpoints and writes to ``new_id``; return how many.

        Raises:
            SessionConflict: there are checkpoints under ``new_id``.
            SessionDeleted: the conversation of ``new_id`` was deleted.
        """
        ...


def check_checkpoint_keys(
    session_id: str, owner: str, checkpoint_id: str | None = None, namespace: str | None = None
) -> None:
    """Raise ``InvalidKey`` unless every database can store these."""
    check_keys(session_id, owner)
    if checkpoint_id is not None:
        _check_key("checkpoint_id", checkpoint_id)
    if namespace is not None:
        check_text("namespace", namespace, MAX_NAMESPACE, InvalidKey)


def check_checkpoint(session_id: str, owner: str, checkpoint: Checkpoint) -> None:
    """Raise ``InvalidKey`` unless every database can store the checkpoint's ids."""
    check_checkpoint_keys(session_id, owner, checkpoint.checkpoint_id, checkpoint.namespace)
    if checkpoint.parent_id is not None:
        _check_key("parent_id", checkpoint.parent_id)
    if checkpoint.run_id is not None:
        check_text("run_id", checkpoint.run_id, MAX_RUN_ID, InvalidKey)


def check_writes(writes: Sequence[CheckpointWrite]) -> None:
    """Raise ``InvalidKey`` unless every database can store the writes' ids."""
    for each in writes:
        _check_key("task_id", each.task_id)
        for name, value in (("channel", each.channel), ("task_path", each.task_path)):
            check_text(name, value, MAX_NAMESPACE, InvalidKey)


def _check_key(name: str, value: str) -> None:
    check_text(name, value, MAX_CHECKPOINT_KEY, InvalidKey)
    if not value:
        raise InvalidKey(f"{name} has 0 characters; it may have 1 to {MAX_CHECKPOINT_KEY}")
