"""`StoreClient`, through which a request calls its store.

It gives each operation a timeout, shields it from cancellation, turns whatever a store raises into
a ``StoreError``, and reports the operation to telemetry.
"""

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import anyio

from hermes_session_mw.exceptions import NotSupported, StoreError, StoreTimeout
from hermes_session_mw.ids import is_header_safe, mint_session_id
from hermes_session_mw.logging import logger
from hermes_session_mw.messages import EncodedMessages, Message, copy_messages, has_chat_form
from hermes_session_mw.session.answer_tasks import AnswerTasks
from hermes_session_mw.session.recording import StoreLimits
from hermes_session_mw.session.tool_calls import find_load_start, find_turn_start, stands_alone
from hermes_session_mw.stores.answers import AnswerWatch
from hermes_session_mw.stores.base import History, Store, may_give_encoded
from hermes_session_mw.stores.expiry import ExpiryStore, Setting
from hermes_session_mw.telemetry import Telemetry

if TYPE_CHECKING:
    from hermes_session_mw.stores.checkpoint_store import CheckpointStore

T = TypeVar("T")
P = ParamSpec("P")

DEFAULT_TIMEOUT = 5.0
"""Seconds for waits that have to end, if the store has no timeout."""

_REREAD_FACTOR = 10
"""A turn longer than the limit is read again with this many times the limit, 100 at least."""


class StoreClient:
    """Calls ``store`` for the sessions of a middleware, or for its routes.

    Args:
        store: any `Store`.
        timeout: seconds for each operation; None for no limit.
        limit: the number of newest messages that a session loads; None for all.
        degrade: whether a session goes on with an empty history where the store fails.
        new_id: makes the ids of forked, rotated and renewed sessions.
        valid_id: which ids a request may name, of those that a header can carry.
        telemetry: receives every operation.
        answers: the answers that run in this process.

    Attributes:
        retry_timeout: seconds for which storing an answer that broke off is retried.
    """

    __slots__ = (
        "_store",
        "_telemetry",
        "_timeout",
        "answers",
        "degrade",
        "limit",
        "new_id",
        "retry_timeout",
        "valid_id",
    )

    def __init__(
        self,
        store: Store,
        timeout: float | None = None,
        *,
        limit: int | None = None,
        degrade: bool = False,
        new_id: Callable[[], str] = mint_session_id,
        valid_id: Callable[[str], bool] = is_header_safe,
        telemetry: Telemetry | None = None,
        answers: AnswerTasks | None = None,
    ) -> None:
        self._store = store
        self.answers: AnswerTasks = answers or AnswerTasks()
        self._telemetry = telemetry
        self.new_id: Callable[[], str] = new_id
        self.valid_id: Callable[[str], bool] = valid_id
        own = getattr(store, "timeout", None)
        # A store that keeps the time itself needs no second timeout, which would double the cost.
        keeps_time = own is not None and timeout is not None and own <= timeout
        self._timeout = None if keeps_time else timeout
        self.retry_timeout: float = (timeout or own or DEFAULT_TIMEOUT) * 2
        self.limit: int | None = limit
        self.degrade: bool = degrade

    async def load(self, session_id: str, owner: str, limit: int | None) -> History:
        """See `Store.load`; every exception of the store is raised as a StoreError."""
        if self._telemetry is None:
            return await self._load(session_id, owner, limit)
        with self._telemetry.operation("load", session_id) as operation:
            history = await self._load(session_id, owner, limit)
            operation.count(len(history.messages))
            return history

    async def _load(self, session_id: str, owner: str, limit: int | None) -> History:
        try:
            loading = self._store.load(session_id, owner=owner, limit=limit)
            return await self._in_time(loading, shield=False)
        except StoreError:
            raise
        except Exception as exc:
            # Any class may be a store, and raise what it likes; its text may hold ids.
            raise StoreError(
                f"the session store raised {type(exc).__name__}: its cause is logged at DEBUG"
            ) from exc

    async def load_turns(self, session_id: str, owner: str, limit: int | None) -> History:
        """Load the newest messages, all or about ``limit``, from where a turn begins.

        If the last turn alone is longer, return all of that turn, or its newest part, which never
        begins with a tool's result.
        """
        history = await self.load(session_id, owner, limit)
        if limit is None or history.length <= len(history.messages):
            return history
        messages = history.messages
        start = find_turn_start(messages, range(len(messages)))
        first = next(filter(has_chat_form, messages), None)
        if start is None and first is not None and stands_alone(first):
            return history  # the last answer alone, as a rule
        if start is None:
            history = await self.load(session_id, owner, max(_REREAD_FACTOR * limit, 100))
            messages = history.messages
            start = find_load_start(messages, limit, is_all=history.length == len(messages))
        return History(messages[start:], history.length, history.exists, history.deleted)

    async def append(
        self,
        session_id: str,
        messages: Sequence[Message],
        owner: str,
        turn_id: str | None,
        expected_length: int | None,
        fence: int | None = None,
        replace_from: int | None = None,
        expires_after: Setting | None = None,
        title: str | None = None,
    ) -> int:
        """See `LifecycleStore.append`; it is not cancelled, and ends after the timeout."""
        options = {"owner": owner, "turn_id": turn_id, "expected_length": expected_length}
        # A store of three methods has no fences, and cannot replace.
        more: dict[str, Any] = {"fence": fence, "replace_from": replace_from}
        more |= {"expires_after": expires_after, "title": title}
        asked = {name: value for name, value in more.items() if value is not None}
        append = self._store.append
        if isinstance(messages, EncodedMessages) and not may_give_encoded(append):
            messages = list(messages)
        storing = append(session_id, messages, **options, **asked)  # type: ignore[arg-type]
        return await self._to_its_end("append", session_id, storing, stores=len(messages))

    def call(
        self,
        operation: Callable[Concatenate[Any, str, P], Awaitable[T]],
        session_id: str,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Awaitable[T]:
        """Return the outcome of an operation on a session: ``call(LifecycleStore.rewind, id, 2)``.

        It is not cancelled, and ends at the timeout. Raises ``NotSupported`` if the store lacks it.
        """
        return self.run(operation, session_id, session_id, *args, **kwargs)

    def run(
        self,
        operation: Callable[Concatenate[Any, P], Awaitable[T]],
        session_id: str,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Awaitable[T]:
        """Do the same as ``call``, for an operation whose first argument is not the session.

        ``session_id`` is for telemetry only: the operation's session, or ``""``.
        """
        self.require(operation.__name__)
        working = getattr(self._store, operation.__name__)(*args, **kwargs)
        return self._to_its_end(operation.__name__, session_id, working)

    def watching(
        self, answer_id: str, owner: str, wake: Callable[[], None]
    ) -> AbstractContextManager[AnswerWatch | None]:
        """Have ``wake`` called for news of an answer, if the store can; see `AnswerStore`."""
        watch = getattr(self._store, "watch_answer", None)
        return nullcontext() if watch is None else _Watching(watch, answer_id, owner, wake)

    def watching_stop(
        self, answer_id: str, owner: str, wake: Callable[[], None]
    ) -> AbstractContextManager[object]:
        """Have ``wake`` called for a request to stop an answer, if the store can."""
        watch = getattr(self._store, "watch_stop", None)
        return nullcontext() if watch is None else _Watching(watch, answer_id, owner, wake)

    @property
    def checkpoints(self) -> "CheckpointStore":
        """The sessions' checkpoints. Raises ``NotSupported`` if the store keeps none."""
        found: CheckpointStore | None = getattr(self._store, "checkpoints", None)
        if found is None:
            raise NotSupported(self._store, "checkpoints")
        return found

    @property
    def expiry(self) -> ExpiryStore:
        """When sessions expire. Raises ``NotSupported`` if they do not in this store."""
        found: ExpiryStore | None = getattr(self._store, "expiry", None)
        if found is None:
            raise NotSupported(self._store, "expiry", " without expires_after")
        return found

    def complete(self, name: str, session_id: str, operation: Awaitable[T]) -> Awaitable[T]:
        """Return the outcome of an operation that was begun, as ``call`` does."""
        return self._to_its_end(name, session_id, operation)

    def require(self, operation: str) -> None:
        """Raise ``NotSupported`` unless the store has the operation."""
        if not self.has(operation):
            raise NotSupported(self._store, operation)

    def has(self, operation: str) -> bool:
        """Return whether the store has the operation."""
        return callable(getattr(self._store, operation, None))

    @property
    def keeps_answers(self) -> bool:
        """Whether the store is an `AnswerStore`."""
        return self.has("begin_answer")

    @property
    def limits(self) -> StoreLimits:
        """The store's limits; without a limit for each attribute that it lacks."""
        names = "max_message_bytes", "max_turn_messages"
        return StoreLimits(self.check, *(getattr(self._store, name, sys.maxsize) for name in names))

    def sent(self, messages: list[Message]) -> list[Message]:
        """Return the messages without the keys that are the store's own (``unsent_keys``)."""
        unsent: frozenset[str] = getattr(self._store, "unsent_keys", frozenset())
        if not unsent:
            return messages
        return [{key: each[key] for key in each if key not in unsent} for each in messages]

    def check_replaces(self) -> None:
        """Raise ``NotSupported`` unless the store's ``append`` takes ``replace_from``."""
        self.check_takes("append", "replace_from")

    def check_takes(self, operation: str, argument: str) -> None:
        """Raise ``NotSupported`` unless an operation of the store takes the argument."""
        self.require(operation)
        if not self.takes(operation, argument):
            raise NotSupported(self._store, operation, f" with {argument}")

    def takes(self, operation: str, argument: str) -> bool:
        """Return whether the store has the operation, and it takes the argument."""
        if not self.has(operation):
            return False
        known = inspect.signature(getattr(self._store, operation)).parameters
        takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values())
        return argument in known or takes_any

    def check(self, messages: Sequence[Message]) -> None:
        """Raise ``InvalidMessage`` if the store would, without a call of its database.

        For a store without ``check``, only that they are JSON is checked.
        """
        check = getattr(self._store, "check", None)
        if callable(check):
            check(messages)
        else:
            copy_messages(messages)

    async def _to_its_end(
        self, name: str, session_id: str, operation: Awaitable[T], *, stores: int | None = None
    ) -> T:
        """Return an operation's outcome; it is not cancelled, and ends after the timeout.

        ``stores`` is the number of messages that it stores, for telemetry.
        """
        if self._telemetry is None:
            return await self._in_time(operation, shield=True)
        with self._telemetry.operation(name, session_id) as noted:
            outcome = await self._in_time(operation, shield=True)
            if stores is not None:
                noted.count(stores)
            return outcome

    async def _in_time(self, operation: Awaitable[T], *, shield: bool) -> T:
        if self._timeout is None:
            if not shield:
                return await operation
            with anyio.CancelScope(shield=True):
                return await operation
        try:
            with anyio.fail_after(self._timeout, shield=shield):
                return await operation
        except StoreTimeout:
            raise
        except TimeoutError as exc:
            raise StoreTimeout(
                f"the session store did not answer in time (store_timeout is {self._timeout} s): "
                "see whether the database is up, and repeat an append with the same turn_id"
            ) from exc


class _Watching:
    """A watch of a store; one that fails is none, as whoever has none polls."""

    __slots__ = ("_arguments", "_begin", "_watch")

    def __init__(
        self, begin: Callable[..., AbstractContextManager[Any]], *arguments: object
    ) -> None:
        self._begin, self._arguments = begin, arguments
        self._watch: AbstractContextManager[Any] | None = None

    def __enter__(self) -> Any:
        try:
            watch = self._begin(*self._arguments)
            entered = watch.__enter__()
        except Exception as exc:  # noqa: BLE001  # a third party's store raises what it likes
            logger.debug("an answer can only be polled", exc_info=exc)
            return None
        self._watch = watch
        return entered

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.__exit__(None, None, None)


async def run_uncancelled(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Return the outcome of ``work``, which is not cancelled; a cancellation is raised afterwards.

    anyio's shield keeps out anyio's cancellation alone. asyncio's own, ``Task.cancel()`` and
    ``asyncio.timeout``, passes through it, and only a task of its own protects the work from that.
    """
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        return await work()  # trio has only cancellation that a shield keeps out
    task = asyncio.create_task(work())
    cancelled: asyncio.CancelledError | None = None
    try:
        try:
            await _done(task)  # without a scope, for few are cancelled
        except asyncio.CancelledError as exc:
            cancelled = exc
            with anyio.CancelScope(shield=True):
                while not task.done():
                    with suppress(asyncio.CancelledError):
                        await _done(task)
        if cancelled is None:
            return task.result()
        if not task.cancelled():
            task.exception()  # asyncio logs exceptions that are never retrieved
        raise cancelled
    finally:
        del task, cancelled  # their tracebacks refer to this frame


async def _done(task: asyncio.Task[Any]) -> None:
    """Wait for the task without cancelling it if this is cancelled."""
    waiter = asyncio.get_running_loop().create_future()

    def wake(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    task.add_done_callback(wake)
    await waiter
