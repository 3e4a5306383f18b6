"""The middleware's options, as far as they can be checked where they are given."""

import inspect
from collections.abc import Callable, Collection
from typing import Any, get_args

from starlette.types import Scope

from hermes_session_mw.exceptions import ConfigurationError


def exclusion(
    exclude: Collection[str] | Callable[[Scope], bool],
) -> Callable[[Scope], bool] | None:
    """Return what tells the scopes that are excluded; None where none is.

    Raises:
        ConfigurationError: a path could not be one of a request's.
    """
    if callable(exclude):
        check_functions(exclude=exclude)
        return exclude
    if isinstance(exclude, str):
        raise ConfigurationError(f"exclude: give a list of paths, such as [{exclude!r}]")
    if not exclude:
        return None
    for path in exclude:
        if not path.startswith("/") or "*" in path:
            raise ConfigurationError(
                f"exclude: {path!r} does not begin with '/', or is a pattern; a path stands for "
                "itself and all below it"
            )
    exact = frozenset(path.rstrip("/") for path in exclude)
    below = tuple(f"{path}/" for path in exact)

    def is_excluded(scope: Scope) -> bool:
        # As routes are written: without the path that a proxy or a mount has put before them.
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        return path in exact or path.startswith(below)

    return is_excluded


def check_functions(**options: object) -> None:
    """Refuse what cannot be called, or not without being awaited.

    Raises:
        ConfigurationError: an option is such.
    """
    for option, value in options.items():
        if not callable(value):
            raise ConfigurationError(f"{option}: {value!r} is not a function")
        is_async = map(inspect.iscoroutinefunction, (value, type(value).__call__))
        if option != "owner" and any(is_async):
            raise ConfigurationError(f"{option}: an async function is not awaited here")


def check_choice(option: str, value: str, choices: Any) -> None:
    """Refuse what is none of a Literal's values.

    Raises:
        ConfigurationError: ``value`` is none.
    """
    if value not in get_args(choices):
        known = ", ".join(repr(choice) for choice in get_args(choices))
        raise ConfigurationError(f"{option}: {value!r} is none of {known}")


def check_positive(option: str, value: object) -> None:
    """Refuse a number that nothing could meet.

    Raises:
        ConfigurationError: ``value`` is neither None nor a number above 0.
    """
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise ConfigurationError(f"{option}: {value!r} is not more than 0")
