"""Protects the comparison of methods from nothing to its table: rates chosen on val, once."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ademvl.config.optimization import CHOICE_SEED
from ademvl.config.study import load_study
from ademvl.runs.chosen_rate import read_choice
from ademvl.workflow.plan import WorkflowPlan
from tests.conftest import PROJECT_ROOT
from tests.workflow.killing import run_to_end

GRID = [0.01, 0.1]
SIZES = {
    "train_questions": 96,
    "val_questions": 20,
    "test_questions": 20,
    "caption_train_images": 4,
    "caption_val_images": 2,
    "caption_test_images": 2,
}


def test_features_wait_for_no_rate_and_all_seeds_for_one(tmp_path: Path) -> None:
    raw = {
        "study": "grid",
        "include": [str(PROJECT_ROOT / "workflow/studies/peers-mini.yaml")],
        "only": ["adem", "memvp"],
        "results_dir": str(tmp_path),
    }
    study = load_study(raw)
    smallest, *_ = study.runs[0].optimization.lr_grid
    plan = WorkflowPlan(study)
    record = f"{tmp_path}/grid/rates/adem.json"
    for seed in range(5):
        run = SimpleNamespace(run="adem", seed=str(seed))
        assert plan.rates.choice(run) == [record]
        for verb, waits in (("features", []), ("train", [record]), ("evaluate", [record])):
            named = SimpleNamespace(run="adem", seed=str(seed), verb=verb)
            assert plan.rates.choice_of_verb(named) == waits
    (report,) = plan.features.reports()
    features = SimpleNamespace(features=Path(report).stem)
    assert plan.feature_run_settings(features) == f"{tmp_path}/grid/rates/adem/run.yaml"
    first = json.loads(plan.rates.first_json(SimpleNamespace(run="adem")))["optimization"]
    assert first["base_lr"] == smallest
    assert "lr_grid" not in first
    asked = json.loads(plan.rates.grid_json(SimpleNamespace(run="memvp")))
    assert (asked["seed"], asked["optimization"]["lr_grid"][0]) == (CHOICE_SEED, smallest)


@pytest.mark.slow
def test_rates_are_chosen_before_all_seeds_are_trained_with_them(tmp_path: Path) -> None:
    study = {
        "study": "peers",
        "include": [str(PROJECT_ROOT / "workflow/studies/peers-mini.yaml")],
        "only": ["adem", "llava_lora", "adem_online"],
        "datasets": {"many_shapes": SIZES},
        "defaults": {"seeds": [0, 1], "optimization": {"lr_grid": GRID}},
        "report": {"fusion_map_items": 0},
    }
    configfile = tmp_path / "peers.yaml"
    configfile.write_text(yaml.safe_dump(study))
    run_to_end(tmp_path, configfile=configfile)
    results = tmp_path / "results/peers"
    for name in ("adem", "llava_lora", "adem_online"):
        choice = read_choice(results / f"rates/{name}.json")
        assert choice is not None
        assert choice.grid == tuple(GRID)
        assert len(list((results / f"rates/{name}").glob(f"*/seed{CHOICE_SEED}/scores"))) == 2
        for seed in (0, 1):
            run = yaml.safe_load((results / f"runs/{name}/seed{seed}/run.yaml").read_text())
            assert run["optimization"]["base_lr"] == choice.base_lr
            assert run["evaluation"]["split"] == "test"
    table = (results / "tables/comparison.md").read_text()
    assert "choice of learning rates" in table
    assert "too few seeds (3 of 4 degrees of freedom)" in table  # so nothing is ranked
    again = run_to_end(tmp_path, configfile=configfile)
    assert "Nothing to be done" in again
    assert "Look further:" in again  # the results, as after a run
    study["defaults"]["optimization"]["lr_grid"] = [0.003, *GRID]
    configfile.write_text(yaml.safe_dump(study))
    planned = run_to_end(tmp_path, "--dry-run", configfile=configfile)
    assert re.search(r"^choose_rate +3$", planned, flags=re.MULTILINE)
    speed = json.loads((results / "runs/adem/seed0/predictions/scienceqa.speed.json").read_text())
    assert speed["items"] == 20
