"""Protects what may be searched: wrong spaces are refused by line, with what is possible."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from tests.conftest import PROJECT_ROOT

SMOKE = str(PROJECT_ROOT / "workflow/studies/smoke.yaml")


def refused(folder: Path, tune: dict[str, Any], runs: dict[str, Any] | None = None) -> str:
    raw = {"study": "s", "include": [SMOKE], "runs": runs or {}, "tune": tune}
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        load_study(file)
    return str(error.value)


@pytest.mark.parametrize(
    ("path", "values", "expected"),
    [
        ("method.gama", {"low": 0, "high": 0.5}, "did you mean method.gamma?"),
        ("method.gamma", {"low": 0, "high": 1}, "1.0, expected >= 0 and < 1"),
        ("method.phi", {"low": 0, "high": 1}, '"silu" is no number; list choices'),
        ("method.cls", {"low": 0, "high": 1}, "true is no number; list choices"),
        ("method.pool", {"choices": ["avg", "mxa"]}, "did you mean max?"),
        ("method.scales", {"choices": [[64], [64, 17]]}, "[64, 17] cannot be: method.scales.1"),
        ("method.projection_width", {"low": 8.5, "high": 64}, "expected whole numbers"),
        ("method.projection_width", {"low": 8, "high": 64, "step": 0.5}, "expected whole numbers"),
        ("optimization.effective_batch_size", {"choices": [4]}, "8 does not divide"),
        ("optimization.log_interval_steps", {"choices": [1]}, "its training depends on"),
        ("evaluation.split", {"choices": ["val", "test"]}, "its training depends on"),
        ("task", {"choices": ["scienceqa", "coco_caption"]}, "its training depends on"),
        ("method.beta", {}, "neither a list nor a range; give choices: [...], or low and high"),
        ("method.beta", {"low": 0.1}, "neither a list nor a range"),
        ("method.beta", {"choices": [0.1], "low": 0.1}, "stands beside low"),
        ("method.beta", {"choices": [0.1, 0.1]}, "expected different values"),
        ("method.beta", {"choices": 0.1}, "expected a list of values"),
        ("method.beta", {"low": 0.2, "high": 0.1}, "0.2, expected less than high, 0.1"),
        ("method.beta", {"low": 0, "high": 1, "log": True}, "needs low > 0, but it is 0"),
        ("method.beta", {"low": 0.1, "high": 1, "log": True, "step": 0.1}, "drawn evenly"),
        ("method.beta", {"low": 0, "high": 0.5, "step": 0.2}, "0.2, but steps from low, 0, do not"),
        (
            "method.beta",
            {"low": 0, "high": 0.5, "step": 0.2},
            "choose 0.4 as high, or another step",
        ),
        ("method.beta", {"low": 0, "high": 0.5, "step": 1}, "1, expected at most high - low, 0.5"),
        ("method.beta", {"hihg": 1}, "did you mean high?"),
    ],
)
def test_wrong_values_are_refused_where_they_stand(
    path: str, values: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    text = refused(tmp_path, {"run": "adem", "space": {path: values}})
    assert "mine.yaml:" in text
    assert f"tune.space.{path}" in text
    assert expected in text


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    space = {"method.gama": {"choices": [0.1]}, "method.gamma": {"choices": [0.1, 2, "a"]}}
    text = refused(tmp_path, {"run": "adem", "space": space})
    assert "(3 found)" in text
    assert "2, expected >= 0 and < 1" in text
    assert "'a', expected finite number" in text


@pytest.mark.parametrize(
    ("tune", "expected"),
    [
        ({"run": "adm", "space": {}}, "tune.run: 'adm' is not under runs (known: adem, "),
        ({"space": {"method.gamma": {"choices": [0.1]}}}, "tune.run: missing"),
        ({"run": "adem"}, "tune.space: empty; name settings"),
        ({"run": "again"}, "tune.run: again has adapter: adem"),
        ({"run": "adem", "trials": 0}, "tune.trials: 0, expected >= 1"),
        ({"run": "adem", "reduction": 1}, "tune.reduction: 1, expected >= 2"),
    ],
)
def test_search_of_no_run_or_of_nothing_is_refused(
    tune: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    assert expected in refused(tmp_path, tune, {"again": {"adapter": "adem"}})


def test_a_search_changes_no_run(tmp_path: Path) -> None:
    space = {"method.gamma": {"low": 0.0, "high": 0.5}}
    raw = {"study": "s", "include": [SMOKE]}
    plain, searched = load_study(raw), load_study(raw | {"tune": {"run": "adem", "space": space}})
    assert plain.runs == searched.runs
