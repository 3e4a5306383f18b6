"""Targets: what the figures have to show, each with the cell that comes closest to failing it."""

from collections.abc import Callable, Iterable, Sequence
from math import isnan
from statistics import median

from benchmarks.footprint import HELP, IMPORT
from benchmarks.frameworks import FRAMEWORKS, Framework
from benchmarks.judging import (
    MET,
    MISSED,
    NOT_MEASURED,
    Bound,
    Finding,
    Target,
    absent,
    apart,
    describe,
    judge,
    names,
    overhead,
    pick,
    tell_gaps,
)
from benchmarks.measuring import Cell, Sample, Spread
from benchmarks.peers.everyone import OURS, POSTGRESQL, SQLITE, peers
from benchmarks.peers.operations import (
    APPEND,
    FIRST_SIGHT,
    LIST_PAGE,
    LOAD,
    LOAD_NEWEST,
    LOADS,
    TURN,
)

FLAT = 1.3  # largest over smallest: what two cells, measured minutes apart, differ by noise alone
APART = 1.05  # the same, where the two are of one size and measured one after the other
# The interpreter lets a thread run for so long before another may: a heartbeat is late by as much
# wherever any thread works.
HEARTBEAT = 0.005
LENGTHS = (10, 100, 1_000, 5_000)
STREAMS = 5_000
OPERATIONS = (LOAD, LOAD_NEWEST, APPEND, TURN, FIRST_SIGHT)
FASTEST = "openai-agents SQLiteSession"
LANGGRAPH = "langgraph AsyncSqliteSaver"
BESIDE = (
    # operation, messages, at once, of, at most, beside whom
    (SQLITE, APPEND, LENGTHS, 32, "wall", 0.6, FASTEST),
    (SQLITE, APPEND, LENGTHS, 1, "cpu", 0.8, FASTEST),
    (SQLITE, LOAD, (10,), 1, "cpu", 0.6, FASTEST),
    (SQLITE, LOAD, (1_000,), 1, "cpu", 1.2, LANGGRAPH),
    (SQLITE, LOAD, (5_000,), 1, "cpu", 2.2, LANGGRAPH),
    (POSTGRESQL, LOAD, (10,), 32, "cpu", 1.25, "raw asyncpg"),
)
"""What a database's cells have to keep beside those who are closest, or were."""

GROUP_OF = {
    "Header path": "requests",
    "Sockets": "sockets",
    "Growth": "growth",
    "Frameworks": "frameworks",
    "Footprint": "footprint",
    "5,000 streams": "streams",
    "Search": "search",
    SQLITE: "stores",
    POSTGRESQL: "stores",
}
"""The group whose cells decide the targets of an area."""

STALL = 0.015  # seconds, of 32 loads of 5,000 messages from PostgreSQL


def targets(cells: Sequence[Cell]) -> list[Target]:
    """Return a row for every target."""
    return [
        *(_beside(cells, *row) for row in BESIDE),
        *(
            _turn(cells, framework, messages)
            for framework in FRAMEWORKS
            for messages in framework.limits
        ),
        _stall_at_most(cells, STALL),
        _echo(cells),
        _list_page(cells),
        *_footprint(cells),
        *_header_path(cells),
        *_stores(cells, SQLITE, "raw sqlite3", {1.5: LENGTHS[1:], 2.5: (10,)}),
        *_stores(cells, POSTGRESQL, "raw asyncpg", {2.2: LENGTHS}),
        _round_trips(cells),
        _sockets(cells, "uvicorn", (1, 2, 4)),
        _sockets(cells, "uvicorn[standard]", (1,)),
        _flat(cells, "messages in the session", "load last 20", 100, 100_000),
        _flat(cells, "sessions", "load", 1, 1_000_000),
        *_streams(cells),
        *_search(cells),
    ]


def _beside(
    cells: Sequence[Cell],
    database: str,
    operation: str,
    lengths: tuple[int, ...],
    at_once: int,
    of: str,
    limit: float,
    other: str,
) -> Target:
    some = pick(cells, "stores", database=database, operation=operation, at_once=at_once)
    compared = [
        cell for cell in some if cell.conditions["messages"] in lengths and other in names(cell)
    ]
    findings = [Finding(cell.ratio(OURS, to=other, of=of), _short(cell)) for cell in compared]
    # Of the longest there are too few for 32 at a time.
    expected = [
        length for length in lengths if at_once == 1 or operation != APPEND or length < LENGTHS[-1]
    ]
    many = f"{at_once} at a time" if at_once > 1 else "one at a time"
    sizes = f", {lengths[0]:,} messages" if len(lengths) == 1 else ""
    kind = "CPU" if of == "cpu" else of
    says = f"{operation}{sizes}, {many}: {kind}, beside {other}"
    return judge(
        database, says, Bound.at_most(limit), findings, absent(compared, "messages", expected)
    )


def _turn(cells: Sequence[Cell], framework: Framework, messages: int) -> Target:
    findings = [
        Finding(cell.ratio(OURS, to=framework.own), describe(cell))
        for cell in pick(cells, "frameworks", framework=framework.name, messages=messages)
    ]
    says = f"turn, {messages} messages: our adapter, beside {framework.own}"
    return judge("Frameworks", says, Bound.at_most(framework.limits[messages]), findings)


def _stall_at_most(cells: Sequence[Cell], limit: float) -> Target:
    some = pick(cells, "stores", database=POSTGRESQL, operation=LOAD, messages=5_000, at_once=32)
    findings = [
        Finding(Spread.of([cell.sample(OURS).stall * 1e3]), _short(cell))
        for cell in some
        if not isnan(cell.sample(OURS).stall)
    ]
    says = "32 loads of 5,000: longest stall of the event loop, ms"
    return judge(POSTGRESQL, says, Bound.at_most(limit * 1e3), findings)


def _echo(cells: Sequence[Cell]) -> Target:
    some = pick(cells, "sockets", case="echo", server="uvicorn[standard]")
    findings = [Finding(cell.ratio(OURS, to="bare app", of="cpu"), describe(cell)) for cell in some]
    says = "uvicorn[standard], echo: the server's CPU, beside the bare app's"
    return judge("Sockets", says, Bound.at_most(1.4), findings)


def _list_page(cells: Sequence[Cell]) -> Target:
    some = pick(cells, "growth", axis="sessions", operation=LIST_PAGE, value=1_000_000)
    findings = [
        Finding(Spread.of([wall * 1e3 for wall in cell.sample(OURS).wall]), describe(cell))
        for cell in some
    ]
    missing = absent(some, "database", (SQLITE, POSTGRESQL))
    says = f"{LIST_PAGE}, of 1,000,000: ms"
    return judge("Growth", says, Bound.at_most(5), findings, missing)


def _footprint(cells: Sequence[Cell]) -> list[Target]:
    rows: list[tuple[str, str, float, Callable[[Sample], list[float]]]] = [
        (IMPORT, "CPU, ms", 150, lambda sample: [seconds * 1e3 for seconds in sample.cpu]),
        (IMPORT, "MB", 32, lambda sample: [sample.figures["MB"]]),
        (HELP, "s", 0.2, lambda sample: sample.wall),
    ]
    targets = []
    for name, unit, limit, values in rows:
        findings = [
            Finding(Spread.of(values(cell.sample(name))), describe(cell))
            for cell in pick(cells, "footprint")
        ]
        targets.append(judge("Footprint", f"{name}: {unit}", Bound.at_most(limit), findings))
    return targets


def _header_path(cells: Sequence[Cell]) -> list[Target]:
    mint = pick(cells, "requests", case="mint", body="plain")
    echo = pick(cells, "requests", case="echo", body="plain")
    chunks = pick(cells, "requests", body="100 chunks")
    rows = []
    for name, limits in (("asgi-correlation-id", (0.65, 0.85, 1)), ("floor", (2, 2, 2))):
        cases = (("mint", mint), ("echo", echo), ("100 chunks", chunks))
        for (case, some), limit in zip(cases, limits, strict=True):
            # What noise hides in a short run cannot be compared with anything.
            compared = [
                cell for cell in some if name in names(cell) and median(overhead(cell, name)) > 0
            ]
            findings = [
                Finding(apart(overhead(cell, OURS), overhead(cell, name)), describe(cell))
                for cell in compared
            ]
            hidden = [describe(cell) for cell in some if cell not in compared]
            missing = [*hidden, *absent(some, "loop", ("asyncio", "trio"))]
            says = f"{case}: adds to the bare app, beside what {name} adds"
            rows.append(judge("Header path", says, Bound.at_most(limit), findings, missing))
    return rows


def _stores(
    cells: Sequence[Cell],
    database: str,
    floor: str,
    limits: dict[float, tuple[int, ...]],
) -> list[Target]:
    rows = []
    for operation in OPERATIONS:
        some = pick(cells, "stores", database=database, operation=operation)
        rows.append(_ahead(some, database, operation))
    for operation in (*LOADS, APPEND):
        for limit, lengths in limits.items():
            some = pick(cells, "stores", database=database, operation=operation, messages=lengths)
            rows.append(_near(some, f"{database}, {operation}", floor, limit, lengths))
    return [
        *rows,
        _together(cells, database),
        _stall(cells, database),
        _failures(cells, database),
    ]


def _ahead(cells: Sequence[Cell], database: str, operation: str) -> Target:
    expected = peers(database)
    findings = [
        Finding(cell.ratio(OURS, to=peer), f"{peer}: {_short(cell)}")
        for cell in cells
        for peer in expected
        if peer in names(cell)
    ]
    missing = [
        f"{name}: {_short(cell)}" for cell in cells for name in expected if name not in names(cell)
    ]
    missing += _gaps(cells, () if operation == FIRST_SIGHT else LENGTHS)
    says = f"{operation}: ahead of every peer in every cell"
    return judge(database, says, Bound.below(1), findings, missing)


def _near(
    cells: Iterable[Cell], what: str, floor: str, limit: float, lengths: tuple[int, ...]
) -> Target:
    database, operation = what.split(", ", 1)
    compared = [cell for cell in cells if floor in names(cell)]
    findings = [Finding(cell.ratio(OURS, to=floor), _short(cell)) for cell in compared]
    sizes = f"{lengths[0]:,} messages" + (" and more" if len(lengths) > 1 else "")
    says = f"{operation}, {sizes}: beside {floor}"
    return judge(database, says, Bound.at_most(limit), findings, _gaps(compared, lengths))


def _gaps(cells: Sequence[Cell], lengths: Iterable[int]) -> list[str]:
    return [*absent(cells, "messages", lengths), *absent(cells, "at_once", (1, 32))]


def _short(cell: Cell) -> str:
    return describe(cell, "messages", "at_once")


def _round_trips(cells: Sequence[Cell]) -> Target:
    figure = "round trips"
    findings = [
        Finding(Spread.of([cell.sample(OURS).figures[figure]]), describe(cell))
        for cell in pick(cells, "stores", database=POSTGRESQL, operation=LOADS)
        if figure in cell.sample(OURS).figures
    ]
    return judge(POSTGRESQL, "one round trip for each load", Bound.at_most(1), findings)


def _together(cells: Sequence[Cell], database: str) -> Target:
    pairs = [
        (many, one)
        for many in pick(cells, "stores", database=database, at_once=32)
        for one in pick(cells, "stores", **{**many.conditions, "at_once": 1})
    ]
    findings = [
        Finding(apart(many.sample(OURS).wall, one.sample(OURS).wall), describe(many))
        for many, one in pairs
    ]
    missing = absent((many for many, _ in pairs), "operation", OPERATIONS)
    says = "32 at a time: no operation slower than one at a time"
    return judge(database, says, Bound.at_most(APART), findings, missing)


def _sockets(cells: Sequence[Cell], server: str, workers: Sequence[int]) -> Target:
    some = pick(cells, "sockets", case="no header", server=server)
    # Seconds per request: the bare app's over ours is our requests per second over the bare app's.
    findings = [Finding(cell.ratio("bare app", to=OURS), describe(cell)) for cell in some]
    missing = absent(some, "workers", workers)
    says = f"{server}, no header: requests per second, beside the bare app's"
    return judge("Sockets", says, Bound.at_least(0.95), findings, missing)


def _flat(cells: Sequence[Cell], axis: str, operation: str, first: int, last: int) -> Target:
    grown = [
        cell
        for cell in pick(cells, "growth", axis=axis, operation=operation)
        if first <= cell.conditions["value"] <= last
    ]
    databases = dict.fromkeys(cell.conditions["database"] for cell in grown)
    findings, missing = [], []
    for database in databases:
        curve = [cell for cell in grown if cell.conditions["database"] == database]
        ours = {cell.conditions["value"]: cell.sample(OURS).wall for cell in curve}
        low = min(ours, key=lambda value: median(ours[value]))
        high = max(ours, key=lambda value: median(ours[value]))
        where = f"{database}: {high:,} beside {low:,}"
        findings.append(Finding(apart(ours[high], ours[low]), where))
        missing += [f"{value:,} on {database}" for value in (first, last) if value not in ours]
    says = f"{operation}: flat from {first:,} to {last:,} {axis}, largest over smallest"
    return judge("Growth", says, Bound.at_most(FLAT), findings, missing)


def _streams(cells: Sequence[Cell]) -> list[Target]:
    some = [cell for cell in pick(cells, "streams") if cell.conditions["streams"] >= STREAMS]
    held = "database connections"
    size = "kB per stream"
    connections = [
        Finding(Spread.of([cell.sample(OURS).figures[held]]), describe(cell))
        for cell in some
        if held in cell.sample(OURS).figures
    ]
    memory = [
        Finding(Spread.of([_more(cell, size)]), describe(cell))
        for cell in some
        if all(size in cell.sample(name).figures for name in (OURS, "bare app"))
    ]
    area = "5,000 streams"
    return [
        judge(area, "database connections that are held", Bound.at_most(0), connections),
        judge(area, "kB that ours adds to each stream", Bound.below(10), memory),
    ]


def _search(cells: Sequence[Cell]) -> list[Target]:
    appends = [
        Finding(cell.ratio(OURS, to="without search", of="cpu"), describe(cell))
        for cell in pick(cells, "search", operation=APPEND)
    ]
    queries = [
        Finding(Spread.of([cell.sample(OURS).figures["p99 ms"]]), describe(cell))
        for cell in pick(cells, "search", operation="query")
    ]
    return [
        judge("Search", "append: CPU, beside without search", Bound.at_most(1.15), appends),
        judge("Search", "query: p99, ms", Bound.below(50), queries),
    ]


def _more(cell: Cell, figure: str) -> float:
    return cell.sample(OURS).figures[figure] - cell.sample("bare app").figures[figure]


def _failures(cells: Sequence[Cell], database: str) -> Target:
    findings = [
        Finding(Spread.of([cell.sample(OURS).figures.get("failed", 0)]), describe(cell))
        for cell in pick(cells, "stores", database=database)
    ]
    return judge(database, "operations of ours that failed", Bound.at_most(0), findings)


def _stall(cells: Sequence[Cell], database: str) -> Target:
    stalls = [
        (cell.sample(OURS).stall, cell.sample("JSON parse").stall, cell)
        for cell in pick(cells, "stores", database=database, operation=LOADS)
        if "JSON parse" in names(cell)
    ]
    known = [stall for stall in stalls if not isnan(stall[0] - stall[1])]
    says = "load: longest stall of the event loop, beside that of the JSON parse"
    bound = f"the parse's, and {HEARTBEAT * 1e3:g} ms"
    if not known:
        return Target(database, says, bound, "", "", NOT_MEASURED)
    gaps = tell_gaps(_gaps([cell for *_, cell in known], LENGTHS))
    ours, parse, cell = max(known, key=lambda stall: stall[0] - stall[1])
    verdict = (NOT_MEASURED if gaps else MET) if ours - parse <= HEARTBEAT else MISSED
    measured = f"{ours * 1e3:.1f} ms beside {parse * 1e3:.1f} ms"
    where = "; ".join(filter(None, (_short(cell), f"the worst of {len(known)}", gaps)))
    return Target(database, says, bound, measured, where, verdict)
