"""Where an adapter keeps one conversation: in a store, or in the session that a request carries."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from hermes_session_mw.exceptions import InvalidKey, SessionConflict
from hermes_session_mw.messages import Message, copy_messages
from hermes_session_mw.session.session import HermesSession
from hermes_session_mw.session.store_client import StoreClient, run_uncancelled
from hermes_session_mw.stores.base import History, Store
from hermes_session_mw.stores.message_store import MessageStore
from hermes_session_mw.stores.validation import check_keys

__all__ = ["StoreOrSession", "Target", "note_write", "retry_conflicts", "run_fenced"]

T = TypeVar("T")
P = ParamSpec("P")

StoreOrSession: TypeAlias = Store | HermesSession

_FENCED = frozenset({"append", "clear", "compact", "pop", "rewind"})
_MOST_ATTEMPTS = 100


class Target:
    """One conversation, and how an adapter gets at it.

    The owner and the lease are a request's session's, if there is one, and so is the
    ``Idempotency-Key``: what the request appends is the turn of that key, in one part or several.
    """

    __slots__ = ("_client", "_owner", "_session", "_session_id", "_unstored")

    def __init__(
        self, store_or_session: StoreOrSession, session_id: str | None = None, owner: str = ""
    ) -> None:
        """Check the ids; nothing is read.

        Args:
            store_or_session: a store, or ``request.state.hermes_session``.
            session_id: 1 to 256 characters, with a store; a session has its own.
            owner: up to 255 characters, with a store; a session has its own.

        Raises:
            TypeError: a store comes without an id, or a session with an id or an owner.
            InvalidKey: the id or the owner cannot be stored.
        """
        self._session: HermesSession | None = None
        self._unstored: list[Message] = []  # what a request that is no turn has appended
        if isinstance(store_or_session, HermesSession):
            if session_id is not None or owner:
                raise TypeError("the session has an id and an owner: give neither beside it")
            self._session = store_or_session
            self._client = store_or_session.store_client
            return
        if session_id is None:
            raise TypeError("session_id is missing: a store has many sessions")
        check_keys(session_id, owner)
        if "\n" in session_id:
            raise InvalidKey("session_id holds a line's end, as only ids of the adapters' own do")
        self._client = StoreClient(store_or_session)
        self._session_id, self._owner = session_id, owner

    @property
    def session_id(self) -> str:
        """The conversation's id."""
        return self._session_id if self._session is None else self._session.id

    @property
    def owner(self) -> str:
        """Whose it is. Raises ``OwnerRequired`` if the ``owner`` hook answered None."""
        return self._owner if self._session is None else self._session.known_owner()

    @property
    def fence(self) -> int | None:
        """The fence of the turn that the request is in; None without one."""
        return None if self._session is None else self._session.fence

    async def load(self, limit: int | None = None) -> History:
        """Return the newest ``limit`` messages; see ``Store.load``."""
        return await self._client.load(self.session_id, self.owner, limit)

    async def conversation(self, limit: int | None = None) -> History:
        """Return the same as the framework is to see it in a request.

        What a request that is no turn has appended is there, until its end. What an earlier
        attempt of the request has left without an answer is not, until this one has appended.
        """
        left = None if self._session is None else self._session.left_by_earlier_attempt
        if left is None and not self._unstored:
            return await self.load(limit)
        messages = (await self.load()).messages
        # If others have said something since, it stays.
        if left and left.start is not None and left.start + len(left.messages) == len(messages):
            messages = messages[: left.start]
        messages = [*messages, *self._unstored]
        newest = messages if limit is None else messages[max(len(messages) - limit, 0) :]
        return History(newest, len(messages), exists=True)

    def read(
        self,
        operation: Callable[Concatenate[Any, str, P], Awaitable[T]],
        *args: P.args,
        **options: P.kwargs,
    ) -> Awaitable[T]:
        """Return what an operation reads: ``read(MessageStore.load_range, limit=2)``.

        The owner is given beside the ``options``, and not among the ``args``. Raises
        ``NotSupported`` if the store lacks the operation, and else what that raises.
        """
        options["owner"] = self.owner
        return self._client.call(operation, self.session_id, *args, **options)

    async def write(
        self,
        operation: Callable[Concatenate[Any, str, P], Awaitable[T]],
        *args: P.args,
        **options: P.kwargs,
    ) -> T:
        """Do the same as ``read`` for an operation that writes, under the request's lease.

        Once begun it runs to its end also if the caller is cancelled.
        """
        call = partial(self.read, operation, *args, **options)
        outcome = await run_fenced(call, operation, self.fence)
        if self._session is not None:
            await note_write(self._session, operation, outcome, *args, **options)
        return outcome

    async def append(self, messages: Sequence[Message], **options: Any) -> int:
        """Append a turn, or a part of it, and return the new length; see ``HermesSession.append``.

        Once begun it runs to its end also if the caller is cancelled. The ``options`` are
        ``turn_id``, ``expected_length`` and ``replace_from``.
        """
        if self._session is None:
            return await self.write(MessageStore.append, messages, **options)
        length = await run_uncancelled(partial(self._session.append_part, *messages, **options))
        if not self._session.is_turn:
            self._unstored += copy_messages(messages)
        return length


def run_fenced(
    call: Callable[..., Awaitable[T]], operation: Callable[..., Any], fence: int | None
) -> Awaitable[T]:
    """Return the outcome of ``call``, an ``operation`` that writes, which is given the ``fence``.

    Once begun it runs to its end also if the caller is cancelled.
    """
    fenced = {} if fence is None or operation.__name__ not in _FENCED else {"fence": fence}
    return run_uncancelled(partial(_await, partial(call, **fenced)))


async def note_write(
    session: HermesSession,
    operation: Callable[..., Any],
    outcome: Any,
    *args: Any,
    **options: Any,
) -> None:
    """Have a request's session know what was written to its conversation without it."""
    name = operation.__name__
    if name == "append" and options.get("replace_from") is None:
        await session.note_write(args[0], outcome)
    elif name in _FENCED:
        await session.note_write()


async def retry_conflicts(change: Callable[[], Awaitable[T]]) -> T:
    """Return the outcome of ``change``, which is begun again if another one has written meanwhile.

    Raises ``SessionConflict`` if that is so a hundred times.
    """
    for _ in range(_MOST_ATTEMPTS - 1):
        with suppress(SessionConflict):
            return await change()
    return await change()


async def _await(begin: Callable[[], Awaitable[T]]) -> T:
    return await begin()
