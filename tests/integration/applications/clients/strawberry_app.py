"""Mutations by POST, and subscriptions by WebSocket, as GraphQL's clients send them."""

from pathlib import Path
from typing import Any

import aiohttp

MUTATION = "mutation ($text: String!) { remember(text: $text) }"
SUBSCRIPTION = "subscription ($text: String!) { remembering(text: $text) }"


async def use(url: str, _: Path, headers: dict[str, str]) -> list[str]:
    """Send a mutation and a subscription, each twice."""
    seen = []
    async with aiohttp.ClientSession(headers=headers) as http:
        for text in ("one", "two"):
            body = {"query": MUTATION, "variables": {"text": text}}
            async with http.post(f"{url}/graphql/", json=body) as response:
                seen.append((await response.json())["data"]["remember"])
        protocols = ["graphql-transport-ws"]
        async with http.ws_connect(f"{url}/graphql/", protocols=protocols) as socket:
            await socket.send_json({"type": "connection_init"})
            assert (await socket.receive_json())["type"] == "connection_ack"
            for text in ("three", "four"):
                body = {"query": SUBSCRIPTION, "variables": {"text": text}}
                await socket.send_json({"type": "subscribe", "id": text, "payload": body})
                seen.append((await result(socket, text))["remembering"])
    if headers:
        assert [len(before) for _, *before in seen] == [0, 1, 2, 3]
    return [session_id for session_id, *_ in seen]


async def result(socket: aiohttp.ClientWebSocketResponse, name: str) -> Any:
    """Return a subscription's only result."""
    found = await socket.receive_json()
    assert (found["type"], found["id"]) == ("next", name), found
    assert (await socket.receive_json())["type"] == "complete"
    return found["payload"]["data"]
