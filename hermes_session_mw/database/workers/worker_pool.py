"""Worker threads that run functions for event loops, asyncio's and trio's alike.

A caller in an event loop puts a `Task` into a `WorkerPool`. A thread of the pool runs it, and puts
it into the `CompletionQueue` of that event loop, which resumes the caller.

The threads are our own because handing a call to a thread and back is most of the cost of a read.
anyio and asyncio hand over each call and each result separately. Here the threads take from one
queue, and the results of several tasks come back with one wake-up of the loop: a third cheaper for
one call at a time, and a fifth of the price for many (docs/speed.md).

A thread cannot be cancelled. If a database never answered, its thread would wait for ever, hold a
connection and prevent the process from exiting. So a caller that stops waiting *abandons* its task,
and after the task's timeout the socket of its connection is shut down: the driver then finds the
connection broken, and the thread returns.
"""

import asyncio
import contextvars
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import anyio
from anyio.lowlevel import current_token

from hermes_session_mw.database.interruption import OperationTimeout, shut_down_socket
from hermes_session_mw.database.workers.asyncio_wakeup import DirectFuture, loop_waker
from hermes_session_mw.logging import logger

T = TypeVar("T")
Wake = Callable[[Callable[[], None]], object]
"""An event loop's thread-safe function that schedules a callback."""

_IDLE_AFTER = 0.05
"""Seconds that a thread waits for the next task before it counts as idle."""

_MAX_BATCH = 16
"""The most tasks that are completed together, so that the first does not wait long for the last."""

_MAX_DELAY = 0.005
"""Seconds after which a completion that was held back is delivered in any case."""


class _Queue:
    """The tasks of threads that end together: each takes one None, and no other thread does.

    Attributes:
        waiting: the tasks that no thread has taken.
        held: those that come before them, which one of the threads has taken and not run.
    """

    __slots__ = ("held", "waiting")

    def __init__(self) -> None:
        self.waiting: SimpleQueue[Task[Any] | None] = SimpleQueue()
        self.held: deque[Task[Any] | None] = deque()

    def take(self) -> "Task[Any] | None":
        """Return the next task without waiting; raise if there is none."""
        return self.held.popleft() if self.held else self.waiting.get_nowait()


class WorkerPool:
    """Up to ``max_threads`` threads that run tasks in their order, for any event loop.

    A thread is started when it is first needed, and stays until ``stop()``. Before a long wait, or
    its end, it calls ``on_idle`` once, which gives back the connection kept for its next task.

    Attributes:
        abandoned: the running tasks that no caller waits for; those of the threads that were
            started since ``stop()``.
    """

    def __init__(self, max_threads: int, on_idle: Callable[[], None]) -> None:
        self.abandoned: set[Task[Any]] = set()
        self._max_threads = max_threads
        self._on_idle = on_idle
        self._queue = _Queue()
        self._own = threading.local()  # the queue of each thread
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._busy: set[int] = set()
        self._pending = 0

    def put(self, task: "Task[Any]") -> None:
        """Have the next free thread run ``task``; ``RuntimeError`` if no thread can be started."""
        with self._lock:
            if len(self._threads) < min(self._pending + 1, self._max_threads):
                thread = threading.Thread(
                    target=self._work, args=(self._queue,), name="hermes-session", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:
                    if not self._threads:
                        raise
                else:
                    self._threads.append(thread)
            self._pending += 1
            self._queue.waiting.put(task)

    def is_hung(self, seconds: float) -> bool:
        """Tell whether every thread has run an abandoned task for ``seconds``."""
        if not self.abandoned:
            return False
        hung = sum(task.has_run_for(seconds) for task in list(self.abandoned))
        return hung >= self._max_threads

    def stop(self) -> list[threading.Thread]:
        """End the threads after the tasks that were put before; a later task starts others.

        Returns those that end at once.
        """
        with self._lock:
            # The threads of later tasks have another queue. They would end in the place of one that
            # is busy, whose next task would wait for what it is busy with.
            queue, self._queue = self._queue, _Queue()
            self.abandoned = set()
            for _ in self._threads:
                queue.waiting.put(None)
            ending, self._threads = self._threads, []
        return [thread for thread in ending if thread.ident not in self._busy]

    def take_joining(self) -> "Task[Any] | None":
        """Return the next waiting task, if it may join a transaction; from a task's thread."""
        queue: _Queue = self._own.queue
        try:
            task = queue.take()
        except (Empty, IndexError):
            return None
        if task is not None and task.joining_work is not None:
            return task
        queue.held.appendleft(task)
        return None

    def put_back(self, tasks: "Sequence[Task[Any]]") -> None:
        """Have tasks that `take_joining` has returned run next."""
        self._own.queue.held.extendleft(reversed(tasks))

    def _work(self, queue: _Queue) -> None:
        me = threading.get_ident()
        self._own.queue = queue
        while (task := self._next(queue)) is not None:
            self._busy.add(me)
            task.run()
            self._busy.discard(me)
            done = [task, *task.joined]
            # Before the callers are resumed, so that their next tasks find this thread free.
            with self._lock:
                self._pending -= len(done)
            del task  # no reference until the next task
            while done:
                done.pop(0).complete(more=bool(done) or not queue.waiting.empty())
        self._become_idle()

    def _next(self, queue: _Queue) -> "Task[Any] | None":
        if queue.held:
            with suppress(IndexError):  # another thread's by now
                return queue.held.popleft()
        try:
            return queue.waiting.get(timeout=_IDLE_AFTER)
        except Empty:
            self._become_idle()
            return queue.waiting.get()

    def _become_idle(self) -> None:
        try:
            self._on_idle()
        except Exception:  # noqa: BLE001  # the thread is needed for the next task all the same
            logger.debug("a connection could not be given back", exc_info=True)


class Task(Generic[T]):
    """One call of ``work`` in a worker thread, which its caller may abandon.

    ``work`` is called with the task, and passes the connection on which it may wait to ``use``.
    After ``seconds`` the caller stops waiting; a task that still runs is then in ``abandoned``.

    Attributes:
        joining_work: what to run over the connection of another task, in whose transaction; None
            if it needs its own.
        joined: the tasks that ran in this one's transaction.
    """

    __slots__ = (
        "_abandoned",
        "_aborted",
        "_awaited",
        "_completions",
        "_connection",
        "_context",
        "_error",
        "_lock",
        "_seconds",
        "_started_at",
        "_timer",
        "_value",
        "_waiter",
        "_work",
        "joined",
        "joining_work",
    )

    def __init__(
        self,
        work: "Callable[[Task[T]], T]",
        completions: "CompletionQueue",
        seconds: float,
        abandoned: "set[Task[Any]]",
        joining_work: "Callable[[Any], T] | None" = None,
    ) -> None:
        self._work = work
        self.joining_work: Callable[[Any], T] | None = joining_work
        self.joined: list[Task[Any]] = []
        self._completions = completions
        self._seconds = seconds
        self._abandoned = abandoned
        # The caller's context variables, such as a tracing span, are seen in the thread too.
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._waiter = completions.waiter()
        self._value: T
        self._error: BaseException | None = None
        self._started_at: float | None = None
        self._connection: Any = None
        self._awaited = True
        self._aborted = False
        self._timer: threading.Timer | None = None

    async def result(self) -> T:
        """Wait for what ``work`` returns or raises, or raise ``OperationTimeout``.

        After a timeout the thread goes on; its transaction is committed or rolled back as a whole.
        """
        is_done = False
        try:
            is_done = await self._waiter.wait(self._seconds)
        finally:
            if not is_done:
                self._abandon()
        if not is_done:
            raise OperationTimeout
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error, self  # or the traceback would keep them in a reference cycle

    def run(self) -> None:
        """Call ``work`` in the thread, unless its caller has stopped waiting."""
        if not self.start():
            return
        try:
            self._value = self._context.run(self._work, self)
        except BaseException as exc:  # noqa: BLE001  # raised where it is awaited
            self._error = exc
        self.end()

    def start(self) -> bool:
        """Note that it runs now; return False if its caller has stopped waiting."""
        with self._lock:
            if self._awaited:
                self._started_at = time.monotonic()
            return self._awaited

    def run_joining(self, database: Any) -> None:
        """Call ``joining_work``, in the thread and the transaction of another task."""
        assert self.joining_work is not None
        self._value = self._context.run(self.joining_work, database)

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error."""
        return self._error is not None

    def fail(self, error: BaseException) -> None:
        """Note why it failed, unless it failed by itself before."""
        self._error = self._error or error

    def end(self) -> None:
        """Note that it does not run any more."""
        with self._lock:
            self._started_at = self._connection = None
            self._abandoned.discard(self)
            if self._timer is not None:
                self._timer.cancel()

    def complete(self, *, more: bool) -> None:
        """Resume the caller; in the thread, after ``run``. For ``more`` see `CompletionQueue`."""
        self._completions.put(self._waiter, more=more)

    def use(self, driver_connection: Any) -> None:
        """Note, in the thread, the connection on which it may wait from now on."""
        with self._lock:
            self._connection = driver_connection
            if self._aborted:  # while it was still connecting
                shut_down_socket(driver_connection)

    def has_run_for(self, seconds: float) -> bool:
        """Tell whether it has been running for ``seconds``."""
        started_at = self._started_at
        return started_at is not None and time.monotonic() - started_at >= seconds

    def abort(self) -> None:
        """Shut down its connection's socket, so that the thread returns."""
        with self._lock:
            self._aborted = True
            if self._connection is not None:
                shut_down_socket(self._connection)

    def _abandon(self) -> None:
        """Stop waiting; abort a running task after its timeout."""
        with self._lock:
            self._awaited = False
            if self._started_at is None:
                return
            self._abandoned.add(self)
            remaining = self._seconds - (time.monotonic() - self._started_at)
            self._timer = threading.Timer(max(remaining, 0), self.abort)
            self._timer.daemon = True
            with suppress(RuntimeError):  # no thread can be started: closing the store aborts it
                self._timer.start()


class CompletionQueue:
    """The tasks of one event loop that threads have run; made in that loop.

    One wake-up of the loop resumes the callers of all that are in the queue by then.
    """

    def __init__(self) -> None:
        token = native_token()
        self._loop = token if isinstance(token, asyncio.AbstractEventLoop) else None
        self._wake = loop_scheduler()
        self._completed: deque[Waiter] = deque()
        self._woken = False
        self._waiting = 0
        self._polls = False
        # A timer for each wait would cost more than a look at all of them now and then.
        self._deadlines: dict[_AsyncioWaiter, float] = {}
        self._earliest = math.inf

    def waiter(self) -> "Waiter":
        """Return a new caller's wait; in the event loop."""
        if self._loop is None:
            return _AnyioWaiter()
        self._waiting += 1
        self._poll_later()
        return _AsyncioWaiter(self, self._loop)

    def put(self, waiter: "Waiter", *, more: bool) -> None:
        """Have the event loop resume the waiter; from any thread.

        ``more`` says that this thread has another task to run at once. asyncio's loop, which polls
        the queue, is then not woken yet: it would take the interpreter lock from that thread.
        """
        self._completed.append(waiter)
        hold_back = more and self._loop is not None and len(self._completed) < _MAX_BATCH
        if not hold_back and not self._woken:
            self._woken = True
            try:  # noqa: SIM105  # once for each operation, where suppress() costs more
                self._wake(self._deliver)
            except RuntimeError:  # the loop has ended, and all its callers too
                pass

    def _deliver(self) -> None:
        # Before the first is taken, so that a later completion wakes the loop again.
        self._woken = False
        # No more than these: a task that is resumed at once may be the cause of others.
        for _ in range(len(self._completed)):
            if not self._completed:  # a task has run the loop within itself (nest_asyncio)
                return
            waiter = self._completed.popleft()
            self._waiting -= 1
            waiter.resume()

    def _poll_later(self) -> None:
        # That thread's next task may hang, which must not delay completed tasks.
        if not self._polls and self._loop is not None:
            self._polls = True
            self._loop.call_later(_MAX_DELAY, self._poll)

    def _poll(self) -> None:
        self._polls = False
        if self._waiting:
            self._poll_later()
        self._deliver()
        assert self._loop is not None
        if self._loop.time() >= self._earliest:
            self._end_late()

    def expect(self, waiter: "_AsyncioWaiter", deadline: float) -> None:
        """End the wait soon after ``deadline``, by the loop's clock, unless it is forgotten."""
        self._deadlines[waiter] = deadline
        self._earliest = min(self._earliest, deadline)

    def forget(self, waiter: "_AsyncioWaiter") -> None:
        """Forget a wait that has ended."""
        del self._deadlines[waiter]

    def _end_late(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        late = [waiter for waiter, deadline in self._deadlines.items() if deadline <= now]
        on_time = (deadline for deadline in self._deadlines.values() if deadline > now)
        self._earliest = min(on_time, default=math.inf)
        for waiter in late:
            waiter.end_late()


class _AnyioWaiter:
    """One caller's wait for its task."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    async def wait(self, seconds: float) -> bool:
        """Return whether the task was completed within ``seconds``."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        return self._event.is_set()

    def resume(self) -> None:
        """End the wait; in the event loop."""
        self._event.set()


class _AsyncioWaiter:
    """The same by asyncio's own future, at a fraction of the cost (docs/speed.md)."""

    __slots__ = ("_completions", "_future", "_loop")

    def __init__(self, completions: CompletionQueue, loop: asyncio.AbstractEventLoop) -> None:
        self._completions = completions
        self._loop = loop
        self._future = DirectFuture(loop=loop)

    async def wait(self, seconds: float) -> bool:
        self._completions.expect(self, self._loop.time() + seconds)
        try:
            return await self._future
        finally:
            self._completions.forget(self)

    def resume(self) -> None:
        self._future.resume(True)  # noqa: FBT003

    def end_late(self) -> None:
        self._future.resume(False)  # noqa: FBT003


Waiter = _AnyioWaiter | _AsyncioWaiter


def native_token() -> Any:
    """Return asyncio's event loop, or trio's token of its run."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    # trio may be the guest of an asyncio loop, which then runs none of its own tasks.
    if task is not None:
        return task.get_loop()
    token: Any = current_token()
    return getattr(token, "native_token", token)  # newer versions of anyio wrap it


def loop_scheduler() -> Wake:
    """Return the running event loop's thread-safe function that schedules a callback."""
    token = native_token()
    if not isinstance(token, asyncio.AbstractEventLoop):
        schedule: Wake = token.run_sync_soon
        return schedule
    waker = loop_waker(token)
    return token.call_soon_threadsafe if waker is None else waker.schedule


class PerLoop(Generic[T]):
    """Holds one value for each event loop.

    Neither an asyncio engine nor a completion queue can be shared by event loops, and a process may
    have many of these, one after the other: ``asyncio.run`` in a row, a test client that has one
    for each request. ``on_loop_ended`` is called with the value of a loop that has ended, when
    another loop sets its first. anyio's ``RunVar`` would hold a value as long as its loop is
    referenced; these values refer to their loop, so that neither would ever be freed.
    """

    def __init__(self, on_loop_ended: Callable[[T], object] = lambda _value: None) -> None:
        # No lock, which a forked child could inherit locked: each step on the dict is atomic.
        self._values: dict[Any, T] = {}
        self._on_loop_ended = on_loop_ended

    def get(self, token: object = None) -> T | None:
        """Return the running loop's value, or None; who knows the loop's native token gives it."""
        return self._values.get(token or native_token())

    def set(self, value: T) -> None:
        """Set the running loop's value."""
        for token in list(self._values):
            if _has_ended(token) and (ended := self._values.pop(token, None)) is not None:
                self._on_loop_ended(ended)
        self._values[native_token()] = value


def _has_ended(token: Any) -> bool:
    if isinstance(token, asyncio.AbstractEventLoop):
        return token.is_closed()
    try:
        token.run_sync_soon(lambda: None)
    except RuntimeError:  # trio's RunFinishedError
        return True
    return False
