"""`Listener`, which hears PostgreSQL's notifications on a channel, and wakes who watches for them.

A notification is a wake-up and no more: who watches polls all the same, and `Watch.is_live` says
whether to expect notifications at all. They may fail to come without an error. A pooler that lends
server connections for a transaction answers a LISTEN, and then lends the server connection to
others; a standby refuses it; something between may drop a connection that is silent. So a listener
is live only for a while after a notification has come, and sends one to itself now and then. Before
that it

- compares the server's process that the driver was told with the one that the server tells: poolers
  make up theirs. Behind one it sends no LISTEN, which would stay with a server connection of the
  pooler's, and deliver notifications to clients that never asked for any;
- has the first notification sent over another connection. Behind a pooler, both statements of one
  client may run on one server connection, which delivers its own notifications before it is lent to
  another: LISTEN seems to work there, and does not (findings/pgbouncer-listen.sh).

The connection is made as the engine's are, and is none of its pool, so that nothing waits for it.
It is opened with the first watch that needs it, and closed a moment after the last one. How it is
waited on is told in `workers/`.
"""

import secrets
import threading
import time
from collections.abc import Callable
from typing import Self

from hermes_session_mw.logging import logger

PROBE_AFTER = 30.0
"""Seconds after which a listener notifies itself, to see that notifications come."""

FIRST_PROBE = 1.0
"""Seconds that the first notification may take."""

TICK = 1.0
"""Seconds after which a listener looks whether it is still needed."""

PROOF = 75.0
"""Seconds for which a notification shows that others come: two probes, and some time."""

ASK_SERVER_PROCESS = "SELECT pg_backend_pid()"

_LINGER = 5.0
"""Seconds that the connection stays open after the last who needed it."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0
"""Seconds from a failure to the next attempt; doubled each time."""


class CannotListen(Exception):
    """Notifications do not come over this connection."""


class Watch:
    """A context manager within which ``wake`` is called by the notifications of a topic."""

    __slots__ = ("_listener", "needs", "topic", "wake")

    def __init__(
        self, listener: "Listener", topic: str, wake: Callable[[], None], *, needs: bool
    ) -> None:
        self._listener = listener
        self.topic: str = topic
        self.wake: Callable[[], None] = wake
        self.needs: bool = needs

    def is_live(self) -> bool:
        """Tell whether notifications come; if not, try again to listen when it is time to."""
        return self._listener.is_live()

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._listener.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        """End the watch."""
        self._listener.discard(self)


class Listener:
    """Hears the notifications of a channel while somebody watches, in any thread.

    Attributes:
        channel: the channel's name, an identifier.
        probe: what this listener's own notifications say; no topic, so that others ignore it.
    """

    def __init__(self, channel: str) -> None:
        self.channel: str = channel
        self.probe: str = f"probe {secrets.token_hex(16)}"
        self._lock = threading.Lock()
        self._watches: dict[str, tuple[Watch, ...]] = {}
        self._needed_by = 0
        self._unneeded_at = 0.0
        self._live_until = 0.0
        self._failures = 0
        self._not_before = 0.0
        self._has_logged = False

    def watch(self, topic: str, wake: Callable[[], None], *, needs: bool = True) -> Watch:
        """Return a watch that calls ``wake``, in any thread, at notifications that say ``topic``.

        It is called too when notifications cease to come. A connection is opened for it, in the
        background; without ``needs`` only notifications come that are heard for others.
        """
        return Watch(self, topic, wake, needs=needs)

    def add(self, watch: Watch) -> None:
        """Begin a watch."""
        with self._lock:
            self._watches[watch.topic] = (*self._watches.get(watch.topic, ()), watch)
            self._needed_by += watch.needs
        if watch.needs:
            self.is_live()

    def discard(self, watch: Watch) -> None:
        """End a watch."""
        with self._lock:
            others = tuple(each for each in self._watches[watch.topic] if each is not watch)
            if others:
                self._watches[watch.topic] = others
            else:
                del self._watches[watch.topic]
            if watch.needs:
                self._needed_by -= 1
                self._unneeded_at = time.monotonic()

    def is_live(self) -> bool:
        """See `Watch.is_live`."""
        now = time.monotonic()
        if now < self._live_until:
            return True
        if self._needed_by and now >= self._not_before:
            self.start()
        return False

    def is_needed(self) -> bool:
        """Tell whether somebody needs the connection, or did a moment ago."""
        return self._needed_by > 0 or time.monotonic() - self._unneeded_at < _LINGER

    def start(self) -> None:
        """Begin to listen in the background, unless that has begun."""
        raise NotImplementedError

    def received(self, payload: str) -> None:
        """Take a notification."""
        self._live_until = time.monotonic() + PROOF
        self._failures = 0
        for watch in self._watches.get(payload, ()):
            watch.wake()

    def ended(self, reason: BaseException | None) -> None:
        """Note that the connection was closed; ``reason`` is what went wrong."""
        self._live_until = 0.0
        if reason is not None:
            pause = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
            self._failures = min(self._failures + 1, 30)
            self._not_before = time.monotonic() + pause
            if not self._has_logged:
                self._has_logged = True
                logger.debug("no notifications come: followers poll", exc_info=reason)
        with self._lock:
            watches = [watch for each in self._watches.values() for watch in each]
        for watch in watches:
            watch.wake()
