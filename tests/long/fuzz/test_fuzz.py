"""A short dose of the fuzz; ``make fuzz`` is the long one."""

from pathlib import Path

import pytest

from tests.long.fuzz.runs import in_process, over_sockets


def test_generated_values_in_process() -> None:
    """Each of 20,000 generated requests is answered 200 or 400, under one valid id."""
    statuses = in_process(20_000, seed=1)
    assert statuses.keys() == {200, 400}
    assert statuses.total() == 20_000


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_generated_values_over_sockets(parser: str, tmp_path: Path) -> None:
    """So is each of 2,000 that comes through a real parser, unless the server answers itself."""
    seen = over_sockets(2_000, 2, parser, tmp_path)
    assert seen.total() == 2_000
    assert seen["200 by the application"] > 500
    assert seen["400 by the application"] > 500
