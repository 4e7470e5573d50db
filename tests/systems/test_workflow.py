"""Protects that a whole system goes through all of the workflow as every other run does."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.tasks.scienceqa.reader import load_scienceqa
from tests.systems.tiny_mm_cot import SMALL as SHORT_TEXTS
from tests.systems.tiny_mm_cot import make_t5_folder
from tests.systems.tiny_systems import make_system
from tests.workflow.killing import run_to_end

QUESTIONS = {"train_questions": 8, "val_questions": 4, "test_questions": 12}
IMAGES = {"caption_train_images": 4, "caption_val_images": 2, "caption_test_images": 4}


@pytest.mark.slow
def test_systems_that_are_not_trained_go_through_the_whole_workflow(tmp_path: Path) -> None:
    systems = {name: str(make_system(tmp_path / name, name)) for name in ("llava", "blip")}
    study: dict[str, Any] = {
        "study": "systems",
        "datasets": {"few": {"source": "easy_vqa", **QUESTIONS, **IMAGES}},
        "defaults": {"dataset": "few", "adapter": "pretrained", "features": {"mode": "cached"}},
        "runs": {
            "llava": {
                "label": "LLaVA, tiny",
                "method": {"name": "llava"},
                "backbones": {"llm": systems["llava"]},
                "evaluation": {"answer_by": "likelihood"},
            },
            "blip": {
                "label": "BLIP, tiny",
                "task": "coco_caption",
                "method": {"name": "blip"},
                "backbones": {"llm": systems["blip"]},
                "evaluation": {"max_new_tokens": 4},
            },
        },
    }
    configfile = tmp_path / "study.yaml"
    configfile.write_text(yaml.safe_dump(study), encoding="utf-8")
    run_to_end(tmp_path, "data", configfile=configfile)
    problems = load_scienceqa(tmp_path / "results/shared/data/few/scienceqa").split("test")
    answers = {problem.question_id: problem.answer_index for problem in problems}
    (tmp_path / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
    study["runs"]["elsewhere"] = {
        "label": "somebody's model",
        "adapter": "predictions",
        "released_from": "./answers.json",
        "method": {"name": "elsewhere", "source": "A paper, table 1."},
    }
    configfile.write_text(yaml.safe_dump(study), encoding="utf-8")

    run_to_end(tmp_path, configfile=configfile)

    results = tmp_path / "results/systems"
    assert not list(results.glob("features/*"))  # nothing is encoded by a tower of ours
    scores = json.loads((results / "runs/llava/seed0/scores/scienceqa.json").read_text("utf-8"))
    assert (scores["n"], scores["num_without_answer"]) == (12, 0)
    given = json.loads((results / "runs/elsewhere/seed0/scores/scienceqa.json").read_text("utf-8"))
    assert given["columns"]["AVG"]["percent"] == 100.0
    accuracy = (results / "tables/accuracy.md").read_text("utf-8")
    assert "LLaVA, tiny" in accuracy
    assert "somebody's model: measured elsewhere. A paper, table 1." in accuracy
    assert "BLIP, tiny" in (results / "tables/captions.md").read_text("utf-8")
    cost = (results / "tables/cost.md").read_text("utf-8")
    assert "Evaluates a pretrained system" in cost
    assert "LLaVA, tiny" in (results / "report/index.html").read_text("utf-8")
    assert "Nothing to be done" in run_to_end(tmp_path, configfile=configfile)


@pytest.mark.slow
def test_mm_cot_goes_through_the_whole_workflow(tmp_path: Path) -> None:
    study = {
        "study": "mm_cot",
        "datasets": {"few": {"source": "easy_vqa", **QUESTIONS, **IMAGES}},
        "defaults": {"dataset": "few", "features": {"mode": "cached"}},
        "runs": {
            "mm_cot": {
                "label": "MM-CoT, tiny",
                "method": {"name": "mm_cot", **SHORT_TEXTS},
                "backbones": {"llm": str(make_t5_folder(tmp_path / "t5"))},
                "optimization": {
                    "epochs": 1.0,
                    "warmup_epochs": 0.0,
                    "effective_batch_size": 4,
                    "per_device_batch_size": 4,
                },
            }
        },
    }
    configfile = tmp_path / "study.yaml"
    configfile.write_text(yaml.safe_dump(study), encoding="utf-8")

    run_to_end(tmp_path, configfile=configfile)

    results = tmp_path / "results/mm_cot"
    scores = json.loads((results / "runs/mm_cot/seed0/scores/scienceqa.json").read_text("utf-8"))
    assert scores["n"] == 12
    assert "MM-CoT, tiny" in (results / "tables/accuracy.md").read_text("utf-8")
    assert "Nothing to be done" in run_to_end(tmp_path, configfile=configfile)
