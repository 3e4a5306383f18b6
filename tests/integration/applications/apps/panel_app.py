"""A page of Panel in a FastAPI application."""

from pathlib import Path

from starlette.types import ASGIApp

from hermes_session_mw import HermesSessionMiddleware, MemoryStore
from tests.integration.assets import serve


def make(_: Path, store: MemoryStore) -> ASGIApp:
    """Return the application."""
    return HermesSessionMiddleware(serve.panel(), store)
