#!/usr/bin/env bash
# Starlette 1.10.0: `max_body_size` refuses a body by its declared length only where it is read or where the response
# starts. An endpoint that does not read it runs as a whole, and then its response, status, cookies and all,
# is replaced by a 413; what is to run after it, a BackgroundTask, never does. And the exception that
# ends it is an Exception, raised by `send`: a middleware inside that answers errors itself tries a second response,
# which the server refuses. Seen on 2026-11-28.
# So a 413 does not mean that nothing was stored; who retries with a smaller body needs an idempotency key.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet starlette==1.10.0 uvicorn==0.54.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import http.client
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

DONE = []


class AnswersErrors:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
        except Exception as exc:
            DONE.append(f"caught {type(exc).__name__}")
            if scope["path"] == "/caught":
                await JSONResponse({}, 500)(scope, receive, send)
            raise


async def store(request):
    DONE.append("stored")

    async def after():
        DONE.append("after")

    return JSONResponse({"id": 1}, 201, {"x-session": "abc"}, background=BackgroundTask(after))


routes = [Route("/", store, methods=["POST"]), Route("/caught", store, methods=["POST"])]
app = Starlette(routes=routes, middleware=[Middleware(AnswersErrors)], max_body_size=10)


async def whole(scope, receive, send):
    try:
        await app(scope, receive, send)
    except RuntimeError as exc:
        DONE.append(type(exc).__name__)
    finally:
        DONE.append("end")


def post(port, path):
    DONE.clear()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, body=b"x" * 20)
    response = connection.getresponse()
    return response.status, response.getheader("x-session"), response.read()


async def main():
    server = uvicorn.Server(uvicorn.Config(whole, port=0, lifespan="off", log_level="critical"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    seen = []
    for path in ("/", "/caught"):
        answer = await asyncio.to_thread(post, port, path)
        while "end" not in DONE:
            await asyncio.sleep(0.01)
        seen.append((*answer, *DONE))
    server.should_exit = True
    await serving
    return seen


seen = asyncio.run(main())
for line in seen:
    print(line)
caught = "caught _RequestBodyLimitResponseSent"
sys.exit(
    seen
    != [
        (413, None, b"Content Too Large", "stored", caught, "end"),
        (413, None, b"Content Too Large", "stored", caught, "RuntimeError", "end"),
    ]
)
PYTHON
