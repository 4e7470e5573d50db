"""Protects metrics.csv: rows average their interval, and a resume leaves no gap and no repeat."""

import json
from pathlib import Path

import pytest

from ademvl.errors import DataError
from ademvl.runs.metrics import COLUMNS, read_metrics
from ademvl.training.metrics import MetricsLog, StepResult


def _result(step: int) -> StepResult:
    return StepResult(
        step=step,
        epoch=step / 10,
        lr=1e-3 / step,
        loss=1 / step,
        grad_norm=0.1 * step,
        num_items=4,
        num_tokens=40,
    )


def _add(log: MetricsLog, steps: range, *, last: int = 0) -> None:
    for step in steps:
        log.add(_result(step), is_last=step == last)


def test_row_averages_its_interval(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.csv", interval_steps=2)
    _add(log, range(1, 6), last=5)
    log.close()
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row.step for row in rows] == [2, 4, 5]
    assert [row.loss for row in rows] == [(1 + 1 / 2) / 2, (1 / 3 + 1 / 4) / 2, 1 / 5]
    assert rows[0].lr == 1e-3 / 2
    assert all(row.items_per_second > 0 and row.memory_mib > 0 for row in rows)


def test_columns_are_documented_ones(tmp_path: Path) -> None:
    MetricsLog(tmp_path / "metrics.csv", interval_steps=1).close()
    header = (tmp_path / "metrics.csv").read_text(encoding="utf-8")
    assert header == (
        "step,epoch,lr,loss,grad_norm,skipped_steps,overflow_steps,"
        "items_per_second,tokens_per_second,memory_mib\n"
    )
    assert header.strip() == ",".join(COLUMNS)


@pytest.mark.parametrize("damage", ["later rows", "half a line", "deleted"])
def test_resume_leaves_neither_gap_nor_repeat(tmp_path: Path, damage: str) -> None:
    undisturbed = MetricsLog(tmp_path / "undisturbed.csv", interval_steps=3)
    _add(undisturbed, range(1, 14), last=13)
    path = tmp_path / "metrics.csv"
    killed = MetricsLog(path, interval_steps=3)
    _add(killed, range(1, 6))
    record = json.loads(json.dumps(killed.to_record()))
    _add(killed, range(6, 10))
    if damage == "half a line":
        path.write_text(path.read_text(encoding="utf-8")[:-7], encoding="utf-8")
    elif damage == "deleted":
        path.unlink()

    resumed = MetricsLog(path, interval_steps=3, record=record)
    _add(resumed, range(6, 14), last=13)
    resumed.close()

    def repeatable(path: Path) -> list[tuple[float, ...]]:
        return [(r.step, r.epoch, r.lr, r.loss, r.grad_norm) for r in read_metrics(path)]

    assert repeatable(path) == repeatable(tmp_path / "undisturbed.csv")


def test_other_columns_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"metrics\.csv: columns"):
        read_metrics(path)


def test_half_a_row_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(",".join(COLUMNS) + "\n1,0.5,\n", encoding="utf-8")
    with pytest.raises(DataError, match="malformed"):
        read_metrics(path)
