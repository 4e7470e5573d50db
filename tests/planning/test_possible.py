"""Protects runs that cannot work: told at once by every command that looks at a study."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.cli import main
from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from ademvl.planning.possible import refuse_impossible
from ademvl.workflow.plan import WorkflowPlan
from tests.conftest import PROJECT_ROOT

SMOKE = {"include": ["workflow/studies/smoke.yaml"], "study": "s"}
BATCH = {"optimization": {"effective_batch_size": 100_000, "per_device_batch_size": 8}}
TOO_FEW = "effective_batch_size: 100000, but the training data has only 640 items; choose a batch"
CASES = [
    ({"defaults": BATCH}, f"runs.adem.optimization.{TOO_FEW}"),
    (
        {"defaults": {"method": {"scales": [10**18]}}},
        "defaults.method.scales.0: 1000000000000000000",
    ),
    ({"defaults": {"method": {"scales": [256]}}}, "runs.adem.method.scales: 256 is not possible"),
    (
        {"runs": {"adem": {"method": {"visual_tokens": 256}}}},
        "runs.adem.method.visual_tokens: 256 is not possible with a tower of 64 grid tokens",
    ),
    (
        {"runs": {"other": {"method": {"name": "memvp", "table_rows": 9}}}},
        "runs.other.method.table_rows: 9, expected at least the 64 tokens of the tower's grid",
    ),
    (
        {"runs": {"other": {"method": {"name": "llama_adapter"}}}},
        "runs.other.method.name: llama_adapter reads blocks 7, 11, 15, 19, 23 of the tower with "
        "these settings, which has 5, counted from 0",
    ),
    (
        {"defaults": {"optimization": {"epochs": 0.001, "warmup_epochs": 0}}},
        "runs.adem.optimization.epochs: 0.001 epochs of 640 items are less than one step",
    ),
    (
        {"defaults": {"optimization": {"warmup_epochs": 1.5}}},
        "runs.adem.optimization.warmup_epochs: 1.5, but the training has epochs: 1.0",
    ),
    ({"defaults": {"adapter": "nope"}}, "defaults.adapter: 'nope', but no run can take it from"),
]


@pytest.mark.parametrize(("changes", "message"), CASES)
def test_every_start_refuses_what_cannot_work(
    tmp_path: Path, changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = SMOKE | changes
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert main(["plan", str(path)]) == 2
    assert message in capsys.readouterr().err
    assert main(["params", "--study", str(path)]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        WorkflowPlan.of_config(raw, [])
    assert message in capsys.readouterr().err


def test_run_without_a_training_of_its_own_needs_no_batch() -> None:
    raw = SMOKE | {"runs": {"again": {"adapter": "adem", "evaluation": {"batch_size": 7}}}}
    refuse_impossible(load_study(raw))


def test_all_runs_that_cannot_work_are_listed() -> None:
    with pytest.raises(SettingsError, match="4 found") as refused:
        refuse_impossible(load_study(SMOKE | {"defaults": BATCH}))
    assert (
        "runs.captions.optimization.effective_batch_size: 100000, but the training data has only "
        "800 items" in str(refused.value)
    )


@pytest.mark.parametrize(
    "path", sorted((PROJECT_ROOT / "workflow/studies").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_studies_can_work(path: Path) -> None:
    refuse_impossible(load_study(path))
