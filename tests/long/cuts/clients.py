"""A client: one tab or device, which keeps what it saw and holds every new event against it."""

import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from tests.long.cuts.exchanges import Cut, Event, Exchange, WasCut, WasLost
from tests.long.cuts.record import Record, Sighting

Way = Literal["post", "start", "header", "after"]
"""Ask or ask again; follow from the start; go on by ``Last-Event-ID``; go on by ``?after=``."""


@dataclass(frozen=True)
class Question:
    """What is asked: its key is its text, and the id of its turn.

    Attributes:
        again: whether its answer replaces the conversation's last turn.
        payloads: whether its events are JSON objects.
        stops: whether whoever leaves the request that asks it stops the answer.
    """

    key: str
    again: bool = False
    payloads: bool = False
    stops: bool = False


@dataclass(frozen=True)
class Outcome:
    """How an exchange ended.

    Attributes:
        kind: ``cut`` by the client, ``lost``, ``ended`` with the answer, ``nothing`` more to come,
            ``replayed`` from the history, ``refused``, or ``unavailable``.
        detail: the state, the error's code, or the status.
        key: of the question whose answer has ended.
    """

    kind: str
    detail: str = ""
    key: str | None = None


class Client:
    """Visits one session."""

    def __init__(self, record: Record, port: int, session: str, name: str) -> None:
        self._record, self._port = record, port
        self.session = session
        self._name = name
        self._seen: dict[str, Sighting] = {}
        self._newest: Sighting | None = None

    @property
    def newest(self) -> Sighting | None:
        """What it saw of the answer whose events came last."""
        return self._newest

    async def visit(
        self, way: Way, question: Question | None = None, cut: Cut | None = None
    ) -> Outcome:
        """Make one request, and read its response to the end or to the cut."""
        try:
            async with Exchange(cut) as exchange:
                outcome = await self._visit(exchange, way, question)
        except WasCut:
            assert cut is not None
            self._record.cuts[f"client, {cut.how}"] += 1
            outcome = Outcome("cut")
        except WasLost:
            outcome = Outcome("lost")
        except TimeoutError:
            self._violation(f"{way}: nothing came for two minutes")
            outcome = Outcome("lost")
        self._record.outcomes[f"{way}: {outcome.kind} {outcome.detail}".rstrip()] += 1
        return outcome

    async def stop(self) -> None:
        """Ask for the running answer's end."""
        self._record.stoppable.add(self.session)
        try:
            async with Exchange() as exchange:
                path = f"/sessions/{self.session}/answer/stop"
                await exchange.send(self._port, "POST", path, {})
                self._record.outcomes[f"stop: {exchange.status}"] += 1
        except WasLost:
            self._record.outcomes["stop: lost"] += 1

    async def look(self) -> None:
        """Load the conversation."""
        try:
            async with Exchange() as exchange:
                await exchange.send(
                    self._port, "GET", f"/sessions/{self.session}/messages?limit=100", {}
                )
                body = await exchange.body()
        except WasLost:
            return
        self._record.outcomes[f"look: {exchange.status}"] += 1
        if exchange.status == 200:
            self._record.looks.append((self.session, json.loads(body)["data"]))

    async def _visit(self, exchange: Exchange, way: Way, question: Question | None) -> Outcome:
        before = self._newest if way in ("header", "after") else None
        await self._send(exchange, way, question, before)
        if exchange.status == 200 and exchange.headers["content-type"] == "application/json":
            assert question is not None
            self._record.replays.append(
                (question.key, json.loads(await exchange.body())["messages"])
            )
            return Outcome("replayed")
        if exchange.status == 200:
            return await self._follow(exchange, before, question if way == "post" else None)
        if exchange.status == 204:
            if before is not None:
                before.is_whole = True
            return Outcome("nothing")
        outcome = _refusal(exchange, await exchange.body())
        if outcome.detail == "invalid_cursor":
            self._violation(f"{way}: a cursor that was given is refused")
        return outcome

    async def _send(
        self, exchange: Exchange, way: Way, question: Question | None, before: Sighting | None
    ) -> None:
        headers = {"X-Hermes-Session-Id": self.session}
        if way == "post":
            assert question is not None
            headers["Idempotency-Key"] = question.key
            if question.stops:
                self._record.stoppable.add(self.session)
                headers["X-Hermes-On-Disconnect"] = "stop"
            body = json.dumps({"again": question.again, "payloads": question.payloads}).encode()
            return await exchange.send(self._port, "POST", "/chat", headers, body)
        path = f"/sessions/{self.session}/answer"
        if before is not None:
            self._record.rejoined += 1
            cursor = f"{before.answer}:{len(before.texts)}"
            if way == "header":
                headers["Last-Event-ID"] = cursor
            else:
                path = f"{path}?after={cursor}"
        return await exchange.send(self._port, "GET", path, headers)

    async def _follow(
        self, exchange: Exchange, before: Sighting | None, asked: Question | None
    ) -> Outcome:
        """Read the events, which continue the answer ``before``, or answer what is ``asked``."""
        number = 0 if before is None else len(before.texts)
        sighting, key = before, None if asked is None else asked.key
        async with aclosing(exchange.events()) as events:
            async for event in events:
                if event.name == "end":
                    return self._end(sighting, event.data["state"])
                if event.name == "begin":
                    key = event.data["turn_id"]
                    sighting = self._sighting(event.data["answer"], sighting, key)
                elif event.id:
                    sighting = self._sighting(event.id.rpartition(":")[0], sighting, key)
                    number += 1
                    self._add(sighting, event, number)
                else:
                    return Outcome("lost", "an error in the stream")
        self._violation("a stream has ended without an end")
        return Outcome("lost")

    def _sighting(self, answer: str, sighting: Sighting | None, key: str | None) -> Sighting:
        if sighting is not None and sighting.answer != answer:
            self._violation(f"events of {answer} in the stream of {sighting.answer}")
        if answer not in self._seen:
            self._seen[answer] = Sighting(self._name, self.session, answer, key)
            self._record.sightings.append(self._seen[answer])
        self._newest = self._seen[answer]
        return self._newest

    def _add(self, sighting: Sighting, event: Event, number: int) -> None:
        text = event.data["delta"] if isinstance(event.data, dict) else event.data
        if event.id != f"{sighting.answer}:{number}":
            self._violation(f"{event.id} came where {sighting.answer}:{number} had to")
        elif number <= len(sighting.texts):
            if sighting.texts[number - 1] != text:
                self._violation(f"{event.id} was {sighting.texts[number - 1]!r}, then {text!r}")
        else:
            sighting.texts.append(text)

    def _end(self, sighting: Sighting | None, state: str) -> Outcome:
        if sighting is not None:
            if sighting.told not in (None, state):
                self._violation(f"{sighting.answer}: told {sighting.told}, then {state}")
            sighting.told = state
        return Outcome("ended", state, None if sighting is None else sighting.key)

    def _violation(self, what: str) -> None:
        self._record.violations.append(f"{self._name}: {what}")


def _refusal(exchange: Exchange, body: bytes) -> Outcome:
    if exchange.status >= 500:  # nginx's are pages of HTML
        return Outcome("unavailable", str(exchange.status))
    return Outcome("refused", json.loads(body)["error"]["code"])
