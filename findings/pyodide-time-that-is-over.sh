#!/usr/bin/env bash
# Pyodide 314.0.7: loop.call_at with a time that is over raises ValueError. asyncio's own loops call such a callback at the
# next turn, and code relies on it: between looking at the clock and setting the timer, the time may come. A task that does
# so ends by it now and then, the sooner the shorter its sleeps are. Seen on 2026-11-29.
# So an answer's timer is set by a delay, which is none where the time is over.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --no-package-lock pyodide@314.0.7 >/dev/null
cat >past.py <<'PYTHON'
import asyncio

async def main():
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    try:
        loop.call_at(loop.time() - 0.001, called.set)
    except ValueError as error:
        return f"ValueError: {error}"
    await asyncio.wait_for(called.wait(), 30)
    return "called"
PYTHON
cat >look.mjs <<'JS'
import { readFileSync } from 'node:fs'
import { loadPyodide } from 'pyodide'

const python = await loadPyodide()
python.runPython(readFileSync('past.py', 'utf8'))
console.log(await python.runPythonAsync('await main()'))
JS
{
  echo "asyncio: $(python3 -c "exec(open('past.py').read()); print(asyncio.run(main()))")"
  echo "Pyodide: $(node look.mjs)"
} | tee found
diff - found <<'TOLD'
asyncio: called
Pyodide: ValueError: Can't schedule in the past
TOLD
echo 'a time that is over is refused'
