"""Protects finished results: what is written and compared of all present studies stays as it was.

A byte that changes here trains or evaluates anew what others have finished. `--update-golden`
writes the stored texts again, to be reviewed as a diff.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ademvl.config.run import RunSettings
from ademvl.config.settings_files import run_to_json, study_to_json
from ademvl.config.study import Study, load_study
from ademvl.runs.identity import evaluation_settings, feature_settings, training_settings
from tests.conftest import PROJECT_ROOT

STORED_DIR = Path(__file__).parent / "stored_settings"
STUDIES = (
    "config.yaml",
    *(
        f"workflow/studies/{path.name}"
        for path in sorted((PROJECT_ROOT / "workflow" / "studies").glob("*.yaml"))
    ),
)
TEXTS_OF_A_RUN: dict[str, Callable[[RunSettings], str]] = {
    "run": run_to_json,
    "training": lambda run: json.dumps(training_settings(run)),
    "evaluation": lambda run: json.dumps(evaluation_settings(run)),
    "features": lambda run: json.dumps(feature_settings(run)),
}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def checksums(study: Study) -> dict[str, Any]:
    runs = {
        f"{run.name}/seed{run.seed}": {
            name: sha256(text(run)) for name, text in TEXTS_OF_A_RUN.items()
        }
        for run in study.runs
    }
    return {"study": sha256(study_to_json(study)), "runs": runs}


def compare(file: str, found: Any, *, update: bool) -> None:
    path = STORED_DIR / file
    text = json.dumps(found, indent=1) + "\n"
    if update:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", STUDIES)
def test_settings_of_present_studies_are_the_same_bytes(
    name: str, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT_ROOT)
    found = checksums(load_study(PROJECT_ROOT / name))
    file = f"{Path(name).stem}.json"
    compare(file, found, update=pytestconfig.getoption("update_golden"))


def test_whole_texts_of_two_runs_are_the_same(pytestconfig: pytest.Config) -> None:
    found: dict[str, Any] = {}
    for name, run_name in (
        ("config.yaml", "adem"),
        ("workflow/studies/paper-7b.yaml", "captions_7b"),
    ):
        study = load_study(PROJECT_ROOT / name)
        run = next(run for run in study.runs if run.name == run_name)
        found[name] = {key: text(run) for key, text in TEXTS_OF_A_RUN.items()}
    found["study of config.yaml"] = study_to_json(load_study(PROJECT_ROOT / "config.yaml"))
    compare("whole_texts.json", found, update=pytestconfig.getoption("update_golden"))
