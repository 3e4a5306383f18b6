"""The part of `SQLAlchemyStore` that labels sessions, and lists and describes them."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from types import EllipsisType
from typing import Any

from hermes_session_mw.database.connection import Database
from hermes_session_mw.exceptions import NotSupported
from hermes_session_mw.stores.labels import Order, SessionFilter, make_change, make_filter
from hermes_session_mw.stores.models import PAGE, SessionInfo, SessionPage
from hermes_session_mw.stores.pagination import (
    FIRST,
    Placed,
    check_cursor,
    decode_cursor,
    decode_pinned_cursor,
    page_of,
    placed_page_of,
)
from hermes_session_mw.stores.sqlalchemy.folding import AnswerFolding
from hermes_session_mw.stores.sqlalchemy.statements import labels, list_sessions
from hermes_session_mw.stores.validation import check_keys, check_page, check_prefix


class SQLAlchemyLabels(AnswerFolding):
    """The methods of `LabelStore`."""

    _encrypts: bool
    _described: Callable[[Sequence[SessionInfo]], Awaitable[Sequence[SessionInfo]]]

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
        """See `LabelStore.label`; one short transaction."""
        check_keys(session_id, owner)
        change = make_change(
            title=title,
            tags=tags,
            add_tags=add_tags,
            remove_tags=remove_tags,
            pinned=pinned,
            shelved=shelved,
            metadata=metadata,
        )
        work = self._folding(labels.label)
        return await self._retrying.write(work, session_id, owner, change, self.max_message_bytes)

    async def tags(self, owner: str = "") -> dict[str, int]:
        """See `LabelStore.tags`; it reads a small row for each tag of each session."""
        check_keys("-", owner)
        return await self._retrying.read(labels.tags, owner)

    async def list(
        self,
        owner: str = "",
        limit: int = PAGE,
        cursor: str | None = None,
        *,
        prefix: str = "",
        tag: str | Collection[str] | None = None,
        pinned: bool | None = None,
        shelved: bool | None = None,
        metadata: Mapping[str, str] | None = None,
        order: Order = "updated",
        first_words: bool = False,
    ) -> SessionPage:
        """See `LabelStore.list` and `MessageStore.list`.

        Without a prefix, or with one label, it reads no more rows than the page has. First words
        are one more round trip, for those without a title.
        """
        check_keys("-", owner)
        check_prefix(prefix)
        check_page(limit)
        wanted = make_filter(
            tag=tag, pinned=pinned, shelved=shelved, metadata=metadata, order=order
        )
        if metadata and self._encrypts:
            raise NotSupported(self, "list", " by metadata, which is encrypted")
        work = _page_with_words if first_words else _page
        check_cursor(cursor, order)
        page = await self._retrying.read(work, owner, limit, cursor, wanted, prefix)
        return SessionPage([*await self._described(page.sessions)], page.cursor)

    async def info(
        self, session_id: str, owner: str = "", *, first_words: bool = False
    ) -> SessionInfo | None:
        """See `LabelStore.info`."""
        check_keys(session_id, owner)
        info = _info_with_words if first_words else list_sessions.info
        found = await self._read_folded(partial(info, session_id=session_id, owner=owner))
        if found is None:
            return None
        (described,) = await self._described([found])
        return described


def _page(
    database: Database,
    owner: str,
    limit: int,
    cursor: str | None,
    wanted: SessionFilter,
    prefix: str,
) -> SessionPage:
    """Return a page of an owner's list."""
    if wanted.is_any:
        after = decode_cursor(cursor)
        return page_of(
            list_sessions.list_sessions(database, owner, limit + 1, after, prefix), limit
        )
    from hermes_session_mw.stores.sqlalchemy.statements import labelled_pages  # noqa: PLC0415

    if wanted.order == "updated":
        place = decode_cursor(cursor)
        found = labelled_pages.list_filtered(database, owner, limit + 1, place, wanted, prefix)
        return placed_page_of(found, limit)
    place, is_pinned = decode_pinned_cursor(cursor)
    listed: list[Placed] = []
    for part, group in zip(wanted.parts, (True, False), strict=True):
        if part is None or (group and not is_pinned):
            continue
        after = place if group == is_pinned else FIRST
        room = limit + 1 - len(listed)
        if room:
            rest = labelled_pages.list_filtered(database, owner, room, after, part, prefix)
            listed += [each._replace(is_pinned=group) for each in rest]
    return placed_page_of(listed, limit)


def _page_with_words(database: Database, *arguments: Any) -> SessionPage:
    from hermes_session_mw.stores.sqlalchemy.statements.session_words import (  # noqa: PLC0415
        with_first_words,
    )

    page = _page(database, *arguments)
    return SessionPage(with_first_words(database, page.sessions), page.cursor)


def _info_with_words(database: Database, **arguments: Any) -> SessionInfo | None:
    from hermes_session_mw.stores.sqlalchemy.statements.session_words import (  # noqa: PLC0415
        with_first_words,
    )

    found = list_sessions.info(database, **arguments)
    return None if found is None else with_first_words(database, [found])[0]
