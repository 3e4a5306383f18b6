"""What is searched of a message, what a query means, and where its words are in a text.

Rules of this file: pure functions, and no database. Both a message and a query become *words* here,
which the databases' indexes take as they are: so every database finds the same.

A text is folded first: case, accents and compatibility forms are removed (``fold``). Its words are
the runs of letters, digits and marks. Scripts without spaces between words, and Korean, are indexed
by pairs of characters: "天气好" as "天气", "气好" and "好".
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

from hermes_session_mw.messages import Message, chat_message
from hermes_session_mw.stores.search import SearchOptions

MAX_WORDS = 16_000
"""Words of a message that are indexed, from its beginning: PostgreSQL counts no further."""

MAX_TEXT = 150_000
"""Characters of a message that are indexed, from its beginning: so PostgreSQL takes their words."""

MAX_BYTES = 600_000
"""Bytes of UTF-8 of a message's words that are indexed, as some characters fold to many:
PostgreSQL takes 1,048,575 of them with their places."""

MAX_WORD = 64
"""Characters of a word that count; what follows is not searched."""

RANKED = 8_000
"""Characters of a message's words that its rank is counted in, from its beginning."""

LEAST_PART = 3
"""Characters that a part of a word must have to be found."""

SNIPPET = 200
"""Characters of a snippet, about."""

_LONGEST_SNIPPET = 3 * SNIPPET  # what a long phrase may take, and no word without an end

_PAIR = 2
_SIMPLE = ("user", "assistant")
# For texts of ASCII: no case, and a space for each character but a letter or a digit.
_FOLDED = bytes(ord(chr(each).lower()) if chr(each).isalnum() else 32 for each in range(128))
_ASCII = _FOLDED + bytes(128)
_BEFORE = 60  # of these, before the first mark

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_FREE_MARKS = re.compile("[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670]")


def _marks() -> str:
    """Return a character class's inside of the marks that are part of words."""
    places = (*range(0x300, 0x1D00), *range(0x1DC0, 0x1E00), 0x3099, 0x309A)
    places = (*places, *range(0xA66F, 0xAC00))
    return "".join(chr(each) for each in places if unicodedata.category(chr(each))[0] == "M")


_RUN = re.compile(rf"(?:[^\W_]|[{_marks()}])+")
_SCRIPTS = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that a message has to have: words that follow each other.

    Attributes:
        words: the words, folded.
        is_prefix: whether the last one is only how a word begins: a single character of a script
            without spaces.
        part: what a word may have in it instead, of three characters or more; None if no part of a
            word is enough.
    """

    words: tuple[str, ...]
    is_prefix: bool = False
    part: str | None = None


Query = tuple[Term, ...]


def searchable_text(message: Message, options: SearchOptions) -> tuple[str, str]:
    """Return a message's role and its text; the text is "" if nothing of it is searched."""
    chat = chat_message(message)
    if chat is None:
        return "", ""
    role = chat.get("role")
    content = chat.get("content")
    if role in _SIMPLE and type(content) is str and not options.tool_output:
        return str(role), content
    role = role if isinstance(role, str) else ""
    is_output = role in ("tool", "function") or str(chat.get("type", "")).endswith("_output")
    texts = [] if is_output and not options.tool_output else [*_texts(content, options)]
    if options.tool_output:
        texts += _tool_texts(chat)
    return role, "\n".join(texts)


def _texts(content: Any, options: SearchOptions) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, str):
                yield part
            elif isinstance(part, dict):
                yield from _part_texts(part, options)


def _part_texts(part: dict[str, Any], options: SearchOptions) -> Iterator[str]:
    if "tool_result" in str(part.get("type", "")):
        if options.tool_output:
            yield from _texts(part.get("content"), options)
        return
    for name in ("text", "refusal"):
        if isinstance(part.get(name), str):
            yield part[name]
    if options.pictures:
        yield from _picture_texts(part)


def _picture_texts(part: dict[str, Any]) -> Iterator[str]:
    """Yield the URLs and file names in a part, but no embedded data."""
    for name in ("image_url", "url", "filename", "file"):
        value = part.get(name)
        if isinstance(value, str) and not value.startswith("data:"):
            yield value
        elif isinstance(value, dict):
            names = (value.get("url"), value.get("filename"))
            yield from (
                each for each in names if isinstance(each, str) and not each.startswith("data:")
            )


def _tool_texts(message: Message) -> Iterator[str]:
    calls = message.get("tool_calls")
    found = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(
        calls, list
    ) else []  # fmt: skip
    for each in (*found, message):
        if isinstance(each, dict):
            for name in ("arguments", "output"):
                if isinstance(each.get(name), str):
                    yield each[name]


def fold(text: str) -> str:
    """Return the text without case, accents and compatibility forms."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    # Once more, as a compatibility form may be of an upper case.
    bare = _FREE_MARKS.sub("", decomposed).casefold()
    return unicodedata.normalize("NFC", bare)


def words_of(text: str) -> list[str]:
    """Return the words of a text, as they are indexed."""
    return joined_words(text).split()


def joined_words(text: str) -> str:
    """Return the words of a text, as they are indexed, with a space between them."""
    text = text[:MAX_TEXT]
    if text.isascii():
        return _joined_ascii(text)
    folded = fold(text)
    if folded.isascii():
        return _joined_ascii(folded)
    words: list[str] = []
    for run in _RUN.finditer(folded):
        words += _words_of_run(run[0])
        if len(words) >= MAX_WORDS:
            break
    return " ".join(_within_bytes(words[:MAX_WORDS]))


def _within_bytes(words: list[str]) -> list[str]:
    # A word has four bytes for each of its characters at most.
    if len(words) * MAX_WORD * 4 <= MAX_BYTES or sum(map(len, words)) * 4 <= MAX_BYTES:
        return words
    ends = accumulate(len(each.encode()) for each in words)
    return words[: sum(1 for end in ends if end <= MAX_BYTES)]


def _joined_ascii(text: str) -> str:
    """Return the words of a text of ASCII; without a list of them, as each append needs it."""
    joined = text.encode().translate(_ASCII).strip()
    while b"  " in joined:
        joined = joined.replace(b"  ", b" ")
    if len(joined) > MAX_WORDS or _has_long_word(joined):
        words = joined.split(maxsplit=MAX_WORDS)[:MAX_WORDS]
        return b" ".join([each[:MAX_WORD] for each in words]).decode()
    return joined.decode()


def _has_long_word(joined: bytes) -> bool:
    """Tell whether a word has more than `MAX_WORD` characters."""
    start = 0
    while len(joined) - start > MAX_WORD:
        start = joined.rfind(b" ", start, start + MAX_WORD + 1) + 1
        if not start:
            return True
    return False


def _words_of_run(run: str) -> list[str]:
    if not _IS_UNSPACED.search(run):
        return [run[:MAX_WORD]]
    words = []
    for piece in _SCRIPTS.findall(run):
        if _IS_UNSPACED.match(piece):
            words += [piece[at : at + 2] for at in range(len(piece))]
        else:
            words.append(piece[:MAX_WORD])
    return words


def parse_query(text: str) -> Query:
    """Return the terms of a query; the same one once."""
    terms: list[Term] = []
    # What is between the first and the second quotation mark, and so on, is a phrase.
    for number, part in enumerate(re.split('["\u201c\u201d\u201e\u00ab\u00bb]', text)):
        pieces = [part] if number % 2 else part.split()
        terms += [
            term for piece in pieces for term in [_term(piece, exact=bool(number % 2))] if term
        ]
    return tuple(dict.fromkeys(terms))


def _term(text: str, *, exact: bool) -> Term | None:
    runs = _RUN.findall(fold(text))
    words = [word for run in runs for word in _words_of_run(run)]
    if not words:
        return None
    is_prefix = len(words[-1]) == 1 and bool(_IS_UNSPACED.match(words[-1]))
    # A text that goes on has other pairs from its last character on.
    if is_prefix and len(words) > 1 and words[-2].endswith(words[-1]) and len(words[-2]) == _PAIR:
        words, is_prefix = words[:-1], False
    is_part = not exact and len(words) == 1 and not _IS_UNSPACED.search(words[0])
    part = words[0] if is_part and len(words[0]) >= LEAST_PART else None
    return Term(tuple(words), is_prefix, part)


def padded(words: Sequence[str]) -> str:
    """Return the words as one text, in which each has a space before it and after it."""
    return f" {' '.join(words)} "


def is_match(query: Query, text: str, *, parts: bool) -> bool:
    """Tell whether a `padded` text has all terms; with ``parts``, parts of words are enough."""
    return all(_has(term, text) or (parts and _has_part(term, text)) for term in query)


def wanted_in(term: Term) -> str:
    """Return what a `padded` text has in it if it has the term's words."""
    end = "" if term.is_prefix else " "
    return f" {' '.join(term.words)}{end}"


def _has(term: Term, text: str) -> bool:
    return wanted_in(term) in text


def _has_part(term: Term, text: str) -> bool:
    return term.part is not None and term.part in text


def rank_of(query: Query, text: str) -> int:
    """Return how well a `padded` text matches, in millionths: as BM25 counts, but for rarity.

    It is above 0 for every text that matches. How rare a word is in other messages is not asked, so
    that no message has a part in another's rank, and a cursor stays true.
    """
    length = 0.25 + 0.75 * len(text) / _USUAL
    total = 0.0
    for term in query:
        whole = text.count(wanted_in(term))
        inside = text.count(term.part) - whole if term.part is not None else 0
        found = max(whole + _INSIDE * max(inside, 0), _BEYOND)
        total += found / (found + _SATURATION * length)
    return max(int(1_000_000 * total / len(query)), 1)


_USUAL = 600  # characters of a message
_INSIDE = 0.3  # of a whole word
_BEYOND = 0.1  # found behind the part that is counted
_SATURATION = 1.2


@lru_cache(maxsize=4096)
def key_of(kind: str, value: str) -> int:
    """Return a number of 37 bits that stands for an owner, a session or a role in an index."""
    digest = hashlib.blake2b(f"{kind} {value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % _KEYS


_PRIVATE, _PRIVATE_SIZE = 0xE000, 6400  # Unicode's private use area: no word has such a character
_KEYS = _PRIVATE_SIZE**3


@lru_cache(maxsize=4096)
def key_word(key: int) -> str:
    """Return the number as three characters that no word has."""
    digits = key // _PRIVATE_SIZE**2, key // _PRIVATE_SIZE % _PRIVATE_SIZE, key % _PRIVATE_SIZE
    return "".join(chr(_PRIVATE + each) for each in digits)


Span = tuple[int, int]


def snippet_of(text: str, query: Query) -> tuple[str, tuple[Span, ...]]:
    """Return a part of the text with what was found first, and the places of what was found."""
    marks: list[Span] = []
    start, end = 0, SNIPPET
    for place, found in _found(text, query):
        if marks and place > end:
            break
        if found and not marks:
            start = _word_start(text, min(span[0] for span in found))
            end = max(start + SNIPPET, min(found[0][1], start + _LONGEST_SNIPPET))
        marks += found
    end = _word_end(text, start, end)
    before, after = ("…" if start else ""), ("…" if end < len(text) else "")
    shift = start - len(before)
    clipped = [(max(first, start) - shift, min(last, end) - shift) for first, last in marks]
    shown = before + _SPACE.sub(" ", text[start:end]) + after
    return shown, _merged([each for each in clipped if each[0] < each[1]])


def _found(text: str, query: Query) -> Iterator[tuple[int, list[Span]]]:
    """Yield the beginning of each word of the text, and the spans of the terms that end with it."""
    most = max((len(term.words) for term in query), default=1)
    # A long query has many terms, few of which can end with a word.
    ending: dict[str, list[Term]] = {}
    for term in query:
        ending.setdefault(term.words[-1], []).append(term)
    parts = [re.escape(term.part) for term in query if term.part is not None]
    has_part = re.compile("|".join(parts)).search if parts else None
    recent: list[tuple[str, int, int, bool]] = []
    for number, token in enumerate(_tokens(text)):
        if number >= MAX_WORDS:
            return
        recent = [*recent[1 - most :], token] if most > 1 else [token]
        word = token[0]
        terms: Iterable[Term] = query
        if has_part is None or not has_part(word):
            # A script's single character, the prefix of a pair, has a key of its own.
            terms = [*ending.get(word, ()), *(ending.get(word[0], ()) if word[1:] else ())]
        yield token[1], [span for term in terms for span in _spans_of(term, recent)]


def _tokens(text: str) -> Iterator[tuple[str, int, int, bool]]:
    """Yield each word, its span in the text, and whether each character has its own place."""
    for run in _RUN.finditer(text):
        folded = fold(run[0])
        exact = len(folded) == len(run[0])
        at = 0
        for word in _words_of_run(folded):
            is_pair = bool(_IS_UNSPACED.match(word))
            # The last one of its script has a single character.
            where = folded.find(word, at) if exact else -1
            if where < 0:
                yield word, run.start(), run.end(), False
                continue
            at = where + (1 if is_pair else len(word))
            yield word, run.start() + where, run.start() + where + len(word), True


def _spans_of(term: Term, recent: list[tuple[str, int, int, bool]]) -> Iterator[Span]:
    tail = recent[-len(term.words) :]
    *first, last = (token[0] for token in tail)
    *wanted_first, wanted = term.words
    is_same = last.startswith(wanted) if term.is_prefix else last == wanted
    if len(tail) == len(term.words) and is_same and first == wanted_first:
        word, start, end, exact = tail[-1]
        whole_end = start + len(wanted) if exact and term.is_prefix else end
        yield tail[0][1], whole_end
    elif term.part is not None and term.part in recent[-1][0]:
        word, start, end, exact = recent[-1]
        at = start + word.find(term.part)
        yield (at, at + len(term.part)) if exact else (start, end)


def _word_start(text: str, mark: int) -> int:
    """Return where a snippet begins: at a word's beginning, a few words before the mark."""
    start = max(mark - _BEFORE, 0)
    space = _SPACE.search(text, start, mark) if start else None
    return space.end() if space else start


def _word_end(text: str, start: int, end: int) -> int:
    if end >= len(text):
        return len(text)
    space = max(text.rfind(each, start, end) for each in " \n\t")
    return space if space > start + SNIPPET // 2 and space > end - _BEFORE else end


def _merged(spans: list[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return tuple(merged)
