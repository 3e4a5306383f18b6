"""Speaks to Chainlit as its page does: by Socket.IO over a WebSocket."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import socketio


async def use(url: str, _: Path, headers: dict[str, str]) -> list[str]:
    """Send two messages, and wait for their answers."""
    client = socketio.AsyncClient()
    answers, arrived = anyio.create_memory_object_stream[str](10)

    @client.on("new_message")  # type: ignore[untyped-decorator,unused-ignore]
    async def heard(message: dict[str, Any]) -> None:
        if message["type"] == "assistant_message":
            await answers.send(message["output"])

    await client.connect(
        url, headers=headers, transports=["websocket"], socketio_path="/chat/ws/socket.io",
        auth={"sessionId": str(uuid4()), "clientType": "webapp"},
    )  # fmt: skip
    await client.emit("connection_successful")
    said = []
    for text in ("one", "two"):
        message = {
            "id": str(uuid4()), "name": "user", "type": "user_message", "output": text,
            "createdAt": "2030-01-01T00:00:00Z",
        }  # fmt: skip
        await client.emit("client_message", {"message": message, "fileReferences": []})
        with anyio.fail_after(60):
            said.append((await arrived.receive()).split())
    await client.disconnect()
    assert [count for _, count in said] == ["0", "1"]
    return [session_id for session_id, _ in said]
