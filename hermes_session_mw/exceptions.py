"""The package's exceptions, in one tree.

::

    HermesSessionError
    ├── ConfigurationError        an option that cannot work; raised where it is given
    ├── SessionMissing            no middleware has put a session on this connection
    ├── HistoryNotLoaded          the history, or the part that is needed, is not loaded
    ├── OwnerRequired             an append for a connection that has no owner
    ├── InvalidMessage            a message that cannot be stored as it is
    │   ├── MessageTooLarge       it takes more bytes than a message may
    │   └── TurnTooLong           the turn has more messages than a turn may
    ├── InvalidKey                an owner, session id or turn id that cannot be stored
    ├── InvalidLabel              a tag or a pair of metadata that cannot be kept
    ├── InvalidCursor             a place in an answer that it does not have
    ├── CursorConflict            a place in another answer
    ├── SessionConflict           the conversation is not as long as expected
    ├── TurnConflict              the turn id is taken by other messages
    ├── TurnLost                  the lease expired, and another request has the turn
    ├── SessionBusy               another request has the turn, and did not end it in time
    ├── SessionDeleted            the conversation was deleted; its id is not used again
    ├── SessionNotFound           nothing is stored under the id
    ├── ResponseStarted           the id cannot change: it was sent to the client
    ├── NotSupported              the store does not have this operation
    ├── SessionFull               the conversation has as many turns as it may have
    ├── SessionTaken              the id cannot be used by this owner
    └── StoreError                the store failed
        ├── StoreUnavailable      it failed for now: try again
        │   ├── StoreTimeout      no answer in time: the operation may have succeeded
        │   └── AppendInDoubt     the connection broke during COMMIT: it may have succeeded
        ├── StoreMisconfigured    its configuration is wrong: an operator has to correct it
        └── StoreCorrupt          its data cannot be read
"""

from collections.abc import Callable
from functools import partial


class HermesSessionError(Exception):
    """The base of every error in this package."""


class ConfigurationError(HermesSessionError, ValueError):
    """An option has a value that cannot work."""


class SessionMissing(HermesSessionError, LookupError):
    """The connection has no session, because no middleware has put one there."""

    def __init__(self) -> None:
        super().__init__(
            "this connection has no Hermes session: wrap the application in "
            "HermesSessionMiddleware, outside of code that needs the session, and do not exclude "
            "its path"
        )


class HistoryNotLoaded(HermesSessionError, RuntimeError):
    """The stored conversation, or the part of it that is needed, is not loaded."""

    def __init__(
        self,
        problem: str = "the history is not loaded: call 'await session.load()' first, as after "
        "a switch, or leave the middleware's autoload on",
    ) -> None:
        super().__init__(problem)


class OwnerRequired(HermesSessionError, PermissionError):
    """The middleware's ``owner`` hook answered None, so nothing may be stored."""

    def __init__(self) -> None:
        super().__init__(
            "this connection has no owner, so its conversation cannot be stored: "
            "refuse the request, or return its owner from the owner hook"
        )


class InvalidMessage(HermesSessionError, ValueError):
    """A message cannot be stored unchanged; nothing of the append was written."""


class MessageTooLarge(InvalidMessage):
    """A message takes more bytes than the store's ``max_message_bytes``."""


class TurnTooLong(InvalidMessage):
    """A turn has more messages than the store's ``max_turn_messages``."""


class InvalidKey(HermesSessionError, ValueError):
    """An owner, a session id or a turn id that not every database can store."""


class InvalidLabel(HermesSessionError, ValueError):
    """A tag or a pair of metadata that not every store can keep, or one too many."""


class InvalidCursor(HermesSessionError, ValueError):
    """A cursor is none, or is ahead of the answer's events."""

    def __init__(self) -> None:
        super().__init__(
            "the cursor is none of this answer's: give one that came with an event, or the number "
            "of events that came"
        )


class CursorConflict(HermesSessionError):
    """A cursor belongs to another answer than the one that is followed."""

    def __init__(self) -> None:
        super().__init__(
            "the cursor belongs to another answer: load the conversation, and follow the running "
            "answer from its beginning"
        )


class SessionConflict(HermesSessionError):
    """The conversation has another length, or other metadata, than expected; nothing was written.

    ``problem`` is the message, where lengths do not say what is wrong.

    Attributes:
        expected: the number of messages that the caller expected.
        actual: the number of messages that are stored.
        at_least: whether more than ``expected`` would be right too, as for ``replace_from``.
    """

    def __init__(
        self, expected: int, actual: int, *, at_least: bool = False, problem: str | None = None
    ) -> None:
        self.expected = expected
        self.actual = actual
        self.at_least = at_least
        wanted = f"at least {expected}" if at_least else f"{expected}"
        super().__init__(
            problem
            or f"the conversation has {actual} messages, not the expected {wanted}: "
            "load it again and decide anew"
        )

    def __reduce__(self) -> tuple[Callable[..., "SessionConflict"], tuple[int, int]]:
        made = partial(type(self), at_least=self.at_least, problem=str(self))
        return made, (self.expected, self.actual)


class TurnConflict(HermesSessionError):
    """The turn id is stored with other messages, or for another request; nothing was written."""

    def __init__(self) -> None:
        super().__init__(
            "this turn_id, or Idempotency-Key, belongs to another request, or is stored with other "
            "messages: repeat a request unchanged, and give every new one an id of its own"
        )


class TurnLost(HermesSessionError):
    """The lease expired, and another request has taken the turn since; nothing was written."""

    def __init__(self) -> None:
        super().__init__(
            "this turn took longer than its lease, and another has begun: load the conversation "
            "again and decide anew, or take a longer lease"
        )


class SessionBusy(HermesSessionError):
    """Another request has the session's turn, and did not end it within the time to wait.

    If it reaches the middleware, it is answered 409 with ``Retry-After``.

    Attributes:
        retry_after: seconds until the other turn's lease ends, at the latest.
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after: float = float(retry_after)  # here, and not where it is answered
        super().__init__("another turn of this conversation is going on: try again in a moment")

    def __reduce__(self) -> tuple[type["SessionBusy"], tuple[float]]:
        return type(self), (self.retry_after,)


class SessionNotFound(HermesSessionError, LookupError):
    """Nothing is stored under the session id."""

    def __init__(self) -> None:
        super().__init__("there is no such conversation")


class ResponseStarted(HermesSessionError, RuntimeError):
    """The response's headers were sent, the session's id too, and cannot change any more."""

    def __init__(self) -> None:
        super().__init__(
            "the response has begun, and the client has its headers and this session's id: "
            "call this before the first message is sent"
        )


class NotSupported(HermesSessionError, NotImplementedError):
    """The session's store does not have the operation, or its format cannot express it."""

    def __init__(self, store: object, operation: str, why: str = "") -> None:
        super().__init__(f"{type(store).__name__} does not support {operation}(){why}")


class SessionDeleted(HermesSessionError):
    """The conversation was deleted; nothing was written, and nothing will be under this id."""

    def __init__(self) -> None:
        super().__init__("this conversation was deleted: continue under a new session id")


class SessionFull(HermesSessionError):
    """The conversation has as many turns as the store's ``max_turns``; nothing was written."""

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(
            f"this conversation has {most} turns, and may have no more: continue under a new id"
        )

    def __reduce__(self) -> tuple[type["SessionFull"], tuple[int]]:
        return type(self), (self.most,)


class SessionTaken(HermesSessionError):
    """The store has each id once for all owners, and this one is in use; nothing was written.

    Raised by `HermesStateStore` alone: elsewhere every owner has all ids.
    """

    def __init__(self) -> None:
        super().__init__(
            "no conversation can be stored under this id for this owner: continue under a new id"
        )


class StoreError(HermesSessionError):
    """The store failed."""


class StoreUnavailable(StoreError):
    """The store fails for now: it is locked, full, unreachable or out of connections."""


class StoreTimeout(StoreUnavailable, TimeoutError):
    """The store did not answer in time.

    An append may have been stored: repeat it with the same ``turn_id``, and it is stored once.
    """


class AppendInDoubt(StoreUnavailable):
    """The connection broke during an append's COMMIT, and the check afterwards failed too.

    The append may have been stored: repeat it with the same ``turn_id``, and it is stored once.
    """


class StoreMisconfigured(StoreError):
    """The store's configuration is wrong: an operator has to correct it."""


class StoreCorrupt(StoreError):
    """The stored data cannot be read: restore a backup."""
