"""Targets: what the figures have to show, each with the cell that comes closest to failing it."""

from collections.abc import Iterable, Sequence
from math import isnan
from statistics import median

from benchmarks.judging import (
    MET,
    MISSED,
    NOT_MEASURED,
    OURS,
    Bound,
    Finding,
    Target,
    absent,
    apart,
    describe,
    judge,
    names,
    overhead,
    peers,
    pick,
    tell_gaps,
)
from benchmarks.measuring import Cell, Spread

FLAT = 1.3  # largest over smallest: what two cells, measured minutes apart, differ by noise alone
APART = 1.05  # the same, where the two are of one size and measured one after the other
# The interpreter lets a thread run for so long before another may: a heartbeat is late by as much
# wherever any thread works.
HEARTBEAT = 0.005
LENGTHS = (10, 100, 1_000, 5_000)
STREAMS = 5_000
OPERATIONS = ("load", "load last 20", "append", "first sight")
POSTGRESQL_PEERS = (
    "openai-agents SQLAlchemySession",
    "langchain SQLChatMessageHistory",
    "google-adk DatabaseSessionService",
    "llama-index SQLAlchemyChatStore",
)
SQLITE_PEERS = (
    "openai-agents SQLiteSession",
    *POSTGRESQL_PEERS,
    "langgraph AsyncSqliteSaver",
    "hermes-agent SessionDB",
)


def targets(cells: Sequence[Cell]) -> list[Target]:
    """Return a row for every target."""
    return [
        *_header_path(cells),
        *_stores(cells, "SQLite", SQLITE_PEERS, "raw sqlite3", {1.5: LENGTHS[1:], 2.5: (10,)}),
        *_stores(cells, "PostgreSQL", POSTGRESQL_PEERS, "raw asyncpg", {2.2: LENGTHS}),
        _round_trips(cells),
        _sockets(cells, "uvicorn", (1, 2, 4)),
        _sockets(cells, "uvicorn[standard]", (1,)),
        _flat(cells, "messages in the session", "load last 20", 100, 100_000),
        _flat(cells, "sessions", "load", 1, 1_000_000),
        *_streams(cells),
    ]


def _header_path(cells: Sequence[Cell]) -> list[Target]:
    mint = pick(cells, "requests", case="mint", body="plain")
    echo = pick(cells, "requests", case="echo", body="plain")
    chunks = pick(cells, "requests", body="100 chunks")
    rows = []
    for name, bound, text in (
        ("asgi-correlation-id", Bound.below(1), "adds less to the bare app than {}"),
        ("floor", Bound.at_most(2), "adds at most twice what the {} adds"),
    ):
        for case, some in (("mint", mint), ("echo", echo), ("100 chunks", chunks)):
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
            says = f"{case}: {text.format(name)}"
            rows.append(judge("Header path", says, bound, findings, missing))
    return rows


def _stores(
    cells: Sequence[Cell],
    database: str,
    expected: Sequence[str],
    floor: str,
    limits: dict[float, tuple[int, ...]],
) -> list[Target]:
    rows = []
    for operation in OPERATIONS:
        some = pick(cells, "stores", database=database, operation=operation)
        rows.append(_ahead(some, database, operation, expected))
    for operation in OPERATIONS[:-1]:
        for limit, lengths in limits.items():
            some = pick(cells, "stores", database=database, operation=operation, messages=lengths)
            rows.append(_near(some, f"{database}, {operation}", floor, limit, lengths))
    return [*rows, _together(cells, database), _stall(cells, database)]


def _ahead(cells: Sequence[Cell], database: str, operation: str, expected: Sequence[str]) -> Target:
    findings = [
        Finding(cell.ratio(OURS, to=peer), f"{peer}: {_short(cell)}")
        for cell in cells
        for peer in peers(cell)
    ]
    missing = [
        f"{name}: {_short(cell)}" for cell in cells for name in expected if name not in names(cell)
    ]
    missing += _gaps(cells, () if operation == "first sight" else LENGTHS)
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
        for cell in pick(cells, "stores", database="PostgreSQL", operation=("load", "load last 20"))
        if figure in cell.sample(OURS).figures
    ]
    return judge("PostgreSQL", "one round trip for each load", Bound.at_most(1), findings)


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


def _more(cell: Cell, figure: str) -> float:
    return cell.sample(OURS).figures[figure] - cell.sample("bare app").figures[figure]


def _stall(cells: Sequence[Cell], database: str) -> Target:
    stalls = [
        (cell.sample(OURS).stall, cell.sample("JSON parse").stall, cell)
        for cell in pick(cells, "stores", database=database, operation=("load", "load last 20"))
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
