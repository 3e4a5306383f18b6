#!/usr/bin/env bash
# A process that serves marimo.create_asgi_app() with uvicorn does not end at Ctrl-C once somebody has opened a notebook: the
# server says that it has finished, and the process stays. Starlette runs no lifespan of what is mounted, so that marimo's
# own, which stops the kernels, does not run. A kernel waits for requests in a thread of asyncio's executor, and Python
# waits for such threads as it ends, until a second Ctrl-C. At SIGTERM uvicorn ends the process by the signal, so that
# nothing is waited for.
# Seen on 2026-11-29 with marimo 0.25.2, Starlette 1.10.0 and uvicorn 0.54.0, by Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet marimo==0.25.2 starlette==1.10.0 \
  uvicorn==0.54.0 websockets==17.4
cd "$folder"
cat >notebook.py <<'PYTHON'
import marimo

app = marimo.App()


@app.cell
def _():
    1
    return
PYTHON
cat >served.py <<'PYTHON'
import sys

import marimo
import uvicorn

app = marimo.create_asgi_app().with_app(path="", root="notebook.py").build()
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
print("the server has finished", flush=True)
PYTHON
"$folder/venv/bin/python" - <<'PYTHON'
import signal
import socket
import subprocess
import sys
import time

from websockets.sync.client import connect

for sent, opens, ends in (
    (signal.SIGINT, False, True),
    (signal.SIGINT, True, False),
    (signal.SIGTERM, True, True),
):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    process = subprocess.Popen([sys.executable, "served.py", str(port)], stdout=subprocess.PIPE)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        if opens:
            with connect(f"ws://127.0.0.1:{port}/ws?session_id=s_abc123") as opened:
                while "completed-run" not in opened.recv(timeout=60):
                    pass
        process.send_signal(sent)
        try:
            process.wait(timeout=20)
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
        print(sent.name, "a notebook was opened:", opens, "ended:", ended, flush=True)
        assert ended is ends
        if not ended:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=20)
            print("ended by a second one", flush=True)
    finally:
        process.kill()
        process.wait()
PYTHON
