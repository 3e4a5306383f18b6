"""The part of `MemoryStore` that labels sessions, and lists and describes them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import EllipsisType

from anyio.lowlevel import checkpoint

from hermes_session_mw.stores.first_words import FIRST_MESSAGES, first_words_of_json
from hermes_session_mw.stores.labels import (
    Labels,
    Order,
    make_change,
    make_filter,
    pairs_of,
    tag_key,
)
from hermes_session_mw.stores.memory.histories import MemoryHistories, metadata_of
from hermes_session_mw.stores.memory.records import SessionRecord
from hermes_session_mw.stores.models import PAGE, SessionInfo, SessionPage
from hermes_session_mw.stores.pagination import (
    Placed,
    Position,
    check_cursor,
    decode_cursor,
    decode_pinned_cursor,
    placed_page_of,
    position_of,
)
from hermes_session_mw.stores.validation import (
    check_keys,
    check_page,
    check_prefix,
    encode_metadata,
)


class MemoryLabels(MemoryHistories):
    """The methods of `LabelStore`."""

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
        """See `LabelStore.label`."""
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
        await checkpoint()
        with self._lock:
            self._fold_expired(session_id, owner)
            record = self._record(session_id, owner)
            if not record.exists:
                return False
            changed = change.metadata(metadata_of(record))
            body = None if changed is None else encode_metadata(changed, self.max_message_bytes)
            self._sessions[owner, session_id] = replace(
                record,
                title=record.title if isinstance(change.title, EllipsisType) else change.title,
                metadata=body,
                labels=change.labels(record.labels),
            )
            return True

    async def tags(self, owner: str = "") -> dict[str, int]:
        """See `LabelStore.tags`."""
        check_keys("-", owner)
        found: dict[str, tuple[str, int]] = {}
        for each in await self._infos("", owner):
            for tag in each.tags:
                spelled, count = found.get(tag_key(tag), (tag, 0))
                found[tag_key(tag)] = max(spelled, tag), count + 1
        return dict(found[key] for key in sorted(found))

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
        """See `LabelStore.list`, and `MessageStore.list`."""
        check_keys("-", owner)
        check_page(limit)
        check_prefix(prefix)
        wanted = make_filter(
            tag=tag, pinned=pinned, shelved=shelved, metadata=metadata, order=order
        )
        check_cursor(cursor, order)
        after, among_pinned = (
            decode_pinned_cursor(cursor) if order == "pinned" else (decode_cursor(cursor), None)
        )
        start = _order(after, is_pinned=among_pinned)
        listed = [
            Placed(position_of(each), each, each.pinned if order == "pinned" else None)
            for each in await self._infos(prefix, owner, first_words=first_words)
            if wanted.matches(_labels_of(each))
        ]
        ordered = sorted((_order(each.place, is_pinned=each.is_pinned), each) for each in listed)
        return placed_page_of([each for at, each in ordered if at > start], limit)

    async def info(
        self, session_id: str, owner: str = "", *, first_words: bool = False
    ) -> SessionInfo | None:
        """See `LabelStore.info`."""
        check_keys(session_id, owner)
        record = await self._get(session_id, owner)
        if not record.exists:
            return None
        return self._info(owner, session_id, record, first_words=first_words)

    def _info(
        self, owner: str, session_id: str, record: SessionRecord, *, first_words: bool = False
    ) -> SessionInfo:
        return info_of(owner, session_id, record, first_words=first_words)

    async def _infos(
        self, prefix: str, owner: str | None = None, *, first_words: bool = False
    ) -> Sequence[SessionInfo]:
        """Return the sessions whose id begins with ``prefix``, of one owner or of all."""
        await checkpoint()
        with self._lock:
            return [
                self._info(of, session_id, record, first_words=first_words)
                for (of, session_id), record in self._sessions.items()
                if record.exists and session_id.startswith(prefix) and owner in (None, of)
            ]


def _order(place: Position, *, is_pinned: bool | None) -> tuple[bool, int, str]:
    """Return the key that a list is sorted by, which no two of its sessions share."""
    return is_pinned is False, -place.changed, place.session_id


def _labels_of(info: SessionInfo) -> Labels:
    return Labels(info.tags, info.pinned, info.shelved, tuple(info.metadata.items()))


def info_of(
    owner: str, session_id: str, record: SessionRecord, *, first_words: bool = False
) -> SessionInfo:
    """Return the description of a record."""
    created, updated = (
        datetime.fromtimestamp(at, UTC) for at in (record.created_at, record.updated_at)
    )
    words = ""
    if first_words and record.title is None:
        words = first_words_of_json([row.body for row in record.rows[:FIRST_MESSAGES]])
    return SessionInfo(
        session_id,
        record.title,
        len(record.rows),
        created,
        updated,
        record.parent_id,
        owner,
        tags=record.labels.tags,
        pinned=record.labels.pinned,
        shelved=record.labels.shelved,
        metadata=dict(pairs_of(metadata_of(record))),
        first_words=words or None,
    )
