"""`InMemorySessionService` and `SqliteSessionService` of Google's ADK, and ours."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from google.adk.errors._stale_session_error import StaleSessionError
from google.adk.events import Event
from google.adk.sessions import (
    BaseSessionService,
    DatabaseSessionService,
    InMemorySessionService,
)
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from hermes_session_mw.adapters.google_adk import StoredSessionService
from tests.adapters.frameworks.own_stores.defect import Defect, plainly
from tests.adapters.frameworks.test_google_adk import ONE, changing, got, said, texts


async def two_counts(service: BaseSessionService, *, behind: float = 0.0) -> str:
    """Have two count from the same session, the first by a clock that is so far behind."""
    await service.create_session(**ONE, state={"count": 0})
    first, second = [await got(service) for _ in range(2)]
    now = second.last_update_time
    await service.append_event(first, changing({"count": 1}, timestamp=now + 1 - behind))
    try:
        await service.append_event(second, changing({"count": 1}, timestamp=now + 2))
    except StaleSessionError as exc:
        return f"`{type(exc).__name__}`"
    counted = await got(service)
    return f"both are stored, and the count is {counted.state['count']}"


async def order(service: BaseSessionService) -> str:
    session = await service.create_session(**ONE)
    now = session.last_update_time
    await service.append_event(session, said("1", timestamp=now + 2))
    await service.append_event(session, said("2", timestamp=now + 1))
    return ", ".join(map(str, texts(await got(service))))


async def limit(service: BaseSessionService) -> str:
    session = await service.create_session(**ONE)
    call = types.FunctionCall(id="c", name="f", args={})
    response = types.FunctionResponse(id="c", name="f", response={"result": "5"})
    for event in (
        said("q"),
        _of("model", types.Part(function_call=call)),
        _of("user", types.Part(function_response=response)),
        said("a", "agent"),
    ):
        await service.append_event(session, event)
    few = await got(service, config=GetSessionConfig(num_recent_events=2))
    return ", ".join("output" if each.get_function_responses() else "answer" for each in few.events)


def _of(role: str, part: types.Part) -> Event:
    return Event(author="agent", content=types.Content(role=role, parts=[part]))


async def state(service: BaseSessionService, value: Any) -> str:
    session = await service.create_session(**ONE)
    try:
        await service.append_event(session, changing({"n": value}))
    except Exception as exc:  # noqa: BLE001  # their own, and their driver's
        return f"`{type(exc).__name__}`"
    found = (await got(service)).state["n"]
    return "comes back" if ascii(found) == ascii(value) else f"comes back as {found!a}"


InMemory = partial(
    Defect,
    own=plainly(lambda folder: InMemorySessionService()),
    over=StoredSessionService,
    framework="Google ADK, `InMemorySessionService`",
)
Sqlite = partial(
    Defect,
    own=plainly(lambda folder: SqliteSessionService(str(folder / "theirs.db"))),
    over=StoredSessionService,
    framework="Google ADK, `SqliteSessionService`",
)


@asynccontextmanager
async def database(folder: Path) -> AsyncIterator[BaseSessionService]:
    service = DatabaseSessionService(f"sqlite+aiosqlite:///{folder}/theirs.db")
    yield service
    await service.close()


Database = partial(
    Defect,
    own=database,
    over=StoredSessionService,
    framework="Google ADK, `DatabaseSessionService`",
)
STALE = "`StaleSessionError`"
BOTH = "both are stored, and the count is 1"
DEFECTS = [
    InMemory("two that have read the same count add 1", two_counts, theirs=BOTH, ours=STALE),
    Sqlite("two that have read the same count add 1", two_counts, theirs=STALE, ours=STALE),
    Sqlite(
        "the same, and the first one's clock is 5 seconds behind",
        partial(two_counts, behind=5.0),
        theirs=BOTH,
        ours=STALE,
    ),
    Sqlite("event 1, and event 2 by a clock that is behind", order, theirs="2, 1", ours="1, 2"),
    Database("event 1, and event 2 by a clock that is behind", order, theirs="2, 1", ours="1, 2"),
    Sqlite(
        "`NaN` in the state",
        partial(state, value=math.nan),
        theirs="`OperationalError`",
        ours="comes back",
    ),
    Sqlite(
        "half of a surrogate pair in the state",
        partial(state, value="\ud83d"),
        theirs="`PydanticSerializationError`",
        ours="comes back",
    ),
    Sqlite(
        "the newest two events of a question, a call, its output and an answer",
        limit,
        theirs="output, answer",
        ours="output, answer",
    ),
]
