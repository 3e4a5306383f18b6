"""Uses a served application by its own client, in that client's environment.

``python -m tests.integration.applications.drive NAME URL FOLDER [ID]``: the id goes into every
request where the client can be told so. The last line is JSON: the session ids that handlers saw.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

import anyio

from hermes_session_mw import SESSION_HEADER

if __name__ == "__main__":
    name, url, folder, *given = sys.argv[1:]
    use = import_module(f"tests.integration.applications.clients.{name}").use
    headers = dict(zip([SESSION_HEADER], given, strict=False))
    print(json.dumps(anyio.run(use, url, Path(folder), headers)), flush=True)
