"""The application under test: a chat of answers that go on, and a model that keeps a journal."""

import asyncio
import itertools
import logging
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from hermes_session_mw import (
    HermesSessionMiddleware,
    SQLAlchemyStore,
    get_session,
    request_digest,
    session_routes,
)
from hermes_session_mw.messages import Message
from tests.long.cuts.journal import Journal
from tests.long.cuts.scripts import script_of

BEAT = 0.04
"""Seconds between two beats, which tell how far the process's event loop has come."""

WAIT = 1.0
"""Seconds that a request waits for another answer of its session."""


class JournalledStore(SQLAlchemyStore):
    """A store that notes when a write of an answer begins, and how it ends."""

    journal: Journal

    async def begin_answer(self, session_id: str, answer_id: str, *args: Any, **kwargs: Any) -> int:
        # The lease counts from some moment of the call.
        since = time.monotonic()
        fence = await super().begin_answer(session_id, answer_id, *args, **kwargs)
        self.journal.note(
            "begun", session=session_id, answer=answer_id, key=kwargs["turn_id"], fence=fence,
            took=time.monotonic() - since,
        )  # fmt: skip
        return fence

    async def write_events(
        self, session_id: str, answer_id: str, first: int, events: Sequence[str],
        *args: Any, **kwargs: Any,
    ) -> bool:  # fmt: skip
        last = first + len(events) - 1
        self.journal.note("writing", answer=answer_id)
        try:
            is_stopped = await super().write_events(
                session_id, answer_id, first, events, *args, **kwargs
            )
        except BaseException as exc:
            self.journal.note("unwritten", answer=answer_id, error=type(exc).__name__)
            raise
        self.journal.note("written", answer=answer_id, last=last)
        return is_stopped

    async def end_answer(
        self, session_id: str, answer_id: str, *args: Any, **kwargs: Any
    ) -> int | None:
        self.journal.note("ending", answer=answer_id, state=kwargs["state"])
        try:
            length = await super().end_answer(session_id, answer_id, *args, **kwargs)
        except BaseException as exc:
            self.journal.note("unended", answer=answer_id, error=type(exc).__name__)
            raise
        self.journal.note("ended", answer=answer_id, state=kwargs["state"])
        return length


class Model:
    """Answers by the script of each call, and notes each call and each piece before it is given."""

    def __init__(self, journal: Journal, worker: str) -> None:
        self._journal, self._worker = journal, worker
        self._numbers = itertools.count(1)

    async def say(self, key: str) -> AsyncGenerator[str, None]:
        """Answer the question with this key."""
        call = f"{key}@{self._worker}.{next(self._numbers)}"
        self._journal.note("called", key=key, call=call)
        script = script_of(call)
        for number, (pause, piece) in enumerate(zip(script.pauses, script.pieces, strict=True), 1):
            await asyncio.sleep(pause)
            self._journal.note("piece", call=call, number=number)
            yield piece
        if script.fails:
            raise RuntimeError("the model has failed, as the script says")

    async def payloads(self, key: str) -> AsyncGenerator[dict[str, str], None]:
        """Answer with JSON objects."""
        async for piece in self.say(key):
            yield {"delta": piece}


def assemble(payloads: Sequence[Any]) -> Message:
    """Return the message of payloads."""
    return {"role": "assistant", "content": "".join(each["delta"] for each in payloads)}


async def chat(request: Request) -> Response:
    """Answer a question, or join its answer, or tell the answer that is stored."""
    session = get_session(request)
    asked = await request.json()
    digest = request_digest(asked)
    answer = await session.turn_or_answer(digest, wait=WAIT)
    if answer is not None:
        return answer.response()
    stored = await session.find_turn(digest=digest)
    if stored is not None:
        session.mark_replayed()
        return JSONResponse({"messages": stored.messages})
    key, model = session.idempotency_key or "", request.app.state.model
    question = {"role": "user", "content": key}
    keep = last_question(session.history) if asked["again"] else None
    pieces, made_by = model.say(key), None
    if asked["payloads"]:
        pieces, made_by = model.payloads(key), assemble
    answer = await session.answer(
        pieces, question, replace_from=keep, assemble=made_by, digest=digest
    )
    return answer.response()


def last_question(history: list[Message]) -> int | None:
    """Return how many messages come before the last question; None without any."""
    places = [place for place, each in enumerate(history) if each["role"] == "user"]
    return places[-1] if places else None


async def ready(_: Request) -> JSONResponse:
    """Answer without touching the database."""
    return JSONResponse({})


async def _beat(journal: Journal) -> None:
    while True:
        journal.note("beat")
        await asyncio.sleep(BEAT)


def create_app() -> ASGIApp:
    """Return the application over the database, the journal and the name of the environment."""
    worker = os.environ["CUTS_WORKER"]
    logging.basicConfig(format=f"%(levelname)s: {worker} %(asctime)s %(message)s")
    journal = Journal(os.environ["CUTS_JOURNAL"], worker)
    store = JournalledStore(os.environ["CUTS_DATABASE"])
    store.journal = journal

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        beating = asyncio.create_task(_beat(journal))
        app.state.model = Model(journal, worker)
        yield
        beating.cancel()

    own = [Route("/chat", chat, methods=["POST"]), Route("/ready", ready)]
    routes = [*own, *session_routes(store, allow_ownerless=True)]
    # Every answer can be looked at when the run is over.
    return HermesSessionMiddleware(
        Starlette(routes=routes, lifespan=lifespan),
        store,
        on_store_error="unavailable",
        answer_retention=1e6,
        exclude=["/ready"],
    )
