"""A pytest plugin for `make test-lowest`: what current test tools take for granted.

The lowest allowed anyio marks no coroutines by itself yet, and some tools do not go with the lowest
allowed versions: what needs these is left out, and is named at the end as skipped.
"""

import inspect
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

LEFT_OUT = (
    *(
        "asgi_correlation_id",
        "django",
        "litestar",
        "starsessions",
    ),  # beside quart in one suite alone
    *("llm", "openai", "playwright", "quart", "quart_trio"),
    *("opentelemetry.exporter", "opentelemetry.instrumentation"),
)


class _LeftOut:
    """Finds no module, and skips the test file, or the test, that looks for one of these."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in LEFT_OUT:
            pytest.skip(f"{name} is not installed beside the lowest", allow_module_level=True)
        return None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("anyio_mode", "how anyio finds coroutine tests; it has no such option yet")


def pytest_configure() -> None:
    sys.meta_path.insert(0, _LeftOut())


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> None:
    if not collector.istestfunction(obj, name):
        return
    inner = getattr(getattr(obj, "hypothesis", None), "inner_test", obj)
    if inspect.iscoroutinefunction(inner):
        pytest.mark.anyio(obj)
        pytest.mark.usefixtures("anyio_backend")(obj)  # anyio's own hook has been asked before
