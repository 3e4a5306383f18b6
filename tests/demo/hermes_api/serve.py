"""Hermes Agent's API server, as its gateway starts it: ``serve.py PORT ORIGIN KEY``.

Run with Hermes Agent on its path, and nothing else of the tests. Its home's ``config.yaml`` names
the model's server. Without a key Hermes has to refuse to start: that is told first.
"""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

from gateway.config import PlatformConfig
from gateway.platforms.api_server import APIServerAdapter
from hermes_constants import get_hermes_home
from hermes_state import SessionDB

_look_up = socket.getaddrinfo


def _look_up_here(host: Any, *rest: Any, **options: Any) -> Any:
    """Find nobody but this machine: Hermes would ask others for lists of models."""
    if host != "127.0.0.1":
        raise socket.gaierror(socket.EAI_NONAME, "only this machine is asked here")
    return _look_up(host, *rest, **options)


async def main(port: str, origin: str, key: str) -> None:
    """Serve until the process is ended."""
    SessionDB(Path(get_hermes_home()) / "state.db").close()  # there for others from the beginning
    extra = {"host": "127.0.0.1", "port": int(port), "cors_origins": origin}
    for each in ("", key):
        adapter = APIServerAdapter(PlatformConfig(enabled=True, extra={**extra, "key": each}))
        is_serving = await adapter.connect()
        print(f"{'with' if each else 'without'} a key: {is_serving}", flush=True)
    await asyncio.Event().wait()


socket.getaddrinfo = _look_up_here
asyncio.run(main(*sys.argv[1:]))
