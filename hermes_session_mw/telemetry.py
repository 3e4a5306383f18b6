"""The protocol of the middleware's ``telemetry`` option; `otel` implements it for OpenTelemetry."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class ServedSession(Protocol):
    """The part of a request's session that telemetry may read."""

    is_new: bool
    degraded: bool

    @property
    def id(self) -> str:
        """The id in full, a secret, since anyone with the id can read the conversation."""
        ...

    @property
    def was_found(self) -> bool | None:
        """Whether anything is stored under the id; None if the store was not asked."""
        ...


class Operation(Protocol):
    """A store operation that is running."""

    def count(self, messages: int) -> None:
        """Record how many messages were read or stored."""
        ...


class Telemetry(Protocol):
    """Receives requests and store operations; must not block, and its errors fail the request.

    Both methods are called in the request's own context, so that the current span is the
    request's.
    """

    def request(self, session: ServedSession, refusal: str | None) -> Callable[[], None] | None:
        """Record a request, once its session is known and before the application is called.

        Return None, or a function that is called at the request's end in the same context.

        Args:
            session: the request's session; for a refused request, the one whose id is stamped.
            refusal: the error's code if the request is refused, or None.
        """
        ...

    def operation(self, name: str, session_id: str) -> AbstractContextManager[Operation]:
        """Return a context manager that is entered around a store operation.

        Args:
            name: the method of the store: ``load``, ``append``, ``rewind``, ...
            session_id: the operation's session, in full.
        """
        ...
