// Runs probe.py in Pyodide: node pyodide.mjs PYODIDE PACKAGES ROOT, which are folders. The packages are
// those of the tests' own environment: what is compiled for another machine is not even looked at.
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [, , pyodide, packages, root] = process.argv
const { loadPyodide } = await import(pathToFileURL(path.join(pyodide, 'pyodide.mjs')))
const python = await loadPyodide({ env: { PYTHONDONTWRITEBYTECODE: '1', HOME: '/home/pyodide' } })
for (const [name, folder] of [['/packages', packages], ['/root', root]]) {
  python.FS.mkdirTree(name)
  python.FS.mount(python.FS.filesystems.NODEFS, { root: folder }, name)
}
try {
  console.log(await python.runPythonAsync(`
import sys
sys.path += ["/root", "/packages"]
from tests.integration.runtimes import probe
await probe.report()
`))
} catch (error) {
  console.error(error.message) // Node would quote the whole line of Pyodide's code, a megabyte
  process.exitCode = 1
}
