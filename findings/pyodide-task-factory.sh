#!/usr/bin/env bash
# Pyodide 314.0.7 (CPython 3.14.2): while any task factory is set, its event loop makes no task. WebLoop.create_task names
# what the factory made by asyncio.tasks._set_task_name, which 3.13 has no more, so that each create_task, task group
# and gather is an AttributeError. asyncio.eager_task_factory, as programs set it on CPython 3.12 and newer, cannot be used
# there; the task that was asked for is begun all the same, and an eager one may even have ended. Seen on 2026-11-29.
# So the page about runtimes says it, and eager tasks are tried on CPython itself.
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


async def work():
    begun.append("begun")


async def look(factory):
    loop.set_task_factory(factory)
    try:
        await loop.create_task(work(), name="work")
    except AttributeError as exc:
        return str(exc)
    finally:
        loop.set_task_factory(None)
    return "a task"


begun, loop = [], asyncio.get_running_loop()
found = [await look(each) for each in (None, asyncio.eager_task_factory)]
"\\n".join([*found, str(len(begun))])
`))
JS
node look.mjs | tee found
diff - found <<'TOLD'
a task
module 'asyncio.tasks' has no attribute '_set_task_name'
2
TOLD
echo 'no task is made while a task factory is set'
