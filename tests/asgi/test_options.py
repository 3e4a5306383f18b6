"""The options are listed once: what takes them as keyword arguments shows and checks the same."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints

import pytest
from starlette.applications import Starlette

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, install
from hermes_session_mw.asgi.options import MiddlewareOptions, OptionArguments

NAMES = [field.name for field in fields(MiddlewareOptions)]


def test_type_checkers_know_the_options_as_they_are() -> None:
    """The types of the keyword arguments are those of the dataclass, in the same order."""
    declared = get_type_hints(OptionArguments)
    assert NAMES == list(declared)
    assert get_type_hints(MiddlewareOptions) == declared


@pytest.mark.parametrize("function", [HermesSessionMiddleware, install])
def test_a_signature_shows_the_options(function: Callable[..., Any]) -> None:
    """``help`` and an editor see each option by its name, with its default."""
    shown = inspect.signature(function).parameters
    assert list(shown) == ["app", "store", *NAMES]
    for field in fields(MiddlewareOptions):
        assert shown[field.name].default == field.default
        assert shown[field.name].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("function", [HermesSessionMiddleware, install])
def test_an_unknown_option_is_refused(function: Callable[..., Any]) -> None:
    """A misspelt option is a TypeError that names it, as for any function."""
    with pytest.raises(TypeError, match="onwer"):
        function(Starlette(), MemoryStore(), onwer=None)


def test_options_do_not_change() -> None:
    """What was checked stays as it was checked."""
    options: Any = MiddlewareOptions()
    with pytest.raises(AttributeError):
        options.store_timeout = -1
