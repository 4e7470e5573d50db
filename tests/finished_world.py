"""A study that was really trained and evaluated, small enough for every test to have a copy.

Its paths are relative, so that a copy of its folder is the same study elsewhere.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.cli import main
from ademvl.config.settings_files import run_to_json, study_to_json, write_settings
from ademvl.config.study import load_study
from tests import tiny

NUM_TEST = 24
STUDY = Path("results/tiny")
DATA = Path("results/shared/data/squares/scienceqa")
SETTINGS: dict[str, Any] = {
    "study": "tiny",
    "scale": "mini",
    "results_dir": "results",
    "shared_dir": "results/shared",
    "datasets": {"squares": {"source": "scienceqa"}},
    "base_runs": ["adem"],
    "defaults": {
        "dataset": "squares",
        "backbones": {"llm": "llm", "tower": tiny.TOWER, "tower_weights": "tower/tower.pt"},
        "method": {"scales": [16, 4], "projection_width": 8, "clip_adapter": {"dim": 2}},
        "features": {"mode": "cached", "precision": "fp32"},
        "prompts": {"max_seq_len": 128},
        "evaluation": {"answer_by": "likelihood"},
        "optimization": {
            "epochs": 4.0,
            "warmup_epochs": 0.5,
            "base_lr": 0.5,
            "effective_batch_size": 4,
            "per_device_batch_size": 4,
        },
    },
    "runs": {
        "adem": {"label": "ADEM-VL", "seeds": [0, 1]},
        "text_only": {"label": "text-only control", "images": "withheld"},
        "quirk": {"method": {"gamma": 0.5}},
    },
}


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: its exit code, and all that it printed."""

    code: int
    text: str


class World:
    """The present folder, which holds the study; what its files are changed with."""

    def __init__(self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture):
        self._capsys, self._caplog = capsys, caplog

    def ademvl(self, *arguments: object) -> Outcome:
        """Run a verb."""
        self._capsys.readouterr()
        self._caplog.clear()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = self._capsys.readouterr()
        return Outcome(code, printed.out + printed.err + self._caplog.text)

    def tables(self) -> Outcome:
        """Write the tables; return the main one, behind what was printed."""
        made = self.ademvl("tables", STUDY / "study.yaml")
        accuracy = STUDY / "tables/accuracy.md"
        return Outcome(made.code, made.text + (accuracy.read_text() if made.code == 0 else ""))

    def summary(self) -> Outcome:
        """Print the summary."""
        return self.ademvl("summary", STUDY / "study.yaml")

    def evaluate(self, *runs: str) -> Outcome:
        """Evaluate some runs; return the last outcome."""
        return [self.ademvl("evaluate", run_dir(run)) for run in runs][-1]

    def compare(self, first: str, second: str, *arguments: object) -> Outcome:
        """Compare two runs, or seeds of them."""
        return self.ademvl("compare", run_dir(first), run_dir(second), *arguments)


def run_dir(run: str) -> Path:
    """Return the folder of a run, or of `run/seed`."""
    return STUDY / "runs" / run


def scores_of(run: str) -> Path:
    """Return the score file of `run/seed`."""
    return run_dir(run) / "scores/scienceqa.json"


def predictions_of(run: str) -> Path:
    """Return the prediction file of `run/seed`."""
    return run_dir(run) / "predictions/scienceqa.jsonl"


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    """Change the content of a JSON file in place."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_lines(path: Path, change: Callable[[list[Any]], object]) -> None:
    """Change the rows of a file of JSON lines in place."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def edit_yaml(path: Path, *keys: str, value: object) -> None:
    """Set one value of a YAML file."""
    content = part = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key in keys[:-1]:
        part = part.setdefault(key, {})
    part[keys[-1]] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def write_study() -> None:
    """Write the settings of study and runs into the present folder, as the workflow does."""
    study = load_study(SETTINGS)
    write_settings(STUDY / "study.yaml", study_to_json(study))
    for run in study.runs:
        write_settings(study.run_dir(run) / "run.yaml", run_to_json(run))


def make_world(folder: Path) -> None:
    """Train and evaluate the study below `folder`."""
    tiny.make_llm(folder / "llm", seed=2, width=64)  # whose answers differ without images
    tiny.make_tower(folder / "tower")
    tiny.make_scienceqa(folder / DATA, num_val=6, num_test=NUM_TEST)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_study()
        for run in load_study(SETTINGS).runs:
            place = str(STUDY / "runs" / run.name / f"seed{run.seed}")
            for verb in ("train", "evaluate"):
                assert main([verb, place, "--threads", "1"]) == 0


def copy_world(source: Path, target: Path) -> Path:
    """Copy a finished study; return the copy."""
    return shutil.copytree(source, target, dirs_exist_ok=True)
