"""Runs one check on a new database of one version."""

import tempfile
from pathlib import Path

import anyio

from hermes_session_mw import HermesStateStore
from tests.long.hermes_versions.checks import Check, Missing, Site
from tests.long.hermes_versions.page import Outcome
from tests.long.hermes_versions.together import together
from tests.long.hermes_versions.versions import Version
from tests.stores.hermes_state.agent import hermes

NAMED: dict[tuple[str, str], str] = {}
"""Why a check differs in a version, by its label and the version's name."""


def outcome(label: str, check: Check, version: Version, newest: Version) -> Outcome:
    """Run a check on a new database of a version's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        with hermes(path, version.code) as agent:
            site = Site(path, version, newest, agent, HermesStateStore(path))
            try:
                differences = anyio.run(_run, check, site)
            except Missing as exc:
                return Outcome([], str(exc))
            except Exception as exc:  # noqa: BLE001  # it is told like a difference
                differences = [f"{type(exc).__name__}: {exc}"]
    return Outcome(differences, NAMED.get((label, version.name)) if differences else None)


def run_together(version: Version, turns: int) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return Outcome(together(Path(folder), version, turns), None)


async def _run(check: Check, site: Site) -> list[str]:
    try:
        return await check(site)
    finally:
        await site.store.aclose()
