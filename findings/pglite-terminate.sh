#!/usr/bin/env bash
# PGlite's socket server does not close the connection of a client that says Terminate, as PostgreSQL does: psycopg,
# which closes the socket itself, does not notice. asyncpg's close() waits for the server and ends by its own timeout
# alone, and without one never; so does a pool's.
# Seen on 2026-11-29, pglite-socket 0.2.17, PGlite 0.5.14, asyncpg 0.32.0, psycopg 3.3.9. So this package's aclose()
# takes its whole timeout there, and docs/deployment.md says so.
# Needs Node and npm.
set -euo pipefail
folder=$(mktemp -d)
serving=
stop() {
  [ -z "$serving" ] || kill "$serving" || true
  rm -rf "$folder"
}
trap stop EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip --disable-pip-version-check install --quiet 'psycopg[binary]==3.3.9' asyncpg==0.32.0
npm install --no-audit --no-fund --ignore-scripts --loglevel=error --legacy-peer-deps \
  @electric-sql/pglite@0.5.14 @electric-sql/pglite-socket@0.2.17 >/dev/null
port=$(venv/bin/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
node node_modules/@electric-sql/pglite-socket/dist/scripts/server.js --port="$port" --max-connections=5 >log 2>&1 &
serving=$!
for _ in $(seq 300); do # half a minute
  if grep -q 'PGLiteSocketServer listening' log; then break; fi
  sleep 0.1
done
venv/bin/python - "$port" <<'PYTHON'
import asyncio
import socket
import struct
import sys

import asyncpg
import psycopg

PORT = int(sys.argv[1])
URL = f"postgresql://postgres@127.0.0.1:{PORT}/postgres"


def ends_after_terminate():
    """Say Terminate by hand; tell whether the server closes the connection in 5 seconds."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=30) as client:
        start = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"
        client.sendall(struct.pack("!i", len(start) + 4) + start)
        got = b""
        while not got.endswith(b"Z\0\0\0\5I"):
            got += client.recv(65536)
        client.sendall(b"X\0\0\0\4")
        client.settimeout(5)
        try:
            return client.recv(1) == b""
        except TimeoutError:
            return False


async def asyncpg_closes():
    connection = await asyncpg.connect(URL, statement_cache_size=0)
    try:
        await connection.close(timeout=5)
    except TimeoutError:
        return False
    return True


seen = {"the server closes": ends_after_terminate()}
with psycopg.connect(URL) as connection:
    seen["psycopg"] = connection.execute("SELECT 1").fetchone()
seen["asyncpg closes"] = asyncio.run(asyncpg_closes())
print("psycopg", psycopg.__version__, "asyncpg", asyncpg.__version__, seen)
sys.exit(seen != {"the server closes": False, "psycopg": (1,), "asyncpg closes": False})
PYTHON
