"""``check``: look for damage in a store."""

from collections.abc import Sequence

import click

from hermes_session_mw.cli.errors import PROBLEM
from hermes_session_mw.cli.json_output import as_json, problem_json
from hermes_session_mw.cli.options import json_option, settings_of
from hermes_session_mw.cli.sources import Settings, Source, with_source
from hermes_session_mw.cli.terminal import progress
from hermes_session_mw.cli.text import escaped
from hermes_session_mw.exceptions import StoreError
from hermes_session_mw.stores.sqlalchemy.admin.models import Problem


@click.command(short_help="Look for damage, and change nothing.")
@json_option
@settings_of
def check(settings: Settings, *, json: bool) -> None:
    """Look for damage in tables, counters, numbers and messages, and change nothing."""

    async def examine(source: Source) -> tuple[Sequence[Problem], int]:
        try:
            expected = (await source.totals()).sessions
        except StoreError:
            expected = 0  # the check reports why
        seen: list[int] = []

        def note(steps: int) -> None:
            seen.append(steps)
            advance(steps)

        with progress("Checking", expected) as advance:
            return await source.check_integrity(note), sum(seen)

    problems, seen = with_source(settings, examine)
    if json:
        found = [problem_json(each) for each in problems]
        click.echo(as_json({"sessions": seen, "problems": found}))
    else:
        for each in problems:
            click.echo(line_of(each))
        click.echo(f"sessions checked: {seen}; problems: {len(problems)}")
    if problems:
        raise click.exceptions.Exit(PROBLEM)


def line_of(problem: Problem) -> str:
    """Return a problem as a line."""
    if problem.session_id is None:
        return escaped(problem.what)
    of = f" of {escaped(problem.owner)}" if problem.owner else ""
    return f"session {escaped(problem.session_id)}{of}: {escaped(problem.what)}"
