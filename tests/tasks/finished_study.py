"""A study of tiny models, laid out, trained and evaluated without the workflow."""

from pathlib import Path
from typing import Any

import yaml

from ademvl.cli import main
from ademvl.config.settings_files import run_to_json, write_settings
from ademvl.config.study import Study, load_study
from ademvl.tasks.layout import make_dataset
from tests import tiny

DEFAULTS: dict[str, Any] = {
    "method": {"scales": [16, 4], "projection_width": 8},
    "features": {"mode": "cached", "precision": "fp32"},
    "prompts": {"max_seq_len": 128},
    "optimization": {
        "epochs": 1.0,
        "warmup_epochs": 0.1,
        "effective_batch_size": 4,
        "per_device_batch_size": 4,
    },
}


def finish_study(folder: Path, raw: dict[str, Any]) -> Study:
    """Run everything of a study but its tables.

    Args:
        folder: gets models, data and results.
        raw: keys of the study; `defaults` get tiny models and a short training.
    """
    backbones = {
        "llm": str(tiny.make_llm(folder / "llm")),
        "tower": tiny.TOWER,
        "tower_weights": str(tiny.make_tower(folder / "tower")),
    }
    places = {"results_dir": str(folder / "results"), "shared_dir": str(folder / "shared")}
    defaults = {**DEFAULTS, "backbones": backbones, **raw["defaults"]}
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump({**raw, **places, "defaults": defaults}), encoding="utf-8")
    study = load_study(file)
    for name, dataset in study.settings.datasets.items():
        make_dataset(folder / "shared" / "data" / name / "manifest.json", dataset)
    for run in study.runs:
        run_dir = study.run_dir(run)
        write_settings(run_dir / "run.yaml", run_to_json(run))
        for verb in ("train", "evaluate"):
            assert main([verb, str(run_dir), "--threads", "1"]) == 0
    return study
