"""The log of an answer in memory, and its payloads as a function of the application sees them."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw.session.answer_content import Payloads
from hermes_session_mw.session.answer_log import AnswerLog


def logged(sizes: list[int], base: int = 0) -> tuple[AnswerLog, list[str]]:
    """Return a log that got so many events at once, and the events."""
    log, events = AnswerLog(base), list[str]()
    for size in sizes:
        more = [json.dumps(len(events) + place) for place in range(size)]
        log.add(more)
        events += more
    return log, events


def read(log: AnswerLog, number: int) -> list[str]:
    found: list[str] = []
    while more := log.after(number + len(found)):
        found += more
    return found


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(0, 5))
def test_events_come_back_in_order(sizes: list[int], base: int) -> None:
    """Whoever reads after any number gets exactly the events that follow it."""
    log, events = logged(sizes, base)
    assert log.end == base + len(events)
    for number in range(base, log.end + 1):
        assert read(log, number) == events[number - base :]


@given(
    st.lists(st.integers(0, 40), max_size=4),
    st.lists(st.integers(0, 600), max_size=4),
    st.integers(0, 5),
)
def test_earlier_events_come_before(sizes: list[int], earlier: list[int], base: int) -> None:
    """Events that are added before the first one are read before it."""
    log, events = logged(sizes, base + sum(earlier))
    for size in earlier:
        more = [json.dumps(f"{size} {place}") for place in range(size)]
        log.prepend(more)
        events = more + events
        log.add(["1"])
        events.append("1")
    assert log.base == base
    for number in range(base, log.end + 1, 7):
        assert read(log, number) == events[number - base :]


def test_long_events_come_back() -> None:
    """Events that are longer than what is kept together come back whole."""
    log = AnswerLog()
    events = [json.dumps("x" * size) for size in range(0, 60_000, 1009)]
    for event in events:
        log.add([event])
    assert all(read(log, number) == events[number:] for number in range(len(events)))


@given(
    st.lists(st.integers(0, 20), max_size=8), st.slices(40) | st.integers(-40, 40), st.integers()
)
def test_payloads_are_a_sequence(sizes: list[int], index: slice | int, count: int) -> None:
    """The payloads up to an event can be counted, iterated, indexed and sliced as a list can."""
    log, events = logged(sizes)
    values: list[Any] = [json.loads(event) for event in events][: count % (len(events) + 1)]
    payloads = Payloads(log, len(values))
    assert (len(payloads), list(payloads), list(reversed(payloads))) == (
        len(values),
        values,
        values[::-1],
    )
    try:
        expected = values[index]
    except IndexError:
        expected = IndexError
    try:
        found = payloads[index]
    except IndexError:
        found = IndexError
    assert found == expected


def test_a_log_is_read_while_it_grows() -> None:
    """Threads that read while another adds get each event once, and in order."""
    log, count, begin = AnswerLog(), 20_000, threading.Barrier(4)

    def follow() -> list[str]:
        begin.wait(30)
        found: list[str] = []
        while len(found) < count:
            found += log.after(len(found))
        return found

    with ThreadPoolExecutor(3) as pool:
        following = [pool.submit(follow) for _ in range(3)]
        begin.wait(30)
        for number in range(count):
            log.add([str(number)])
        expected = [str(number) for number in range(count)]
        assert [each.result(60) for each in following] == [expected] * 3
