#!/usr/bin/env bash
# uvicorn 0.54.0 logs an error for each WebSocket that an application denies with a response, though the client is answered as the
# application says: "ASGI callable returned without completing handshake." Its default implementation, over websockets' sans-I/O
# layer, marks a handshake as complete on an accept and on a close, and not when the denial response is sent; --ws wsproto does.
# Seen on 2026-11-29 with Python 3.11. Nothing is wrong with the application, and the line can be filtered from "uvicorn.error".
set -euo pipefail
folder=$(mktemp -d)
serving=
trap '[ -z "$serving" ] || kill "$serving" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet \
  uvicorn==0.54.0 h11==0.16.0 websockets==17.4 wsproto==1.3.2
cat >app.py <<'PYTHON'
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})
PYTHON
cat >ask.py <<'PYTHON'
import sys
import time

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

deadline = time.monotonic() + 60
while True:
    try:
        connect(f"ws://127.0.0.1:{sys.argv[1]}/")
    except ConnectionRefusedError:
        assert time.monotonic() < deadline, "the server does not listen"
        time.sleep(0.05)
    except InvalidStatus as exc:
        print(exc.response.status_code, bytes(exc.response.body or b"").decode())
        break
PYTHON
see() {
  local expected=$1 port told
  shift
  port=$("$folder/venv/bin/python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$folder/venv/bin/uvicorn" app:app --host 127.0.0.1 --port "$port" --lifespan off "$@" >"$folder/log" 2>&1 &
  serving=$!
  told=$("$folder/venv/bin/python" ask.py "$port")
  kill "$serving"
  wait "$serving" 2>/dev/null || true
  serving=
  told="$told, errors logged: $(grep -c 'without completing handshake' "$folder/log" || true)"
  echo "$*: $told"
  [ "$told" = "$expected" ] || { cat "$folder/log"; echo "expected: $expected"; exit 1; }
}
see "403 no, errors logged: 1" --ws auto
see "403 no, errors logged: 0" --ws wsproto
