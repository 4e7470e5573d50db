"""Protects how plans compare with the paper's efficiency table, as docs/planning.md says."""

import pytest

from ademvl.config.study import load_study
from ademvl.planning.devices import gpu_by_name
from ademvl.planning.plans import Target
from ademvl.planning.study_plan import plan_study
from ademvl.reporting.reported import load_reported
from tests.conftest import PROJECT_ROOT


def _paper(llm, column):
    table = load_reported().tables["efficiency"]
    row = next(row for row in table.rows if row.name == f"ADEM-VL, {llm}")
    return row.values[table.columns.index(column)]


@pytest.mark.parametrize("llm", ["7B", "13B"])
@pytest.mark.parametrize(
    ("run", "column"), [("scienceqa", "scienceqa_gpu_h"), ("captions", "coco_gpu_h")]
)
def test_published_gpu_hours_lie_in_the_range_of_the_plan(llm, run, column):
    study = load_study(PROJECT_ROOT / f"workflow/studies/paper-{llm.lower()}.yaml")
    plan = plan_study(study, Target(gpu=gpu_by_name("A800"), count=8))
    planned = next(each for each in plan.runs if each.name == f"{run}_{llm.lower()}")
    hours = planned.seconds.training.times(8 / 3600)
    assert hours.low <= _paper(llm, column) <= hours.high


def test_published_instructions_take_longer_than_those_that_are_assumed():
    study = load_study(PROJECT_ROOT / "workflow/studies/paper-7b.yaml")
    plan = plan_study(study, Target(gpu=gpu_by_name("A800"), count=8))
    planned = next(each for each in plan.runs if each.name == "instruction_7b")
    assert planned.seconds.training.times(8 / 3600).high < _paper("7B", "instruction_gpu_h")
    assert any("LaVIN's file has one" in text for text in plan.assumptions)
