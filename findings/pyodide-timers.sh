#!/usr/bin/env bash
# Pyodide 314.0.7: loop.call_at and call_later return an asyncio.Handle, where asyncio documents a TimerHandle. It can be
# cancelled, but has no when(): code that asks a timer when it will ring, to put it off or to keep it, is an AttributeError
# there, and nowhere else. Seen on 2026-11-29.
# So an answer keeps by itself when its timer rings.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --no-package-lock pyodide@314.0.7 >/dev/null
cat >look.mjs <<'JS'
import { loadPyodide } from 'pyodide'

const python = await loadPyodide()
console.log(await python.runPythonAsync(`
import asyncio

loop = asyncio.get_running_loop()
timers = [loop.call_later(60, print), loop.call_at(loop.time() + 60, print)]
for each in timers:
    each.cancel()
"\\n".join(f"{type(each).__name__} {hasattr(each, 'when')}" for each in timers)
`))
JS
node look.mjs | tee found
diff - found <<'TOLD'
Handle False
Handle False
TOLD
echo 'a timer does not tell when it rings'
