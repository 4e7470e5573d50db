"""Protects what is written of learned thresholds, and trainings with all that learns and drops."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from ademvl.errors import DataError
from ademvl.methods.adem.thresholds import settled
from ademvl.model.adapter_file import load_adapter
from ademvl.model.build import build_model
from ademvl.runs.kept import KeptRow, read_kept, write_kept
from ademvl.training.kept import kept_rows
from ademvl.training.loop import Trainer
from ademvl.training.run import build_trainer, train_run
from tests import tiny
from tests.training import beyond, children


class _Letters:
    bos_id = 1

    def decode(self, ids):
        return " " if ids == [9] else " " + "".join(chr(96 + number) for number in ids)


def test_rows_are_means_over_layers_and_over_words():
    kept = [np.array([[0.2, 0.4, 0.6, 0.0, 1.0], [0.4, 0.4, 0.8, 0.0, 1.0]]), np.ones((2, 1))]
    rows = list(kept_rows(1.5, kept, [[1, 3, 4, 0, 9], [3]], _Letters()))
    # Begin token and the place of the image are left out; the space (9) is no word.
    assert rows[0] == KeptRow(1.5, 0, "", pytest.approx((0.4 + 0.6 + 1 + 1) / 4), 4)
    assert rows[1] == KeptRow(1.5, 1, "", pytest.approx((0.4 + 0.8 + 1 + 1) / 4), 4)
    assert rows[2:] == [
        KeptRow(1.5, -1, "c", pytest.approx((0.4 + 0.4 + 1 + 1) / 4), 2),
        KeptRow(1.5, -1, "d", pytest.approx(0.7), 1),
    ]


def test_rows_are_read_as_written_and_damage_is_told(tmp_path: Path):
    path = tmp_path / "kept.csv"
    rows = [KeptRow(0.5, 0, "", 0.25, 7), KeptRow(0.5, -1, 'a,"b', 0.1 + 0.2, 1)]
    write_kept(path, rows)
    assert read_kept(path) == rows
    path.write_text(path.read_text() + "1.0,first,,0.5,2\n")
    with pytest.raises(DataError, match="a row is malformed"):
        read_kept(path)
    path.write_text("step\n1\n")
    with pytest.raises(DataError, match=r"columns are \['step'\]"):
        read_kept(path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory):
    """A run with everything, trained in one go."""
    folder = tmp_path_factory.mktemp("world")
    run = beyond.make_run(folder, epochs=6.0, state_interval_seconds=0.0)
    run_dir = tiny.write_run(folder / "undisturbed", run)
    torch.set_num_threads(1)
    assert train_run(run_dir, progress=False) == 0
    return run, run_dir


def _train_some(run_dir: Path, *, steps: int) -> None:
    """Train until the process is gone, as far as this one can tell: nothing is saved any more."""
    take_step, taken = Trainer.step, itertools.count()

    def step(trainer: Trainer, number: int):
        if next(taken) == steps:
            raise KeyboardInterrupt
        return take_step(trainer, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        with pytest.raises(KeyboardInterrupt):
            train_run(run_dir, progress=False)


def test_killed_it_ends_bit_identically(undisturbed, tmp_path: Path):
    run, expected_dir = undisturbed
    run_dir = tiny.write_run(tmp_path / "run", run)
    for steps in (5, 6):  # of 18, and 3 an epoch
        _train_some(run_dir, steps=steps)
    assert train_run(run_dir, progress=False) == 0
    assert children.results(run_dir) == children.results(expected_dir)
    assert (run_dir / "kept.csv").read_bytes() == (expected_dir / "kept.csv").read_bytes()


def test_the_adapter_holds_the_average(undisturbed):
    run, run_dir = undisturbed
    torch.set_num_threads(1)
    trainer = build_trainer(run, progress=False)
    for step in range(trainer.plan.total_steps):
        trainer.step(step)
    model = build_model(run)
    load_adapter(run_dir / "adapter", model)
    for name, value in model.named_trainable_parameters():
        torch.testing.assert_close(value.detach(), trainer.average.means[name])
    assert not torch.equal(trainer.parameters["value_table"], trainer.average.means["value_table"])


def test_first_rows_are_of_gamma_and_the_last_of_the_adapter(undisturbed):
    run, run_dir = undisturbed
    rows = read_kept(run_dir / "kept.csv")
    epochs = sorted({row.epoch for row in rows})
    assert epochs == [float(epoch) for epoch in range(7)]
    num_visual = run.method.num_visual_tokens
    first = {row.kept_fraction for row in rows if row.epoch == 0}
    assert list(first) == pytest.approx([1 - int(0.3 * num_visual) / num_visual])
    model = build_model(run).eval()
    load_adapter(run_dir / "adapter", model)
    gamma = settled(model.method.threshold(torch.zeros(1, 1, model.method.llm_shape.width), 1))
    of_layer = next(row for row in rows if row.epoch == 6.0 and row.layer == 1)
    assert of_layer.kept_fraction == pytest.approx(1 - float(gamma), abs=0.2)
    assert any(row.word for row in rows)


def test_nothing_is_written_with_a_fixed_threshold_and_an_old_file_goes(tmp_path: Path):
    run_dir = tiny.write_run(tmp_path / "run", tiny.make_run(tmp_path, epochs=1.0))
    write_kept(run_dir / "kept.csv", [])
    assert train_run(run_dir, progress=False) == 0
    assert not (run_dir / "kept.csv").exists()
