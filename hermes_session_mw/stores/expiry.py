"""`ExpiryStore`, the protocol for sessions that expire, and the settings that say when.

A session expires once its history has not changed for some time. The store has a setting for that,
an owner may have another one, and a session one of its own: the most specific one counts. A store
without ``expires_after`` has no expiry at all: ``store.expiry`` is None.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

from hermes_session_mw.exceptions import ConfigurationError

MAX_EXPIRY = timedelta(days=36_500)
"""The longest setting: a hundred years."""


class Never(Enum):
    """The type of `NEVER`."""

    NEVER = "never"

    def __repr__(self) -> str:
        return "NEVER"


NEVER: Final = Never.NEVER
"""The setting of what does not expire, whatever the owner's or the store's setting is."""

Setting: TypeAlias = timedelta | Literal[Never.NEVER]
"""How long after its last change a session expires, in whole seconds; or `NEVER`."""


@dataclass(frozen=True, slots=True)
class SessionExpiry:
    """When a session expires.

    Attributes:
        own: the session's own setting; None where it has none.
        inherited: the setting that would count without its own: the owner's, else the store's.
        expires_at: when it is to be removed if its history does not change before; None for never,
            and where nothing is kept of the session.
    """

    own: Setting | None
    inherited: Setting
    expires_at: datetime | None

    @property
    def expires_after(self) -> Setting:
        """The setting that counts."""
        return self.inherited if self.own is None else self.own


@dataclass(frozen=True, slots=True)
class Sweep:
    """The counts of one sweep, and when to sweep again.

    Attributes:
        sessions: how many sessions were removed.
        messages: how many messages with them, archived ones too.
        ids: how many ids without a turn: of deleted sessions, or set up and never used.
        again: seconds until the next sweep is due.
        swept: False if another process is at it, or was lately, so that nothing was done.
    """

    sessions: int = 0
    messages: int = 0
    ids: int = 0
    again: float = 0.0
    swept: bool = True


@runtime_checkable
class ExpiryStore(Protocol):
    """The expiry of a store's sessions: ``store.expiry`` of a store that has ``expires_after``.

    Attributes:
        expires_after: the store's setting, for sessions that have none, of owners that have none.
    """

    expires_after: Setting

    async def set(self, session_id: str, expires_after: Setting | None, owner: str = "") -> None:
        """Set the session's own setting; None removes it.

        It may be set before the first message, and is no change of the history. An append, a
        rotation and a fork keep it, an export has it; it goes when the session does.

        Raises:
            ValueError: it is not above 0, or more than 36,500 days.
            SessionDeleted: the conversation was deleted.
        """
        ...

    async def set_owner(self, owner: str, expires_after: Setting | None) -> None:
        """Set the setting of an owner's sessions that have none of their own; None removes it.

        Once it returns, no session is removed by the setting before.

        Raises:
            ValueError: as for ``set``.
        """
        ...

    async def find(self, session_id: str, owner: str = "") -> SessionExpiry:
        """Return when the session expires; of an unknown one, what would count for it."""
        ...

    async def find_owner(self, owner: str) -> Setting | None:
        """Return the owner's own setting; None without one."""
        ...

    async def sweep(self, interval: float, is_stopped: Callable[[], bool] = lambda: False) -> Sweep:
        """Remove the expired sessions, unless another process did so ``interval`` seconds ago.

        One process at a time sweeps, by a lease. What is in use, by a turn or a running answer,
        stays, and what is appended to meanwhile. ``is_stopped`` is asked between short
        transactions.
        """
        ...


def check_expiry(
    expires_after: object, name: str = "expires_after", error: type[ValueError] = ValueError
) -> None:
    """Raise ``TypeError`` or ``error`` unless it is a setting."""
    if expires_after is NEVER:
        return
    if not isinstance(expires_after, timedelta):
        raise TypeError(
            f"{name} is a {type(expires_after).__name__}, not a timedelta; NEVER stands for never"
        )
    if not timedelta(0) < expires_after <= MAX_EXPIRY:
        raise error(f"{name}: {expires_after} is not above 0 and at most {MAX_EXPIRY.days} days")


def check_store_expiry(expires_after: object) -> None:
    """Raise ``ConfigurationError`` unless it is a store's setting, or None for no expiry."""
    if expires_after is None:
        return
    try:
        check_expiry(expires_after)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(str(exc)) from None


def seconds_of(expires_after: Setting) -> int | None:
    """Return a setting as whole seconds, at least one; None for never."""
    if expires_after is NEVER:
        return None
    return -(-expires_after // timedelta(seconds=1))  # rounded up


def setting_of(seconds: int | None) -> Setting:
    """Return the setting of so many seconds; None is never."""
    return NEVER if seconds is None else timedelta(seconds=int(seconds))


def rounded(expires_after: Setting) -> Setting:
    """Return the setting in whole seconds, as databases keep it; raise if it is none."""
    check_expiry(expires_after)
    return setting_of(seconds_of(expires_after))


def expires_at(changed: datetime, expires_after: Setting) -> datetime | None:
    """Return when a session expires that was changed then; None for never, or past year 9999."""
    if expires_after is NEVER:
        return None
    try:
        return changed + expires_after
    except OverflowError:
        return None


def is_longer(expires_after: Setting, than: Setting) -> bool:
    """Tell whether one setting keeps a session longer than another."""
    if than is NEVER or expires_after is NEVER:
        return expires_after is NEVER and than is not NEVER
    return expires_after > than


def setting_as_json(expires_after: Setting) -> int | str:
    """Return a setting as exports and the routes have it: seconds, or ``"never"``."""
    seconds = seconds_of(expires_after)
    return NEVER.value if seconds is None else seconds


def setting_from_json(value: object) -> Setting:
    """Return the setting that `setting_as_json` gave; ``ValueError`` for anything else."""
    if value == NEVER.value:
        return NEVER
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 60.0 is a whole number in JSON Schema
    if type(value) is not int or not 0 < value <= MAX_EXPIRY.total_seconds():
        raise ValueError("it is neither a number of seconds nor never")
    return timedelta(seconds=value)
