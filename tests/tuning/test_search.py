"""Protects the file of a search: what a crash leaves of it is mended, damage is told."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="the extra `tune` is missing")

from ademvl.config.search_space import SearchedValues
from ademvl.errors import DataError, DiskFullError
from ademvl.tuning.search import Search
from ademvl.tuning.space import SearchedSetting

SPACE = {
    "method.scales": SearchedSetting(SearchedValues(choices=([16], [16, 4])), [64]),
    "method.projection_width": SearchedSetting(SearchedValues(low=8, high=64, log=True), 128),
    "method.gamma": SearchedSetting(SearchedValues(low=0.0, high=0.5), 0.25),
}


def open_search(file: Path) -> Search:
    return Search(file, SPACE, reduction=3, seed=0)


def try_one(search: Search, score: float) -> None:
    trial = search.propose()
    assert trial is not None
    trial.report(score, 1)
    search.keep(trial, is_complete=True)


def try_many(search: Search) -> None:
    for score in range(100):
        try_one(search, float(score))


def fill(ballast: Path) -> None:
    """Leave no room on a small disk."""
    with contextlib.suppress(OSError):
        ballast.write_bytes(bytes(4 << 20))


def test_values_are_those_that_a_study_file_can_have(tmp_path: Path) -> None:
    search = open_search(tmp_path / "trials.journal")
    for score in range(12):
        try_one(search, float(score))
    for trial in search.trials:
        assert trial.values["method.scales"] in ([16], [16, 4])
        assert type(trial.values["method.projection_width"]) is int
        gamma = trial.values["method.gamma"]
        assert 0 <= gamma <= 0.5
        assert gamma == float(f"{gamma:.4g}")
    assert [trial.score for trial in search.trials] == list(range(12))


def test_line_that_a_crash_cut_short_is_no_trial_and_hurts_none(tmp_path: Path) -> None:
    file = tmp_path / "trials.journal"
    search = open_search(file)
    try_one(search, 50.0)
    whole = file.read_bytes()
    try_one(search, 60.0)
    values = search.trials[1].values
    file.write_bytes(file.read_bytes()[:-20])
    again = open_search(file)
    assert file.read_bytes().startswith(whole)
    assert [trial.score for trial in again.trials] == [50.0]
    try_one(again, 60.0)
    assert [trial.values for trial in open_search(file).trials[1:]] == [values]


def test_line_that_a_crash_cut_short_may_be_the_first(tmp_path: Path) -> None:
    file = tmp_path / "trials.journal"
    open_search(file)
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert open_search(file).trials == []


@pytest.mark.parametrize("garbage", [b"no line of it", b"{}", b"\0" * 40])
def test_end_that_is_no_line_is_told_and_left_there(garbage: bytes, tmp_path: Path) -> None:
    file = tmp_path / "trials.journal"
    try_one(open_search(file), 50.0)
    for content in (garbage, file.read_bytes() + garbage):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"trials\.journal: damaged .* Delete the file"):
            open_search(file)
        assert file.read_bytes() == content


def test_full_disk_names_the_file_and_loses_no_trial(small_disk: Path) -> None:
    file = small_disk / "trials.journal"
    search = open_search(file)
    try_one(search, 50.0)
    ballast = small_disk / "ballast"
    fill(ballast)
    with pytest.raises(DiskFullError, match=r"trials\.journal: the disk is full"):
        try_many(search)  # the last block of the file may have room for some
    ballast.unlink()
    again = open_search(file)
    kept = [trial.score for trial in again.trials]
    assert kept == [50.0, *range(len(kept) - 1)]
    try_one(again, 60.0)
    assert [trial.score for trial in open_search(file).trials] == [*kept, 60.0]


def test_full_disk_names_the_file_that_cannot_be_begun(small_disk: Path) -> None:
    fill(small_disk / "ballast")
    with pytest.raises(DiskFullError, match=r"trials\.journal: the disk is full"):
        open_search(small_disk / "trials.journal")


@pytest.mark.parametrize(
    ("values", "start"),
    [
        (SearchedValues(choices=(0, 0.5)), 0.0),  # as YAML reads 0, and as the run has it
        (SearchedValues(choices=([1.0], [2])), [1]),
        (SearchedValues(low=0.1, high=1.0), 0.123456),
        (SearchedValues(low=0.0, high=0.6, step=0.1), 0.3),
    ],
)
def test_first_trial_is_the_run_as_it_is(
    values: SearchedValues, start: Any, tmp_path: Path
) -> None:
    space = {"method.beta": SearchedSetting(values, start)}
    search = Search(tmp_path / "trials.journal", space, reduction=3, seed=0)
    try_one(search, 50.0)
    assert search.trials[0].values == {"method.beta": start}


@pytest.mark.parametrize("damage", [b"{}\n", b"not JSON\n", b"\xff\xfe\n", b"[1, 2]\n"])
def test_damaged_file_is_told_with_what_to_do(damage: bytes, tmp_path: Path) -> None:
    file = tmp_path / "trials.journal"
    search = open_search(file)
    try_one(search, 50.0)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + damage + b"".join(lines[1:]))
    with pytest.raises(DataError, match=r"trials\.journal: damaged .* Delete the file"):
        open_search(file)
