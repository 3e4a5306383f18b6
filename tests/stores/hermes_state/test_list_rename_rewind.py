"""Lists, titles and turns that are taken back, in Hermes' own tables."""

from pathlib import Path

import pytest

from hermes_session_mw import (
    HermesStateStore,
    SessionConflict,
    SessionFull,
    StoredTurn,
    StoreMisconfigured,
    TurnLost,
)
from tests.stores.hermes_state.agent import (
    COMPRESSED,
    REWOUND,
    TIP,
    TURN,
    UPKEEP,
    WEATHER,
    ask,
    golden,
    hermes,
    without_times,
)


async def test_a_list_has_what_hermes_lists(state: HermesStateStore, state_db: Path) -> None:
    """Each conversation once, by its first id, newest first; no helpers', no archived ones."""
    with hermes(state_db) as agent:
        agent.call("create_session", "tool", "tool")
        agent.call("create_session", "helper", "cli", model_config={"_delegate_from": WEATHER})
        branch = {"parent_session_id": WEATHER, "model_config": {"_branched_from": WEATHER}}
        agent.call("create_session", "branch", "cli", **branch)
        agent.call("create_session", "hidden", "cli")
        agent.call("set_session_archived", "hidden", archived=True)
        agent.append(TIP, {"role": "user", "content": "x"})
    page = await state.list(limit=2)
    rest = await state.list(limit=2, cursor=page.cursor)
    ids = [each.id for each in (*page.sessions, *rest.sessions)]
    assert ids == [COMPRESSED, "branch", REWOUND, WEATHER]
    assert rest.cursor is None
    infos = {each.id: each for each in (*page.sessions, *rest.sessions)}
    assert (infos[COMPRESSED].title, infos[COMPRESSED].length) == ("Lisbon trip", 5)
    assert (infos["branch"].parent_id, infos["branch"].length) == (WEATHER, 0)
    for each in infos.values():
        assert await state.info(each.id) == each
    assert [each.id for each in (await state.list(owner="u7")).sessions] == [COMPRESSED]
    assert await state.info("nope") is None


@pytest.mark.parametrize("config", ["", "{cut", b"\xff", None])
async def test_a_configuration_that_cannot_be_read_names_no_parent(
    state: HermesStateStore, state_db: Path, config: str | bytes | None
) -> None:
    """One session's broken configuration keeps neither it nor the others from being listed."""
    ask(state_db, "UPDATE sessions SET model_config = ? WHERE id = ?", config, WEATHER)
    assert {each.id for each in (await state.list()).sessions} == {COMPRESSED, REWOUND, WEATHER}
    info = await state.info(WEATHER)
    assert info is not None
    assert info.parent_id is None
    assert await state.fork(WEATHER, "fork", length=1) == 1


async def test_a_list_outlives_any_time_that_a_message_claims(state: HermesStateStore) -> None:
    """A message from beyond the calendar is listed at the calendar's end."""
    for session_id, time in (("late", 1e300), ("early", -1e300)):
        await state.append(session_id, [{"role": "user", "content": "x", "timestamp": time}])
    sessions = (await state.list()).sessions
    assert (sessions[0].id, sessions[0].updated_at.year) == ("late", 9999)
    assert (sessions[-1].id, sessions[-1].updated_at.year) == ("early", 1)


async def test_a_stale_continuation_orders_the_list_and_is_not_followed(
    state: HermesStateStore, state_db: Path
) -> None:
    """A sibling that was closed counts for when a conversation was changed, and nothing else."""
    with hermes(state_db) as agent:
        agent.call("create_session", "stale", "telegram", parent_session_id=COMPRESSED)
        agent.append("stale", {"role": "user", "content": "lost", "timestamp": 1.9e9})
        agent.call("end_session", "stale", "ws_orphan_reap")
    page = await state.list(limit=1)
    assert (page.sessions[0].id, page.sessions[0].length) == (COMPRESSED, 4)
    assert COMPRESSED not in [each.id for each in (await state.list(cursor=page.cursor)).sessions]


async def test_one_owners_list_leaves_out_what_became_anothers(
    state: HermesStateStore, state_db: Path
) -> None:
    """A conversation that goes on as another user's is in nobody's list."""
    ask(state_db, "UPDATE sessions SET user_id = 'eve' WHERE id = ?", TIP)
    assert (await state.list(owner="u7")).sessions == []


async def test_a_title_is_hermes_title(state: HermesStateStore, state_db: Path) -> None:
    """A title goes to the live tip, and there is each one once."""
    assert await state.rename(COMPRESSED, "Caf\u00e9 trip")
    with hermes(state_db) as agent:
        assert agent.call("get_session_title", TIP) == "Caf\u00e9 trip"
        with pytest.raises(ValueError, match="another conversation"):
            await state.rename(REWOUND, "Paris weather")
        assert await state.rename(WEATHER, "Paris weather")
        assert await state.rename(WEATHER, None)
        assert agent.call("get_session_title", WEATHER) is None
        agent.call("set_session_title", COMPRESSED, "Base")
        assert await state.rename(COMPRESSED, "Base")
        assert agent.call("get_session_title", TIP) == "Base"
        assert agent.call("get_session_title", COMPRESSED) is None
    assert not await state.rename("nope", "x")
    assert not await state.rename(WEATHER, "x", owner="u7")


async def test_a_database_without_keys_and_values_keeps_no_owners_titles(
    state: HermesStateStore, state_db: Path
) -> None:
    """There an owner's title is refused, whoever has it; one without an owner is Hermes' own."""
    await state.append("adas", TURN, "ada")
    ask(state_db, "DROP TABLE state_meta")
    with pytest.raises(StoreMisconfigured, match=r"state_meta\.key"):
        await state.rename("adas", "Anything", "ada")
    assert await state.rename("adas", "Anything")
    info = await state.info("adas", "ada")
    assert info is not None
    assert info.title == "Anything"
    assert await state.rename("adas", None)
    assert await state.info("adas") is not None


async def test_a_title_tells_nothing_of_another_owners(
    state: HermesStateStore, state_db: Path
) -> None:
    """Whether another has it or not, an owner gives a title and reads it, and is told the same."""
    for owner in ("ada", "bob"):
        for name in ("one", "two"):
            await state.append(f"{owner}-{name}", TURN, owner)
            assert await state.rename(f"{owner}-{name}", f"{name} more", owner)
    assert await state.rename("bob-two", "one more", "bob")  # which bob has too
    assert await state.rename("bob-two", "alone", "bob")
    for owner, name, title in (
        ("ada", "one", "one more"),
        ("bob", "one", "one more"),
        ("ada", "two", "two more"),
        ("bob", "two", "alone"),
    ):
        info = await state.info(f"{owner}-{name}", owner)
        assert info is not None
        assert info.title == title
    listed = (await state.list("bob")).sessions
    assert {each.title for each in listed} == {"one more", "alone"}
    with hermes(state_db) as agent:
        assert agent.call("get_session_title", "ada-one") == "one more"
        assert agent.call("get_session_title", "bob-one") is None
        assert agent.call("get_session_title", "bob-two") == "alone"
        agent.call("set_session_title", "bob-one", "Hermes says so")
    assert await state.rename("ada-one", None, "ada")
    titles = {each.id: each.title for each in (await state.list("bob")).sessions}
    assert titles["bob-one"] == "Hermes says so"
    # Begun anew under its id by somebody else, a session has not its title.
    assert await state.rename("bob-one", "two more", "bob")
    ask(state_db, "UPDATE sessions SET started_at = started_at + 1 WHERE id = 'bob-one'")
    info = await state.info("bob-one", "bob")
    assert info is not None
    assert info.title is None


@pytest.mark.parametrize("title", ["", " a", "a  b", "a\tb", "\u200bx", "a\ufffcb", "x" * 101])
async def test_a_title_that_hermes_would_change_is_refused(
    state: HermesStateStore, state_db: Path, title: str
) -> None:
    """What Hermes would clean, or refuse, is refused."""
    with pytest.raises(ValueError, match="title"):
        await state.rename(WEATHER, title)
    with hermes(state_db) as agent:
        agent.begin("set_session_title", WEATHER, title)
        assert "error" in agent.end() or agent.call("get_session_title", WEATHER) != title


async def test_what_is_taken_back_is_out_of_hermes_history(
    state: HermesStateStore, state_db: Path
) -> None:
    """A rewind is Hermes' own kind: rows stay, not active, and the session counts it."""
    assert await state.rewind(WEATHER, 6) == 6
    with hermes(state_db) as agent:
        assert agent.conversation(WEATHER) == golden(WEATHER)[:6]
        everything = agent.call("get_messages_as_conversation", WEATHER, include_inactive=True)
        assert everything == golden(WEATHER)
        assert agent.call("get_session", WEATHER)["rewind_count"] == 1
        assert await state.rewind(WEATHER, 7) == 6
        assert agent.call("get_session", WEATHER)["rewind_count"] == 1
        assert agent.call("search_messages", "remember") == []
    assert await state.append(WEATHER, TURN, expected_length=6) == 8
    assert await state.rewind(WEATHER, 0) == 0
    assert (await state.load(WEATHER)).exists


async def test_what_is_replaced_is_out_of_hermes_history(
    state: HermesStateStore, state_db: Path
) -> None:
    """A replacement is a rewind and a turn at once: rows stay, not active, and are counted."""
    assert await state.append(WEATHER, TURN, turn_id="t", replace_from=6) == 8
    with hermes(state_db) as agent:
        shown = agent.conversation(WEATHER)
        assert (shown[:6], without_times(shown[6:])) == (golden(WEATHER)[:6], TURN)
        everything = agent.call("get_messages_as_conversation", WEATHER, include_inactive=True)
        assert everything == [*golden(WEATHER), *shown[6:]]
        assert agent.call("get_session", WEATHER)["rewind_count"] == 1
        assert await state.append(WEATHER, TURN, turn_id="t", replace_from=6) == 8
        assert await state.append(WEATHER, TURN, replace_from=8) == 10
        assert agent.call("get_session", WEATHER)["rewind_count"] == 1
    assert await state.find_turn(WEATHER, "t") == StoredTurn("t", TURN, 6)
    for refused, expected in ((11, None), (0, 9)):
        with pytest.raises(SessionConflict):
            await state.append(WEATHER, TURN, expected_length=expected, replace_from=refused)
    with pytest.raises(SessionConflict):
        await state.append("nope", TURN, replace_from=1)
    with pytest.raises(ValueError, match="negative"):
        await state.append(WEATHER, TURN, replace_from=-1)
    assert await state.append("nope", TURN, replace_from=0) == 2
    assert await state.append(WEATHER, TURN, replace_from=0) == 2
    found = await state.find_turn(WEATHER, "t")
    assert found == StoredTurn("t", TURN, None)


async def test_a_replacement_counts_what_hermes_shows(
    state: HermesStateStore, state_db: Path
) -> None:
    """Where Hermes hides its own upkeep, a replacement keeps as many of the rest."""
    with hermes(state_db) as agent:
        agent.append(REWOUND, {"role": "user", "content": UPKEEP}, *TURN, *TURN)
        shown = agent.conversation(REWOUND)
        assert await state.append(REWOUND, TURN, replace_from=5) == 7
        now = agent.conversation(REWOUND)
        assert (now[:5], without_times(now[5:])) == (shown[:5], TURN)


async def test_a_replacement_in_a_full_session(state_db: Path) -> None:
    """A question may be replaced by another; one more than there may be is refused."""
    store = HermesStateStore(state_db, max_turns=5)
    try:
        assert await store.append(WEATHER, TURN) == 10
        assert await store.append(WEATHER, TURN) == 12
        assert await store.append(WEATHER, [*TURN, *TURN[1:]], replace_from=10) == 13
        assert await store.append(WEATHER, TURN[1:], replace_from=12) == 13
        with pytest.raises(SessionFull):
            await store.append(WEATHER, [*TURN[1:], *TURN[1:]], replace_from=12)
    finally:
        await store.aclose()


async def test_a_rewind_counts_what_hermes_shows(state: HermesStateStore, state_db: Path) -> None:
    """Where Hermes hides its own upkeep, the length is that of the rest."""
    with hermes(state_db) as agent:
        agent.append(REWOUND, {"role": "user", "content": UPKEEP}, *TURN, *TURN)
        shown = agent.conversation(REWOUND)
        assert (await state.load(REWOUND)).messages == shown
        assert await state.rewind(REWOUND, 5) == 5
        assert agent.conversation(REWOUND) == shown[:5]


async def test_a_rewind_of_nothing_of_ones_own_does_nothing(state: HermesStateStore) -> None:
    """Unknown sessions and another's have no length; an unknown fence is late, a length not < 0."""
    assert await state.rewind("nope", 0) == 0
    assert await state.rewind(WEATHER, 0, owner="u7") == 0
    assert (await state.load(WEATHER)).length == 8
    with pytest.raises(TurnLost):
        await state.rewind(WEATHER, 0, fence=1)
    with pytest.raises(ValueError, match="negative"):
        await state.rewind(WEATHER, -1)


async def test_a_turn_is_found_again(state: HermesStateStore, state_db: Path) -> None:
    """A turn is given as it was appended, with its place while all of it is in the history."""
    await state.append(COMPRESSED, TURN, turn_id="t")
    await state.append(COMPRESSED, TURN, turn_id="u")
    turn = await state.find_turn(COMPRESSED, "t")
    assert turn is not None
    assert turn == StoredTurn("t", TURN, 4)
    timed = [{"role": "assistant", "tool_calls": [{"id": "c"}], "timestamp": 5.5}]
    await state.append("other", timed, turn_id="t")
    assert await state.find_turn("other", "t") == StoredTurn("t", timed, 0)
    assert await state.find_turn(COMPRESSED, "nope") is None
    assert await state.find_turn("nope", "t") is None
    assert await state.find_turn(COMPRESSED, "t", owner="user-42") is None
    await state.rewind(COMPRESSED, 5)
    again = await state.find_turn(COMPRESSED, "t")
    assert again == StoredTurn("t", turn.messages, None)
    with hermes(state_db) as agent:
        agent.call("replace_messages", TIP, [{"role": "user", "content": "anew"}])
    assert await state.find_turn(COMPRESSED, "t") is None
    assert await state.append(COMPRESSED, TURN, turn_id="t") == 0
