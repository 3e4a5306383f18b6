"""Starts Firefox, and stands between its WebDriver BiDi and playwright, which takes it for Firefox.

It is a program: ``python tests/support/bidi_relay.py firefox-esr`` and Firefox' arguments. Firefox'
extended support release does not know all commands that playwright sends; those are answered here.
"""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

LISTENS = re.compile(rb"WebDriver BiDi listening on (ws://\S+)")
UNKNOWN = {"emulation.setMediaFeaturesOverride"}
"""Commands that Firefox 153 does not know. Preferences say instead which colours a page is told."""


async def main() -> int:
    """Run Firefox until it ends, and return its exit status."""
    browser = await asyncio.create_subprocess_exec(*sys.argv[1:], stderr=asyncio.subprocess.PIPE)
    assert browser.stderr
    address = None
    while address is None and (line := await browser.stderr.readline()):
        address = LISTENS.match(line)
        if not address:
            sys.stderr.buffer.write(line)
    if address is None:
        return await browser.wait()
    target = address[1].decode()

    async def relay(client: ServerConnection) -> None:
        assert client.request
        path = f"{target}{client.request.path}"
        async with connect(path, max_size=None, compression=None, proxy=None) as firefox:
            with suppress(ConnectionClosed):
                async with asyncio.TaskGroup() as group:
                    group.create_task(_commands(client, firefox.send))
                    async for event in firefox:
                        await client.send(event)
                    await client.close()

    async with serve(relay, "127.0.0.1", 0, max_size=None, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"WebDriver BiDi listening on ws://127.0.0.1:{port}", file=sys.stderr, flush=True)
        while line := await browser.stderr.readline():
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
        return await browser.wait()


async def _commands(
    client: ServerConnection, send: Callable[[str | bytes], Awaitable[None]]
) -> None:
    """Pass playwright's commands on, but for those that Firefox does not know."""
    async for sent in client:
        command = json.loads(sent)
        if command["method"] in UNKNOWN:
            await client.send(json.dumps({"type": "success", "id": command["id"], "result": {}}))
        else:
            await send(sent)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
