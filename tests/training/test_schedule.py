"""Protects the learning rate: the reference's table, and behaviour at the borders."""

import json
from pathlib import Path

import pytest

from ademvl.config.optimization import OptimizationSettings
from ademvl.training.schedule import lr_at

PEAK_BATCH = 256  # base_lr equals the peak at this effective batch


def _optimization(**values: float) -> OptimizationSettings:
    return OptimizationSettings(
        effective_batch_size=PEAK_BATCH, per_device_batch_size=PEAK_BATCH, **values
    )


def test_every_row_of_the_reference_table(golden_dir: Path) -> None:
    rows = json.loads((golden_dir / "E_lr_table.json").read_text(encoding="utf-8"))
    assert rows
    for row in rows:
        optimization = _optimization(
            epochs=row["epochs"],
            warmup_epochs=row["warmup_epochs"],
            base_lr=row["peak_lr"],
            min_lr=row["min_lr"],
        )
        assert lr_at(row["fractional_epoch"], optimization) == pytest.approx(
            row["lr"], rel=1e-12, abs=1e-18
        )


def test_without_warmup_the_first_step_has_the_peak() -> None:
    assert lr_at(0.0, _optimization(epochs=3, warmup_epochs=0, base_lr=0.1)) == pytest.approx(0.1)


def test_a_run_that_is_all_warmup_never_divides_by_zero() -> None:
    optimization = _optimization(epochs=2, warmup_epochs=2, base_lr=0.1, min_lr=0.01)
    assert lr_at(1.0, optimization) == pytest.approx(0.05)
    assert lr_at(2.0, optimization) == pytest.approx(0.01)


def test_lr_scales_with_the_effective_batch() -> None:
    optimization = OptimizationSettings(warmup_epochs=0, base_lr=9e-3, effective_batch_size=32)
    assert lr_at(0.0, optimization) == pytest.approx(9e-3 * 32 / 256)


def test_a_linear_decay_is_a_straight_line_to_the_end() -> None:
    optimization = OptimizationSettings(
        epochs=4.0,
        warmup_epochs=0,
        base_lr=0.1,
        min_lr=0.02,
        lr_decay="linear",
        effective_batch_size=PEAK_BATCH,
        per_device_batch_size=PEAK_BATCH,
    )
    assert [lr_at(epoch, optimization) for epoch in (0, 1, 3, 4)] == pytest.approx(
        [0.1, 0.08, 0.04, 0.02]
    )
