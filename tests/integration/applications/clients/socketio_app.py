"""python-socketio's own client, by polling, by WebSocket, and by one after the other."""

from pathlib import Path

import socketio

WAYS = (["polling"], ["websocket"], ["polling", "websocket"])


async def use(url: str, _: Path, headers: dict[str, str]) -> list[str]:
    """Call an event handler twice by each transport."""
    seen, before = [], 0
    for transports in WAYS:
        client = socketio.AsyncClient()
        await client.connect(url, headers=headers, transports=transports)
        for text in ("one", "two"):
            session_id, *told = await client.call("remember", text)
            seen.append(session_id)
            assert len(told) == before, told
            before += 1
        assert client.transport() == transports[-1]
        # A client that polls would wait for its last request's time-out, 30 seconds.
        await client.eio.disconnect(abort=transports == ["polling"])
        before = before if headers else 0
    return seen
