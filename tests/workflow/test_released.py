"""Protects a study that evaluates a released adapter beside one that evaluates it otherwise."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from ademvl.config.run import RunSettings
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.adapter_file import save_adapter
from ademvl.model.build import build_model
from ademvl.released.adapter import export_adapter
from tests.conftest import PROJECT_ROOT
from tests.workflow.killing import run_to_end

METHOD = {"scales": [64, 16], "beta": 0.1}


@pytest.mark.slow
def test_a_released_adapter_is_evaluated_and_stands_in_the_tables(tmp_path: Path) -> None:
    run = RunSettings(
        study="theirs",
        name="own",
        seed=0,
        task="scienceqa",
        data_dir="",
        method=AdemSettings(scales=(64, 16), beta=0.1),
    )
    model = build_model(run)
    with torch.no_grad():
        model.method.value_table.normal_(std=0.05)
    save_adapter(tmp_path / "own", model, run)
    export_adapter(tmp_path / "own", tmp_path / "checkpoint.pth")
    smoke = yaml.safe_load((PROJECT_ROOT / "workflow/studies/smoke.yaml").read_text("utf-8"))
    study = {
        "study": "theirs",
        "scale": "mini",
        "datasets": smoke["datasets"],
        "defaults": {"dataset": "easy_vqa_smoke", "method": METHOD},
        "runs": {
            "released": {
                "label": "the authors' weights",
                "adapter": "released",
                "released_from": str(tmp_path / "checkpoint.pth"),
                "features": {"mode": "online"},
            },
        },
    }
    study["runs"]["by_likelihood"] = {
        **study["runs"]["released"],
        "label": "by likelihood",
        "evaluation": {"answer_by": "likelihood"},
    }
    configfile = tmp_path / "study.yaml"
    configfile.write_text(yaml.safe_dump(study), encoding="utf-8")

    printed = run_to_end(tmp_path, "evaluate", "tables", configfile=configfile)

    assert "train_run" in printed
    results = tmp_path / "results/theirs"
    for name in ("released", "by_likelihood"):
        folder = results / "runs" / name / "seed0"
        assert json.loads((folder / "scores/scienceqa.json").read_text())["n"] == 120
        adapter = json.loads((folder / "adapter/adapter.json").read_text())
        assert adapter["origin"]["file"] == "checkpoint.pth"
    tables = (results / "tables/accuracy.md").read_text(encoding="utf-8")
    assert "the authors' weights" in tables
