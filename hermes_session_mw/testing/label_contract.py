"""What a `LabelStore` promises of tags, pinned and shelved sessions, pairs, and first words."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from hermes_session_mw import InvalidLabel, LabelStore, MemoryStore, SessionInfo
from hermes_session_mw.testing.helpers import new_id, numbered, pruned, stored

LABELS: dict[str, Any] = {
    "tags": ["Z\u00fcrich", "work", "Q3 plan"],
    "pinned": True,
    "shelved": True,
    "metadata": {"topic": "moon \U0001f319", "": ""},
}
TAGS = ("Q3 plan", "work", "Z\u00fcrich")


async def info_of(store: LabelStore, session_id: str, owner: str = "") -> SessionInfo:
    """Return the description of a session that there is."""
    found = await store.info(session_id, owner)
    assert found is not None
    return found


async def listed(store: LabelStore, owner: str, **wanted: Any) -> list[str]:
    """Return the ids of all pages, each of two sessions, one after another."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.list(owner, 2, cursor, **wanted)
        found += [each.id for each in page.sessions]
        assert len(page.sessions) <= 2
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.anyio
class LabelOperations:
    """Labels are set, listed by, and live as long as their session."""

    async def test_a_session_is_labelled(self, store: LabelStore) -> None:
        """What is given is set, what is not stays, and nothing else of the session changes."""
        owner = new_id()
        session_id = await stored(store, 2, owner)
        before = await info_of(store, session_id, owner)
        assert (before.tags, before.pinned, before.shelved, before.metadata) == (
            (),
            False,
            False,
            {},
        )
        assert await store.label(session_id, owner, title="T", **LABELS)
        info = await info_of(store, session_id, owner)
        assert (info.title, info.tags, info.pinned, info.shelved) == ("T", TAGS, True, True)
        assert info.metadata == LABELS["metadata"]
        assert (info.updated_at, info.length) == (before.updated_at, 2)
        assert (await store.list(owner)).sessions == [info]
        assert await store.label(session_id, owner)
        assert await info_of(store, session_id, owner) == info
        assert await store.label(session_id, owner, title=None, pinned=False)
        info = await info_of(store, session_id, owner)
        assert (info.title, info.tags, info.pinned, info.shelved) == (None, TAGS, False, True)
        assert await store.label(session_id, owner, tags=[], shelved=False, metadata={})
        assert await info_of(store, session_id, owner) == before

    async def test_tags_are_added_and_removed(self, store: LabelStore) -> None:
        """A tag is the same in capital letters, and keeps its first spelling."""
        session_id = await stored(store, 1)
        await store.label(session_id, add_tags=["Work", " a  b ", "STRASSE"])
        await store.label(session_id, add_tags=["work", "stra\u00dfe", "Cafe\u0301"])
        assert (await info_of(store, session_id)).tags == ("a b", "Caf\u00e9", "STRASSE", "Work")
        await store.label(session_id, remove_tags=["WORK", "absent"], add_tags=["new"])
        assert (await info_of(store, session_id)).tags == ("a b", "Caf\u00e9", "new", "STRASSE")
        await store.label(session_id, tags=["x"], add_tags=["y"], remove_tags=["x"])
        assert (await info_of(store, session_id)).tags == ("y",)

    async def test_nobody_elses_session_is_labelled(self, store: LabelStore) -> None:
        """One that is another owner's, was deleted, or has no turn is unknown."""
        owner, deleted, leased = new_id(), await stored(store), new_id()
        session_id = await stored(store, 1, owner)
        await store.delete(deleted)
        await store.acquire(leased, 60)
        for name, whose in ((session_id, ""), (session_id, new_id()), (deleted, ""), (leased, "")):
            assert not await store.label(name, whose, **LABELS)
        assert (await info_of(store, session_id, owner)).tags == ()
        assert await store.tags(new_id()) == {}

    async def test_two_label_at_once(self, store: LabelStore) -> None:
        """All that is acknowledged is there: tags that several add, and what others set."""
        session_id = await stored(store, 1)
        names = [f"tag {number}" for number in range(6)]
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(partial(store.label, session_id, add_tags=[name]))
            tasks.start_soon(partial(store.label, session_id, pinned=True))
            tasks.start_soon(store.append, session_id, numbered(1))
            tasks.start_soon(partial(store.label, session_id, metadata={"a": "b"}))
        info = await info_of(store, session_id)
        assert (info.tags, info.pinned, info.metadata) == (tuple(names), True, {"a": "b"})
        assert info.length == 2

    async def test_sessions_are_listed_by_their_labels(self, store: LabelStore) -> None:
        """A list has those that have all that is asked for, the last changed first."""
        owner = new_id()
        ids = [await stored(store, 1, owner) for _ in range(7)]
        for number, session_id in enumerate(ids):
            await store.label(
                session_id,
                owner,
                tags=["even"] * (number % 2 == 0) + ["low"] * (number < 4),
                pinned=number in {1, 4},
                shelved=number in {0, 5},
                metadata={"n": str(number % 3), "all": "x"},
            )
        await store.append(ids[0], numbered(1), owner)
        others = await stored(store, 1, new_id())
        await store.label(others, "", tags=["even"])
        every = await listed(store, owner)
        assert sorted(every) == sorted(ids)
        assert every == [each.id for each in (await store.list(owner)).sessions]
        cases: list[tuple[dict[str, Any], set[int]]] = [
            ({"tag": "EVEN"}, {0, 2, 4, 6}),
            ({"tag": ["even", "low"]}, {0, 2}),
            ({"tag": []}, {*range(7)}),
            ({"tag": "none"}, set()),
            ({"pinned": True}, {1, 4}),
            ({"pinned": False}, {0, 2, 3, 5, 6}),
            ({"shelved": True}, {0, 5}),
            ({"shelved": False}, {1, 2, 3, 4, 6}),
            ({"metadata": {"n": "0"}}, {0, 3, 6}),
            ({"metadata": {"n": "0", "all": "x"}, "tag": "low"}, {0, 3}),
            ({"metadata": {"n": "x"}}, set()),
            ({"tag": "low", "pinned": False, "shelved": False}, {2, 3}),
            ({"pinned": True, "shelved": True}, set()),
        ]
        for wanted, numbers in cases:
            expected = [each for each in every if each in {ids[number] for number in numbers}]
            assert await listed(store, owner, **wanted) == expected, wanted
            pinned = [ids[number] for number in (1, 4)]
            first = [each for each in expected if each in pinned]
            rest = [each for each in expected if each not in pinned]
            assert await listed(store, owner, **wanted, order="pinned") == first + rest, wanted

    async def test_a_change_moves_a_session_up_in_every_list(self, store: LabelStore) -> None:
        """Whatever changes a history, the session comes first among those of its label, too."""
        owner = new_id()
        tag: dict[str, Any] = {"tag": "t"}
        ids = [await stored(store, 4, owner) for _ in range(2)]
        for each in ids:
            await store.label(each, owner, tags=["t"], metadata={"a": "b"})

        changes: list[Callable[[str], Awaitable[object]]] = [
            lambda name: store.append(name, numbered(9), owner),
            lambda name: store.append(name, numbered(9), owner, replace_from=2),
            lambda name: store.rewind(name, 2, owner),
            lambda name: store.append(name, numbered(9), owner, turn_id="n", expected_length=2),
            lambda name: store.compact(name, numbered(0), numbered(7), owner),
        ]
        await anyio.sleep(1.1)  # MySQL's times are whole seconds
        for change in changes:
            await change(ids[0])
            newest = await info_of(store, ids[0], owner)
            for wanted in (tag, {"metadata": {"a": "b"}}, {}):
                page = await store.list(owner, 1, **wanted)
                assert page.sessions == [newest]
                rest = await store.list(owner, 1, page.cursor, **wanted)
                assert [each.id for each in rest.sessions] == ids[1:]

    async def test_a_title_comes_with_an_append(self, store: LabelStore) -> None:
        """It becomes that of a session without one, once, in whatever way is appended."""
        session_id, replaced = new_id(), await stored(store, 2)
        await store.append(session_id, numbered(0))
        assert (await info_of(store, session_id)).title is None
        await store.append(session_id, numbered(1), title="First", expected_length=1)
        await store.append(session_id, numbered(2), title="Second")
        assert (await info_of(store, session_id)).title == "First"
        await store.append(replaced, numbered(2), title="Replaced", replace_from=1)
        assert (await info_of(store, replaced)).title == "Replaced"
        new = new_id()
        await store.append(new, numbered(0), title="\u00dc")
        await store.append(new, numbered(1))
        assert (await info_of(store, new)).title == "\u00dc"
        await store.label(new, pinned=True)
        await store.append(new, numbered(2), title="Other")
        assert (await info_of(store, new)).title == "\u00dc"

    async def test_first_words_are_listed_where_there_is_no_title(self, store: LabelStore) -> None:
        """They are the user's, and there only if they were asked for."""
        owner = new_id()
        long = "word " * 2000
        said: dict[str, list[dict[str, Any]]] = {
            "plain": [{"role": "user", "content": "Plan *the* trip\nplease"}],
            "system": [{"role": "system", "content": long}, {"role": "user", "content": "Hi"}],
            "picture": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "x" * 5000}}],
                }
            ],
            "long": [{"role": "user", "content": long}],
            "none": numbered(0),
            "titled": [{"role": "user", "content": "Hello"}],
        }
        ids = {}
        for name, messages in said.items():
            ids[new_id()] = name
            await store.append(list(ids)[-1], messages, owner)
        await store.rename(list(ids)[-1], "T", owner)
        page = await store.list(owner, first_words=True)
        found = {ids[each.id]: each.first_words for each in page.sessions}
        assert found == {
            "plain": "Plan the trip please",
            "system": "Hi",
            "picture": None,
            "long": ("word " * 12).strip() + "\u2026",
            "none": None,
            "titled": None,
        }
        for each in page.sessions:
            assert await store.info(each.id, owner, first_words=True) == each
        assert {each.first_words for each in (await store.list(owner)).sessions} == {None}
        one = await store.list(owner, 2, tag="none", first_words=True)
        assert one.sessions == []

    async def test_tags_are_counted(self, store: LabelStore) -> None:
        """An owner's tags are told with how many sessions have each, deleted ones left out."""
        owner = new_id()
        for tags in (["Work", "b"], ["work"], ["a"], []):
            session_id = await stored(store, 1, owner)
            await store.label(session_id, owner, tags=tags, pinned=True, metadata={"t": "u"})
        gone = await stored(store, 1, owner)
        await store.label(gone, owner, tags=["gone", "b"])
        await store.delete(gone, owner)
        counts = await store.tags(owner)
        assert {tag.lower(): count for tag, count in counts.items()} == {"a": 1, "b": 1, "work": 2}
        assert [tag.lower() for tag in counts] == ["a", "b", "work"]

    @pytest.mark.parametrize("to_owner", ["", "ada"])
    async def test_labels_go_where_their_session_goes(
        self, store: LabelStore, to_owner: str
    ) -> None:
        """A rotation moves them, an export has them, and a fork does not."""
        old, new, fork, copy = await stored(store), new_id(), new_id(), new_id()
        tag = new_id()
        await store.label(old, **{**LABELS, "tags": [tag]})
        lines = await store.export(old)
        await store.import_(lines, session_id=copy)
        elsewhere = MemoryStore()
        await elsewhere.import_(lines)
        assert await elsewhere.export(old) == lines
        await store.fork(old, fork)
        assert await store.rotate(old, new, "", to_owner)
        moved, copied = await info_of(store, new, to_owner), await info_of(store, copy)
        for each in (moved, copied):
            assert (each.tags, each.pinned, each.shelved) == ((tag,), True, True)
            assert each.metadata == LABELS["metadata"]
        child = await info_of(store, fork)
        assert (child.tags, child.pinned, child.shelved, child.metadata) == ((), False, False, {})
        found = await listed(store, to_owner, tag=tag, pinned=True, metadata={"": ""})
        assert sorted(found) == sorted([new] if to_owner else [new, copy])
        await store.append(old + "x", numbered(0))
        assert (await info_of(store, old + "x")).tags == ()

    async def test_labels_are_removed_with_their_session(self, store: LabelStore) -> None:
        """After a deletion, and after a prune, nothing is listed by them."""
        owner = new_id()
        kept, deleted, gone = [await stored(store, 1, owner) for _ in range(3)]
        for each in (kept, deleted, gone):
            await store.label(each, owner, **LABELS)
        await store.delete(deleted, owner)
        if (clear := getattr(store, "clear", None)) is not None:
            await clear(gone, owner)
            await store.append(gone, numbered(0), owner)
            assert (await info_of(store, gone, owner)).tags == ()
        assert deleted not in await listed(store, owner, tag="work")
        assert kept in await listed(store, owner, shelved=True)
        await pruned(store, kept)
        assert await store.tags(owner) == {}
        await store.append(kept, numbered(0), owner)
        info = await info_of(store, kept, owner)
        assert (info.tags, info.pinned, info.metadata) == ((), False, {})
        assert await listed(store, owner, metadata=LABELS["metadata"]) == []

    async def test_pairs_are_the_texts_in_the_metadata(self, store: LabelStore) -> None:
        """The application's other values stay, and who sets all metadata sets the pairs."""
        session_id, owner = new_id(), new_id()
        await store.set_metadata(session_id, {"state": {"n": [1]}, "old": "pair"}, owner)
        assert await listed(store, owner, metadata={"old": "pair"}) == []
        await store.append(session_id, numbered(0), owner)
        assert await listed(store, owner, metadata={"old": "pair"}) == [session_id]
        await store.label(session_id, owner, metadata={"new": "pair"})
        assert await store.find_metadata(session_id, owner) == {"new": "pair", "state": {"n": [1]}}
        assert await listed(store, owner, metadata={"old": "pair"}) == []
        assert (await info_of(store, session_id, owner)).metadata == {"new": "pair"}
        with pytest.raises(InvalidLabel, match="metadata"):
            await store.label(session_id, owner, metadata={"state": "x"})
        await store.set_metadata(session_id, {"again": "x", "state": 1}, owner)
        assert await listed(store, owner, metadata={"again": "x"}) == [session_id]
        assert await listed(store, owner, metadata={"new": "pair"}) == []
        await store.set_metadata(session_id, {"state": 2}, owner)
        assert await listed(store, owner, metadata={"again": "x"}) == []
        assert (await info_of(store, session_id, owner)).metadata == {}


@pytest.mark.anyio
class LabelArguments:
    """What a store refuses before it asks its database."""

    @pytest.mark.parametrize(
        "labels",
        [
            {"tags": [""]},
            {"tags": ["x" * 65]},
            {"tags": [" \n "]},
            {"tags": ["a\0"]},
            {"tags": ["a\x07b"]},
            {"tags": ["\ud800"]},
            {"tags": [7]},
            {"tags": [f"t{number}" for number in range(33)]},
            {"tags": "work"},
            {"add_tags": "work"},
            {"add_tags": ["x" * 65]},
            {"remove_tags": [""]},
            {"pinned": 1},
            {"shelved": "yes"},
            {"title": "x" * 501},
            {"title": 7},
            {"metadata": {f"k{number}": "" for number in range(17)}},
            {"metadata": {"k" * 65: ""}},
            {"metadata": {"k": "v" * 513}},
            {"metadata": {"k": 1}},
            {"metadata": {1: "v"}},
            {"metadata": {"k": "\0"}},
            {"metadata": [("k", "v")]},
        ],
        ids=lambda labels: json.dumps(labels, default=str)[:30],
    )
    async def test_what_is_no_label_is_refused(
        self, store: LabelStore, labels: dict[str, Any]
    ) -> None:
        """What not every store can keep is an error, and nothing is changed."""
        session_id = await stored(store, 1)
        with pytest.raises((TypeError, ValueError)):
            await store.label(session_id, **labels)
        info = await info_of(store, session_id)
        assert (info.title, info.tags, info.pinned, info.metadata) == (None, (), False, {})

    async def test_a_session_has_so_many_tags(self, store: LabelStore) -> None:
        """32 tags of 64 characters are added, in one go or in several, and no more."""
        session_id = await stored(store, 1)
        tags = [f"{number:02}" + "\U0001f3d4" * 62 for number in range(32)]
        await store.label(session_id, tags=tags[:20])
        await store.label(session_id, add_tags=tags[10:])
        with pytest.raises(InvalidLabel, match="tags"):
            await store.label(session_id, add_tags=["one more"], pinned=True)
        info = await info_of(store, session_id)
        assert (info.tags, info.pinned) == (tuple(tags), False)

    @pytest.mark.parametrize(
        "wanted",
        [
            {"order": "title"},
            {"order": None},
            {"tag": ""},
            {"tag": ["x" * 65]},
            {"pinned": 0},
            {"shelved": "no"},
            {"metadata": {"k": None}},
            {"metadata": "k"},
        ],
        ids=str,
    )
    async def test_what_no_session_has_is_not_looked_for(
        self, store: LabelStore, wanted: dict[str, Any]
    ) -> None:
        """A filter that no session could match, or an unknown order, is an error."""
        with pytest.raises((TypeError, ValueError)):
            await store.list(new_id(), **wanted)

    async def test_a_cursor_belongs_to_its_order(self, store: LabelStore) -> None:
        """A cursor of one order is refused by another, and so is what is none."""
        owner = new_id()
        for _ in range(3):
            await stored(store, 1, owner)
        pinned, updated = await store.list(owner, 1, order="pinned"), await store.list(owner, 1)
        with pytest.raises(ValueError, match="cursor"):
            await store.list(owner, 1, pinned.cursor)
        for cursor in (updated.cursor, "x"):
            with pytest.raises(ValueError, match="cursor"):
                await store.list(owner, 1, cursor, order="pinned")
        with pytest.raises(ValueError, match="title"):
            await store.append(new_id(), numbered(0), title="x" * 501)


class LabelContract(LabelOperations, LabelArguments):
    """All of a `LabelStore`'s contract."""
