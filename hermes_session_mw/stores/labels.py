"""Labels, which users sort their sessions by: tags, pinned, shelved, and pairs of metadata.

Rules of this file: pure functions and values; what a store does with them is in `LabelStore`.

A session is *shelved* if its user has put it away, which other chats call archived. (Here the
archive is of messages.) Nothing else becomes of it.

The *pairs* are the texts in the session's metadata. Other values there belong to the application,
such as an agent framework's state, and stay as they are.
"""

import json
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from types import EllipsisType
from typing import Any, Literal, get_args

from hermes_session_mw.exceptions import InvalidLabel
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.validation import check_text, check_title

MAX_TAGS = 32
"""Tags that a session may have."""

MAX_TAG = 64
"""Characters that a tag may have."""

MAX_PAIRS = 16
"""Pairs that a session's metadata may have, as in OpenAI's API."""

MAX_PAIR_KEY = 64
"""Characters that a pair's key may have."""

MAX_PAIR_VALUE = 512
"""Characters that a pair's value may have."""

MAX_LABEL = 40
"""Characters that a label's name in the tables has at most."""

PINNED = "pinned"
SHELVED = "shelved"
TAG = "tag:"
PAIR = "pair:"

Order = Literal["updated", "pinned"]
"""The order of a list: the last change first; or the pinned sessions first, and then so."""


Pairs = tuple[tuple[str, str], ...]
"""Keys and values of a session's metadata."""


@dataclass(frozen=True)
class Labels:
    """A session's labels.

    Attributes:
        tags: in the order of `tag_key`.
        pairs: the texts in its metadata.
    """

    tags: tuple[str, ...] = ()
    pinned: bool = False
    shelved: bool = False
    pairs: Pairs = ()

    @cached_property
    def names(self) -> frozenset[str]:
        """The labels' names in the tables, which filters compare: 40 characters at most."""
        names = {tag_name(tag) for tag in self.tags}
        names |= {pair_name(*pair) for pair in self.pairs}
        names |= {PINNED} if self.pinned else set()
        return frozenset(names | ({SHELVED} if self.shelved else set()))


@dataclass(frozen=True)
class LabelChange:
    """What ``label`` changes of a session; what is None, or ``...``, stays."""

    title: str | EllipsisType | None = ...
    tags: tuple[str, ...] | None = None
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    pinned: bool | None = None
    shelved: bool | None = None
    pairs: Mapping[str, str] | None = None

    def labels(self, before: Labels) -> Labels:
        """Return the session's labels after the change, but for its pairs.

        Raises:
            InvalidLabel: there are more than ``MAX_TAGS`` tags.
        """
        kept = before.tags if self.tags is None else self.tags
        removed = {*map(tag_key, self.remove_tags)}
        tags = joined(tag for tag in (*kept, *self.add_tags) if tag_key(tag) not in removed)
        return replace(
            before,
            tags=tags,
            pinned=before.pinned if self.pinned is None else self.pinned,
            shelved=before.shelved if self.shelved is None else self.shelved,
        )

    def metadata(self, before: Message | None) -> Message | None:
        """Return the session's metadata with other pairs: all else in it stays."""
        if self.pairs is None:
            return before
        kept = {name: each for name, each in (before or {}).items() if not isinstance(each, str)}
        for name in self.pairs:
            if name in kept:
                raise InvalidLabel("metadata: the application has a value of its own under a key")
        return {**self.pairs, **kept}


@dataclass(frozen=True)
class SessionFilter:
    """Which sessions a list has, and in which order.

    Attributes:
        names: the names of labels that a session has to have, the rarest kinds first.
        is_pinned, is_shelved: whether it may be pinned or shelved.
    """

    names: tuple[str, ...] = ()
    is_pinned: bool = True
    is_shelved: bool = True
    order: Order = "updated"

    @property
    def is_any(self) -> bool:
        """Whether every session is listed, in the order of lists without a filter."""
        return self == EVERY_SESSION

    @property
    def parts(self) -> tuple["SessionFilter | None", "SessionFilter | None"]:
        """The filters of its pinned sessions, and of the others; None for no session."""
        pinned = replace(self, names=(PINNED, *self.names), order="updated")
        others = replace(self, is_pinned=False, order="updated")
        if PINNED in self.names:
            return replace(self, order="updated"), None
        return pinned if self.is_pinned else None, others

    def matches(self, labels: Labels) -> bool:
        """Tell whether a session is listed."""
        if not labels.names.issuperset(self.names):
            return False
        return (self.is_pinned or not labels.pinned) and (self.is_shelved or not labels.shelved)


EVERY_SESSION = SessionFilter()
"""The filter of a list that has all sessions."""


def make_change(
    *,
    title: str | EllipsisType | None = ...,
    tags: Collection[str] | None = None,
    add_tags: Collection[str] = (),
    remove_tags: Collection[str] = (),
    pinned: bool | None = None,
    shelved: bool | None = None,
    metadata: Mapping[str, str] | None = None,
) -> LabelChange:
    """Return the change that the arguments of ``label`` make, once they are checked.

    Raises:
        TypeError: a flag is no bool, or ``tags`` is a str.
        InvalidLabel: a tag or a pair cannot be stored, or there are too many.
        ValueError: the title cannot be stored.
    """
    check_flag("pinned", pinned)
    check_flag("shelved", shelved)
    if not isinstance(title, EllipsisType):
        check_title(title)
    return LabelChange(
        title,
        None if tags is None else joined(clean_tags("tags", tags)),
        joined(clean_tags("add_tags", add_tags)),
        tuple(clean_tags("remove_tags", remove_tags)),
        pinned,
        shelved,
        None if metadata is None else check_pairs(metadata),
    )


def make_filter(
    *,
    tag: str | Collection[str] | None = None,
    pinned: bool | None = None,
    shelved: bool | None = None,
    metadata: Mapping[str, str] | None = None,
    order: Order = "updated",
) -> SessionFilter:
    """Return the filter that the arguments of ``list`` describe, once they are checked.

    Raises:
        TypeError: a flag is no bool.
        InvalidLabel: no session can have the tag or the pair.
        ValueError: there is no such order.
    """
    check_flag("pinned", pinned)
    check_flag("shelved", shelved)
    if order not in get_args(Order):
        raise ValueError(f"order: it is neither {' nor '.join(map(repr, get_args(Order)))}")
    tags = [tag] if isinstance(tag, str) else tag or ()
    names = [pair_name(*pair) for pair in check_pairs(metadata or {}).items()]
    names += [tag_name(each) for each in joined(clean_tags("tag", tags))]
    names += [PINNED] if pinned else []
    names += [SHELVED] if shelved else []
    return SessionFilter(
        tuple(names), is_pinned=pinned is not False, is_shelved=shelved is not False, order=order
    )


def check_flag(name: str, flag: object) -> None:
    """Raise ``TypeError`` unless ``flag`` is a bool, or None."""
    if flag is not None and not isinstance(flag, bool):
        raise TypeError(f"{name} is a {type(flag).__name__}, not a bool")


def clean_tags(name: str, tags: Collection[str]) -> Sequence[str]:
    """Return the tags as they are stored; ``name`` is the argument's, for errors."""
    if isinstance(tags, str):
        raise TypeError(f"{name} is a str, not a list")
    return [clean_tag(name, tag) for tag in tags]


def clean_tag(name: str, tag: str) -> str:
    """Return a tag as it is stored: in Unicode's form C, with single spaces between words.

    Raises:
        InvalidLabel: it has no character, more than ``MAX_TAG``, or one that cannot be shown.
    """
    check_text(name, tag, MAX_TAG * 4, InvalidLabel)
    clean = unicodedata.normalize("NFC", " ".join(tag.split()))
    if not 1 <= len(clean) <= MAX_TAG:
        raise InvalidLabel(f"{name}: a tag has {len(clean)} characters; it may have 1 to {MAX_TAG}")
    if any(unicodedata.category(char) == "Cc" for char in clean):
        raise InvalidLabel(f"{name}: a tag has a control character")
    return clean


def joined(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags in their order, each once, in its first spelling.

    Raises:
        InvalidLabel: there are more than ``MAX_TAGS``.
    """
    found: dict[str, str] = {}
    for tag in tags:
        found.setdefault(tag_key(tag), tag)
    if len(found) > MAX_TAGS:
        raise InvalidLabel(f"tags: there are {len(found)}; a session may have {MAX_TAGS}")
    return tuple(found[key] for key in sorted(found))


def tag_key(tag: str) -> str:
    """Return what tags are compared by: they are the same in capital and small letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", tag).casefold())


def tag_name(tag: str) -> str:
    """Return the name of a tag's label."""
    return TAG + _digest(tag_key(tag))


def pair_name(key: str, value: str) -> str:
    """Return the name of a pair's label."""
    return PAIR + _digest(json.dumps([key, value]))


def _digest(text: str) -> str:
    # 128 bits, so that its index is within what each database allows, whatever was said.
    return sha256(text.encode()).hexdigest()[:32]


def check_pairs(pairs: Mapping[str, str]) -> dict[str, str]:
    """Return the pairs.

    Raises:
        TypeError: they are no mapping.
        InvalidLabel: there are more than ``MAX_PAIRS``, or one is no text, too long, or holds what
            not every database can store.
    """
    if not isinstance(pairs, Mapping):
        raise TypeError(f"metadata is a {type(pairs).__name__}, not a dict")
    if len(pairs) > MAX_PAIRS:
        raise InvalidLabel(
            f"metadata: there are {len(pairs)} pairs; a session may have {MAX_PAIRS}"
        )
    for key, value in pairs.items():
        check_text("metadata: a key", key, MAX_PAIR_KEY, InvalidLabel)
        check_text("metadata: a value", value, MAX_PAIR_VALUE, InvalidLabel)
    return dict(pairs)


def pairs_of(metadata: Message | None) -> Pairs:
    """Return the pairs in a session's metadata: those that ``label`` could have set."""
    found = [
        (name, value)
        for name, value in (metadata or {}).items()
        if isinstance(value, str) and len(name) <= MAX_PAIR_KEY and len(value) <= MAX_PAIR_VALUE
    ]
    return tuple(found[:MAX_PAIRS])


def labels_in(value: Mapping[str, Any]) -> Labels:
    """Return the labels in an export's first line, without pairs; ``InvalidLabel`` for others."""
    tags = value.get("tags", [])
    if not isinstance(tags, list):
        raise TypeError("tags is no list")
    change = make_change(
        tags=tags,
        pinned=value.get("pinned"),
        shelved=value.get("shelved"),
    )
    return change.labels(Labels())
