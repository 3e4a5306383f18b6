"""`LabelStore`, the protocol for labels: tags, pinned and shelved sessions, and metadata's pairs.

``stores/labels.py`` says what they are. Every method, and every argument that `LifecycleStore` does
not have, is optional: a caller that needs one which the store lacks raises `NotSupported`.
"""

from collections.abc import Collection, Mapping, Sequence
from types import EllipsisType
from typing import Protocol, runtime_checkable

from hermes_session_mw.messages import Message
from hermes_session_mw.stores.labels import Order
from hermes_session_mw.stores.lifecycle import LifecycleStore
from hermes_session_mw.stores.models import PAGE, SessionInfo, SessionPage


@runtime_checkable
class LabelStore(LifecycleStore, Protocol):
    """A `LifecycleStore` whose sessions have labels; `SQLAlchemyStore` and `MemoryStore` are.

    Labels live as long as their session. A rotation moves them, a deletion, a prune and ``clear``
    remove them, a fork does not copy them, and an export has them. To set them is no change of the
    history: ``updated_at`` stays.
    """

    async def label(
        self,
        session_id: str,
        owner: str = "",
        *,
        title: str | EllipsisType | None = ...,
        tags: Collection[str] | None = None,
        add_tags: Collection[str] = (),
        remove_tags: Collection[str] = (),
        pinned: bool | None = None,
        shelved: bool | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> bool:
        """Change labels in one transaction; return whether there is such a session.

        What is not given stays as it is. Of two that add tags at once, both are added.

        Args:
            session_id: 1 to 256 characters.
            owner: up to 255 characters.
            title: as for ``rename``; None removes it.
            tags: up to 32, in place of those that there are, each of 1 to 64 characters. Tags that
                differ in capital letters alone are the same one, in the spelling that it had first.
            add_tags: tags to add, after ``tags`` have taken their place.
            remove_tags: tags to remove; one that the session does not have is no error.
            pinned: whether the user wants it at the top of the list.
            shelved: whether the user has put it away.
            metadata: up to 16 pairs, of 512 characters under keys of 64, in place of the texts in
                the session's metadata. Its other values stay.

        Raises:
            TypeError: a flag is no bool, or tags are one str.
            InvalidLabel: a tag or a pair cannot be stored, there are too many, or the metadata has
                another value under a pair's key.
            ValueError: the title cannot be stored.
            InvalidMessage: the metadata takes more bytes than a message may.
        """
        ...

    async def tags(self, owner: str = "") -> dict[str, int]:
        """Return the owner's tags in their order, and how many sessions have each.

        Where sessions spell one in several ways, it is one of these.
        """
        ...

    async def append(
        self,
        session_id: str,
        messages: Sequence[Message],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
        *,
        fence: int | None = None,
        replace_from: int | None = None,
        title: str | None = None,
    ) -> int:
        """See `LifecycleStore.append`.

        ``title`` becomes the session's in the same transaction, if it has none. That costs no round
        trip more. A repeated ``turn_id`` changes no title.

        Raises:
            ValueError: not every database can store the title, or it has more than 500 characters.
        """
        ...

    async def list(
        self,
        owner: str = "",
        limit: int = PAGE,
        cursor: str | None = None,
        *,
        tag: str | Collection[str] | None = None,
        pinned: bool | None = None,
        shelved: bool | None = None,
        metadata: Mapping[str, str] | None = None,
        order: Order = "updated",
        first_words: bool = False,
    ) -> SessionPage:
        """See `LifecycleStore.list`; only sessions that have all that is asked for.

        Shelved sessions are listed, too, unless ``shelved`` is False.

        Args:
            owner: up to 255 characters.
            limit: the most sessions of the page, 1 to 500.
            cursor: asks for the page after another one, in the same ``order``.
            tag: a tag, or several, which a session has to have all.
            pinned: True for pinned sessions alone, False for the others.
            shelved: True for shelved sessions alone, False for the others.
            metadata: pairs that its metadata has to have; it may have more.
            order: ``"pinned"`` for the pinned sessions first. Then, and by default, the most
                recently changed ones come first.
            first_words: whether sessions without a title get their ``first_words``.

        Raises:
            InvalidLabel: no session can have the tag or the pair.
            TypeError: a flag is no bool.
            ValueError: there is no such order, or ``cursor`` does not come from a page of it.
        """
        ...

    async def info(
        self, session_id: str, owner: str = "", *, first_words: bool = False
    ) -> SessionInfo | None:
        """See `LifecycleStore.info`; ``first_words`` as for ``list``."""
        ...
