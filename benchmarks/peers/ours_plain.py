"""This package's own store, as where the extra ``[fast]`` is not installed."""

import sys

sys.modules["msgspec"] = None  # type: ignore[assignment]  # an import of it then fails

from benchmarks.peers.ours import Ours  # noqa: E402  # it imports the package

__all__ = ["Ours"]
