"""A GraphQL schema of Strawberry's, in a Starlette application."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import strawberry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp
from strawberry.asgi import GraphQL
from strawberry.types import Info

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, get_session
from tests.integration.applications import gate


def make(folder: Path, store: MemoryStore) -> ASGIApp:
    """Return the application."""

    @strawberry.type
    class Query:
        @strawberry.field
        def hello(self) -> str:
            return "hello"

        @strawberry.field
        def error(self) -> str:
            raise LookupError("unhandled")

    @strawberry.type
    class Mutation:
        @strawberry.mutation
        async def remember(self, info: Info, text: str) -> list[str]:
            return await remembered(info, text)

    @strawberry.type
    class Subscription:
        @strawberry.subscription
        async def remembering(self, info: Info, text: str) -> AsyncGenerator[list[str], None]:
            yield await remembered(info, text)

        @strawberry.subscription
        async def pieces(self) -> AsyncGenerator[str, None]:
            yield gate.PIECES[0]
            await gate.opened(folder)
            yield gate.PIECES[1]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        (folder / "began").touch()
        yield
        (folder / "ended").touch()

    async def page(_: Request) -> Response:
        return PlainTextResponse("ok")

    graphql = GraphQL[object, object](
        strawberry.Schema(Query, Mutation, Subscription),
        subscription_protocols=("graphql-transport-ws", "graphql-sse"),
    )
    routes = [Route("/page", page), Mount("/graphql", graphql)]
    return HermesSessionMiddleware(Starlette(routes=routes, lifespan=lifespan), store)


async def remembered(info: Info, text: str) -> list[str]:
    """Append a message; return the session's id and the messages before."""
    session = get_session(info.context["request"])
    before = await session.load()
    await session.append({"role": "user", "content": text})
    return [session.id, *(message["content"] for message in before)]
