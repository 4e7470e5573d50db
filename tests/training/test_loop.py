"""Protects one optimiser step: what is learned does not depend on how items are spread."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ademvl.config.run import FeatureSettings
from ademvl.machine.cpu_kernels import fast_cpu
from ademvl.training.guard import NotFiniteError
from ademvl.training.loop import Trainer
from ademvl.training.membership import Membership
from ademvl.training.metrics import StepResult
from ademvl.training.processes import Processes
from ademvl.training.run import build_trainer, training_rows
from tests import tiny
from tests.training import beyond

# The order of sums in fp32: gradients of the tiny model are of the order of 1e-2.
GRADIENT_TOLERANCE = 2e-7
LOSS_TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


def _trainer(world: Path, *, mode: str = "online", **changes: object) -> Trainer:
    features = FeatureSettings(mode=mode, precision="fp32", cache_dir=str(world / "features"))
    optimization = {"effective_batch_size": 8, "per_device_batch_size": 8, "epochs": 8.0}
    run = tiny.make_run(world, **{**optimization, "features": features, **changes})
    return build_trainer(run, progress=False)


def _gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in trainer.parameters.items()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("loss_group_size", [2, 0])
@pytest.mark.parametrize("per_device_batch_size", [1, 2, 4])
def test_gradients_do_not_depend_on_the_per_device_batch(
    world: Path, per_device_batch_size: int, loss_group_size: int
) -> None:
    whole = _trainer(world, loss_group_size=loss_group_size)
    parts = _trainer(
        world,
        loss_group_size=loss_group_size,
        per_device_batch_size=per_device_batch_size,
    )
    first, second = whole.step(0), parts.step(0)
    assert second.loss == pytest.approx(first.loss, abs=LOSS_TOLERANCE)
    assert second.num_tokens == first.num_tokens
    expected = _gradients(whole)
    assert expected.keys() == _gradients(parts).keys()
    for name, gradient in _gradients(parts).items():
        torch.testing.assert_close(gradient, expected[name], atol=GRADIENT_TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    "changes", [{"per_device_batch_size": 2}, {"gradient_checkpointing": True}], ids=str
)
def test_penalty_and_dropout_depend_neither_on_batches_nor_on_checkpointing(
    world: Path, changes: dict[str, object]
) -> None:
    options = {"mode": "cached", "method": beyond.METHOD, "label_smoothing": 0.1}
    whole, other = _trainer(world, **options), _trainer(world, **options, **changes)
    with fast_cpu():
        first, second = whole.step(0), other.step(0)
    assert second.loss == pytest.approx(first.loss, abs=LOSS_TOLERANCE)
    expected = _gradients(whole)
    assert {"threshold.offsets", "threshold.direction"} < expected.keys()
    for name, gradient in _gradients(other).items():
        torch.testing.assert_close(gradient, expected[name], atol=GRADIENT_TOLERANCE, rtol=0)


def test_penalty_brings_the_kept_fraction_to_its_target(world: Path) -> None:
    method = replace(
        tiny.make_run(world).method, threshold="per_layer", kept_target=0.5, kept_weight=100.0
    )
    trainer = _trainer(world, mode="cached", method=method, base_lr=0.5, epochs=60.0)
    losses = [result.loss for result in _all_steps(trainer)]
    offsets = trainer.parameters["threshold.offsets"].detach()
    kept = 1 - torch.sigmoid(math.log(0.1 / 0.9) + offsets)
    assert float(kept.mean()) == pytest.approx(0.5, abs=0.05)
    assert losses[0] - losses[-1] > 100 * 0.39**2  # from a kept fraction of 0.9


def test_labels_are_smoothed_if_asked_to(world: Path) -> None:
    plain, smoothed = (
        _trainer(world, mode="cached", label_smoothing=share).step(0).loss for share in (0.0, 0.1)
    )
    assert smoothed != plain


def test_average_follows_every_step(world: Path) -> None:
    trainer = _trainer(
        world, mode="cached", weight_averaging="swa", swa_start=0.0, warmup_epochs=0.0
    )
    seen = []
    for step in range(3):
        trainer.step(step)
        seen.append(trainer.parameters["value_table"].detach().clone())
    mean = trainer.average.means["value_table"]
    torch.testing.assert_close(mean, torch.stack(seen).mean(dim=0))
    assert _trainer(world, mode="cached").average is None


def test_trajectory_with_dropout_does_not_depend_on_the_per_device_batch(world: Path) -> None:
    losses = [
        [result.loss for result in _all_steps(_trainer(world, per_device_batch_size=size))]
        for size in (8, 2)
    ]
    # AdamW divides by the root of tiny second moments, so rounding grows a little every step.
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_loss_is_the_mean_of_the_reference_micro_batches(world: Path) -> None:
    trainer = _trainer(world, mode="cached")
    items = trainer.plan.items_of(0)
    means = []
    for first in range(0, 8, 2):
        pair = _trainer(world, mode="cached", effective_batch_size=2, per_device_batch_size=2)
        object.__setattr__(pair.plan, "items_of", lambda step, at=first: items[at : at + 2])
        means.append(pair.step(0).loss)
    assert trainer.step(0).loss == pytest.approx(sum(means) / 4, abs=LOSS_TOLERANCE)


def test_first_step_of_a_warmup_changes_nothing(world: Path) -> None:
    trainer = _trainer(world)
    before = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    assert trainer.step(0).lr == 0
    for name, parameter in trainer.parameters.items():
        assert torch.equal(parameter, before[name]), name


def test_training_lowers_the_loss(world: Path) -> None:
    results = _all_steps(_trainer(world, mode="cached", epochs=60.0, base_lr=1.0))
    assert results[-1].loss < 0.7 * results[0].loss


def test_last_tower_adapter_never_moves(world: Path) -> None:
    trainer = _trainer(world)
    names = [name for name in trainer.parameters if name.startswith("clip_adapters.2.")]
    before = [trainer.parameters[name].detach().clone() for name in names]
    for step in range(4):
        trainer.step(step)
    assert len(names) == 2
    assert all(torch.equal(trainer.parameters[n], b) for n, b in zip(names, before, strict=True))


def _spoil(trainer: Trainer, *, row: int, spoiled: list[str]) -> None:
    """Make the logits of one row of every batch nan, and note which items those were."""
    labelled_logits = trainer.model.labelled_logits

    def spoil(batch, visual):
        predictions = labelled_logits(batch, visual)
        spoiled.append(batch.item_ids[row])
        logits = predictions.logits.masked_fill((predictions.rows == row)[:, None], float("nan"))
        return predictions._replace(logits=logits)

    trainer.model.labelled_logits = spoil


def _values(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.parameters.items()}


def _is_unmoved(trainer: Trainer, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(p, before[name]) for name, p in trainer.parameters.items())


def test_step_whose_loss_is_not_finite_is_left_out_and_counted(
    world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = _trainer(world, mode="cached", warmup_epochs=0.0)
    whole = trainer.model.labelled_logits
    spoiled: list[str] = []
    _spoil(trainer, row=3, spoiled=spoiled)
    before = _values(trainer)
    result = trainer.step(0)
    assert (result.outcome, trainer.guard.skipped_steps) == ("not_finite", 1)
    assert math.isnan(result.loss)
    assert _is_unmoved(trainer, before)
    assert (
        f"step 1 left out: the loss is not finite; items concerned: {spoiled[0]}\n" in caplog.text
    )
    trainer.model.labelled_logits = whole
    assert trainer.step(1).outcome == "updated"
    assert not _is_unmoved(trainer, before)


def test_too_many_such_steps_in_a_row_end_with_their_items(world: Path) -> None:
    trainer = _trainer(world, mode="cached", warmup_epochs=0.0, max_nonfinite_steps=2)
    whole = trainer.model.labelled_logits
    spoiled: list[str] = []
    _spoil(trainer, row=3, spoiled=spoiled)
    trainer.step(0)
    trainer.model.labelled_logits = whole
    trainer.step(1)  # a good one in between starts the count anew
    before = _values(trainer)
    spoiled.clear()
    _spoil(trainer, row=3, spoiled=spoiled)
    trainer.step(2)
    with pytest.raises(NotFiniteError, match="steps 3 to 4: the loss is not finite") as raised:
        trainer.step(3)
    assert all(f"item {item_id}\n" in str(raised.value) for item_id in spoiled)
    assert str(raised.value).count("- item") == len(set(spoiled))
    assert _is_unmoved(trainer, before)


def test_gradient_that_is_not_finite_names_all_items_of_the_step(world: Path) -> None:
    trainer = _trainer(world, mode="cached", warmup_epochs=0.0, max_nonfinite_steps=1)
    trainer.parameters["key_table"].register_hook(lambda gradient: gradient * float("inf"))
    before = _values(trainer)
    with pytest.raises(NotFiniteError, match="step 1: the gradient is not finite") as raised:
        trainer.step(0)
    assert str(raised.value).count("- item") == 8
    assert _is_unmoved(trainer, before)


@pytest.mark.parametrize("mode", ["cached", "online"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precisions_learn(world: Path, precision: str, mode: str) -> None:
    trainer = _trainer_in(world, precision, mode=mode, epochs=30.0, base_lr=1.0)
    assert trainer.model.llm.dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert {p.dtype for p in trainer.parameters.values()} == {torch.float32}
    results = _all_steps(trainer)
    assert results[-1].loss < 0.8 * results[0].loss
    assert trainer.scaler.is_enabled() == (precision == "fp16")
    assert trainer.guard.skipped_steps == 0


def _all_steps(trainer: Trainer) -> list[StepResult]:
    return [trainer.step(number) for number in range(trainer.plan.total_steps)]


def _trainer_in(world: Path, precision: str, **changes: object) -> Trainer:
    backbones = replace(tiny.make_run(world).backbones, precision=precision)
    return _trainer(world, backbones=backbones, **changes)


def test_overflow_of_the_loss_scale_is_counted_apart(world: Path) -> None:
    trainer = _trainer_in(world, "fp16", mode="cached", warmup_epochs=0.0, max_nonfinite_steps=1)
    name = "value_table"
    limit = 2.0**10  # of the scale, above which this gradient overflows
    trainer.parameters[name].register_hook(
        lambda gradient: gradient * float("inf" if trainer.scaler.get_scale() > limit else 1)
    )
    before = _values(trainer)
    for step in range(6):  # the scale starts at 2 ** 16
        assert trainer.step(step).outcome == "overflow"
    assert _is_unmoved(trainer, before)
    assert trainer.step(6).outcome == "updated"
    assert trainer.scaler.get_scale() == limit
    assert (trainer.guard.overflow_steps, trainer.guard.skipped_steps) == (6, 0)


def test_gradient_that_overflows_at_any_scale_is_not_finite(world: Path) -> None:
    trainer = _trainer_in(world, "fp16", mode="cached", epochs=30.0, max_nonfinite_steps=2)
    trainer.parameters["value_table"].register_hook(lambda gradient: gradient * float("inf"))
    outcomes = [trainer.step(step).outcome for step in range(17)]
    assert outcomes == ["overflow"] * 16 + ["not_finite"]
    assert trainer.scaler.get_scale() == 1.0
    with pytest.raises(NotFiniteError, match="the gradient is not finite"):
        trainer.step(17)


@pytest.mark.parametrize("mode", ["cached", "online"])
def test_checkpointing_changes_no_step(world: Path, mode: str) -> None:
    plain = _trainer(world, mode=mode, per_device_batch_size=4)
    checkpointed = _trainer(world, mode=mode, per_device_batch_size=4, gradient_checkpointing=True)
    recomputed: list[bool] = []
    checkpointed.model.llm.model.layers[0].input_layernorm.register_forward_hook(
        lambda *_: recomputed.append(True)
    )
    for step in range(4):
        with fast_cpu():  # as in a training; its kernels have to be the same ones again
            first, second = plain.step(step), checkpointed.step(step)
        assert second.loss == pytest.approx(first.loss, abs=LOSS_TOLERANCE)
        expected = _gradients(plain)
        assert expected.keys() == _gradients(checkpointed).keys()
        for name, gradient in _gradients(checkpointed).items():
            torch.testing.assert_close(gradient, expected[name], atol=GRADIENT_TOLERANCE, rtol=0)
    assert len(recomputed) == 4 * 2 * 2  # steps, passes, and once more for the gradients


def test_questions_without_image_bring_no_pixels(world: Path) -> None:
    trainer = _trainer(world, per_device_batch_size=1)
    encoded: list[int] = []
    encode = trainer.model.tower.encode
    trainer.model.tower.encode = lambda pixels, states: (
        encoded.append(len(pixels)) or encode(pixels, states)
    )
    trainer.step(0)
    with_image = sum(trainer.rows[item].image is not None for item in trainer.plan.items_of(0))
    assert 0 < with_image < 8
    assert encoded == [1] * with_image


class _Other(Processes):
    """One of two processes; the other has found gradients."""

    def __init__(self) -> None:
        super().__init__(Membership(rank=0, world_size=2, local_rank=0, local_processes=2))

    def add_up(self, tensor: torch.Tensor) -> None:
        tensor += 1e-3


def test_process_without_any_image_in_its_first_step_moves_with_the_others(world: Path) -> None:
    run = tiny.make_run(world, per_device_batch_size=1)
    method, backbones = replace(run.method, fusion="none"), replace(run.backbones, precision="fp16")
    run = replace(run, method=method, backbones=backbones)
    rows = [row for row in training_rows(run) if row.image is None]
    trainer = build_trainer(run, rows=rows, processes=_Other(), progress=False)
    assert trainer.step(0).outcome == "updated"


def test_middle_of_the_first_step_of_a_warmup_changes_something(world: Path) -> None:
    trainer = _trainer(world, lr_evaluated_at="middle")
    assert 0 < trainer.step(0).lr < trainer.step(1).lr


@pytest.mark.parametrize(("imageless_steps", "moves"), [("skip", False), ("zero_gradient", True)])
def test_step_without_any_image_moves_projections_by_momentum_if_asked_to(
    world: Path, imageless_steps: str, moves: bool
) -> None:
    trainer = _trainer(world, imageless_steps=imageless_steps, warmup_epochs=0.0)
    trainer.step(0)
    trainer.close()  # what the next step would have seen
    text_only = [item for item, row in enumerate(trainer.rows) if row.image is None]
    object.__setattr__(trainer.plan, "items_of", lambda step: (text_only * 8)[:8])
    names = ["cls_projection.up.weight", "clip_adapters.0.up.weight", "clip_adapters.2.up.weight"]
    before = [trainer.parameters[name].detach().clone() for name in names]
    trainer.step(1)
    pairs = zip(names, before, strict=True)
    changed = [not torch.equal(trainer.parameters[name], old) for name, old in pairs]
    assert changed == [moves, moves, False]  # the last adapter has never had a gradient
