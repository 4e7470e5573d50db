"""Protects methods of a user's own: one file is enough to train, evaluate and plan one."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from ademvl.config.method import MethodSettings
from ademvl.config.methods_by_name import register_method
from ademvl.config.setting import setting, settings_class
from ademvl.config.settings_files import run_to_json, write_settings
from ademvl.config.study import Study, load_study
from ademvl.errors import WeightsError
from ademvl.evaluation.run import evaluate_run
from ademvl.methods.base import Method
from ademvl.methods.registry import implements
from ademvl.methods.sites import Pass
from ademvl.model.adapter_file import load_adapter
from ademvl.model.build import build_model
from ademvl.planning.parameter_counts import LLAMAS, VIT_L, count_parameters
from ademvl.planning.plans import Target
from ademvl.planning.study_plan import plan_study
from ademvl.reporting.tables.build import write_tables
from ademvl.runs.adapter_folder import check_settings
from ademvl.training.run import train_run
from tests import tiny


@register_method
@settings_class
class NudgeSettings(MethodSettings):
    """A learned vector behind every MLP.

    Attributes:
        name: of the method.
        strength: factor of the vector.
    """

    name: Literal["nudge"] = setting(default="nudge", changes="results")
    strength: float = setting(default=1.0, gt=0, changes="results")


@implements(NudgeSettings)
class NudgeMethod(Method):
    """Adds the vector wherever an MLP ends; sees no image."""

    settings: NudgeSettings

    def __init__(self, settings, *, llm, tower, trains_tower):
        super().__init__(settings, llm=llm, tower=tower, trains_tower=trains_tower)
        self.vector = nn.Parameter(torch.empty(llm.width))

    def places(self):
        return {"mlp_out": range(self.llm_shape.layers)}

    @torch.no_grad()
    def initialize(self, seed):
        self.vector.zero_()

    def open(self, features, has_image, *, dtype, dropout_seeds):
        return NudgePass(self.settings.strength * self.vector.to(dtype))


class NudgePass(Pass):
    """Adds a vector, (d,)."""

    def __init__(self, nudge):
        self.nudge = nudge

    def visit(self, position, layer, states):
        return states + self.nudge


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    folder = tmp_path_factory.mktemp("single_file")
    llm, weights = tiny.make_llm(folder / "llm"), tiny.make_tower(folder / "tower")
    tiny.make_scienceqa(folder / "shared/data/tiny/scienceqa")
    optimization = {"epochs": 2.0, "warmup_epochs": 0.5, "base_lr": 0.5}
    batches = {"effective_batch_size": 4, "per_device_batch_size": 4}
    return load_study(
        {
            "study": "single_file",
            "results_dir": str(folder / "results"),
            "shared_dir": str(folder / "shared"),
            "datasets": {"tiny": {"source": "scienceqa", "subset": True}},
            "defaults": {
                "dataset": "tiny",
                "backbones": {
                    "llm": str(llm),
                    "tower": tiny.TOWER,
                    "tower_weights": str(weights),
                },
                "features": {"mode": "cached", "precision": "fp32"},
                "prompts": {"max_seq_len": 128},
                "optimization": optimization | batches,
            },
            "runs": {
                "weak": {"method": {"name": "nudge"}},
                "strong": {"label": "strong nudge", "method": {"name": "nudge", "strength": 2}},
            },
        }
    )


@pytest.fixture(scope="module")
def finished(study: Study) -> Study:
    for run in study.runs:
        run_dir = study.run_dir(run)
        write_settings(run_dir / "run.yaml", run_to_json(run))
        assert train_run(run_dir, progress=False) == 0
        evaluate_run(run_dir, progress=False)
    return study


def _adapter(study: Study, name: str) -> Path:
    return study.results_dir / "runs" / name / "seed0" / "adapter"


def test_it_trains_saves_and_loads(finished):
    weak, strong = finished.runs
    model = build_model(weak)
    load_adapter(_adapter(finished, "weak"), model)
    assert model.method.vector.any()
    with pytest.raises(WeightsError, match=r"method\.strength"):
        check_settings(_adapter(finished, "weak"), strong)


def test_it_is_evaluated_and_stands_in_tables(finished, tmp_path):
    write_tables(finished, tmp_path)
    table = (tmp_path / "accuracy.md").read_text(encoding="utf-8")
    row = next(line for line in table.splitlines() if "strong nudge" in line)
    assert "missing" not in row
    assert any(character.isdigit() for character in row.split("strong nudge")[1])


def test_it_is_planned(study):
    plan = plan_study(study, Target(gpu=None, count=1))
    assert [dict(each.trained) for each in plan.runs] == [{"vector": 32}] * 2
    assert all(each.memory.total > 0 and each.evaluation_memory > 0 for each in plan.runs)


def test_it_is_counted_at_full_size():
    sizes = {"llm": LLAMAS["LLaMA-7B"], "tower": VIT_L, "online": True}
    assert count_parameters(NudgeSettings(), **sizes) == {"vector": 4096}
