"""Protects which runs of a study show the effect of one setting, and of which."""

from typing import Any

import pytest
import yaml

from ademvl.config.factors import one_factor_runs
from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from tests.conftest import PROJECT_ROOT


@pytest.fixture
def raw() -> dict[str, Any]:
    raw = yaml.safe_load((PROJECT_ROOT / "config.yaml").read_text(encoding="utf-8"))
    return raw | {"base_runs": ["adem", "captions"]}


def found(raw: dict[str, Any]) -> dict[str, str]:
    return {
        factor.run: f"{factor.base}, {factor.label}" for factor in one_factor_runs(load_study(raw))
    }


def test_runs_that_differ_in_one_setting_are_found_whatever_their_label_and_seeds(
    raw: dict[str, Any],
) -> None:
    assert found(raw) == {
        "adem_online": "adem, features.mode: cached -> online",
        "text_only": "adem, images: shown -> withheld",
        "no_adaptive_fusion": "adem, method.gamma: 0.1 -> 0.0",
    }


def test_run_that_differs_in_two_settings_is_no_factor(raw: dict[str, Any]) -> None:
    raw["runs"]["no_adaptive_fusion"]["method"]["alpha"] = 0.2
    assert "no_adaptive_fusion" not in found(raw)


def test_nested_settings_and_lists_count_as_one(raw: dict[str, Any]) -> None:
    raw["runs"]["dim"] = {"method": {"clip_adapter": {"dim": 4}}}
    raw["runs"]["scales"] = {"method": {"scales": [64]}}
    assert found(raw)["dim"] == "adem, method.clip_adapter.dim: 12 -> 4"
    assert found(raw)["scales"] == "adem, method.scales: [64, 16] -> [64]"


def test_run_belongs_to_the_base_that_it_is_close_to(raw: dict[str, Any]) -> None:
    raw["runs"]["short"] = {**raw["runs"]["captions"], "evaluation": {"max_new_tokens": 10}}
    assert found(raw)["short"] == "captions, evaluation.max_new_tokens: 20 -> 10"


def test_other_items_are_no_factor(raw: dict[str, Any]) -> None:
    raw["runs"]["val"] = {"evaluation": {"split": "val"}}
    assert not {"captions", "val"} & found(raw).keys()


def test_evaluating_another_runs_adapter_is_no_factor_itself(raw: dict[str, Any]) -> None:
    raw["runs"]["letter"] = {"adapter": "adem", "evaluation": {"answer_by": "letter"}}
    assert found(raw)["letter"] == "adem, evaluation.answer_by: greedy -> letter"


def test_without_base_runs_there_are_no_factors(raw: dict[str, Any]) -> None:
    raw["base_runs"] = []
    assert found(raw) == {}


def test_base_run_that_is_no_run_is_refused(raw: dict[str, Any]) -> None:
    raw["base_runs"] = ["adam"]
    with pytest.raises(SettingsError, match=r"base_runs\.0: 'adam' is not under runs"):
        load_study(raw)


def test_a_tower_with_its_weights_pixels_and_grid_is_one_setting(raw: dict[str, Any]) -> None:
    tower = {"tower": "ViT-B-16", "tower_weights": "laion2b_s34b_b88k"}
    pixels = {"normalization": "clip"}
    raw["runs"]["tower"] = {
        "backbones": tower,
        "features": pixels,
        "method": {"scales": [196, 49]},
    }
    raw["runs"]["two"] = {"backbones": tower, "method": {"gamma": 0.0}}
    raw["runs"]["pixels"] = {"features": pixels}
    assert found(raw)["tower"] == "adem, backbones.tower: mini -> ViT-B-16"
    assert found(raw)["pixels"] == "adem, features.normalization: by_task -> clip"
    assert "two" not in found(raw)
