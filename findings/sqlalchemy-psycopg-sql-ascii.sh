#!/usr/bin/env bash
# A PostgreSQL database of SQL_ASCII gives psycopg 3.3.9 its texts as bytes, and SQLAlchemy's first connect,
# which reads the server's version by a regular expression for text, ends in a TypeError that is no
# DBAPIError. SQLAlchemy 2.0.52 leaves that connection open for the garbage collector (psycopg warns of
# it); 2.0.53 and 2.1.9 close it. psycopg2 2.9.12 gives text, and connects. Seen on 2026-11-28, PostgreSQL 15.19.
# So such a database is refused by this package, whose errors say which encoding is meant.
# Needs a PostgreSQL server's programs, such as Debian's package postgresql.
set -euo pipefail
folder=$(mktemp -d)
bin=$(dirname "$(command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1)")
as=()
if [ "$(id -u)" = 0 ]; then # PostgreSQL does not run as root
  as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  chown postgres "$folder"
fi
trap '"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
cd "$folder"
"${as[@]}" "$bin/initdb" -D "$folder/data" -E SQL_ASCII --locale=C -A trust -U postgres >/dev/null
"${as[@]}" "$bin/pg_ctl" -w -D "$folder/data" -l "$folder/data/log" -o "-c listen_addresses='' -k $folder" start >/dev/null
for version in 2.0.52 2.0.53 2.1.9; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/python" -m pip --disable-pip-version-check install --quiet "sqlalchemy==$version" \
    'psycopg[binary]==3.3.9' psycopg2-binary==2.9.12
  "$folder/$version/bin/python" - "$folder" <<'PYTHON'
import sys

import psycopg
import sqlalchemy
from sqlalchemy import create_engine, event, text


def outcome(driver):
    """Return what a first connect ends in, and whether its connection is left open."""
    engine = create_engine(f"postgresql+{driver}://postgres@/postgres?host={sys.argv[1]}")
    made = []
    event.listen(engine, "connect", lambda raw, _: made.append(raw), insert=True)
    try:
        with engine.connect() as connection:
            said = repr(connection.execute(text("SELECT 'x'::text")).scalar())
    except Exception as exc:
        said = type(exc).__name__
    engine.dispose()
    left_open = not made[0].closed
    made[0].close()
    return said, left_open


seen = {driver: outcome(driver) for driver in ("psycopg", "psycopg2")}
print("SQLAlchemy", sqlalchemy.__version__, "psycopg", psycopg.__version__, seen)
left_open = sqlalchemy.__version__ == "2.0.52"
sys.exit(seen != {"psycopg": ("TypeError", left_open), "psycopg2": ("'x'", False)})
PYTHON
done
