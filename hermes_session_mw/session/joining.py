"""Waits for a session's turn, or finds the running answer of the same request.

A request may be repeated while its answer runs, because its connection broke, a proxy gave up, or a
user pressed a button twice. The answer has the session's lease, so that the repetition would wait
for its end; it is joined instead. Which request is the same:

    the running answer's key    the request's key    the digests    it is
    k                           k                    equal          joined
    k                           k                    differ         refused: TurnConflict
    k                           another, or none     -              waited for
    none                        none                 equal          joined
    none                        none                 differ         waited for
    none                        k                    -              waited for

An answer without a key may still have a turn id, which the application has made.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from hermes_session_mw.exceptions import NotSupported, SessionBusy, TurnConflict
from hermes_session_mw.session.answer import Answer

if TYPE_CHECKING:
    from hermes_session_mw.session.session import HermesSession

LOOK = 0.5
"""Seconds after which a request that waits looks for its answer again."""


async def take_turn_or_find_answer(
    session: "HermesSession",
    digest: str,
    turn_id: str | None,
    is_made_id: Callable[[str], bool],
    *,
    lease: float,
    wait: float,
) -> Answer | None:
    """Take the turn and return None, or return the answer."""
    key = session.idempotency_key if session.is_turn else None
    name = key and (turn_id or key)
    until, step = anyio.current_time() + wait, 0.0
    answer = await _of_key(session, name, digest)
    while answer is None:
        left = max(until - anyio.current_time(), 0)
        try:
            await session.turn(lease=lease, wait=min(left, step)).acquire()
        except SessionBusy:
            # Whoever has the lease may have begun the answer meanwhile.
            if name:
                answer = await _of_key(session, name, digest)
            else:
                answer = await _unnamed(session, digest, is_made_id)
            if answer is None and left == 0:
                raise
            step = LOOK
        except NotSupported:  # by a store without leases
            await session.load()
            return None
        else:
            return None
    session.mark_replayed()
    return answer


async def _of_key(session: "HermesSession", name: str | None, digest: str) -> Answer | None:
    if name is None or session.is_new:
        return None
    answer = await session.find_answer(turn_id=name)
    if answer is None or answer.state != "running":
        return None
    if answer.digest != digest:
        raise TurnConflict
    return answer


async def _unnamed(
    session: "HermesSession", digest: str, is_made_id: Callable[[str], bool]
) -> Answer | None:
    answer = await session.running_answer()
    if answer is None or answer.digest != digest:
        return None
    return answer if answer.turn_id is None or is_made_id(answer.turn_id) else None
