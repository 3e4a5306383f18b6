"""The demo as an application for uvicorn's workers, each of which says which process it is."""

import os

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo_app.app import create_app as create_demo
from demo_app.upstream import UpstreamModel

WORKER_HEADER = "X-Worker"


def create_app() -> ASGIApp:
    """Return the demo over the database and the model that the environment names."""
    demo = create_demo(
        os.environ["WORKER_DATABASE"], model=UpstreamModel(os.environ["WORKER_MODEL"])
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def sign(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[WORKER_HEADER] = str(os.getpid())
            await send(message)

        await demo(scope, receive, sign)

    return app
