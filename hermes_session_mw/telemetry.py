"""What the middleware tells of its work, to whom it may concern; `otel` tells it OpenTelemetry."""

from contextlib import AbstractContextManager
from typing import Protocol


class ServedSession(Protocol):
    """What there is to tell of a request's session."""

    is_new: bool
    degraded: bool

    @property
    def id(self) -> str:
        """The id in full, which is a secret; whoever has it can read the conversation."""
        ...

    @property
    def was_found(self) -> bool | None:
        """Whether anything is stored under the id; None where nobody has looked."""
        ...


class Operation(Protocol):
    """One operation of the store, while it lasts."""

    def count(self, messages: int) -> None:
        """Take note of how many messages were read or stored."""
        ...


class Telemetry(Protocol):
    """Is told what happens; it must not block, and what it raises fails the request.

    Both methods are called in the request's own context, so that a span that is current there is
    the request's.
    """

    def request(self, session: ServedSession, refusal: str | None) -> None:
        """Take note of a request, once its session is known, and before the application runs.

        Args:
            session: the request's; where it is refused, the one whose id goes out.
            refusal: the code of the error that it is answered with; None where it is let through.
        """
        ...

    def operation(self, name: str, session_id: str) -> AbstractContextManager[Operation]:
        """Return what is entered before an operation of the store, and left after it.

        Args:
            name: the method of the store: ``load``, ``append``, ``rewind``, ...
            session_id: the session that it is about, in full.
        """
        ...
