"""``expire``: set how long after its last change a session is removed, or all of an owner's."""

from typing import TYPE_CHECKING, Any

import click

from hermes_session_mw.cli.completion import complete_ids
from hermes_session_mw.cli.json_output import as_json
from hermes_session_mw.cli.options import age_of, existing_session, json_option, settings_of
from hermes_session_mw.cli.sources import Settings, with_admin_store
from hermes_session_mw.stores.expiry import (
    NEVER,
    Setting,
    check_expiry,
    setting_as_json,
)

if TYPE_CHECKING:
    from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore

_NONE = "inherit"

if TYPE_CHECKING:
    _Type = click.ParamType[Setting | str]
else:
    _Type = click.ParamType


class _After(_Type):
    """An age such as ``30d``, ``never``, or ``inherit`` for no setting."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Setting | str:
        """Return the setting, or ``inherit``."""
        if value == _NONE:
            return _NONE
        if value == NEVER.value:
            return NEVER
        try:
            age = age_of(value)
            check_expiry(age)
        except (TypeError, ValueError, OverflowError):
            self.fail(f"{value!r} is neither an age such as 30d or 12h, nor never.", param, ctx)
        return age


@click.command(short_help="Set when a session expires, or an owner's sessions.")
@click.argument("ids", nargs=-1, metavar="[ID...]", shell_complete=complete_ids)
@click.option("--after", type=_After(), required=True, metavar="AGE|never|inherit",
    help="30d, 12h, 45m, 10s, 2w after the last change; never; or inherit, for no setting.",
)  # fmt: skip
@click.option("--owner", help="The sessions' owner; without an ID, the owner to set it for.")
@json_option
@settings_of
def expire(
    settings: Settings, *, ids: tuple[str, ...], after: Setting | str, owner: str | None, json: bool
) -> None:
    """Set how long after its last change a session is removed, by a sweep or a prune.

    Without an ID it is set for all sessions of an owner that have no setting of their own.
    """
    if not ids and owner is None:
        raise click.UsageError("Give an ID, or the --owner whose sessions are to expire.")
    setting = None if isinstance(after, str) else after

    async def write(store: "AdminStore") -> None:
        expiry = store.expiry
        assert expiry is not None  # the operator's store has it
        if not ids:
            await expiry.set_owner(owner or "", setting)
        found = [await existing_session(store, each, owner) for each in dict.fromkeys(ids)]
        for each in found:
            await expiry.set(each.info.id, setting, each.owner or "")

    with_admin_store(settings, "expire", write, access="write")
    if json:
        shown = None if setting is None else setting_as_json(setting)
        click.echo(as_json({"ids": [*dict.fromkeys(ids)], "owner": owner, "expires_after": shown}))
        return
    count = len(dict.fromkeys(ids))
    of = f"{count} session{'s' * (count != 1)}" if ids else "the owner's sessions"
    click.echo(f"set for {of}")
