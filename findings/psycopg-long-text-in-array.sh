#!/usr/bin/env bash
# psycopg 3.3.9 (with its C part, psycopg-binary) turns a long text that is a parameter by itself into bytes
# at once, and the same text inside of a list by a search and a replacement in Python and C that take far
# longer: a text of 1 MB full of quotes takes hundreds of times as long in an array. Seen on 2026-11-28.
# So a store that sends many rows with one "unnest(array)" should send large ones row by row.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet 'psycopg[binary]==3.3.9'
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import time

import psycopg
from psycopg.adapt import PyFormat, Transformer

print("psycopg", psycopg.__version__, psycopg.pq.__impl__)
text = '{"content":"' + 'a \\"word\\" and another, ' * 45_000 + '"}'


def seconds(value):
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        Transformer().dump_sequence([value], [PyFormat.TEXT])
        best = min(best, time.perf_counter() - began)
    return best


plain, in_array = seconds(text), seconds([text])
print(f"a text of {len(text) / 1e6:.1f} MB in a list takes {in_array / plain:.0f} times as long as by itself")
sys.exit(in_array < 20 * plain)
PYTHON
