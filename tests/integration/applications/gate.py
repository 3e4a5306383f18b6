"""Lets a stream's second piece go when a client has the first."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio

PIECES = ("the first piece", "the second piece")


async def opened(folder: Path) -> None:
    """Wait until somebody lets the next piece go."""
    while not (folder / "go").exists():  # noqa: ASYNC110  # nobody tells
        await anyio.sleep(0.01)


def let_go(folder: Path) -> None:
    """Let the next piece go."""
    (folder / "go").touch()


def model_of(folder: Path) -> Callable[[Any], AsyncIterator[str]]:
    """Return a model whose second piece comes once somebody lets it go."""

    async def model(_: Any) -> AsyncIterator[str]:
        yield PIECES[0]
        await opened(folder)
        yield PIECES[1]

    return model
