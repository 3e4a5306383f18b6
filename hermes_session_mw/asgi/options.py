"""The middleware's options: their names, types, defaults and checks."""

import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, get_args

from starlette.requests import HTTPConnection
from starlette.types import Scope

from hermes_session_mw.asgi.headers import SESSION_HEADER, header_names, join_cookies
from hermes_session_mw.exceptions import ConfigurationError, InvalidKey
from hermes_session_mw.ids import is_session_id, mint_session_id
from hermes_session_mw.logging import logger
from hermes_session_mw.session.answer_tasks import RETENTION
from hermes_session_mw.stores import check_keys
from hermes_session_mw.telemetry import Telemetry

OwnerHook = Callable[[HTTPConnection], Awaitable[str | None] | str | None]
UnknownIds = Literal["adopt", "mint", "reject"]
InvalidIds = Literal["reject", "mint"]
OnStoreError = Literal["empty", "unavailable"]

SWEEP_INTERVAL = 300.0
"""Seconds between sweeps, by default."""

_MAX_LIMIT = 2**31
"""What is more is a mistake: seconds for 68 years, or more messages than a store has."""

Function = TypeVar("Function", bound=Callable[..., object])


class OptionArguments(TypedDict, total=False):
    """`MiddlewareOptions` as keyword arguments, for type checkers."""

    header_name: str | Sequence[str]
    new_id: Callable[[], str]
    valid_id: Callable[[str], bool]
    owner: OwnerHook | None
    unknown_ids: UnknownIds
    invalid_ids: InvalidIds
    autoload: bool | Callable[[Scope], bool]
    history_limit: int | None
    on_store_error: OnStoreError
    store_timeout: float | None
    exclude: Collection[str] | Callable[[Scope], bool]
    session_keys: bool
    telemetry: Telemetry | None
    answer_retention: float
    sweep_interval: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MiddlewareOptions:
    """The keyword arguments of `HermesSessionMiddleware` and `install`.

    Attributes:
        header_name: the header to read and to stamp; or several to read, of which the first that a
            request has names its session, and the first of all is stamped.
        new_id: makes an id of at least 128 random bits that ``valid_id`` accepts.
        valid_id: which ids a client may send; never more than 256 visible ASCII characters.
        owner: returns who may see the session, 1 to 255 characters; sync or async. If it returns
            None, a request with an id is answered 401, and one without cannot append.
        unknown_ids: what to do with a valid id under which nothing is stored: adopt it, replace
            it by a minted one, or answer 404.
        invalid_ids: what to do with any other value: answer 400, or replace it.
        autoload: whether to load the history before the application is called, or a function of
            the scope that returns that.
        history_limit: how many of the newest messages to load; None for all.
        on_store_error: what to do with a request whose history cannot be read: go on with an
            empty one (``session.degraded``), or answer 503.
        store_timeout: seconds that the store has for one operation; None for no limit.
        exclude: paths, each with all below it, or a function of the scope: requests that are
            served as if the middleware were not there.
        session_keys: whether ``X-Hermes-Session-Key`` names the conversation of a request without
            an id, by a key of the client's own. Needs ``owner``: keys can be guessed. By default
            the header names a memory scope, as in Hermes Agent: ``session.memory_scope``.
        telemetry: receives requests and store operations; for OpenTelemetry give a
            ``hermes_session_mw.otel.OpenTelemetry``.
        answer_retention: seconds after its end for which an answer can be found and followed.
        sweep_interval: seconds between the sweeps that remove expired sessions; a store without
            ``expires_after`` has none.
    """

    header_name: str | Sequence[str] = SESSION_HEADER
    new_id: Callable[[], str] = mint_session_id
    valid_id: Callable[[str], bool] = is_session_id
    owner: OwnerHook | None = None
    unknown_ids: UnknownIds = "adopt"
    invalid_ids: InvalidIds = "reject"
    autoload: bool | Callable[[Scope], bool] = True
    history_limit: int | None = None
    on_store_error: OnStoreError = "empty"
    store_timeout: float | None = 5.0
    exclude: Collection[str] | Callable[[Scope], bool] = ()
    session_keys: bool = False
    telemetry: Telemetry | None = None
    answer_retention: float = RETENTION
    sweep_interval: float = SWEEP_INTERVAL

    def __post_init__(self) -> None:
        """Raise ``ConfigurationError`` for a value that cannot work."""
        object.__setattr__(self, "header_name", header_names(self.header_name))
        check_functions(new_id=self.new_id, valid_id=self.valid_id)
        if self.owner is not None:
            check_functions(owner=self.owner)
        if not isinstance(self.autoload, bool):
            check_functions(autoload=self.autoload)
        check_choice("unknown_ids", self.unknown_ids, UnknownIds)
        check_choice("invalid_ids", self.invalid_ids, InvalidIds)
        check_choice("on_store_error", self.on_store_error, OnStoreError)
        check_limit("history_limit", self.history_limit, kind=int)
        check_limit("store_timeout", self.store_timeout)
        for option in ("answer_retention", "sweep_interval"):
            if getattr(self, option) is None:
                raise ConfigurationError(f"{option}: None is not a number of seconds")
            check_limit(option, getattr(self, option))
        if callable(self.exclude):
            check_functions(exclude=self.exclude)
        else:
            object.__setattr__(self, "exclude", checked_paths(self.exclude))
        if not isinstance(self.session_keys, bool):
            raise ConfigurationError(f"session_keys: {self.session_keys!r} is not True or False")
        if self.session_keys and self.owner is None:
            raise ConfigurationError(
                "session_keys: give an owner too, or any client that guesses a key can read the "
                "conversation"
            )

    def exclusion(self) -> Callable[[Scope], bool] | None:
        """Return a function that says whether a scope is excluded; None if none can be."""
        if callable(self.exclude):
            return self.exclude
        if not self.exclude:
            return None
        exact = frozenset(path.rstrip("/") for path in self.exclude)
        below = tuple(f"{path}/" for path in exact)

        def is_excluded(scope: Scope) -> bool:
            # The path as routes have it: without the prefix of a proxy or a mount.
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            return path in exact or path.startswith(below)

        return is_excluded


def with_options(function: Function) -> Function:
    """Have ``inspect.signature`` and ``help`` show the options of a function with ``**options``."""
    signature = inspect.signature(function)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    options = inspect.signature(MiddlewareOptions).parameters.values()
    shown = signature.replace(parameters=[*own, *options])
    setattr(function, "__signature__", shown)  # noqa: B010  # which Function does not declare
    return function


def checked_paths(exclude: object) -> tuple[str, ...]:
    """Return the paths to exclude; raise ``ConfigurationError`` if one of them is none."""
    if isinstance(exclude, str | bytes) or not isinstance(exclude, Iterable):
        raise ConfigurationError(f"exclude: give a list of paths, such as [{exclude!r}]")
    paths = tuple(exclude)  # which may be an iterator
    for path in paths:
        if not isinstance(path, str) or not path.startswith("/") or "*" in path:
            raise ConfigurationError(
                f"exclude: {path!r} does not begin with '/', or is a pattern; a path stands for "
                "itself and all below it"
            )
    return paths


def check_functions(**options: object) -> None:
    """Raise ``ConfigurationError`` for what is no function, or async and not the owner hook."""
    for option, value in options.items():
        if not callable(value):
            raise ConfigurationError(f"{option}: {value!r} is not a function")
        is_async = map(inspect.iscoroutinefunction, (value, type(value).__call__))
        if option != "owner" and any(is_async):
            raise ConfigurationError(f"{option}: an async function is not awaited; give a sync one")


def check_choice(option: str, value: str, choices: Any) -> None:
    """Raise ``ConfigurationError`` unless ``value`` is one of a Literal's values."""
    if value not in get_args(choices):
        known = ", ".join(repr(choice) for choice in get_args(choices))
        raise ConfigurationError(f"{option}: {value!r} is none of {known}")


def check_limit(option: str, value: object, kind: Any = int | float) -> None:
    """Raise ``ConfigurationError`` unless ``value`` is None, or a finite number above 0."""
    if value is None:
        return
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigurationError(f"{option}: {value!r} is not a number, or not a whole one")
    if not 0 < value <= _MAX_LIMIT:
        raise ConfigurationError(f"{option}: {value!r} is not more than 0, or too large")


async def ask_owner(hook: OwnerHook, connection: HTTPConnection) -> str | None:
    """Return the connection's owner; None for no owner, or for a name that cannot be stored."""
    # ``headers["cookie"]`` is only the first of several fields; so is ``cookies``, in Starlette
    # before 0.49.3.
    connection.scope["headers"] = join_cookies(connection.scope["headers"])
    answer = hook(connection)
    owner = await answer if inspect.isawaitable(answer) else answer
    try:
        check_keys("-", owner or "")
    except InvalidKey as exc:
        logger.warning("the owner hook's answer is treated as None: %s", exc)
        return None
    return owner or None  # an empty name would own the sessions that have no owner
