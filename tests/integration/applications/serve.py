"""Serves one application behind the middleware, in an environment of its own.

``python -m tests.integration.applications.serve NAME PORT FOLDER``. What begins each response is
written to the folder's ``responses.jsonl``, as a line of JSON: the path, the message's type, the
status, and the session ids that are on it.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hermes_session_mw import SESSION_HEADER, MemoryStore

STARTS = {
    "http.response.start": None,
    "websocket.accept": 101,
    "websocket.http.response.start": None,
    "websocket.close": 403,
}
FIELD = SESSION_HEADER.lower().encode()


class Recorder:
    """Writes down what begins each response, outside of the middleware."""

    def __init__(self, app: ASGIApp, path: Path) -> None:
        self.app = app
        self.path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        begun = False

        async def recorded(message: Message) -> None:
            nonlocal begun
            if message["type"] in STARTS and not begun:
                begun = True
                self._write(scope["path"], message)
            await send(message)

        await self.app(scope, receive, recorded)

    def _write(self, path: str, message: Message) -> None:
        headers = message.get("headers") or ()
        line = {
            "path": path,
            "type": message["type"],
            "status": message.get("status", STARTS[message["type"]]),
            "ids": [bytes(value).decode() for name, value in headers if name.lower() == FIELD],
        }
        with self.path.open("a") as file:
            file.write(f"{json.dumps(line)}\n")


class Store(MemoryStore):
    """Leaves a trace when it is closed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    async def aclose(self) -> None:
        """Close, and say so."""
        await super().aclose()
        (self.folder / "closed").touch()


if __name__ == "__main__":
    name, port, directory = sys.argv[1:]
    folder = Path(directory)
    os.chdir(folder)
    app = import_module(f"tests.integration.applications.apps.{name}").make(folder, Store(folder))
    served = Recorder(app, folder / "responses.jsonl")
    uvicorn.run(served, host="127.0.0.1", port=int(port), log_level="error")
