"""What an adapter says where its framework is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needing"]


@contextmanager
def needing(requirement: str, *modules: str) -> Iterator[None]:
    """Name the package in the ImportError of an import inside, if one of ``modules`` is missing.

    Args:
        requirement: what pip is told, such as ``google-adk>=2.5``.
        modules: the framework's packages as they are imported. An error that is about another
            one, as where the framework itself is incomplete, stays as it is.
    """
    try:
        yield
    except ImportError as exc:
        if (exc.name or "").split(".")[0] not in modules:
            raise
        text = f"{exc}: this adapter needs its framework: pip install '{requirement}'"
        raise type(exc)(text, name=exc.name, path=exc.path) from exc
