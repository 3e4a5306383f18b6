"""Asks a chat of docs/frameworks/others.md, by HTTP and by WebSocket."""

from pathlib import Path

import httpx
import websockets

from tests.integration.applications import gate


async def use(url: str, folder: Path, headers: dict[str, str]) -> list[str]:
    """Ask two questions, and one more by a WebSocket where there is one."""
    gate.let_go(folder)
    seen, lengths = [], []
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:

        async def look() -> None:
            session_id, length = (await http.get("/page")).json()
            seen.append(session_id)
            lengths.append(length)

        for text in ("one", "two"):
            answer = await http.post("/chat", json={"text": text})
            assert answer.status_code == 200, answer.text
            assert all(piece in answer.text for piece in gate.PIECES), answer.text
            await look()
        told = 4
        for path in ("/chat", "/live"):
            if length := await ask(f"{url}{path}".replace("http", "ws", 1), headers):
                told += 1
                assert length == (told if headers else 1)
        await look()
    assert lengths == ([2, 4, told] if headers else [0, 0, 0])
    return seen


async def ask(url: str, headers: dict[str, str]) -> int | None:
    """Send one message; return the length that is answered, or None where nobody is let in."""
    try:
        async with websockets.connect(url, additional_headers=headers) as socket:
            await socket.send("three")
            return int(await socket.recv())
    except websockets.InvalidStatus:
        return None
