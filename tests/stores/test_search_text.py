"""What is searched of a message, what a query means, and where its words are in a text."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw import SearchOptions
from hermes_session_mw.stores import search_text
from hermes_session_mw.stores.search import Place, decode_place, encode_place
from hermes_session_mw.stores.search_text import (
    MAX_TEXT,
    MAX_WORD,
    MAX_WORDS,
    fold,
    is_match,
    key_of,
    key_word,
    padded,
    parse_query,
    rank_of,
    searchable_text,
    snippet_of,
    words_of,
)

# Letters of several scripts, marks, symbols, spaces, and what FTS5, tsquery and boolean mode read.
TEXTS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("aábAB 天气預報ไทยकि한국が-\"'*():^+~<>@&|!%_\\\n"),
    ),
    max_size=60,
)


def finds(query: str, text: str, *, parts: bool = True) -> bool:
    return is_match(parse_query(query), padded(words_of(text)), parts=parts)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("hello", "Well, HELLO there"),
        ("there hello", "hello there"),
        ('"hello there"', "hello, there"),
        ("creme brulee", "Crème Brûlée"),
        ("crème", "creme"),
        ("STRASSE", "Straße"),
        ("office", "oﬃce"),
        ("天气", "今天天气很好"),
        ("天", "今天"),
        ("气", "天气很好"),
        ("天气很", "今天天气很好"),
        ("東京 駅", "東京の駅で"),
        ("がっこう", "がっこうへ行く"),
        ("สวัสดี", "สวัสดีครับ"),
        ("학교", "학교에서 만나요"),
        ("हिन्दी", "मेरी हिन्दी अच्छी है"),
        ("天气abc", "今日天气abc"),
        ("ermes", "the Hermes agent"),
        ("don't", "I don't know"),
        ("don\u2019t", "I don't know"),
        ("hermes-agent", "Hermes Agent"),
        ("a", "a b"),
        ("ai", "what AI is"),
        ("foo@example.com", "write to foo@example.com"),
        ("AND", "this and that"),
        ('"unclosed quote', "an unclosed quote"),
        ("x" * 100, "x" * 100),
    ],
)
def test_a_query_finds(query: str, text: str) -> None:
    """Case, accents, compatibility forms and scripts without spaces make no difference."""
    assert finds(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("hello", "help"),
        ("hello there", "hello"),
        ('"hello there"', "there hello"),
        ('"hel"', "hello"),
        ("el", "hello"),  # too short for a part of a word
        ("天好", "今天天气很好"),
        ("lot", "hello there"),  # no part goes over the end of a word
        ("NOT hello", "hello"),  # no operator
        ("hel*", "h"),
    ],
)
def test_a_query_does_not_find(query: str, text: str) -> None:
    """All words have to be there, and what is in quotation marks as it stands."""
    assert not finds(query, text)


@pytest.mark.parametrize("query", ["", "   ", '"', '""', "*", "()", "+-~<>", "🙂"])
def test_a_query_without_words_has_no_terms(query: str) -> None:
    """Symbols alone ask for nothing."""
    assert parse_query(query) == ()


@given(TEXTS)
def test_every_text_is_found_by_its_own_words(text: str) -> None:
    """Whatever somebody copies out of a message finds it, also in quotation marks."""
    bare = re.sub('["“”„«»]', " ", text)
    assert finds(bare, bare, parts=False)
    assert finds(f'"{bare}"', bare, parts=False)


@given(TEXTS)
def test_words_have_no_character_that_an_index_reads(text: str) -> None:
    """No word has a space, an operator, a quotation mark or a key's characters in it."""
    for word in (*words_of(text), *(each for term in parse_query(text) for each in term.words)):
        assert word
        assert not re.search(r"[\x00-\x2f\x3a-\x60\x7b-\x7f\s\ue000-\uf8ff]", word)
        assert len(word) <= MAX_WORD


@given(TEXTS)
def test_folding_twice_changes_nothing(text: str) -> None:
    """A word that was folded stays as it is."""
    assert fold(fold(text)) == fold(text)


@given(TEXTS, TEXTS)
def test_marks_are_places_in_the_snippet(text: str, query: str) -> None:
    """They are in order, do not overlap, and stand in the snippet, which has one line."""
    snippet, marks = snippet_of(text, parse_query(query))
    ends = [0, *(place for mark in marks for place in mark), len(snippet)]
    assert ends == sorted(ends)
    assert all(start < end for start, end in marks)
    assert "\n" not in snippet


@given(st.text("abcdefgh ", min_size=1, max_size=400), st.integers(0, 400))
def test_what_is_found_is_marked(text: str, place: int) -> None:
    """A word of the text is marked as it stands there, wherever that is."""
    words = text.split()
    if words:
        wanted = words[place % len(words)]
        snippet, marks = snippet_of(text, parse_query(wanted))
        assert wanted in {snippet[start:end] for start, end in marks}


def test_a_snippet_is_cut_around_the_first_mark() -> None:
    """It begins a few words before, is no longer than a few lines, and says where it was cut."""
    text = "begin " + "filler " * 100 + "needle" + " straw" * 100
    snippet, ((start, end),) = snippet_of(text, parse_query("needle"))
    assert snippet[start:end] == "needle"
    assert snippet.startswith("…filler")
    assert snippet.endswith("straw…")
    assert len(snippet) < 220


def test_a_rank_is_higher_for_more_and_for_shorter() -> None:
    """Whole words count more than parts, more of them more, and a short text more."""
    query = parse_query("cat")
    texts = ["cat cat", "cat", "cat " + "dog " * 100, "concatenate " + "dog " * 100]
    ranks = [rank_of(query, padded(words_of(each))) for each in texts]
    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) == len(ranks)
    assert min(ranks) > 0


@pytest.mark.parametrize(
    ("message", "options", "text"),
    [
        ({"role": "user", "content": "hi"}, SearchOptions(), "hi"),
        ({"content": "hi"}, SearchOptions(), "hi"),
        ({"content": [{"type": "text", "text": "a"}, "b"]}, SearchOptions(), "a\nb"),
        ({"content": [{"type": "refusal", "refusal": "no"}]}, SearchOptions(), "no"),
        ({"role": "tool", "content": "secret"}, SearchOptions(), ""),
        ({"role": "tool", "content": "secret"}, SearchOptions(tool_output=True), "secret"),
        ({"content": [{"type": "tool_result", "content": "x"}]}, SearchOptions(), ""),
        (
            {"role": "user", "content": [{"type": "tool_result", "content": "x"}]},
            SearchOptions(tool_output=True),
            "x",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]},
            SearchOptions(),
            "",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"arguments": "args"}}]},
            SearchOptions(tool_output=True),
            "args",
        ),
        (
            {"role": "user", "content": [{"image_url": {"url": "https://a.b/cat.png"}}]},
            SearchOptions(),
            "",
        ),
        (
            {"role": "user", "content": [{"image_url": {"url": "https://a.b/cat.png"}}]},
            SearchOptions(pictures=True),
            "https://a.b/cat.png",
        ),
        (
            {"role": "user", "content": [{"image_url": {"url": "data:image/png;base64,AAAA"}}]},
            SearchOptions(pictures=True),
            "",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"filename": "cv.pdf"}}]},
            SearchOptions(pictures=True),
            "cv.pdf",
        ),
        ({"role": 7, "content": {"a": 1}}, SearchOptions(), ""),
        ({"n": 1}, SearchOptions(), ""),
    ],
)  # fmt: skip
def test_what_is_searched_of_a_message(
    message: dict[str, Any], options: SearchOptions, text: str
) -> None:
    """Its texts are; tool output and pictures if they are asked for, and embedded data never."""
    assert searchable_text(message, options)[1] == text


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=4)
    | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "tool_calls", "url",
                                       "image_url", "file", "function", "arguments"]), inside),
    max_leaves=12,
))  # fmt: skip
def test_any_message_has_a_text(value: Any) -> None:
    """A message of any form is read, and never raises."""
    message = value if isinstance(value, dict) else {"content": value}
    for options in (SearchOptions(), SearchOptions(tool_output=True, pictures=True)):
        role, text = searchable_text(message, options)
        assert isinstance(role, str)
        assert isinstance(text, str)


def test_a_long_message_is_indexed_from_its_beginning() -> None:
    """The words of an index have an end, and so has a word."""
    assert len(words_of("a " * MAX_WORDS * 2)) == MAX_WORDS
    assert len(words_of("天" * MAX_WORDS * 2)) == MAX_WORDS
    assert words_of("é" * MAX_WORD * 2) == ["e" * MAX_WORD]
    assert sum(map(len, words_of("word" * MAX_TEXT))) <= MAX_TEXT


def test_keys_are_of_characters_that_no_word_has() -> None:
    """Each kind has keys of its own, and all of them are three characters long."""
    keys = {key_of(kind, value) for kind in "osr" for value in ("", "a", "b")}
    assert len(keys) == 9
    assert {len(key_word(key)) for key in keys} == {3}
    assert words_of(" ".join(map(key_word, keys))) == []


PLACE = Place(1, 2, 3, None, 4, 5, "s", 6)


def test_a_cursor_leads_to_its_place() -> None:
    """A cursor is for its own query alone."""
    for place in (PLACE, PLACE._replace(lowest=-(2**62))):
        assert decode_place(encode_place(place, "天"), "天") == place
    with pytest.raises(ValueError, match="cursor"):
        decode_place(encode_place(PLACE, "a"), "b")


@given(st.one_of(st.text(max_size=80), st.binary(max_size=60).map(lambda raw: raw.hex())))
def test_any_other_cursor_is_refused(cursor: str) -> None:
    """What no page has told raises ValueError."""
    with pytest.raises(ValueError, match="cursor"):
        decode_place(cursor, "a")


@pytest.mark.parametrize(
    "wrong", [{"parts": 2}, {"until": 1.0}, {"above": None}, {"session_id": None}, {"seq": True},
              {"lowest": 2**70}]
)  # fmt: skip
def test_a_cursor_with_another_value_is_refused(wrong: dict[str, Any]) -> None:
    """A cursor that somebody has changed raises ValueError."""
    with pytest.raises(ValueError, match="cursor"):
        decode_place(encode_place(PLACE._replace(**wrong), "a"), "a")


@pytest.mark.parametrize(
    ("text", "query"), [("\u00df" * 50_000, "sss"), ("a" + "\u0301" * 50_000, "a")]
)
def test_a_snippet_of_a_word_without_an_end_has_one(text: str, query: str) -> None:
    """A word whose characters have no places of their own is marked as far as it is shown."""
    snippet, ((start, end),) = snippet_of(text, parse_query(query))
    assert 0 <= start < end <= len(snippet) < 1000


def test_a_snippet_of_a_long_query_compares_few_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word is compared with the terms that can end with it, not with all of a query."""
    asked = 0
    spans_of = search_text._spans_of

    def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return spans_of(*arguments)

    monkeypatch.setattr(search_text, "_spans_of", counted)
    words = [a + b for a in "abcdefgh" for b in "ijklmnop"]
    shown, marks = snippet_of("x y " * 4000 + " ".join(words), parse_query(" ".join(words)))
    assert [shown[start:end] for start, end in marks][:2] == words[:2]
    assert asked < 200
