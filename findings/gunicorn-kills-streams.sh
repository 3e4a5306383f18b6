#!/usr/bin/env bash
# gunicorn 27.0.1 with uvicorn-worker 0.4.0: what --graceful-timeout ends is killed. SIGTERM has uvicorn wait for its
# streams without a limit of its own, for the worker passes none on; when gunicorn's time is over it sends SIGKILL, so that
# no CancelledError comes, no `finally` and no end of the lifespan runs: what an application stores there is lost. So is it
# with gunicorn's own worker, `-k asgi`. A uvicorn that has the same limit (--timeout-graceful-shutdown, here
# by the worker's CONFIG_KWARGS) cancels its streams and ends the lifespan. Seen on 2026-11-29.
# So the page about servers has a worker whose limit is below gunicorn's.
set -euo pipefail
folder=$(mktemp -d)
serving=
trap '[ -z "$serving" ] || kill "$serving" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip --disable-pip-version-check install --quiet gunicorn==27.0.1 uvicorn-worker==0.4.0 uvicorn==0.54.0
cat >app.py <<'PYTHON'
import asyncio


def note(what):
    with open("noted", "a") as file:
        file.write(what + "\n")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        note("the lifespan ended")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await asyncio.sleep(600)
    finally:
        note("the stream ended")
PYTHON
cat >worker.py <<'PYTHON'
from uvicorn_worker import UvicornWorker


class Limited(UvicornWorker):
    CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "timeout_graceful_shutdown": 1}
PYTHON
cat >read.py <<'PYTHON'
"""Read the first piece, have the server stop, and wait until the connection has ended."""
import os
import signal
import socket
import sys
import time

port, process = map(int, sys.argv[1:])
deadline = time.monotonic() + 60
while True:
    try:
        client = socket.create_connection(("127.0.0.1", port), timeout=60)
        break
    except ConnectionRefusedError:
        assert time.monotonic() < deadline, "the server does not listen"
        time.sleep(0.1)
client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
got = b""
while b"one" not in got:
    got += client.recv(65536)
os.kill(process, signal.SIGTERM)
try:
    while client.recv(65536):
        pass
except ConnectionResetError:
    pass
PYTHON
see() {
  local expected=$1 port noted
  shift
  rm -f noted
  touch noted
  port=$(venv/bin/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  venv/bin/python -m gunicorn app:app --bind "127.0.0.1:$port" --log-level critical "$@" &
  serving=$!
  venv/bin/python read.py "$port" "$serving"
  wait "$serving" || true
  serving=
  noted=$(sort noted | paste -sd ';')
  echo "$*: ${noted:-nothing}"
  [ "$noted" = "$expected" ] || { echo "expected: ${expected:-nothing}"; exit 1; }
}
see "" --worker-class uvicorn_worker.UvicornWorker --graceful-timeout 2
see "" --worker-class asgi --graceful-timeout 2
see "the lifespan ended;the stream ended" --worker-class worker.Limited --graceful-timeout 20
