"""What a `SearchStore` promises; the store is a `MessageStore` that was made with search, too."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hermes_session_mw import InvalidKey, SearchStore
from hermes_session_mw.testing.helpers import new_id

Place = tuple[str, int]
"""A session's id, and the index of a message in it."""

TEXTS = ("How is the weather 天气预报 today?", "the weather in Paris", "Ünïcode: Hermes-Agent",
         "AI is here. Don't be afraid", "今天天气很好", "parish wears", "Straße, oﬃce")  # fmt: skip

FOUND: dict[str, list[int]] = {
    "weather": [0, 1],
    "WEATHER paris": [1],
    '"the weather"': [0, 1],
    '"weather the"': [],
    '"weath"': [],
    "ther": [0, 1],
    "天气": [0, 4],
    "天": [0, 4],
    "预报": [0],
    "报预": [],
    "天气 wea": [0],
    "unicode": [2],
    "strasse office": [6],
    "hermes-agent": [2],
    "ai": [3],
    "a*": [],
    "par wea": [1, 5],
    "don't": [3],
    "nothing": [],
    "": [],
    "?!": [],
}
"""What each query finds among `TEXTS`."""

OPERATORS = ('"', 'a"b', "NEAR(a b)", "words:a", "a AND", "OR", "-a", "a*", "^a", "{a}", "a + b",
             "(", "a:*", "a & | !b", "<->", "+a -b @3", "~a >b <c", "'; DROP TABLE a; --",
             "a\0b", "%", "_", "\\", "🙂", "\u202e", "' OR 1=1 --")  # fmt: skip
WITH_OTHER_WORDS = {"NEAR(a b)", "words:a", "a AND", "OR", "+a -b @3", "~a >b <c"} | {
    "'; DROP TABLE a; --", "' OR 1=1 --"
}  # fmt: skip
WITHOUT_WORDS = {'"', "(", "<->", "%", "_", "\\", "🙂", "\u202e"}


def user(content: str) -> dict[str, Any]:
    """Return a user's message."""
    return {"role": "user", "content": content}


async def found(store: Any, owner: str, query: str, **filters: Any) -> list[Place]:
    """Return what a search finds, on all pages, by session and index."""
    places: list[Place] = []
    cursor: str | None = None
    while True:
        page = await store.search(owner, query, cursor=cursor, **filters)
        places += [(hit.session_id, hit.index) for hit in page.hits]
        cursor = page.cursor
        if cursor is None:
            return sorted(places)


@pytest.mark.anyio
class SearchOperations:
    """Messages are found by their words, as long as they are in a history."""

    async def test_it_is_a_search_store(self, store: Any) -> None:
        """The store has the protocol's method."""
        assert isinstance(store, SearchStore)

    async def test_messages_are_found_by_their_words(self, store: Any) -> None:
        """Whole words, parts of them, phrases and scripts without spaces are found, in any case."""
        owner, other = new_id(), new_id()
        await store.append("a", [user(each) for each in TEXTS], owner)
        await store.append("b", [user("the weather, 天气, unicode of somebody else")], other)
        for query, expected in FOUND.items():
            assert await found(store, owner, query) == [("a", each) for each in expected], query
        assert await found(store, new_id(), "weather") == []

    async def test_a_hit_tells_where_it_is_and_what_was_found(self, store: Any) -> None:
        """It has the session, its title, the turn, the index, the time, a snippet and a rank."""
        owner = new_id()
        answer = {"role": "assistant", "content": "a  needle\nin a haystack"}
        await store.append("a", [user("one"), answer], owner, "t1")
        await store.rename("a", "Hay", owner)
        (hit,) = (await store.search(owner, "needle stack")).hits
        assert (hit.session_id, hit.title, hit.turn_id, hit.index) == ("a", "Hay", "t1", 1)
        assert hit.role == "assistant"
        assert abs(datetime.now(UTC) - hit.created_at) < timedelta(minutes=5)
        assert hit.snippet == "a  needle in a haystack"
        assert [hit.snippet[start:end] for start, end in hit.marks] == ["needle", "stack"]
        assert 0 < hit.rank < 1

    async def test_filters(self, store: Any) -> None:
        """A session, a role and a time restrict what is found."""
        owner = new_id()
        await store.append("a", [user("needle"), {"role": "tool call", "content": "x"}], owner)
        await store.append("a", [{"role": "assistant", "content": "needle"}], owner)
        await store.append("b", [user("needles")], owner)
        later = datetime.now(UTC) + timedelta(hours=1)
        for query in ("needle", "eedle"):
            assert await found(store, owner, query) == [("a", 0), ("a", 2), ("b", 0)]
            assert await found(store, owner, query, session_id="b") == [("b", 0)]
            assert await found(store, owner, query, session_id="c") == []
            assert await found(store, owner, query, role="assistant") == [("a", 2)]
            assert await found(store, owner, query, role="USER") == []
            assert await found(store, owner, query, role="no\0such" * 50) == []
            assert await found(store, owner, query, since=later) == []
            assert len(await found(store, owner, query, since=later - timedelta(hours=2))) == 3

    async def test_whatever_changes_a_history_changes_what_is_found(self, store: Any) -> None:
        """What leaves a history is found no longer; what comes into one is, in its place."""
        owner, other = new_id(), new_id()
        await store.append("a", [user("first needle")], owner)
        await store.append("a", [user("second needle")], owner, message_ids=["m1"])
        assert await found(store, owner, "needle") == [("a", 0), ("a", 1)]
        await store.append("a", [user("third needle")], owner, replace_from=1)
        assert await found(store, owner, "second") == []
        assert await found(store, owner, "third") == [("a", 1)]
        await store.fork("a", "b", owner, 1)
        assert await found(store, owner, "needle") == [("a", 0), ("a", 1), ("b", 0)]
        await store.pop("a", 1, owner)
        assert await found(store, owner, "needle") == [("a", 0), ("b", 0)]
        history = await store.load("a", owner)
        await store.append("a", [user("hay")], owner)
        await store.compact("a", history.messages, [user("a summary of straw")], owner)
        assert await found(store, owner, "needle") == [("b", 0)]
        assert await found(store, owner, "straw") == [("a", 0)]
        assert await found(store, owner, "hay") == [("a", 1)]
        assert await store.rotate("b", "c", owner, other)
        assert await found(store, owner, "needle") == []
        assert await found(store, other, "needle") == [("c", 0)]
        await store.import_(await store.export("c", other), owner, "d")
        assert await found(store, owner, "needle") == [("d", 0)]
        await store.rewind("d", 0, owner)
        assert await found(store, owner, "needle") == []
        assert await store.delete("c", other)
        assert await found(store, other, "needle") == []
        assert await store.clear("a", owner)
        assert await found(store, owner, "straw") == []
        await store.append("e", [user("needle")], owner)
        await store.erase_owner(owner)
        assert await found(store, owner, "needle") == []

    async def test_pages_have_each_match_once(self, store: Any) -> None:
        """Whole words come before parts of words, whatever is stored between two pages."""
        owner, chance = new_id(), random.Random(7)
        expected = {True: set[Place](), False: set[Place]()}
        for number in range(40):
            word = "needle" if number % 3 else "needlework"
            filler = " hay" * chance.randrange(30)
            length = await store.append(f"s{number % 4}", [user(f"{word}{filler}")], owner)
            expected[bool(number % 3)].add((f"s{number % 4}", length - 1))
        told: list[Place] = []
        cursor: str | None = None
        while True:
            page = await store.search(owner, "needle", 3, cursor)
            told += [(hit.session_id, hit.index) for hit in page.hits]
            assert len(page.hits) <= 3
            cursor = page.cursor
            if cursor is None:
                break
            await store.append("new", [user("needle, stored later")], owner)
        assert len(told) == len(set(told))
        # A database that keeps whole seconds tells what it stored in that of the first page, too.
        told = [each for each in told if each[0] != "new"]
        whole = len(expected[True])
        assert len(told) == 40
        assert set(told[:whole]) == expected[True]
        assert set(told[whole:]) == expected[False]

    async def test_the_best_come_first(self, store: Any) -> None:
        """A rank is the message's own, whatever others have; of those alike the newest is first."""
        owner = new_id()
        for content in ("cat dog dog dog", "cat cat", "cat dog dog dog"):
            await store.append("a", [user(content)], owner)
        hits = (await store.search(owner, "cat")).hits
        assert hits[0].index == 1
        assert hits[0].rank > hits[1].rank == hits[2].rank
        assert hits[1].created_at >= hits[2].created_at
        await store.append("b", [user("cat " * 50)], new_id())
        await store.append("b", [user("dog")], owner)
        assert [hit.rank for hit in (await store.search(owner, "cat")).hits] == [
            hit.rank for hit in hits
        ]

    async def test_operators_are_text(self, store: Any) -> None:
        """No character of a query means anything but itself, beside the quotation mark."""
        owner = new_id()
        await store.append("a", [user("needle a b")], owner)
        for query in OPERATORS:
            finds = query not in WITH_OTHER_WORDS | WITHOUT_WORDS
            assert bool(await found(store, owner, query)) == finds, query

    async def test_long_phrases_and_roles_are_found(self, store: Any) -> None:
        """A phrase as long as a query is found, and messages by a role that is cut or has NUL."""
        owner, phrase = new_id(), "".join(map(chr, range(0x4E00, 0x4F00)))
        messages = [{"role": role, "content": phrase} for role in ("user", "é" * 200, "a\0b")]
        await store.append("a", messages, owner)
        for message in messages:
            page = await store.search(owner, phrase, role=message["role"])
            assert [hit.role for hit in page.hits] == [message["role"]]
        assert await found(store, owner, phrase[:-1] + "天") == []

    async def test_tool_output_and_pictures_are_left_out(self, store: Any) -> None:
        """What a tool returned, and a picture's URL, are found only where they are asked for."""
        owner = new_id()
        parts = [
            {"type": "text", "text": "look at this"},
            {"type": "image_url", "image_url": {"url": "https://host.example/needle.png"}},
        ]
        await store.append(
            "a", [{"role": "tool", "content": "needle"}, {"role": "user", "content": parts}], owner
        )
        assert await found(store, owner, "needle") == []
        assert await found(store, owner, "look") == [("a", 1)]


@pytest.mark.anyio
class SearchArguments:
    """What a store refuses before it asks its database."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("query", "a" * 257),
            ("limit", 0),
            ("limit", 101),
            ("cursor", "x"),
            ("since", datetime(2026, 1, 1)),  # noqa: DTZ001  # what is refused
            ("role", "\ud800"),
        ],
    )
    async def test_values_that_are_refused(self, store: Any, name: str, value: Any) -> None:
        """A query that is too long, an empty page, a time without a zone: each is named."""
        given: dict[str, Any] = {"owner": new_id(), "query": "a", name: value}
        with pytest.raises(ValueError, match=name):
            await store.search(**given)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("query", None),
            ("query", b"a"),
            ("role", 5),
            ("limit", 1.5),
            ("limit", True),
            ("since", 5),
        ],
    )
    async def test_types_that_are_refused(self, store: Any, name: str, value: Any) -> None:
        """A value of another type is a ``TypeError`` that names its argument."""
        given: dict[str, Any] = {"owner": new_id(), "query": "a", name: value}
        with pytest.raises(TypeError, match=name):
            await store.search(**given)

    async def test_keys_that_are_refused(self, store: Any) -> None:
        """No session can have such an owner, or such an id."""
        with pytest.raises(InvalidKey):
            await store.search("o" * 1000, "a")
        with pytest.raises(InvalidKey):
            await store.search("", "a", session_id="")

    async def test_a_cursor_is_for_its_query(self, store: Any) -> None:
        """The cursor of another query's page is refused; a lone surrogate keeps none from going."""
        owner = new_id()
        await store.append("a", [user("needle")] * 3, owner)
        page = await store.search(owner, "needle", 1)
        with pytest.raises(ValueError, match="cursor"):
            await store.search(owner, "need", 1, page.cursor)
        page = await store.search(owner, "\ud800 needle", 1)
        assert (await store.search(owner, "\ud800 needle", 1, page.cursor)).hits


class SearchContract(SearchOperations, SearchArguments):
    """What a `SearchStore` promises; a subclass has the fixture ``store``, made with search."""
