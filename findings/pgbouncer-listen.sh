#!/usr/bin/env bash
# Behind PgBouncer 1.18 in transaction mode a LISTEN is answered, and a NOTIFY of the same client comes back to it,
# as both run on one server connection: a test of LISTEN that a client makes by itself passes. Notifications of
# others never come. They go to whatever client has that server connection as they are sent, although it never
# asked for any; psycopg 3.3.9 keeps them all until notifies() is called.
# Seen on 2026-11-28, PostgreSQL 15.20. So this package compares the process id that PgBouncer told the driver with
# pg_backend_pid(), which differ, before it listens, and has its first notification sent by another client.
# Needs the programs of PostgreSQL and PgBouncer, such as Debian's packages postgresql and pgbouncer.
set -euo pipefail
folder=$(mktemp -d)
bin=$(dirname "$(command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1)")
pooler=$(command -v pgbouncer || echo /usr/sbin/pgbouncer)
as=()
if [ "$(id -u)" = 0 ]; then # neither runs as root
  as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  chown postgres "$folder"
fi
pooling=
stop() {
  [ -z "$pooling" ] || kill "$pooling" || true
  "${as[@]}" "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "$folder"
}
trap stop EXIT
cd "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet 'psycopg[binary]==3.3.9' asyncpg==0.32.0
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"${as[@]}" "$bin/initdb" -D "$folder/data" -A trust -U postgres >/dev/null
"${as[@]}" "$bin/pg_ctl" -w -D "$folder/data" -l "$folder/data/log" -o "-c listen_addresses='' -k $folder" start >/dev/null
cat >"$folder/pgbouncer.ini" <<INI
[databases]
* = host=$folder user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = any
pool_mode = transaction
INI
chmod a+r "$folder/pgbouncer.ini"
"${as[@]}" "$pooler" "$folder/pgbouncer.ini" >"$folder/log" 2>&1 &
pooling=$!
"$folder/venv/bin/python" - "$port" <<'PYTHON'
import asyncio
import sys
import time

import asyncpg
import psycopg

URL = f"postgresql://postgres@127.0.0.1:{sys.argv[1]}/postgres"
NOTIFY = "SELECT pg_notify('channel', 'said')"


def connect():
    deadline = time.monotonic() + 30
    while True:
        try:
            return psycopg.connect(URL, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError:  # it is not up yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def told(connection, seconds):
    return [each.payload for each in connection.notifies(timeout=seconds)]


async def told_asyncpg():
    """Return what an asyncpg client gets that listens and notifies itself, and one that does not."""
    connection = await asyncpg.connect(URL, statement_cache_size=0)
    got = []
    await connection.add_listener("channel", lambda *values: got.append(values[-1]))
    await connection.execute(NOTIFY)
    await asyncio.sleep(0.5)
    await connection.close()
    return got


listening, other = connect(), connect()
ids = listening.info.backend_pid == listening.execute("SELECT pg_backend_pid()").fetchone()[0]
listening.execute("LISTEN channel")
listening.execute(NOTIFY)
own = told(listening, 2)
for _ in range(1000):
    other.execute(NOTIFY)
seen = {
    "process ids are equal": ids,
    "own": own,
    "others'": told(listening, 2),
    "at a client that never listened": len(told(other, 2)),
    "asyncpg's own": asyncio.run(told_asyncpg()),
}
print("psycopg", psycopg.__version__, "asyncpg", asyncpg.__version__, seen)
sys.exit(
    seen
    != {
        "process ids are equal": False,
        "own": ["said"],
        "others'": [],
        "at a client that never listened": 1000,
        "asyncpg's own": ["said"],
    }
)
PYTHON
"$pooler" --version | head -n 1
