"""Protects runs that start from another adapter: whose it may be, and where it lies."""

from typing import Any

import pytest

from ademvl.config.run import RunSettings
from ademvl.config.settings_files import run_to_plain
from ademvl.config.study import load_study
from ademvl.errors import SettingsError

V2 = {"name": "llama_adapter_v2", "stage": "pretrain"}
SECOND = {"name": "llama_adapter_v2", "stage": "finetune_after_pretrain"}


def runs_of(*, second: dict[str, Any], **runs: Any) -> dict[str, RunSettings]:
    """Load a study with a first stage of two seeds; return its runs by name and seed."""
    study = load_study(
        {
            "study": "test",
            "datasets": {"questions": {"source": "scienceqa"}},
            "defaults": {"dataset": "questions", "seeds": [0, 1]},
            "runs": {"first": {"method": V2}, "second": second, **runs},
        }
    )
    return {f"{run.name}/{run.seed}": run for run in study.runs}


def test_a_run_starts_from_the_adapter_of_its_own_seed() -> None:
    runs = runs_of(second={"method": SECOND, "start_from": "first"})
    assert "start_from" not in run_to_plain(runs["first/0"])
    for seed in (0, 1):
        folder = f"results/test/runs/first/seed{seed}/adapter"
        assert runs[f"second/{seed}"].start_from == folder


def test_a_folder_stands_as_it_is_and_who_takes_an_adapter_has_its_start() -> None:
    second = {"method": SECOND, "start_from": "given/adapter", "seeds": [1]}
    runs = runs_of(second=second, again={"adapter": "second", "seeds": [1]})
    assert {runs[f"{name}/1"].start_from for name in ("second", "again")} == {"given/adapter"}


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"method": SECOND}, "start_from: empty"),
        ({"method": SECOND, "start_from": "frist"}, "'frist' is no run of the study"),
        ({"method": SECOND, "start_from": "second"}, "second starts from the run itself"),
        ({"method": SECOND, "start_from": "circle"}, "circle starts from the run itself"),
        ({"method": {"name": "lora"}, "start_from": "first"}, "has method.name llama_adapter_v2"),
        (
            {"method": SECOND, "start_from": "first", "backbones": {"llm": "other/llm"}},
            "has backbones.llm mini, this run other/llm",
        ),
        ({"method": SECOND, "start_from": "first", "seeds": [1, 2]}, r"\[2\] are no seeds of run"),
        (
            {"adapter": "released", "released_from": "a.pth", "seeds": [0], "start_from": "first"},
            "the run trains no method",
        ),
    ],
)
def test_what_cannot_be_started_from_is_refused(second: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        runs_of(second=second, circle={"method": SECOND, "start_from": "second"})
