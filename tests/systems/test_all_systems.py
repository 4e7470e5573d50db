"""Protects workflow/studies/all-systems.yaml: each of its runs, on tiny models for the real ones.

Only sizes are changed: blocks of the tower that are read, and how much is trained.
"""

import dataclasses
import json

import pytest

from ademvl.config.run import TRAINED, RunSettings
from ademvl.config.settings_files import run_to_json, write_settings
from ademvl.config.study import Study, load_study
from ademvl.evaluation.run import evaluate_run
from ademvl.planning.plans import Target
from ademvl.planning.study_plan import plan_study
from ademvl.training.run import train_run
from tests import tiny
from tests.conftest import PROJECT_ROOT
from tests.systems.tiny_mm_cot import SMALL as SHORT_TEXTS
from tests.systems.tiny_mm_cot import make_t5_folder
from tests.systems.tiny_systems import make_system
from tests.workflow.test_studies_run import TOWER, make_tower

STUDY = PROJECT_ROOT / "workflow" / "studies" / "all-systems.yaml"
SMALL = {"epochs": 1.0, "warmup_epochs": 0.0, "effective_batch_size": 4, "per_device_batch_size": 4}
OF_THE_PAPER = {
    *("adem", "gated_xattn", "vl_adapter", "llama_adapter", "lavin", "lora", "llava_lora"),
    *("mm_cot", "llava", "blip", "blip2", "memvp"),
}


def test_every_system_has_one_run() -> None:
    study = load_study(STUDY)
    assert {run.name for run in study.runs} == OF_THE_PAPER
    assert {run.method.name for run in study.runs} == OF_THE_PAPER


@pytest.mark.slow
def test_every_run_is_planned() -> None:
    plan = plan_study(load_study(STUDY), Target())
    assert plan.unknown == {}
    assert {run.name for run in plan.runs} == OF_THE_PAPER


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("all_systems")
    data = tiny.make_scienceqa(folder / "shared" / "data" / "scienceqa" / "scienceqa")
    (data / "captions.json").write_text(json.dumps({"captions": {"1": "a square"}}))
    places = {
        "llama_7b": tiny.make_llm(folder / "llama"),
        "clip_vit_l14": make_tower(folder / "tower"),
        "unifiedqa_t5_base": make_t5_folder(folder / "t5"),
        "llava_1_5_7b": make_system(folder / "llava", "llava"),
        "blip_large_captioning": make_system(folder / "blip", "blip"),
        "blip2_opt_2_7b_coco": make_system(folder / "blip2", "blip2"),
    }
    return load_study(
        {
            "study": "tiny",
            "include": [str(STUDY)],
            "results_dir": str(folder / "results"),
            "shared_dir": str(folder / "shared"),
            "backbones": {name: {"existing": str(path)} for name, path in places.items()},
            "defaults": {
                "backbones": {"tower": TOWER, "precision": "fp32"},
                "evaluation": {"batch_size": 4},
            },
            "runs": {
                "lavin": {"method": {"cls_blocks": [0, 2]}},
                "llama_adapter": {"method": {"cls_blocks": [0, 2], "first_layer": 0}},
                "gated_xattn": {"method": {"every": 1}},
                "mm_cot": {"method": SHORT_TEXTS},
            },
        }
    )


def in_small(run: RunSettings) -> RunSettings:
    """Return a run that takes a few steps, all else unchanged."""
    group_size = min(run.optimization.loss_group_size, 2)
    optimization = dataclasses.replace(run.optimization, loss_group_size=group_size, **SMALL)
    return dataclasses.replace(run, optimization=optimization)


@pytest.mark.slow
def test_every_run_is_trained_or_noted_and_evaluated(study: Study) -> None:
    adapters = {}
    for run in study.runs:
        run_dir = study.run_dir(run)
        write_settings(run_dir / "run.yaml", run_to_json(in_small(run)))
        assert train_run(run_dir, progress=False) == 0, run.name
        evaluate_run(run_dir, progress=False)
        scores = json.loads((run_dir / "scores/scienceqa.json").read_text("utf-8"))
        assert scores["n"] == 4, run.name
        adapters[run.name] = (run_dir / "adapter/adapter.safetensors").read_bytes()
        provenance = json.loads((run_dir / "provenance.json").read_text("utf-8"))
        assert ("trainable_parameters" in provenance) == (run.adapter == TRAINED), run.name
    assert len(set(adapters.values())) == len(OF_THE_PAPER)
