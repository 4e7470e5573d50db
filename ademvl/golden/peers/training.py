"""What every recorded training case has: loss, gradients, optimiser steps, initial values."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ademvl.config.optimization import OptimizationSettings
from ademvl.data.collate import Batch
from ademvl.golden.peers.cases import Comparison
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.training.loss import token_losses
from ademvl.training.optimizer import build_optimizer, set_lr

Renaming = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""Our tensors, by name, to those of a released checkpoint."""

INITIAL_SEED = 0
STD_DEVIATIONS = 5
"""How far apart two samples' standard deviations may lie, in units of how much they scatter."""

FEW_VALUES, MANY_VALUES = 30, 100
"""Tensors of fewer say nothing by how they scatter: the largest value of all alike is compared, as
biases of linear layers are uniform. Only many tell whether they are uniform or normal."""
CHANCE = 1e-6
"""Of calling two such largest values different though they are drawn alike."""


class Trained(Protocol):
    """A model with a batch, whose trained tensors can be changed in place."""

    def loss(self) -> Tensor:
        """Return the recorded loss of the batch, as the tensors are now."""

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained tensors by released name."""


@dataclass(frozen=True)
class TrainingCase:
    """A model with a batch, and the names under which its parameters are recorded.

    Attributes:
        model: in training mode.
        batch, pixels: of the case.
        to_released: renames parameters and their gradients.
        frozen: by released name, what a trained tensor is a change of; added where values count.
    """

    model: VisionLanguageModel
    batch: Batch
    pixels: Tensor | None
    to_released: Renaming
    frozen: Mapping[str, Tensor] = field(default_factory=dict)

    def loss(self) -> Tensor:
        """Return the mean over all scored tokens of the batch."""
        predictions = self.model.labelled_logits(self.batch, self.pixels)
        return token_losses(predictions.logits, predictions.targets).mean()

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained tensors themselves, in our form, by released name."""
        return {
            released: parameter
            for name, parameter in self.model.named_trainable_parameters()
            for released in self.to_released({name: parameter})
        }

    def values(self) -> dict[str, Tensor]:
        """Return what a released checkpoint would hold, by name."""
        values = self.to_released(dict(self.model.named_trainable_parameters()))
        return {
            name: value + self.frozen[name] if name in self.frozen else value
            for name, value in values.items()
        }

    def unused(self) -> set[str]:
        """Return the released names of tensors that the method says are never used."""
        names = self.model.method.unused()
        parameters = dict(self.model.named_trainable_parameters())
        return {*self.to_released({name: parameters[name] for name in names})}


def compare_gradients(case: Comparison, run: TrainingCase) -> None:
    """Compare the loss, its gradients and their norms, and which tensors have none."""
    loss = run.loss()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = run.to_released(_gradients(run.model))
    case.close("loss", float(loss.detach()), case.details["loss"], case.tolerance("loss"))
    case.tensors("grad.", gradients, "gradients")
    compare_norms(case, gradients, case.details["grad_norms"])
    without = [*(run.parameters().keys() - gradients.keys())]
    expected = case.details.get("params_without_grad", [])
    case.same_names("parameters without gradient", without, expected)
    case.same_names("parameters that the method calls unused", [*run.unused()], expected)
    run.model.zero_grad(set_to_none=True)


def compare_norms(
    case: Comparison, gradients: Mapping[str, Tensor], recorded: Mapping[str, float]
) -> None:
    """Compare the norm of each gradient, of which few are recorded themselves."""
    for name, norm in recorded.items():
        mine = float(gradients[name].norm()) if name in gradients else float("nan")
        case.close(f"norm of grad.{name}", mine, norm, case.tolerance("gradients"))


@torch.no_grad()
def compare_zeroed(case: Comparison, run: Trained) -> None:
    """Compare how far the loss moves when all tensors with a word in their name are zeroed."""
    before = run.loss()
    for word, change in case.details["abs_loss_change_if_zeroed"].items():
        zeroed = {name: tensor for name, tensor in run.parameters().items() if word in name}
        kept = {name: tensor.clone() for name, tensor in zeroed.items()}
        for tensor in zeroed.values():
            tensor.zero_()
        mine = float((run.loss() - before).abs())
        # A difference of two losses, each of which may be off.
        case.close(f"loss without {word}", mine, change, 2 * case.tolerance("loss"))
        for name, tensor in zeroed.items():
            tensor.copy_(kept[name])


def compare_trajectory(case: Comparison, run: TrainingCase) -> None:
    """Compare steps of the optimiser: groups, losses, norms of gradients, parameters."""
    recipe = case.details["trajectory"]
    beta1, beta2 = recipe["betas"]
    optimization = OptimizationSettings(
        weight_decay=recipe["weight_decay"], beta1=beta1, beta2=beta2, eps=recipe["eps"]
    )
    optimizer = build_optimizer(run.model.method, optimization)
    _compare_groups(case, run, optimizer)
    start = {name: tensor.detach().clone() for name, tensor in run.values().items()}
    losses, norms = [], []
    for step, lr in enumerate(recipe["lr"], start=1):
        optimizer.zero_grad(set_to_none=True)
        loss = run.loss()
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
        norms.append(float(torch.nn.utils.get_total_norm(_gradients(run.model).values())))
        set_lr(optimizer, lr)
        optimizer.step()
        case.tensors(f"step{step}.", run.values(), "parameters_after_steps")
    losses.append(float(run.loss().detach()))
    case.close("losses of steps", losses, recipe["loss"], case.tolerance("loss"))
    case.close("norms of steps", norms, recipe["grad_norm"], case.tolerance("gradients"))
    moved = run.values()
    for name, change in case.details.get("unused_after_3_steps_max_abs_change", {}).items():
        mine = float((moved[name].detach() - start[name]).abs().max())
        case.close(f"{name} after the steps", mine, change, 0.0)


def _compare_groups(case: Comparison, run: TrainingCase, optimizer: torch.optim.Optimizer) -> None:
    names = {id(parameter): name for name, parameter in run.parameters().items()}
    groups: dict[bool, list[str]] = {False: [], True: []}
    for group in optimizer.param_groups:
        decays = group["weight_decay"] > 0
        groups[decays] += [names[id(parameter)] for parameter in group["params"]]
    recipe = case.details["trajectory"]
    case.same_names("group without decay", groups[False], recipe["group_no_weight_decay"])
    case.same_names("group with decay", groups[True], recipe["group_weight_decay"])


def compare_initial_values(case: Comparison, run: TrainingCase) -> None:
    """Compare shape, scatter and kind of each tensor that the method has just initialised."""
    run.model.initialize(INITIAL_SEED)
    compare_drawn(case, run.values(), case.details["init"])


def compare_drawn(
    case: Comparison, parameters: Mapping[str, Tensor], recorded: Mapping[str, Mapping[str, Any]]
) -> None:
    """Compare shape, scatter and, where the largest value is recorded, kind of initial tensors.

    Args:
        case: gets the checks.
        parameters: just initialised, by released name.
        recorded: `shape`, `zero`, `std` and perhaps `absmax` of each.
    """
    case.same_names("initial tensors", [*parameters], [*recorded])
    few: dict[str, list[tuple[int, float, float]]] = {}
    for name in sorted(parameters.keys() & recorded.keys()):
        tensor, expected = parameters[name].detach(), recorded[name]
        case.same(f"initial shape of {name}", tensor.shape, expected["shape"])
        largest = float(tensor.abs().max())
        case.same(f"whether {name} starts at zero", [largest == 0], [expected["zero"]])
        if expected["zero"]:
            continue
        if tensor.numel() < FEW_VALUES and "absmax" in expected:
            alike = few.setdefault(re.sub(r"\d+", "*", name), [])
            alike.append((tensor.numel(), largest, expected["absmax"]))
            continue
        std = float(tensor.std())
        # The standard deviation of n normal values scatters by std / sqrt(2 n), that of uniform
        # ones by less; the difference of two such samples by sqrt(2) times that.
        scatter = expected["std"] / tensor.numel() ** 0.5
        case.close(f"initial std of {name}", std, expected["std"], STD_DEVIATIONS * scatter)
        if "absmax" in expected and tensor.numel() >= MANY_VALUES:
            kinds = [_is_uniform(std, largest), _is_uniform(expected["std"], expected["absmax"])]
            case.same(f"whether {name} starts uniform", kinds[:1], kinds[1:])

    for name, alike in few.items():
        numbers, mine, theirs = zip(*alike, strict=True)
        # The largest of n uniform values is below x times their bound with probability x^n.
        unlikely = math.log(1 / CHANCE) / sum(numbers)
        ratio = math.log(max(mine) / max(theirs))
        case.close(f"largest initial value of {name}, as a logarithm", ratio, 0.0, unlikely)


def _is_uniform(std: float, largest: float) -> bool:
    """Say whether values look uniform: none is beyond sqrt(3) deviations, and normal ones are."""
    return largest < 2 * std


def _gradients(model: VisionLanguageModel) -> dict[str, Tensor]:
    parameters = model.named_trainable_parameters()
    return {name: p.grad for name, p in parameters if p.grad is not None}
