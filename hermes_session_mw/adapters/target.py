"""Where an adapter keeps one conversation: in a store, or in the session that a request carries."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from hermes_session_mw.messages import Message
from hermes_session_mw.session.session import HermesSession
from hermes_session_mw.session.store_client import StoreClient, run_uncancelled
from hermes_session_mw.stores.base import History, Store
from hermes_session_mw.stores.message_store import MessageStore
from hermes_session_mw.stores.validation import check_keys

__all__ = ["StoreOrSession", "Target"]

T = TypeVar("T")
P = ParamSpec("P")

StoreOrSession: TypeAlias = Store | HermesSession

_FENCED = frozenset({"append", "clear", "compact", "pop", "rewind"})


class Target:
    """One conversation, and how an adapter gets at it.

    The owner and the lease are a request's session's, if there is one, and so is the
    ``Idempotency-Key``, which becomes the id of the first turn that the request appends.
    """

    __slots__ = ("_client", "_owner", "_session", "_session_id")

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
        if isinstance(store_or_session, HermesSession):
            if session_id is not None or owner:
                raise TypeError("the session has an id and an owner: give neither beside it")
            self._session = store_or_session
            self._client = store_or_session.store_client
            return
        if session_id is None:
            raise TypeError("session_id is missing: a store has many sessions")
        check_keys(session_id, owner)
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
        turn = None if self._session is None else self._session.current_turn
        return None if turn is None else turn.fence

    async def load(self, limit: int | None = None) -> History:
        """Return the newest ``limit`` messages; see ``Store.load``."""
        return await self._client.load(self.session_id, self.owner, limit)

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
        fence = self.fence
        if fence is not None and operation.__name__ in _FENCED:
            options["fence"] = fence
        return await run_uncancelled(partial(_await, self.read(operation, *args, **options)))

    async def append(self, messages: Sequence[Message], **options: Any) -> int:
        """Append a turn, and return the new length; see ``HermesSession.append``.

        Once begun it runs to its end also if the caller is cancelled. The ``options`` are
        ``turn_id``, ``expected_length`` and ``replace_from``.
        """
        if self._session is None:
            return await self.write(MessageStore.append, messages, **options)
        return await run_uncancelled(partial(self._session.append, *messages, **options))


async def _await(working: Awaitable[T]) -> T:
    return await working
