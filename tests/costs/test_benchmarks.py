"""What the benchmarks make of their figures: ratios, verdicts, the report. Nothing is measured."""

import math
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks import __main__ as program
from benchmarks.frameworks import FRAMEWORKS
from benchmarks.judging import MET, MISSED, NOT_MEASURED, Target
from benchmarks.measuring import SHORT, Cell, Dose, Sample, Spread
from benchmarks.peers.everyone import POSTGRESQL, SQLITE, peers
from benchmarks.report import LAYOUTS, duration, render
from benchmarks.results import Results
from benchmarks.targets import (
    APART,
    FLAT,
    HEARTBEAT,
    LENGTHS,
    OPERATIONS,
    STALL,
    targets,
)

DATABASES = {
    SQLITE: ("raw sqlite3", peers(SQLITE)),
    POSTGRESQL: ("raw asyncpg", peers(POSTGRESQL)),
}


def sample(name: str, seconds: float, stall: float = math.nan, **figures: float) -> Sample:
    """Return three rounds of ``seconds``; CPU time is half of that."""
    return Sample(name, [seconds] * 3, [seconds / 2] * 3, stall, dict(figures))


def requests() -> Iterator[Cell]:
    names = ("starsessions", "SessionMiddleware", "starlette-context", "BaseHTTPMiddleware")
    for loop, case, body in product(("asyncio", "trio"), ("mint", "echo"), ("plain", "100 chunks")):
        seconds = {"bare app": 1.0, "ours": 1.5, "floor": 1.4, "asgi-correlation-id": 2.0}
        samples = [sample(name, value) for name, value in seconds.items()]
        samples += [sample(name, 3.0) for name in names]
        yield Cell("requests", {"loop": loop, "case": case, "body": body}, samples)


def stores() -> Iterator[Cell]:
    for database, operation, length, at_once in product(DATABASES, OPERATIONS, LENGTHS, (1, 32)):
        floor, beside = DATABASES[database]
        loads = operation in {"load", "load last 20"}
        samples = [sample("ours", 1.2), sample(floor, 1.0), *(sample(peer, 2.0) for peer in beside)]
        if loads:
            samples[0].stall = 0.010
            samples[0].figures["round trips"] = 1.0
            samples.append(sample("JSON parse", 0.5, 0.010))
        conditions = {"database": database, "operation": operation, "messages": length}
        yield Cell("stores", {**conditions, "at_once": at_once}, samples)


def frameworks() -> Iterator[Cell]:
    for framework in FRAMEWORKS:
        for messages, limit in framework.limits.items():
            samples = [sample("ours", limit), sample(framework.own, 1.0)]
            conditions = {"framework": framework.name, "messages": messages}
            yield Cell("frameworks", conditions, samples)


def growth() -> Iterator[Cell]:
    curves: list[tuple[str, str, tuple[int, ...]]] = [
        ("messages in the session", "load last 20", (10, 100, 1_000, 100_000)),
        ("sessions", "load", (1, 1_000, 1_000_000)),
        ("sessions", "list page", (1, 1_000_000)),
        ("requests at once", "load", (1, 32)),
    ]
    for axis, operation, values in curves:
        for value in values:
            conditions = {"axis": axis, "value": value, "operation": operation}
            for database in DATABASES:
                samples = [sample("ours", 0.004)]
                yield Cell("growth", {**conditions, "database": database}, samples)


def made_up() -> list[Cell]:
    """Return every cell of a run that meets every target."""
    hops = [sample("bare hop", 1.0), sample("asyncio.to_thread", 1.5), sample("bare round trip", 2)]
    cells = [*requests(), *stores(), *frameworks(), *growth()]
    cells += [Cell("floors", {"database": database}, hops) for database in DATABASES]
    rate = {"requests per second": 1000.0, "p50 ms": 1.0, "p99 ms": 2.0}
    servers = [("uvicorn", 1), ("uvicorn", 2), ("uvicorn", 4), ("uvicorn[standard]", 1)]
    for (server, workers), case in product(servers, ("no header", "echo", "known id", "streaming")):
        pair = [sample("bare app", 0.98, **rate), sample("ours", 1.0, **rate)]
        conditions = {"server": server, "workers": workers, "case": case}
        cells.append(Cell("sockets", conditions, pair))
    ours = Sample("ours", figures={"kB per stream": 29.0, "database connections": 0.0})
    bare = Sample("bare app", figures={"kB per stream": 20.0, "database connections": 0.0})
    cells.append(Cell("streams", {"streams": 5_000}, [bare, ours]))
    pair = [sample("ours", 1.1, 1.1), sample("without search", 1.0, 1.0)]
    found = sample("ours", 0.01, **{"p99 ms": 12.0})
    cells += [
        Cell("search", {"operation": "append", "messages": 2}, pair),
        Cell("search", {"operation": "query", "messages": 100_000}, [found]),
    ]
    names = ("Python alone", "import, without a SQL store", "hermes-sessions --help")
    begun = [sample(name, 0.1, MB=30.0) for name in names]
    return [*cells, Cell("footprint", {"what": "a process"}, begun)]


def find(cells: list[Cell], group: str, **conditions: Any) -> Cell:
    """Return the first cell of that kind."""
    return next(
        cell
        for cell in cells
        if cell.group == group and conditions.items() <= cell.conditions.items()
    )


def row(cells: list[Cell], area: str, says: str) -> Target:
    """Return the only row of that kind."""
    (only,) = [row for row in targets(cells) if row.area == area and says in row.says]
    return only


def results(cells: list[Cell], **failures: str) -> Results:
    return Results({"run": "full: 3 rounds", "SQLite": "3"}, {"asyncpg": "1"}, cells, failures)


def test_a_spread_is_the_median_and_the_quartiles() -> None:
    """A spread tells the middle half of the values, and a single value is all of its own spread."""
    assert Spread.of([5, 1, 4, 2, 3]) == Spread(2, 3, 4)
    assert Spread.of([7]) == Spread(7, 7, 7)
    assert str(Spread(0.5, 1, 1.256)) == "1.00 (0.50 to 1.26)"


def test_a_ratio_compares_the_same_rounds() -> None:
    """A round that was slow for both subjects leaves their ratio as it is."""
    one = Sample("one", [2.0, 20.0, 2.0], [4.0, 40.0, 4.0])
    other = Sample("other", [1.0, 10.0, 1.0], [1.0, 10.0, 1.0])
    cell = Cell("stores", {}, [one, other])
    assert cell.ratio("one", to="other") == Spread(2, 2, 2)
    assert cell.ratio("one", to="other", of="cpu") == Spread(4, 4, 4)


def test_a_run_that_keeps_every_bound_meets_every_target() -> None:
    """Where every cell is measured and within its bound, every row is met and names its cell."""
    rows = targets(made_up())
    assert {row.verdict for row in rows} == {MET}, [row for row in rows if row.verdict != MET]
    assert all(row.measured and row.where for row in rows)


def test_without_cells_nothing_is_met() -> None:
    """A target of which nothing was measured says so, and keeps its row."""
    rows = targets([])
    assert {row.verdict for row in rows} == {NOT_MEASURED}
    assert [row.says for row in rows] == [row.says for row in targets(made_up())]


@pytest.mark.parametrize("group", [layout.group for layout in LAYOUTS if layout.group != "floors"])
def test_a_group_that_is_missing_unmeets_its_targets_only(group: str) -> None:
    """A run without one group has rows that are not measured, and the others are met as before."""
    rows = targets([cell for cell in made_up() if cell.group != group])
    assert {row.verdict for row in rows} == {MET, NOT_MEASURED}


@pytest.mark.parametrize(("seconds", "verdict"), [(1.99, MET), (2.0, MISSED), (2.5, MISSED)])
def test_one_cell_of_one_peer_decides(seconds: float, verdict: str) -> None:
    """Ahead of every peer means faster than the fastest in its best cell, and that one is named."""
    cells = made_up()
    cell = find(cells, "stores", database="SQLite", operation="append", messages=100, at_once=32)
    cell.sample("ours").wall[:] = [seconds] * 3
    cell.sample("raw sqlite3").wall[:] = [seconds] * 3
    target = row(cells, "SQLite", "append: ahead")
    assert target.verdict == verdict
    assert "100 messages, 32 at once" in target.where
    assert target.measured.startswith(f"{seconds / 2:.2f} (")
    assert row(cells, "SQLite", "load: ahead").verdict == MET


def test_a_peer_that_was_not_measured_is_named() -> None:
    """Nobody is ahead of a peer that did not run."""
    cells, last = made_up(), peers(SQLITE)[-1]
    for cell in cells:
        if cell.conditions.get("operation") == "load":
            cell.samples[:] = [one for one in cell.samples if one.name != last]
    target = row(cells, "SQLite", "load: ahead")
    assert (target.verdict, f"no {last}" in target.where) == (NOT_MEASURED, True)


def test_a_miss_is_a_miss_in_a_run_with_gaps_too() -> None:
    """A bound that one cell breaks is broken, whatever other cells would have said."""
    cells = [cell for cell in made_up() if cell.conditions.get("messages") != 5_000]
    assert row(cells, "SQLite", "load: ahead").verdict == NOT_MEASURED
    find(cells, "stores", database="SQLite", operation="load").sample("ours").wall[:] = [3.0] * 3
    assert row(cells, "SQLite", "load: ahead").verdict == MISSED


@pytest.mark.parametrize(
    ("database", "messages", "limit"),
    [("SQLite", 10, 2.5), ("SQLite", 5_000, 1.5), ("PostgreSQL", 10, 2.2)],
)
def test_a_floor_may_be_missed_by_a_factor(database: str, messages: int, limit: float) -> None:
    """The factor itself is kept, and more is not: more is allowed to 10 messages than to others."""
    for factor, misses in ((limit, 0), (limit * 1.01, 1)):
        cells = made_up()
        cell = find(cells, "stores", database=database, operation="load", messages=messages)
        cell.sample(DATABASES[database][0]).wall[:] = [1.0] * 3
        cell.sample("ours").wall[:] = [factor] * 3
        beside = [row for row in targets(cells) if "beside raw" in row.says]
        assert [row.verdict for row in beside].count(MISSED) == misses


@pytest.mark.parametrize(("ours", "verdict"), [(2.0, MET), (2.01, MISSED)])
def test_the_header_path_is_judged_by_what_it_adds(ours: float, verdict: str) -> None:
    """The bare application's own time is taken from both sides before they are compared."""
    cells = made_up()
    cell = find(cells, "requests", loop="trio", case="echo", body="100 chunks")
    cell.sample("floor").wall[:] = [2.0] * 3
    cell.sample("ours").wall[:] = [ours] * 3
    target = row(cells, "Header path", "100 chunks: adds to the bare app, beside what asgi")
    assert (target.verdict, "trio, echo" in target.where) == (verdict, True)


def test_each_framework_has_a_bound_of_its_own() -> None:
    """A turn through an adapter may take its bound, and no more, beside the framework's store."""
    cells = made_up()
    cell = find(cells, "frameworks", framework="openai-agents", messages=200)
    cell.sample("ours").wall[:] = [0.81] * 3
    assert (
        row(cells, "Frameworks", "200 messages: our adapter, beside openai-agents").verdict
        == MISSED
    )
    assert row(cells, "Frameworks", "20 messages: our adapter, beside openai-agents").verdict == MET


def test_an_overhead_that_noise_hides_is_not_measured() -> None:
    """Where the floor seems to cost nothing, nothing can be told in multiples of it."""
    cells = made_up()
    find(cells, "requests", loop="trio", case="mint", body="plain").sample("floor").wall[:] = [
        0.9
    ] * 3
    target = row(cells, "Header path", "mint: adds to the bare app, beside what floor")
    assert (target.verdict, "no trio, mint, plain" in target.where) == (NOT_MEASURED, True)


@pytest.mark.parametrize(("bare", "verdict"), [(0.95, MET), (0.94, MISSED)])
def test_the_smallest_rate_over_sockets_decides(bare: float, verdict: str) -> None:
    """A request that takes the bare app 0.95 of our time is 0.95 of its rate, which is enough."""
    cells = made_up()
    find(cells, "sockets", workers=2).sample("bare app").wall[:] = [bare] * 3
    target = row(cells, "Sockets", "uvicorn, no header")
    assert (target.verdict, "2 workers" in target.where) == (verdict, True)


@pytest.mark.parametrize(("factor", "verdict"), [(APART, MET), (APART + 0.01, MISSED)])
def test_32_at_a_time_are_compared_with_one(factor: float, verdict: str) -> None:
    """Each operation at 32 at a time is compared with the same one alone."""
    cells = made_up()
    cell = find(cells, "stores", database="SQLite", operation="load", messages=100, at_once=32)
    cell.sample("ours").wall[:] = [1.2 * factor] * 3
    target = row(cells, "SQLite", "no operation slower")
    assert (target.verdict, "100 messages" in target.where) == (verdict, True)


@pytest.mark.parametrize(("seconds", "verdict"), [(FLAT, MET), (FLAT + 0.01, MISSED)])
def test_flat_is_the_largest_over_the_smallest(seconds: float, verdict: str) -> None:
    """A curve is flat while its largest value is within the tolerance of its smallest."""
    cells = made_up()
    find(cells, "growth", axis="sessions", value=1_000).sample("ours").wall[:] = [
        seconds * 0.004
    ] * 3
    assert row(cells, "Growth", "1,000,000 sessions").verdict == verdict
    find(cells, "growth", value=10).sample("ours").wall[:] = [9.0] * 3
    assert row(cells, "Growth", "messages").verdict == MET  # it is promised from 100 on


def test_a_curve_that_ends_early_is_not_called_flat() -> None:
    """Flat up to 1,000 sessions says nothing of a million."""
    cells = [cell for cell in made_up() if cell.conditions.get("value") != 1_000_000]
    target = row(cells, "Growth", "1,000,000 sessions")
    assert (target.verdict, "no 1,000,000 on SQLite" in target.where) == (NOT_MEASURED, True)


def test_streams_are_judged_by_what_we_add() -> None:
    """One connection that is held is too many, and so are ten kB on top of the bare app's."""
    cells = made_up()
    figures = find(cells, "streams").sample("ours").figures
    figures["database connections"], figures["kB per stream"] = 1.0, 30.0
    assert row(cells, "5,000 streams", "connections").verdict == MISSED
    assert row(cells, "5,000 streams", "kB").verdict == MISSED


@pytest.mark.parametrize(("late", "verdict"), [(HEARTBEAT * 0.99, MET), (HEARTBEAT * 1.1, MISSED)])
def test_a_stall_is_compared_with_the_parse(late: float, verdict: str) -> None:
    """The loop may stall as long as the parse of the same history does, and a heartbeat's noise."""
    cells = made_up()
    cell = find(cells, "stores", database="PostgreSQL", operation="load", messages=1_000)
    cell.sample("ours").stall = 0.010 + late
    target = row(cells, "PostgreSQL", "beside that of the JSON parse")
    assert (target.verdict, "1,000 messages" in target.where) == (verdict, True)


def test_the_figures_come_back_from_json_as_they_were(tmp_path: Path) -> None:
    """Nothing is rounded or dropped on the way to the file and back, nor is a NaN."""
    path = tmp_path / "results.json"
    cells = [*made_up(), Cell("floors", {"database": "SQLite"}, [sample("ours", 1 / 3, 0.1)])]
    before = results(cells, sockets="OSError: no port")
    before.left_out["a peer: SQLite"] = "a round takes 2.0 s"
    before.write(path)
    assert "NaN" not in path.read_text()
    after = Results.read(path)
    assert repr(after) == repr(before)  # NaN is not equal to itself


def test_the_report_has_every_group_and_every_target() -> None:
    """The page tells each group's subjects, each target's verdict, and what was not measured."""
    page = render(results(made_up()), ["sqlite.svg"])
    for layout in LAYOUTS:
        assert f"## {layout.title}\n" in page
    for cell in made_up():
        for one in cell.samples:
            assert f"| {one.name} |" in page
    assert page.count(f"| **{MET}** |") == len(targets(made_up()))
    assert "](sqlite.svg)" in page
    assert "growth.svg" not in page
    assert "Not measured in this run." not in page
    assert "short run" not in page


def test_the_report_tells_scale_ratios_cpu_and_stalls() -> None:
    """Ours stands in absolute time, the others as multiples of it, with CPU and stall beside."""
    page = render(results(made_up()))
    assert "| ours | 1.2 s (1.2 s to 1.2 s)<br>CPU 600 ms<br>stall 10 ms" in page
    assert "| raw sqlite3 | 0.83 (0.83 to 0.83)<br>CPU 0.83 (0.83 to 0.83) |" in page


def test_a_table_is_as_wide_in_every_line() -> None:
    """A subject that some cells of a table lack leaves a dash there, and not a hole."""
    cells = made_up()
    lacking = find(cells, "stores", operation="append").samples.pop()
    page = render(results(cells))
    assert f"| {lacking.name} | - | 1.67" in page
    for block in page.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_what_was_left_out_is_told() -> None:
    """A subject that was not measured somewhere stands in a table, with the reason."""
    left = results(made_up())
    assert "## Left out" not in render(left)
    left.left_out["a peer: SQLite"] = "a round takes 2.0 s"
    assert "| a peer: SQLite | a round takes 2.0 s |" in render(left)


def test_what_broke_off_is_told() -> None:
    """A group without cells says whether it broke off, and why, or was not asked for."""
    page = render(results([], sockets="OSError: no port"))
    assert "This group broke off: `OSError: no port`" in page
    assert page.count("Not measured in this run.") == len(LAYOUTS) - 1


def test_a_group_that_fails_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one group raises is kept as its reason, and the groups after it are measured."""

    def fail(dose: Dose) -> list[Cell]:
        raise OSError(f"no port for {dose.rounds} rounds")

    cell = Cell("floors", {"database": "SQLite"}, [sample("bare hop", 1.0)])
    for name, measure in (("sockets", fail), ("floors", lambda _: [cell])):
        module = ModuleType(name)
        module.__dict__.update(measure=measure, LEFT_OUT={"a peer": "too slow"})
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", module)
    monkeypatch.setattr("benchmarks.results.postgresql_version", lambda: None)
    measured = program.measure(["sockets", "floors"], SHORT)
    assert measured.failures == {"sockets": f"OSError: no port for {SHORT.rounds} rounds"}
    assert measured.cells == [cell]
    assert measured.left_out == {"a peer": "too slow"}
    assert measured.facts["run"].startswith("short")


def test_a_run_with_a_failure_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code tells a run in which a group broke off, also when only its report is made."""
    monkeypatch.setattr(program, "write", lambda *_: None)
    for failures, code in (({}, 0), ({"sockets": "OSError"}, 1)):
        results([], **failures).write(tmp_path / "results.json")
        assert program.main(["--report-from", str(tmp_path / "results.json")]) == code


@pytest.mark.parametrize("options", [["--short"], ["--only", "floors"]])
def test_a_part_does_not_take_the_place_of_the_whole(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A short run, or one of some groups, is refused unless it says where it writes."""
    monkeypatch.setattr(program, "measure", lambda *_: pytest.fail("it was begun"))
    with pytest.raises(SystemExit):
        program.main(options)
    assert "give --output" in capsys.readouterr().err


def test_a_part_tells_its_own_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of some groups tells the targets of these alone, also where nothing was measured."""
    monkeypatch.setattr(program, "write", lambda *_: None)
    monkeypatch.setattr(program, "measure", lambda *_: results([]))
    program.main(["--only", "sockets", "footprint", "--output", str(tmp_path)])
    told = capsys.readouterr().err.splitlines()
    assert {line.split("  ")[1].split(",")[0].strip() for line in told} == {"Sockets", "Footprint"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2, "2 s"), (0.0123, "12.3 ms"), (0.000_5, "500 µs"), (1e-9, "0.001 µs"), (250, "250 s")],
)
def test_times_have_three_digits(seconds: float, text: str) -> None:
    """A time is told in the unit in which it has a digit before the point."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("database", "says", "limit"),
    [
        (SQLITE, "append, 32 at a time: wall", 0.6),
        (SQLITE, "append, one at a time: CPU", 0.8),
        (SQLITE, "load, 10 messages, one at a time: CPU", 0.6),
        (SQLITE, "load, 1,000 messages, one at a time: CPU", 1.2),
        (SQLITE, "load, 5,000 messages, one at a time: CPU", 2.2),
        (POSTGRESQL, "load, 10 messages, 32 at a time: CPU", 1.25),
    ],
)
def test_a_bound_beside_one_subject_has_its_own_factor(
    database: str, says: str, limit: float
) -> None:
    """What is compared is ours over the one that is named, and the factor itself is kept."""
    other = row(made_up(), database, says).says.partition("beside ")[2]
    of = "cpu" if "CPU" in says else "wall"
    for factor, verdict in ((limit, MET), (limit * 1.01, MISSED)):
        cells = made_up()
        for cell in cells:
            if cell.group == "stores" and other in {one.name for one in cell.samples}:
                setattr(cell.sample(other), of, [1.0] * 3)
                setattr(cell.sample("ours"), of, [factor] * 3)
        assert row(cells, database, says).verdict == verdict


@pytest.mark.parametrize(("factor", "verdict"), [(1, MET), (1.01, MISSED)])
def test_what_has_a_bound_of_its_own_is_not_a_ratio(factor: float, verdict: str) -> None:
    """A list page, an import and a call for help are judged in milliseconds, MB and seconds."""
    cells = made_up()
    page = find(cells, "growth", operation="list page", value=1_000_000, database=POSTGRESQL)
    page.sample("ours").wall[:] = [0.005 * factor] * 3
    started = find(cells, "footprint")
    started.sample("import, without a SQL store").cpu[:] = [0.15 * factor] * 3
    started.sample("import, without a SQL store").figures["MB"] = 32 * factor
    started.sample("hermes-sessions --help").wall[:] = [0.2 * factor] * 3
    rows = [row(cells, "Growth", "list page")]
    rows += [one for one in targets(cells) if one.area == "Footprint"]
    assert [one.verdict for one in rows] == [verdict] * 4


def test_an_operation_of_ours_that_fails_is_a_miss() -> None:
    """Peers may fail under load; one failure of ours is one too many."""
    cells = made_up()
    cell = find(cells, "stores", database=SQLITE, operation="turn", at_once=32)
    cell.sample(peers(SQLITE)[0]).figures["failed"] = 1.0
    assert row(cells, SQLITE, "that failed").verdict == MET
    cell.sample("ours").figures["failed"] = 1.0
    assert row(cells, SQLITE, "that failed").verdict == MISSED


@pytest.mark.parametrize(("factor", "verdict"), [(1.4, MET), (1.41, MISSED)])
def test_an_echo_over_sockets_is_judged_by_the_servers_cpu(factor: float, verdict: str) -> None:
    """The server's CPU for a request whose id comes back, beside that of the bare app."""
    cells = made_up()
    cell = find(cells, "sockets", server="uvicorn[standard]", case="echo")
    cell.sample("ours").cpu[:] = [factor] * 3
    cell.sample("bare app").cpu[:] = [1.0] * 3
    assert row(cells, "Sockets", "echo").verdict == verdict


@pytest.mark.parametrize(("stall", "verdict"), [(STALL, MET), (STALL * 1.1, MISSED)])
def test_32_long_loads_may_stall_the_loop_for_so_long(stall: float, verdict: str) -> None:
    """The longest stall of 32 loads of 5,000 messages from PostgreSQL is told in milliseconds."""
    cells = made_up()
    where = {"database": POSTGRESQL, "operation": "load", "messages": 5_000, "at_once": 32}
    find(cells, "stores", **where).sample("ours").stall = stall
    assert row(cells, POSTGRESQL, "32 loads of 5,000").verdict == verdict
