"""Protects averages of weights over steps: which steps count how much, and what stays untouched."""

import pytest
import torch
from torch import nn

from ademvl.config.optimization import OptimizationSettings
from ademvl.training.averaging import WeightAverage
from ademvl.training.state import capture_average, restore_average

TOLERANCE = 1e-6  # of fp32


def _average(**settings: object) -> tuple[WeightAverage, nn.Parameter]:
    parameter = nn.Parameter(torch.tensor([100.0, -100.0]))
    optimization = OptimizationSettings(**settings)
    return WeightAverage({"w": parameter}, optimization, total_steps=8), parameter


def _walk(average: WeightAverage, parameter: nn.Parameter, steps: range) -> None:
    for step in steps:
        with torch.no_grad():
            parameter.copy_(torch.tensor([1.0, -1.0]) * (step + 1))
        average.add(step)


def test_ema_weighs_each_step_by_the_decay_and_the_initial_weights_by_nothing() -> None:
    average, parameter = _average(weight_averaging="ema", ema_decay=0.5)
    _walk(average, parameter, range(3))
    # Weights 1/4, 1/2 and 1 of the values 1, 2 and 3, over their sum.
    expected = (0.25 * 1 + 0.5 * 2 + 3) / 1.75
    assert average.means["w"].tolist() == pytest.approx([expected, -expected], abs=TOLERANCE)


def test_swa_is_the_mean_from_its_start_on() -> None:
    average, parameter = _average(weight_averaging="swa", swa_start=0.75)
    _walk(average, parameter, range(8))
    assert average.num_steps == 2  # the last quarter of 8
    assert average.means["w"].tolist() == [7.5, -7.5]


def test_parameters_stay_until_the_means_are_put_in() -> None:
    average, parameter = _average(weight_averaging="swa", swa_start=0.0)
    _walk(average, parameter, range(4))
    assert parameter.tolist() == [4.0, -4.0]
    average.put_in()
    assert parameter.tolist() == [2.5, -2.5]


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_a_restored_average_goes_on_bit_identically(kind: str) -> None:
    settings = {"weight_averaging": kind, "ema_decay": 0.7, "swa_start": 0.3}
    average, parameter = _average(**settings)
    _walk(average, parameter, range(8))
    first, parameter = _average(**settings)
    _walk(first, parameter, range(5))
    again, parameter = _average(**settings)
    restore_average(capture_average(first), again, num_steps=first.num_steps)
    _walk(again, parameter, range(5, 8))
    assert torch.equal(again.means["w"], average.means["w"])
