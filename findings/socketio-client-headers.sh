#!/usr/bin/env bash
# python-socketio's client sends connect(headers=...) with the request that connects, and by polling with no later one:
# each GET and POST after it comes without them. Nothing says so, and the default begins by polling. What stands before
# the server and goes by a header, a gateway's token or a session's id, sees it once and then never.
# By WebSocket alone (transports=["websocket"]) that one request is all there is.
# Seen on 2026-11-29 with python-socketio 5.18.1, python-engineio 4.15.1 and aiohttp 3.14.5.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet python-socketio==5.18.1 \
  python-engineio==4.15.1 aiohttp==3.14.5 uvicorn==0.54.0 websockets==17.4
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import os
import socket

import socketio
import uvicorn

server = socketio.AsyncServer(async_mode="asgi")
inner = socketio.ASGIApp(server)
seen = []


@server.event
async def echo(_, text):
    return text


async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        names = {name for name, _ in scope["headers"]}
        seen.append((scope.get("method", "WebSocket"), b"x-told" in names))
    await inner(scope, receive, send)


async def main():
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    serving = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    asyncio.create_task(serving.serve(sockets=[listening]))
    while not serving.started:
        await asyncio.sleep(0.01)
    for transport in ("polling", "websocket"):
        seen.clear()
        client = socketio.AsyncClient()
        await client.connect(url, headers={"X-Told": "1"}, transports=[transport])
        assert await client.call("echo", "hello", timeout=60) == "hello"
        first, *later = seen
        print(transport, "first", first, "later", sorted(set(later)), flush=True)
        assert first[1]
        if transport == "polling":
            assert set(later) == {("GET", False), ("POST", False)}, later
        else:
            assert later == []


asyncio.run(asyncio.wait_for(main(), 120))
os._exit(0)
PYTHON
