"""What the benchmarks' stores run in: processes of their own, one of which works at a time."""

import re
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from benchmarks.measuring import SHORT, Subject, compare
from benchmarks.peers.everyone import ENVIRONMENTS, OURS, POSTGRESQL, ROOT, SQLITE, Entry, everyone
from benchmarks.peers.operations import APPEND, FIRST_SIGHT, LOAD, LOAD_NEWEST, TURN
from benchmarks.peers.processes import Process, start
from benchmarks.results import versions

HERE = Path(sys.executable)
LENGTH = 10
STOCK = ([[0, 1], [LENGTH, 2]], [[LENGTH, 2]])
(OUR_OWN,) = [entry for entry in everyone(SQLITE) if entry.name == OURS]
IN_THIS_ENVIRONMENT = [entry for entry in everyone(SQLITE) if entry.environment == "ours"]

asyncio_alone = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # as the stores are measured


async def stocked(stack: AsyncExitStack, entry: Entry, directory: Path) -> Process:
    own = directory / entry.adapter
    own.mkdir()
    process = await stack.enter_async_context(start(entry, HERE))
    await process.ask("open", "", str(own), *STOCK)
    assert await process.ask("fill", 60) == [0, LENGTH]
    return process


@pytest.mark.parametrize("entry", IN_THIS_ENVIRONMENT, ids=lambda entry: entry.name)
@asyncio_alone
async def test_a_process_does_what_is_measured_and_reads_its_own_clocks(
    entry: Entry, tmp_path: Path
) -> None:
    """Each operation is checked before it is measured; times and failures come from the process."""
    async with AsyncExitStack() as stack:
        process = await stocked(stack, entry, tmp_path)
        for operation in (LOAD, LOAD_NEWEST, APPEND, TURN, FIRST_SIGHT):
            assert await process.ask("prepare", operation, LENGTH) > 0
            wall, cpu, failed = await process.ask("turn", 2, 4)
            assert wall > 0
            assert cpu > 0
            assert failed == 0
        assert await process.ask("stall", 1, 0.01) >= 0


@asyncio_alone
async def test_turns_never_overlap(tmp_path: Path) -> None:
    """Every subject has one turn in each round, and nobody begins before the last one has ended."""
    told: list[str] = []

    def noted(process: Process) -> Subject:
        async def turn(count: int, at_once: int) -> tuple[float, float]:
            told.append(process.name)
            wall, cpu, _ = await process.ask("turn", count, at_once)
            told.append(process.name)
            return wall, cpu

        return Subject(process.name, turn)

    async with AsyncExitStack() as stack:
        processes = [await stocked(stack, entry, tmp_path) for entry in IN_THIS_ENVIRONMENT]
        for process in processes:
            await process.ask("prepare", LOAD, LENGTH)
        cell = await compare("stores", {}, [noted(one) for one in processes], dose=SHORT, count=2)
    assert told[::2] == told[1::2]
    rounds = told[::2][len(processes) :]  # after the ones that nobody counts
    everybody = sorted(process.name for process in processes)
    for first in range(0, len(rounds), len(everybody)):
        assert sorted(rounds[first : first + len(everybody)]) == everybody
    assert {len(sample.wall) for sample in cell.samples} == {SHORT.rounds}


@asyncio_alone
async def test_a_wrong_operation_is_not_measured(tmp_path: Path) -> None:
    """What a peer raises, or a load that returns too little, is raised where it was asked for."""
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(start(OUR_OWN, HERE))
        await process.ask("open", "", str(tmp_path), *STOCK)
        with pytest.raises(RuntimeError, match="ours: prepare: AssertionError: load: 0 instead"):
            await process.ask("prepare", LOAD, LENGTH)
        with pytest.raises(RuntimeError, match="KeyError"):
            await process.ask("prepare", "another", LENGTH)


@asyncio_alone
async def test_a_process_that_ends_is_told() -> None:
    """An adapter that cannot be imported ends its process, and the question with an error."""
    entry = Entry("nobody", "nobody:Nobody", "ours")
    async with start(entry, HERE) as process:
        with pytest.raises(RuntimeError, match="nobody: the process ended with 1"):
            await process.ask("fill", 1)


def test_the_extra_is_missing_where_it_is_said_to_be() -> None:
    """The plain store parses by the standard library, whatever is installed beside it."""
    program = (
        "import benchmarks.peers.ours_plain, json, hermes_session_mw.messages as messages;"
        "raise SystemExit(messages.parse_json is not json.loads)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_every_peer_has_an_environment_with_pinned_versions() -> None:
    """Each environment is somebody's, and says exact versions; the report tells all of them."""
    used = {entry.environment for name in (SQLITE, POSTGRESQL) for entry in everyone(name)}
    files = {file.stem: file.read_text() for file in ENVIRONMENTS.glob("*.txt")}
    assert used == set(files)
    told = versions()
    for text in files.values():
        for line in text.splitlines():
            if line.startswith(("#", "--editable .")):
                continue
            pinned = re.fullmatch(r"([\w-]+)(?:\[.*\])?==[\d.]+", line)
            assert pinned, f"{line} names no version"
            assert told[pinned[1]]
