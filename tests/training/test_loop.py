"""Protects one optimiser step: what is learned does not depend on how items are spread."""

from pathlib import Path

import pytest
import torch

from ademvl.config.run import FeatureSettings
from ademvl.errors import TrainingError
from ademvl.training.loop import Trainer
from ademvl.training.run import build_trainer
from tests import tiny

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


def test_trajectory_with_dropout_does_not_depend_on_the_per_device_batch(world: Path) -> None:
    losses = [
        [result.loss for result in _trainer(world, per_device_batch_size=size).steps(first=0)]
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
    results = list(_trainer(world, mode="cached", epochs=60.0, base_lr=1.0).steps(first=0))
    assert results[-1].loss < 0.7 * results[0].loss


def test_last_tower_adapter_never_moves(world: Path) -> None:
    trainer = _trainer(world)
    names = [name for name in trainer.parameters if name.startswith("clip_adapters.2.")]
    before = [trainer.parameters[name].detach().clone() for name in names]
    for step in range(4):
        trainer.step(step)
    assert len(names) == 2
    assert all(torch.equal(trainer.parameters[n], b) for n, b in zip(names, before, strict=True))


def test_loss_that_is_not_finite_names_step_and_items_and_changes_nothing(world: Path) -> None:
    trainer = _trainer(world, mode="cached", warmup_epochs=0.0)
    model = trainer.model
    labelled_logits = model.labelled_logits
    spoiled: list[str] = []

    def spoil(batch, visual):
        predictions = labelled_logits(batch, visual)
        spoiled.append(batch.item_ids[3])
        logits = predictions.logits.masked_fill((predictions.rows == 3)[:, None], float("nan"))
        return predictions._replace(logits=logits)

    model.labelled_logits = spoil
    before = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    with pytest.raises(TrainingError, match="step 1: the loss is not finite") as raised:
        trainer.step(0)
    assert f"item {spoiled[0]}\n" in str(raised.value)
    assert str(raised.value).count("- item") == 1
    assert all(torch.equal(p, before[name]) for name, p in trainer.parameters.items())


def test_middle_of_the_first_step_of_a_warmup_changes_something(world: Path) -> None:
    trainer = _trainer(world, lr_evaluated_at="middle")
    assert 0 < trainer.step(0).lr < trainer.step(1).lr


@pytest.mark.parametrize(("imageless_steps", "moves"), [("skip", False), ("zero_gradient", True)])
def test_step_without_any_image_moves_projections_by_momentum_if_asked_to(
    world: Path, imageless_steps: str, moves: bool
) -> None:
    trainer = _trainer(world, imageless_steps=imageless_steps, warmup_epochs=0.0)
    trainer.step(0)
    text_only = [item for item, row in enumerate(trainer._rows) if row.image is None]
    object.__setattr__(trainer.plan, "items_of", lambda step: (text_only * 8)[:8])
    names = ["cls_projection.up.weight", "clip_adapters.0.up.weight", "clip_adapters.2.up.weight"]
    before = [trainer.parameters[name].detach().clone() for name in names]
    trainer.step(1)
    pairs = zip(names, before, strict=True)
    changed = [not torch.equal(trainer.parameters[name], old) for name, old in pairs]
    assert changed == [moves, moves, False]  # the last adapter has never had a gradient
