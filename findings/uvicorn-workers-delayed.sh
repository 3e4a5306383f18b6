#!/usr/bin/env bash
# uvicorn 0.54.0 with --workers 2 answers each small request on a kept connection after 40 ms, with asyncio's own event
# loop; with one worker, and with uvloop, after about a millisecond. The parent makes the listening socket with
# protocol 0, whose accepted sockets have it too, and asyncio sets TCP_NODELAY on those of protocol TCP alone; the
# headers and the body are two writes, and the second one waits until the client's kernel acknowledges the first.
# A socket that a program binds and gives to Server.serve() is such a one too; uvloop sets the option always.
# Seen on 2026-11-29 with Python 3.11: 44 ms, and 0.2 to 1 ms. So the deployment page has several workers run on
# uvloop, and the demo, which binds its own socket, sets the option on it: Linux hands it on to what is accepted.
set -euo pipefail
folder=$(mktemp -d)
serving=
trap '[ -z "$serving" ] || kill "$serving" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet uvicorn==0.54.0 httptools==0.9.0 uvloop==0.23.0
cat >app.py <<'PYTHON'
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
PYTHON
cat >ask.py <<'PYTHON'
import http.client
import socket
import sys
import time
from statistics import median

port = int(sys.argv[1])
deadline = time.monotonic() + 30
while True:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        break
    except ConnectionRefusedError:
        assert time.monotonic() < deadline, "the server does not listen"
        time.sleep(0.05)
connection = http.client.HTTPConnection("127.0.0.1", port)
took = []
for _ in range(41):
    began = time.perf_counter()
    connection.request("GET", "/")
    connection.getresponse().read()
    took.append(time.perf_counter() - began)
told = "late" if median(took) > 0.03 else "at once"
print(told, f"{median(took) * 1e3:.1f} ms", file=sys.stderr)
print(told)
PYTHON
see() {
  local expected=$1 port told
  shift
  port=$("$folder/venv/bin/python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$folder/venv/bin/uvicorn" app:app --host 127.0.0.1 --port "$port" --log-level error --lifespan off "$@" &
  serving=$!
  told=$("$folder/venv/bin/python" ask.py "$port")
  kill "$serving"
  wait "$serving" 2>/dev/null || true
  serving=
  echo "$*: $told"
  [ "$told" = "$expected" ] || { echo "expected: $expected"; exit 1; }
}
see "at once" --loop asyncio --http h11 --workers 1
see late --loop asyncio --http h11 --workers 2
see late --loop asyncio --http httptools --workers 2
see "at once" --loop uvloop --http h11 --workers 2
see "at once" --loop uvloop --http httptools --workers 2
