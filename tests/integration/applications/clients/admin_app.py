"""Asks what starlette-admin's pages ask: forms with their token, and JSON."""

import re
from pathlib import Path
from typing import Any

import httpx2


async def use(url: str, _: Path, headers: dict[str, str]) -> list[str]:
    """Create two notes by the form, list them, and have the last one deleted."""
    async with httpx2.AsyncClient(base_url=f"{url}/admin", headers=headers, timeout=60) as client:
        known = {note["id"] for note in await notes(client)}
        assert await create(client, "") == 422  # and nothing is appended
        for text in ("one", "two"):
            assert await create(client, text) == 303
        created = [note for note in await notes(client) if note["id"] not in known]
        assert [note["text"] for note in created] == ["one", "two"]
        assert "two" in (await client.get("/note/list")).text
        await delete(client, created[-1]["id"])
        assert created[-1] not in await notes(client)
        session_id, *told = (await client.get("/conversation")).json()
    assert told == (["one", "two"] if headers else [])
    return [*(note["session_id"] for note in created), session_id]


async def notes(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    """Return the rows, as the admin's fields for relations look them up."""
    found: list[dict[str, Any]] = (await client.get("/_api/note/relation-lookup")).json()["items"]
    return found


async def create(client: httpx2.AsyncClient, text: str) -> int:
    """Open the form, and send it with its token; return the status."""
    page = (await client.get("/note/create")).text
    (token,) = set(re.findall(r'name="csrftoken" value="([^"]*)"', page))
    return (await client.post("/note/create", data={"csrftoken": token, "text": text})).status_code


async def delete(client: httpx2.AsyncClient, key: int) -> None:
    """Run the row's action, as the page's script does."""
    token = {"X-CSRFToken": client.cookies["starlette_admin_csrftoken"]}
    params = {"pk": str(key), "name": "delete"}
    answer = await client.post("/_api/note/row-action", params=params, headers=token)
    assert answer.status_code == 200, answer.text
