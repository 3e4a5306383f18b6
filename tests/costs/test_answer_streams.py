"""What a stream by ``session.answer()`` costs its database, told in statements and transactions."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, event
from starlette.responses import Response

from hermes_session_mw import HermesSession, SQLAlchemyStore
from hermes_session_mw.session.answer_flush import BATCH
from hermes_session_mw.session.answer_writer import RENEWAL
from tests.support.answers import USER, Client, Model, serving, until
from tests.support.statements import EVERYWHERE, engine_of

Operation = list[str]
"""The statements of an operation, which is one hand-over to the database's thread or greenlet."""

_current: ContextVar[Operation] = ContextVar("operation")
_TRANSACTION = {
    "sqlite": ("BEGIN IMMEDIATE", "COMMIT"),
    "mysql": ("START TRANSACTION", "COMMIT AND NO CHAIN"),
    # COMMIT is executed for its tag, and no listener hears it.
    "postgresql": ("BEGIN ISOLATION LEVEL READ COMMITTED",),
}
_WRITE = ["UPDATE hermes_sessions", "SELECT hermes_answers", "INSERT INTO hermes_answer_events"]


async def count(store: Any) -> list[Operation]:
    """Collect what a store does from now on; its statements are cut to what they begin with."""
    operations: list[Operation] = []
    engine, run = await engine_of(store), store._executor.run

    async def note_operation(*arguments: Any, **options: Any) -> Any:
        operation: Operation = []
        operations.append(operation)
        _current.set(operation)
        return await run(*arguments, **options)

    def note_statement(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        _current.get().append(" ".join(statement.split()))

    store._executor.run = note_operation
    event.listen(engine, "before_cursor_execute", note_statement)
    return operations


def in_transaction(backend: str, *statements: str) -> list[str]:
    """Return what a transaction of the statements begins with, statement by statement."""
    begin, *end = _TRANSACTION[backend]
    return [begin, *statements, *end]


def is_like(operation: Operation, beginnings: list[str]) -> bool:
    """Tell whether an operation has as many statements, which begin so."""
    pairs = zip(operation, beginnings, strict=False)
    same = all(statement.startswith(begin) for statement, begin in pairs)
    return same and len(operation) == len(beginnings)


def answered(model: Model) -> Callable[[HermesSession], Awaitable[Response]]:
    """Return an endpoint that answers by the model."""

    async def begin(session: HermesSession) -> Response:
        return (await session.answer(model.pieces(), USER)).response()

    return begin


def has(operation: Operation, words: str) -> bool:
    """Tell whether a statement of the operation has the words."""
    return any(words in statement for statement in operation)


def writes_of(operations: list[Operation]) -> list[Operation]:
    """Return the operations that write events; the last events come with the end."""
    return [
        each
        for each in operations
        if has(each, "INSERT INTO hermes_answer_events ")
        and not has(each, "UPDATE hermes_answers ")
    ]


@pytest.mark.parametrize(("driver", "anyio_backend"), EVERYWHERE)
async def test_a_write_is_one_short_transaction(url: URL) -> None:
    """Pieces that come within a write's time are written by one statement on PostgreSQL.

    Elsewhere by a transaction of three; so many pieces as there are, each write costs the same.
    """
    store, model, backend = SQLAlchemyStore(url), Model(), url.get_backend_name()
    await store.append("id", [USER])
    operations = await count(store)
    async with serving(answered(model), store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        for number in range(1, 6):
            model.say(*["piece "] * number)

            async def is_written(number: int = number) -> bool:
                return len(writes_of(operations)) >= number

            await until(is_written)
        model.end()
        await client.done.wait()
    expected = ["WITH held"] if backend == "postgresql" else in_transaction(backend, *_WRITE)
    for write in writes_of(operations):
        assert is_like(write, expected), write
    history = await store.load("id")
    assert history.messages[-1]["content"] == "piece " * 15
    await store.aclose()


@pytest.mark.parametrize(("driver", "anyio_backend"), EVERYWHERE)
async def test_what_a_second_of_an_answer_costs(url: URL) -> None:
    """An answer is written five times a second at most while pieces come, however many do.

    Beside these there are a load, a transaction at its beginning and one at its end; what the
    client gets is read from memory.
    """
    store, model = SQLAlchemyStore(url), Model()
    await store.append("id", [USER])
    operations = await count(store)
    async with serving(answered(model), store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        model.say("piece ")
        await client.sees("piece")
        began = anyio.current_time()
        for _ in range(50):
            model.say("piece ")
            await anyio.sleep(0.02)
        model.end()
        await client.done.wait()
        seconds = anyio.current_time() - began
    writes = writes_of(operations)
    reads = [each for each in operations if all(text.startswith("SELECT") for text in each)]
    begins = [each for each in operations if has(each, "INSERT INTO hermes_answers ")]
    ends = [each for each in operations if has(each, "UPDATE hermes_answers ")]
    others = [each for each in operations if each not in (*writes, *reads, *begins, *ends)]
    assert [len(begins), len(ends)] == [1, 1]
    assert has(ends[0], "INSERT INTO hermes_messages ")
    assert len(writes) <= seconds / BATCH + 2
    assert len(others) <= seconds / RENEWAL
    assert len(reads) == 3  # the load, and the two of a sweep, which there is every half a minute
    await store.aclose()
