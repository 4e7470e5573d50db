"""Protects the refusal of what would not fit, and what is proposed in its place."""

import dataclasses
import random

import pytest

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import BackboneSettings, RunSettings
from ademvl.config.study import load_study
from ademvl.data.passes import divide_rows
from ademvl.errors import SettingsError
from ademvl.machine.free_memory import FreeMemory
from ademvl.planning.fit import (
    RunMemory,
    check_fits,
    model_sizes,
    numerics_of,
    settings_that_fit,
    with_changes,
)
from ademvl.planning.memory import training_memory
from ademvl.planning.passes import as_batch
from ademvl.planning.rows import Row
from ademvl.training.order import StepPlan
from tests.conftest import PROJECT_ROOT

GIB = 2**30


def _llama_7b(**changes):
    backbones = BackboneSettings(
        llm="elsewhere/llama_7b", tower="ViT-L-14-quickgelu", tower_weights="x", precision="fp16"
    )
    run = RunSettings(
        study="s", name="r", seed=0, task="scienceqa", data_dir="d", backbones=backbones
    )
    return dataclasses.replace(run, **changes)


def test_mini_study_is_never_refused_on_a_small_laptop():
    study = load_study(PROJECT_ROOT / "config.yaml")
    for run in study.runs:
        check_fits(run, FreeMemory("cpu", "this machine", 4 * GIB))


def test_llama_7b_in_half_precision_takes_its_weights_and_some():
    memory = RunMemory(_llama_7b(), "cuda").predict()
    assert memory.llm_weights == 2 * 6_738_415_616  # the number of parameters of the release
    assert 18 * GIB < memory.total < 32 * GIB


def test_refusal_names_numbers_and_settings_that_fit():
    run = with_changes(_llama_7b(), {"optimization.per_device_batch_size": 16})
    with pytest.raises(SettingsError) as caught:
        check_fits(run, FreeMemory("cuda", "GPU 0 (A10)", 22 * GIB))
    message = str(caught.value)
    assert "s/r: training would take about" in message
    assert "GPU 0 (A10) has 22.0 GiB free" in message
    assert "optimization.per_device_batch_size: 2" in message
    assert "--ignore-memory" in message


def test_every_proposed_change_fits_and_is_the_largest_batch_of_its_kind():
    run = with_changes(_llama_7b(), {"optimization.per_device_batch_size": 32})
    available = 30 * GIB
    alternatives = settings_that_fit(run, available, device="cuda")
    assert alternatives
    for alternative in alternatives:
        changed = with_changes(run, alternative.changes)
        assert RunMemory(changed, "cuda").predict().total == alternative.bytes <= available
        larger = {"optimization.per_device_batch_size": 2 * _batch(changed)}
        if larger["optimization.per_device_batch_size"] <= _batch(run):
            grown = with_changes(changed, larger)
            assert RunMemory(grown, "cuda").predict().total > available


def _batch(run):
    return run.optimization.per_device_batch_size


def test_checkpointing_is_proposed_before_what_changes_results():
    run = with_changes(_llama_7b(), {"optimization.per_device_batch_size": 8})
    kinds = [set(found.changes) for found in settings_that_fit(run, 30 * GIB, device="cuda")]
    assert kinds[0] == {"optimization.per_device_batch_size"}
    assert "optimization.gradient_checkpointing" in kinds[1]


def test_llama_7b_trains_in_4_bits_within_12_gib():
    run = with_changes(
        _llama_7b(),
        {
            "backbones.quantization": "int4",
            "optimization.gradient_checkpointing": True,
            "optimization.per_device_batch_size": 2,
        },
    )
    assert RunMemory(run, "cuda").predict().total < 12 * GIB


def test_nothing_is_proposed_where_the_weights_alone_do_not_fit():
    assert settings_that_fit(_llama_7b(), 1 * GIB, device="cuda") == []


def test_known_rows_decide_instead_of_the_longest_possible_ones():
    run = _llama_7b(optimization=OptimizationSettings(per_device_batch_size=2))
    rows = [Row(width=100, scored=8, has_image=True)] * 9
    batch = RunMemory(run, "cuda", rows).largest_batch()
    assert (batch.rows, batch.image_rows, batch.width, batch.scored) == (2, 2, 100, 16)


@pytest.mark.parametrize("mode", ["cached", "online"])
def test_no_pass_of_a_training_takes_more_than_predicted(mode):
    generator = random.Random(1)
    rows = [
        Row(width=int(generator.lognormvariate(4.5, 0.5)), scored=8, has_image=number % 3 == 0)
        for number in range(1000)
    ]
    run = with_changes(_llama_7b(), {"features.mode": mode})
    sizes, numerics = model_sizes(run), numerics_of(run)
    plan = StepPlan(len(rows), 0, run.optimization)
    passes = set()
    for step in range(plan.total_steps):
        drawn = [rows[item] for item in plan.items_of(step)]
        row_sizes = [row.width + sizes.image_tokens * row.has_image for row in drawn]
        for numbers in divide_rows(row_sizes, num_passes=8):
            passes.add(as_batch([drawn[number] for number in numbers]))
    taken = max(training_memory(sizes, numerics, each, device="cuda").total for each in passes)
    predicted = RunMemory(run, "cuda", rows).predict().total
    by_rows = 4 * max(row.width for row in rows)
    assert 0.97 * predicted < taken < 1.03 * predicted  # other draws
    assert max(each.rows * each.width for each in passes) < by_rows


def test_unknown_sizes_are_no_reason_to_refuse(caplog):
    run = with_changes(_llama_7b(), {"backbones.llm": "someone/unknown-model"})
    check_fits(run, FreeMemory("cpu", "this machine", 1))
    assert "sizes are not known" in caplog.text
