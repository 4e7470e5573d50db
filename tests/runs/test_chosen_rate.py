"""Protects the choice of learning rates: the rule, its record, and who gets which rate."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.settings_files import run_to_json
from ademvl.config.study import Study, load_study
from ademvl.errors import DataError, SettingsError, TrainingError
from ademvl.runs.chosen_rate import (
    Candidate,
    RateChoice,
    choice_file,
    choose_rate,
    choosing_run,
    is_choice_for,
    next_rate,
    read_choice,
    resolved,
    with_chosen_rates,
    write_choice,
)
from ademvl.runs.identity import training_settings

GRID = (0.01, 0.1, 1.0)


def candidates(*scores: float | None) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(base_lr=rate, score=score, n=30, seconds=1.0, failure="" if score else "nan")
        for rate, score in zip(GRID, scores, strict=True)
    )


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ((50.0, 60.0, 55.0), 0.1),
        ((60.0, 60.0, 55.0), 0.01),
        ((50.0, 60.0, None), 0.1),
        ((None, None, 1.0), 1.0),
    ],
)
def test_best_on_val_is_chosen_and_the_smallest_of_equals(
    scores: tuple[float | None, ...], chosen: float
) -> None:
    assert choose_rate(candidates(*scores)) == chosen


@pytest.mark.parametrize("grid", [(0.1, 0.1), (0.2, 0.1), (0.1, 0.1000000001)])
def test_rates_whose_candidates_would_share_a_folder_are_refused(grid: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match=r"lr_grid.*, expected"):
        OptimizationSettings(lr_grid=grid)


def test_nothing_is_chosen_where_all_diverge() -> None:
    with pytest.raises(TrainingError, match="lr_grid"):
        choose_rate(candidates(None, None, None))


@pytest.mark.parametrize(
    ("growth", "scores", "tried"),
    [
        (2, {0.01: 50.0, 0.1: 60.0, 1.0: 55.0}, (0.01, 0.1, 1.0)),  # the best is inside
        (0, {0.01: 60.0, 0.1: 50.0, 1.0: 55.0}, (0.01, 0.1, 1.0)),
        (2, {0.01: 60.0, 0.1: 50.0, 1.0: 55.0, 0.001: 60.5, 0.0001: 1.0}, (1e-4, 0.001, *GRID)),
        (2, {0.01: 60.0, 0.1: 50.0, 1.0: 55.0, 0.001: 59.0}, (0.001, *GRID)),
        (1, {0.01: 40.0, 0.1: 50.0, 1.0: 55.0, 10.0: 56.0}, (*GRID, 10.0)),
        (2, {0.01: 40.0, 0.1: 50.0, 1.0: 55.0, 10.0: None}, (*GRID, 10.0)),
        (1, {0.01: None, 0.1: None, 1.0: None, 0.001: 40.0}, (0.001, *GRID)),
    ],
)
def test_grid_grows_where_its_best_rate_is_the_outermost(
    study: Study, growth: int, scores: dict[float, float | None], tried: tuple[float, ...]
) -> None:
    run = study.runs[0]
    optimization = dataclasses.replace(run.optimization, lr_grid_growth=growth)
    run = dataclasses.replace(run, optimization=optimization)
    known: list[Candidate] = []
    while (rate := next_rate(optimization, known)) is not None:
        failure = "" if scores[rate] else "nan"
        known.append(Candidate(base_lr=rate, score=scores[rate], n=30, failure=failure))
        known.sort(key=lambda candidate: candidate.base_lr)
    choice = RateChoice(run="adem", base_lr=choose_rate(known), candidates=tuple(known))
    assert choice.grid == tried
    assert is_choice_for(run, choice)
    longer = Candidate(base_lr=tried[-1] * 10, score=1.0, n=30)
    assert not is_choice_for(run, dataclasses.replace(choice, candidates=(*known, longer)))
    assert not is_choice_for(run, dataclasses.replace(choice, candidates=tuple(known[:-1])))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    raw: dict[str, Any] = {
        "study": "grid",
        "scale": "mini",
        "results_dir": str(tmp_path / "results"),
        "shared_dir": str(tmp_path / "shared"),
        "datasets": {"shapes": {"source": "many_shapes"}},
        "defaults": {
            "dataset": "shapes",
            "seeds": [0, 1],
            "optimization": {"lr_grid": list(GRID)},
        },
        "runs": {
            "adem": {},
            "again": {"adapter": "adem", "evaluation": {"answer_by": "letter"}},
            "released": {"adapter": "released", "released_from": "adapter.pth", "seeds": [0]},
            "fixed": {"optimization": {"lr_grid": [], "base_lr": 0.5}},
        },
    }
    return load_study(raw)


def _choose(study: Study, *scores: float | None) -> RateChoice:
    found = candidates(*scores)
    choice = RateChoice(run="adem", base_lr=choose_rate(found), candidates=found)
    write_choice(choice_file(study.results_dir, "adem"), choice)
    return choice


def test_runs_get_the_rate_that_was_chosen_for_them(study: Study) -> None:
    _choose(study, 50.0, 60.0, 55.0)
    rates = {run.name: run.optimization.base_lr for run in with_chosen_rates(study).runs}
    assert rates == {"adem": 0.1, "again": 0.1, "released": 9e-3, "fixed": 0.5}


def test_a_choice_of_another_grid_counts_for_nothing(study: Study) -> None:
    _choose(study, 50.0, 60.0, 55.0)
    run = study.runs[0]
    optimization = dataclasses.replace(run.optimization, lr_grid=(0.1, 0.2))
    other = dataclasses.replace(study, runs=(dataclasses.replace(run, optimization=optimization),))
    assert with_chosen_rates(other) == other
    with pytest.raises(SettingsError, match="chosen from"):
        resolved(run_to_json(other.runs[0]), choice_file(study.results_dir, "adem"))


def test_settings_of_a_run_wait_for_the_choice(study: Study) -> None:
    path = choice_file(study.results_dir, "adem")
    settings = run_to_json(study.runs[0])
    with pytest.raises(SettingsError, match="leaves its rate open"):
        resolved(settings, None)
    _choose(study, 70.0, 60.0, 55.0)
    optimization = json.loads(resolved(settings, path))["optimization"]
    assert (optimization["base_lr"], optimization["lr_grid"]) == (0.01, list(GRID))
    fixed = next(run for run in study.runs if run.name == "fixed")
    assert resolved(run_to_json(fixed), None) == run_to_json(fixed)
    assert not choosing_run(fixed)


def test_the_grid_itself_has_no_part_in_what_an_adapter_is(study: Study) -> None:
    assert "lr_grid" not in training_settings(study.runs[0])["optimization"]


def test_record_tells_its_edge_and_cost_and_is_checked(study: Study, tmp_path: Path) -> None:
    choice = _choose(study, 50.0, 60.0, 65.0)
    path = choice_file(study.results_dir, "adem")
    assert read_choice(path) == choice
    assert choice.is_at_edge
    assert choice.seconds == 3.0
    assert read_choice(tmp_path / "none.json") is None
    path.write_text(
        path.read_text().replace('"base_lr": 1.0,\n  "cand', '"base_lr": 0.1,\n  "cand')
    )
    with pytest.raises(DataError, match="not the best"):
        read_choice(path)
    path.write_text('{"run": "adem"}')
    with pytest.raises(DataError, match=r"adem\.json"):
        read_choice(path)


def test_instructions_have_no_val_split_to_choose_by(study: Study) -> None:
    raw = {
        "study": "x",
        "scale": "mini",
        "datasets": {"lavin": {"source": "lavin_instruct"}, "mme": {"source": "mme"}},
        "runs": {
            "a": {
                "task": "instruction",
                "dataset": "lavin",
                "evaluation_dataset": "mme",
                "optimization": {"lr_grid": [0.1]},
            }
        },
    }
    with pytest.raises(SettingsError, match="no val split"):
        load_study(raw)


def test_a_run_with_a_grid_never_has_the_seed_that_chooses() -> None:
    raw = {
        "study": "x",
        "scale": "mini",
        "datasets": {"shapes": {"source": "easy_vqa"}},
        "defaults": {"dataset": "shapes", "optimization": {"lr_grid": [0.1]}},
        "runs": {"a": {"seeds": [0, 1000]}, "b": {"optimization": {"lr_grid": []}}},
    }
    with pytest.raises(SettingsError, match=r"runs\.a\.seeds: 1000 .* take another seed"):
        load_study(raw)
    raw["runs"] = {"b": {"seeds": [1000], "optimization": {"lr_grid": []}}}
    assert load_study(raw).runs[0].seed == 1000
