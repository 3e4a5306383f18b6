"""A Hermes Agent's own database as a source that the command can read."""

from collections.abc import AsyncIterator, Callable, Sequence

from hermes_session_mw.exceptions import InvalidKey, NotSupported, SessionNotFound, StoreCorrupt
from hermes_session_mw.stores import HermesStateStore, SessionInfo
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.labels import EVERY_SESSION, SessionFilter
from hermes_session_mw.stores.models import MAX_PAGE, ArchivedMessage
from hermes_session_mw.stores.sqlalchemy.admin.models import (
    OwnedPage,
    OwnedSession,
    Problem,
    Totals,
)


class HermesSource:
    """The reading methods of `AdminStore` over a `HermesStateStore`, without turns and owners."""

    def __init__(self, store: HermesStateStore) -> None:
        self._store = store

    async def list_owned(
        self,
        owner: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        wanted: SessionFilter = EVERY_SESSION,
        *,
        first_words: bool = False,  # noqa: ARG002  # Hermes Agent titles conversations itself
    ) -> OwnedPage:
        """See `AdminStore.list_owned`; Hermes has no labels."""
        if not wanted.is_any:
            raise NotSupported(self._store, "list", " by labels")
        page = await self._store.list(self._check_owner(owner), limit, cursor)
        return OwnedPage([_owned(each, owner) for each in page.sessions], page.cursor)

    async def find(
        self,
        session_id: str,
        owner: str | None = None,
        *,
        first_words: bool = False,  # noqa: ARG002  # as above
    ) -> Sequence[OwnedSession]:
        """See `AdminStore.find`; Hermes has each id once."""
        found = await self._store.info(session_id, self._check_owner(owner))
        return [] if found is None else [_owned(found, owner)]

    async def ids_with_prefix(
        self, start: str, owner: str | None = None, limit: int = 50
    ) -> Sequence[str]:
        """See `AdminStore.ids_with_prefix`; only of the sessions changed last."""
        page = await self._store.list(self._check_owner(owner), MAX_PAGE)
        return [each.id for each in page.sessions if each.id.startswith(start)][:limit]

    async def totals(self, owner: str | None = None) -> Totals:
        """See `AdminStore.totals`; the whole list is read for it."""
        found = [each async for each in self._all(self._check_owner(owner))]
        return Totals(
            sessions=len(found),
            messages=sum(each.length for each in found),
            oldest=min((each.created_at for each in found), default=None),
            newest=max((each.updated_at for each in found), default=None),
        )

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        """See `AdminStore.load`."""
        return await self._store.load(session_id, owner, limit)

    async def walk(
        self, owner: str | None = None, after: OwnedSession | None = None
    ) -> Sequence[OwnedSession]:
        """See `AdminStore.walk`; the first step has them all."""
        if after is not None:
            return []
        return [_owned(each, owner) async for each in self._all(self._check_owner(owner))]

    async def export_snapshot(self, session_id: str, owner: str = "") -> str | None:
        """See `AdminStore.export_snapshot`; each question begins a turn."""
        try:
            return await self._store.export(session_id, owner)
        except SessionNotFound:
            return None

    async def archived(self, session_id: str, owner: str = "") -> Sequence[ArchivedMessage]:  # noqa: ARG002  # the source's
        """Raise NotSupported: Hermes does not store when a row was removed."""
        raise NotSupported(self._store, "archived")

    async def check_integrity(self, advance: Callable[[int], None]) -> Sequence[Problem]:
        """Check that the file is Hermes', and that each listed session can be loaded."""
        problems = []
        try:
            async for each in self._all(""):
                try:
                    await self._store.load(each.id)
                except (StoreCorrupt, InvalidKey) as exc:
                    problems.append(Problem(str(exc), each.id))
                advance(1)
        except StoreCorrupt as exc:
            problems.append(Problem(str(exc)))
        return problems

    async def aclose(self) -> None:
        """See `AdminStore.aclose`."""
        await self._store.aclose()

    async def _all(self, owner: str) -> AsyncIterator[SessionInfo]:
        cursor: str | None = None
        while True:
            page = await self._store.list(owner, MAX_PAGE, cursor)
            for each in page.sessions:
                yield each
            cursor = page.cursor
            if cursor is None:
                return

    def _check_owner(self, owner: str | None) -> str:
        if owner == "":
            raise NotSupported(self._store, "list", " of what has no owner")
        return owner or ""


def _owned(session: SessionInfo, owner: str | None) -> OwnedSession:
    return OwnedSession(session, owner, turns=None, archived=None)
