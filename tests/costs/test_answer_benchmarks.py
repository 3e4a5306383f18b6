"""The measures of answers run to their end; what they measure is for their own runs."""

import re

import pytest

from benchmarks.answers import followers
from benchmarks.answers.__main__ import main


def test_rejoins_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of rejoin is measured, beside the floor."""
    assert main(["rejoin", "--count", "3", "--answers", "2"]) == 0
    told = capsys.readouterr().out
    for name in ("the same process", "another process", "floor"):
        assert len(re.findall(rf"{name} +p50 +[0-9.]+ ms, p99", told)) == 2


def test_followers_are_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statements of the processes that serve followers are counted."""
    monkeypatch.setattr(followers, "_WARMING", 0.5)
    options = ["--seconds", "1", "--pause", "0.1", "--each", "2", "--databases", "sqlite"]
    assert main(["followers", *options]) == 0
    told = capsys.readouterr().out
    (rate,) = re.findall("statements of the four processes: ([0-9.]+) a second", told)
    assert float(rate) > 0
