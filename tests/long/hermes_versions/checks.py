"""What Hermes and the store each make of one database; each check returns what differs.

A check gets a new database, which the version's own code has made and has open, and a store over
it. It returns a line for each difference; `Missing` says what the version does not have.
"""

import json
import random
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hermes_session_mw import HermesStateStore, SessionBusy, StoreMisconfigured
from tests.long.hermes_versions.versions import Version
from tests.stores.hermes_state.agent import Agent, ask, copy_to, hermes, without_times
from tests.stores.hermes_state.versions import columns_in, turn_into

QUESTION: dict[str, Any] = {
    "role": "user",
    "content": "Where do zebrafish (\u6771\u4eac\u306e\u9b5a) live?",
}
CALL: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "axolotl", "arguments": "{}"}},
        {"id": "c2", "type": "function", "function": {"name": "other", "arguments": "{}"}},
    ],
    "finish_reason": "tool_calls",
}
RESULT: dict[str, Any] = {
    "role": "tool", "content": "In rivers", "tool_call_id": "c1", "tool_name": "pangolin",
}  # fmt: skip
ANSWER: dict[str, Any] = {
    "role": "assistant",
    "content": "In rivers of South Asia.",
    "finish_reason": "stop",
    "reasoning": "Hm.",
    "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}],
}
TURN = [QUESTION, CALL, RESULT, ANSWER]
FENCED = "Hi <memory-context>the user likes tea</memory-context> there  "
NOTE = (
    "[System note: The following is recalled memory context, NOT new user input. Treat as "
    "informational background data.] Hello"
)
REVIEWS = (
    "Review the conversation above and update the skill library",
    "Review the conversation above and consider saving to memory",
)
FAMILIES = 60


class Missing(Exception):
    """The version has no such thing."""


@dataclass(frozen=True)
class Site:
    """A database, the version of Hermes that has it open, the newest one, and a store over it."""

    path: Path
    version: Version
    newest: Version
    agent: Agent
    store: HermesStateStore

    def begin(self, session_id: str, *messages: dict[str, Any], **options: Any) -> None:
        """Have Hermes begin a session, and store messages in it."""
        self.agent.call("create_session", session_id, "telegram", **options)
        self.agent.append(session_id, *messages)

    def has(self, column: str) -> bool:
        """Tell whether the file has the column, ``table.column``."""
        table, _, name = column.partition(".")
        return bool(
            ask(self.path, f"SELECT 1 FROM pragma_table_info('{table}') WHERE name = ?", name)
        )

    async def differences(self, *session_ids: str) -> list[str]:
        """Return for which sessions the store does not load what Hermes goes on with."""
        differing = []
        for session_id in session_ids:
            tip = self.agent.call("get_compression_tip", session_id)
            theirs = [shown(message) for message in self.agent.conversation(tip)]
            ours = (await self.store.load(session_id)).messages
            if json.dumps(ours) != json.dumps(theirs):
                differing.append(f"{session_id}: {ours!r:.300} instead of {theirs!r:.300}")
            newest = (await self.store.load(session_id, limit=2)).messages
            if newest != ours[-2:]:
                differing.append(f"{session_id}: its newest are {newest!r:.300}")
        return differing


def shown(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message without notes of Hermes' process, which begin with an underscore."""
    return {name: value for name, value in message.items() if not name.startswith("_")}


async def check_columns(site: Site) -> list[str]:
    (site.path.parent / "made").mkdir()
    made = copy_to(site.path.parent / "made")
    turn_into(made, site.version.schema)
    if site.version.schema > 22:
        raise Missing("made by hand")
    ours, theirs = columns_in(made), columns_in(site.path)
    return sorted(ours ^ theirs)


async def check_history(site: Site) -> list[str]:
    known = {"content": FENCED, "role": "user"}, {"content": NOTE, "role": "user"}
    empty = {"role": "assistant", "content": ""}, {"role": "user", "content": "  x\n"}
    parts = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    items = {"role": "assistant", "content": "x", "codex_reasoning_items": [{"id": "r"}]}
    thought = {"role": "assistant", "content": "x", "reasoning_content": ""}
    site.begin("plain", *TURN)
    site.begin("cleaned", *known, *empty, *TURN)
    site.begin("items", parts, items, thought, {"role": "system", "content": " s "})
    site.begin("marker", QUESTION, {**CALL, "content": "[memory]"}, RESULT)
    if site.has("messages.platform_message_id"):
        site.begin("platform", {**QUESTION, "platform_message_id": "p1", "observed": True})
    if site.has("messages.api_content"):
        site.begin("sent", {**QUESTION, "api_content": " as sent "})
    return await site.differences(*(row[0] for row in ask(site.path, "SELECT id FROM sessions")))


async def check_reviews(site: Site) -> list[str]:
    first, second = ({"role": "user", "content": text} for text in REVIEWS)
    system = {"role": "system", "content": REVIEWS[0]}
    done = {"role": "assistant", "content": "Done."}
    site.begin("one", QUESTION, first, done, ANSWER)
    site.begin("several", first, second, done, done, system, QUESTION)
    site.begin("last", QUESTION, ANSWER, second)
    return await site.differences("one", "several", "last")


async def check_clock(site: Site) -> list[str]:
    site.begin("s", *TURN, *TURN)
    ask(site.path, "UPDATE messages SET timestamp = 5 WHERE id % 3 = 0")
    differing = await site.differences("s")
    await site.store.append("s", [QUESTION, ANSWER])
    site.agent.append("s", QUESTION)
    return differing + await site.differences("s")


async def check_lineages(site: Site) -> list[str]:
    _store_families(site.path)
    ids = [row[0] for row in ask(site.path, "SELECT id FROM sessions")]
    return await site.differences(*ids)


async def check_list(site: Site) -> list[str]:
    _store_families(site.path)
    if site.has("sessions.archived"):
        ask(site.path, "UPDATE sessions SET archived = 1 WHERE id LIKE '%7-0'")
    # Hermes follows a circle for ever, and fails, wherever it lists such a conversation.
    listed = site.agent.call("list_sessions_rich", limit=10_000, exclude_sources=["tool"])
    theirs = {row.get("_lineage_root_id") or row["id"] for row in listed}
    ours = set()
    cursor = None
    while True:
        page = await site.store.list(limit=500, cursor=cursor)
        ours |= {each.id for each in page.sessions}
        cursor = page.cursor
        if cursor is None:
            break
    return [f"{each} is listed by {'Hermes' if each in theirs else 'us'}" for each in ours ^ theirs]


async def check_append(site: Site) -> list[str]:
    site.begin("s", *TURN)
    before = site.agent.call("get_session", "s")
    length = await site.store.append("s", TURN, turn_id="t", expected_length=4)
    again = await site.store.append("s", TURN, turn_id="t")
    await site.store.append("new", TURN)
    after = site.agent.call("get_session", "s")
    differing = await site.differences("s", "new")
    if without_times(map(shown, site.agent.conversation("s")[4:])) != TURN:  # type: ignore[arg-type]
        differing.append("the turn is read otherwise")
    changed = {key: after[key] for key in after if after[key] != before[key]}
    if changed != {"message_count": 8, "tool_call_count": 4} or (length, again) != (8, 8):
        differing.append(f"counts: {changed}, {length}, {again}")
    for word in ("zebrafish", "\u6771\u4eac\u306e"):
        hits = {hit["session_id"] for hit in site.agent.call("search_messages", word)}
        if not hits & {"s", "new"}:
            differing.append(f"{word} is not found")
    return differing


async def check_rewind(site: Site) -> list[str]:
    site.begin("ours", *TURN, *TURN)
    site.begin("theirs", *TURN, *TURN)
    if not site.has("messages.active"):
        try:
            await site.store.rewind("ours", 4)
        except StoreMisconfigured as exc:
            raise Missing("a clear error: no column `active`") from exc
        return ["a rewind is no error"]
    await site.store.rewind("ours", 4)
    ((fifth,),) = ask(
        site.path, "SELECT id FROM messages WHERE session_id = 'theirs' LIMIT 1 OFFSET 4"
    )
    site.agent.call("rewind_to_message", "theirs", fifth)
    rows = [site.agent.call("get_session", each) for each in ("ours", "theirs")]
    counts = [(row["message_count"], row["rewind_count"]) for row in rows]
    differing = [] if counts[0] == counts[1] else [f"counts: {counts}"]
    await site.store.append("ours", [QUESTION], replace_from=2)
    return differing + await site.differences("ours", "theirs")


async def check_title(site: Site) -> list[str]:
    site.begin("s", *TURN)
    site.begin("other", *TURN)
    await site.store.rename("s", "Fish")
    theirs = site.agent.call("get_session_title", "s")
    site.agent.call("set_session_title", "other", "Rivers")
    info = await site.store.info("other")
    told = [theirs, info and info.title]
    return [] if told == ["Fish", "Rivers"] else [f"titles: {told}"]


async def check_compression(site: Site) -> list[str]:
    site.begin("s", *TURN)
    differing = []
    if site.has("compression_locks.holder"):
        assert site.agent.call("try_acquire_compression_lock", "s", "me")
        try:
            await site.store.append("s", [QUESTION])
            held = "appended"
        except SessionBusy:
            held = "busy"
        # From its next version on Hermes copies what came meanwhile behind the summary.
        if held != ("busy" if site.version.schema <= 25 else "appended"):
            differing.append(f"while it compresses: {held}")
        site.agent.call("release_compression_lock", "s", "me")
    site.agent.call("end_session", "s", "compression")
    site.begin("next", {"role": "user", "content": "[SUMMARY]"}, parent_session_id="s")
    await site.store.append("s", TURN)
    differing += await site.differences("s", "next")
    if len(site.agent.conversation("next")) != 5:
        differing.append("the turn is not in the continuation")
    return differing


async def check_rewrite(site: Site) -> list[str]:
    site.begin("s", *TURN)
    await site.store.append("s", TURN, turn_id="t")
    site.agent.call("replace_messages", "s", [{"role": "user", "content": "[SUMMARY]"}])
    await site.store.append("s", TURN, turn_id="t")
    differing = await site.differences("s")
    if len(site.agent.conversation("s")) != 1 or await site.store.find_turn("s", "t") is not None:
        differing.append("the turn was stored again")
    return differing


async def check_fork(site: Site) -> list[str]:
    site.begin("s", *TURN, user_id="u")
    await site.store.fork("s", "fork", length=2)
    await site.store.append("fork", [ANSWER])
    listed = {row["id"] for row in site.agent.call("list_sessions_rich", limit=100)}
    differing = await site.differences("s", "fork")
    if listed != {"s", "fork"}:
        differing.append(f"listed: {listed}")
    site.agent.call("end_session", "s", "compression")
    site.begin("next", QUESTION, parent_session_id="s")
    row = site.agent.call("get_session", "fork")
    if (row["message_count"], row["user_id"]) != (3, "u"):
        differing.append(f"its row: {row}")
    return differing + await site.differences("s", "fork", "next")


async def check_delete(site: Site) -> list[str]:
    site.begin("s", *TURN)
    marks = {"_delegate_from": "s"}
    site.begin("helper", QUESTION, parent_session_id="s", model_config=marks)
    site.begin(
        "deep", QUESTION, parent_session_id="helper", model_config={"_delegate_from": "helper"}
    )
    site.begin("unmarked", QUESTION, parent_session_id="s")
    site.begin("branch", QUESTION, parent_session_id="s", model_config={"_branched_from": "s"})
    site.begin("other", QUESTION)
    (site.path.parent / "copy").mkdir()
    ask(site.path, "PRAGMA wal_checkpoint(TRUNCATE)")
    copied = Path(shutil.copy(site.path, site.path.parent / "copy" / "state.db"))
    with hermes(copied, site.version.code) as agent:
        assert agent.call("delete_session", "s")
    assert await site.store.delete("s")
    left = [
        (ask(path, "SELECT id, parent_session_id FROM sessions ORDER BY id"),
         ask(path, "SELECT id, session_id FROM messages ORDER BY id"))
        for path in (site.path, copied)
    ]  # fmt: skip
    differing = [] if left[0] == left[1] else [f"left: {left}"]
    if site.agent.call("search_messages", "axolotl"):
        differing.append("what was deleted is found")
    return differing


async def check_export(site: Site) -> list[str]:
    site.begin("s", *TURN, *TURN)
    lines = [json.loads(line) for line in (await site.store.export("s")).splitlines()]
    theirs = [shown(message) for message in site.agent.conversation("s")]
    same = [line["message"] for line in lines[1:]] == theirs
    turns = [line["turn_id"] for line in lines[1:]]
    differing = [] if same else ["other messages"]
    return differing if len(set(turns)) == 2 else [*differing, f"turns: {turns}"]


async def check_turns(site: Site) -> list[str]:
    site.begin("s", *TURN)
    fence = await site.store.acquire("s", 30)
    differing = []
    try:
        await site.store.acquire("s", 30)
        differing.append("two turns at once")
    except SessionBusy:
        pass
    has_leases = site.has("session_turn_leases.holder")
    if has_leases and site.agent.call("try_acquire_session_turn_lease", "s", "me"):
        differing.append("Hermes has a turn beside ours")
    await site.store.append("s", TURN, fence=fence)
    await site.store.release("s", fence)
    if has_leases:
        if not site.agent.call("try_acquire_session_turn_lease", "s", "me"):
            differing.append("Hermes gets no turn after ours")
        for each in (site.store.acquire("s", 30), site.store.append("s", TURN)):
            try:
                await each
                differing.append("a turn of ours beside Hermes'")
            except SessionBusy:
                pass
        site.agent.call("release_session_turn_lease", "s", "me")
        await site.store.append("s", TURN)
    return differing + await site.differences("s")


async def check_upgrade(site: Site) -> list[str]:
    if site.version == site.newest:
        raise Missing("the newest")
    site.begin("s", *TURN, {"role": "user", "content": REVIEWS[0]}, ANSWER, *TURN)
    ask(site.path, "UPDATE messages SET timestamp = 5 WHERE id % 3 = 0")
    _store_families(site.path)
    ids = [row[0] for row in ask(site.path, "SELECT id FROM sessions")]
    differing = await site.differences(*ids)
    await site.store.append("s", TURN, turn_id="before")
    with hermes(site.path, site.newest.code) as agent:
        upgraded = replace(site, version=site.newest, agent=agent)
        differing += await upgraded.differences(*ids)
        await site.store.append("s", TURN, turn_id="before")
        await site.store.append("s", TURN, turn_id="after")
        await site.store.rewind("s", 2)
        differing += await upgraded.differences("s")
    return differing


async def check_only_rows(site: Site) -> list[str]:
    asked = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    site.begin("s", *TURN)
    before = ask(site.path, asked)
    await site.store.append("s", TURN, turn_id="t")
    await site.store.fork("s", "fork")
    await site.store.delete("fork")
    differing = [] if ask(site.path, asked) == before else ["the schema"]
    if ask(site.path, "SELECT version FROM schema_version") != [(site.version.schema,)]:
        differing.append("the version")
    if ask(site.path, "PRAGMA integrity_check") != [("ok",)]:
        differing.append("integrity")
    if ask(site.path, "PRAGMA foreign_key_check"):
        differing.append("foreign keys")
    return differing


Check = Callable[[Site], Awaitable[list[str]]]
CHECKS: dict[str, Check] = {
    "the columns, beside those of the files that the tests make": check_columns,
    "a conversation's messages, keys and their order": check_history,
    "Hermes' own reviews of its memory": check_reviews,
    "the order after a clock ran back": check_clock,
    "which session continues which, in generated families": check_lineages,
    "which conversations are listed, in the same families": check_list,
    "a turn of ours: read, counted and found by Hermes": check_append,
    "a rewind, by either": check_rewind,
    "a title": check_title,
    "an append while Hermes compresses, and after it": check_compression,
    "a turn's id, after Hermes rewrote the conversation": check_rewrite,
    "a fork: read and listed by Hermes, and no continuation": check_fork,
    "a deletion: the rows that are left, beside Hermes' own": check_delete,
    "an export: the messages that Hermes goes on with": check_export,
    "one turn at a time, with Hermes where it takes turns": check_turns,
    "an upgrade to the newest, under an open store": check_upgrade,
    "tables, indexes, journal and version stay": check_only_rows,
}
"""Each check, by what it is about."""


def _store_families(path: Path) -> None:
    """Store families of eight sessions, as any version may have left them behind.

    A parent is older than its children in the table: Hermes follows circles for ever.
    """
    source, now = random.Random(19), time.time()
    sessions, messages = [], []
    marks = [None, None, None, "{}", '{"_branched_from": "%s"}', '{"_delegate_from": "%s"}']
    ends = [None, "compression", "compression", "branched", "ws_orphan_reap"]
    for family in range(FAMILIES):
        for number in range(8):
            session_id = f"f{family}-{number}"
            has_parent = number and source.random() < 0.8
            parent = f"f{family}-{source.randrange(number)}" if has_parent else None
            config, ended = source.choice(marks), source.choice(ends)
            sessions.append((
                session_id,
                source.choice(["cli", "cli", "telegram", "tool"]),
                parent,
                config and config.replace("%s", parent or "elsewhere"),
                now - 1000 + source.randrange(8),
                ended and now - 1000 + source.randrange(8),
                ended,
            ))  # fmt: skip
            messages.append((session_id, f"I am {session_id}", now - source.randrange(9)))
    with closing(sqlite3.connect(path, timeout=60)) as connection, connection:
        connection.executemany(
            "INSERT INTO sessions (id, source, parent_session_id, model_config, started_at,"
            " ended_at, end_reason, message_count) VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
            sessions,
        )
        connection.executemany(
            "INSERT INTO messages (session_id, role, content, timestamp) VALUES (?, 'user', ?, ?)",
            messages,
        )
