"""Protects the smoke study on other models: a decoder of each family, a tower of each kind.

Models are tiny and random, data is made up; settings are the study's but for sizes.
"""

import json
from pathlib import Path

import pytest

from ademvl.config.run import BackboneSettings
from ademvl.config.settings_files import run_to_json, write_settings
from ademvl.config.study import Study, load_study
from ademvl.evaluation.run import evaluate_run
from ademvl.planning.plans import Target
from ademvl.planning.study_plan import plan_study
from ademvl.training.run import train_run
from tests import tiny
from tests.conftest import PROJECT_ROOT
from tests.decoder_families import FAMILIES
from tests.systems.test_all_systems import in_small
from tests.tower_kinds import KINDS, make_tower

SMOKE = PROJECT_ROOT / "workflow" / "studies" / "smoke.yaml"


def make_decoder(family: str, folder: Path) -> Path:
    """Write a decoder with a tokenizer of SentencePiece."""
    folder.mkdir(parents=True)
    pieces = tiny.make_tokenizer(folder / "tokenizer.model")
    FAMILIES[family].decoder(vocabulary=pieces, width=32).save_pretrained(folder)
    return folder


def smoke_study(folder: Path, llm: Path, tower: BackboneSettings, *, adapted: bool = True) -> Study:
    """Return the smoke study on these models, and on a few made-up questions and captions.

    Without `adapted` its run with adapters inside the tower reads cached features, too.
    """
    data = folder / "shared" / "data" / "easy_vqa_smoke"
    tiny.make_scienceqa(data / "scienceqa")
    tiny.make_captions(data / "coco_caption")
    study = load_study(
        {
            "study": "tiny",
            "include": [str(SMOKE)],
            "results_dir": str(folder / "results"),
            "shared_dir": str(folder / "shared"),
            "defaults": {
                "backbones": {
                    "llm": str(llm),
                    "tower": tower.tower,
                    "tower_weights": tower.tower_weights,
                    "tower_cls": tower.tower_cls,
                },
                "method": {"scales": [4, 1], "projection_width": 8},
                "evaluation": {"batch_size": 4, "max_new_tokens": 3},
            },
            "runs": {} if adapted else {"adem_online": {"features": {"mode": "cached"}}},
        }
    )
    for run in study.runs:
        write_settings(study.run_dir(run) / "run.yaml", run_to_json(in_small(run)))
    return study


def go_through(study: Study) -> None:
    """Plan the study, train each run, and evaluate those of questions."""
    assert plan_study(study, Target()).unknown == {}
    for run in study.runs:
        run_dir = study.run_dir(run)
        assert train_run(run_dir, progress=False) == 0, run.name
        if run.task == "scienceqa":
            evaluate_run(run_dir, progress=False)
            scores = json.loads((run_dir / "scores/scienceqa.json").read_text("utf-8"))
            assert scores["n"] == 4, run.name


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_of_each_family_with_a_tower_without_cls(family, tmp_path):
    tower = make_tower("SigLIP", tmp_path / "tower")
    go_through(smoke_study(tmp_path, make_decoder(family, tmp_path / "llm"), tower))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_tower_of_each_kind_with_a_decoder_of_another_family(kind, tmp_path):
    tower = make_tower(kind, tmp_path / "tower")
    llm = make_decoder("Gemma 3", tmp_path / "llm")
    go_through(smoke_study(tmp_path, llm, tower, adapted=kind != "RN50"))


def test_from_settings_to_an_adapter(tmp_path):
    """The fast one of these: cached features of a SigLIP, fused into an OLMo 2."""
    tower = make_tower("SigLIP", tmp_path / "tower")
    study = smoke_study(tmp_path, make_decoder("OLMo 2", tmp_path / "llm"), tower)
    run = next(run for run in study.runs if run.name == "adem")
    assert train_run(study.run_dir(run), progress=False) == 0
    (namespace,) = (tmp_path / "shared" / "features").glob("*/namespace.json")
    key = json.loads(namespace.read_text("utf-8"))
    assert key["features"] == "all blocks but the last, then ln_post; pooled token first"
