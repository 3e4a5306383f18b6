"""A server whose store's sessions expire, and which may kill itself in the middle of a sweep."""

import os
import signal
from datetime import timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from hermes_session_mw import HermesSessionMiddleware, SQLAlchemyStore
from hermes_session_mw.stores.sqlalchemy.statements import expiry

remove_expired = expiry.remove_expired


def remove_and_die(*args: Any, **kwargs: Any) -> Any:
    """Be killed once the first removal is committed, before anything else is said or done."""
    remove_expired(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)


async def ready(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ready")


def create_app() -> HermesSessionMiddleware:
    """Return the application; it sweeps five times a second."""
    if os.environ.get("WORKER_DIES"):
        expiry.remove_expired = remove_and_die
    store = SQLAlchemyStore(os.environ["WORKER_DATABASE"], expires_after=timedelta(days=1))
    app = Starlette(routes=[Route("/ready", ready)])
    return HermesSessionMiddleware(app, store, sweep_interval=0.2)
