"""Protects the effect of one setting: which runs are compared, on which seeds, and what is said."""

from pathlib import Path

import pytest

from ademvl.cli import main
from ademvl.config.factors import one_factor_runs
from ademvl.config.study import load_study
from ademvl.reporting.effects import Effect, effects_table, measure_effects
from ademvl.reporting.results import read_results
from tests.bundle.finished import FinishedStudy, usual


@pytest.fixture
def study(tmp_path: Path) -> FinishedStudy:
    study = FinishedStudy(tmp_path, base_runs=["adem"])
    study.raw["runs"]["not_run"] = {"method": {"alpha": 0.5}}
    study.finish(only=("adem", "other"))
    return study


def _effects(study: FinishedStudy) -> list[Effect]:
    loaded = load_study(study.raw)
    return measure_effects(read_results(loaded), one_factor_runs(loaded))


def test_effect_is_of_the_seeds_that_both_have(study: FinishedStudy) -> None:
    def worse(place: int, right: int, seed: int) -> int:
        return 1 - right if place % 10 == 1 else usual(place, right, seed)

    study.finish(only=("other",), predict=worse)
    effect, missing = _effects(study)
    assert effect.factor.label == "method.gamma: 0.1 -> 0.0"
    assert effect.difference is not None
    assert effect.difference.num_seeds == (1, 1)
    # At places 1, 11, 21, ... `usual` of seed 0 is right.
    assert effect.difference.value == pytest.approx(-6 / 60)
    assert effect.value - effect.base_value == pytest.approx(-6 / 60)
    assert effect.same_fraction == pytest.approx(54 / 60)
    assert missing.factor.run == "not_run"
    assert missing.difference is None
    assert missing.state == "not run"


def test_run_of_other_settings_than_the_study_has_now_is_not_measured(study: FinishedStudy) -> None:
    study.raw["runs"]["other"]["method"]["gamma"] = 0.2
    effect, _ = _effects(study)
    assert (effect.difference, effect.state) == (None, "stale")


def test_seeds_that_the_study_does_not_have_are_left_out(study: FinishedStudy) -> None:
    for run, base_lr in (("adem", 0.77), ("other", 0.009)):
        study.raw["runs"][run]["seeds"] = [0, 7]
        study.raw["runs"][run]["optimization"] = {"base_lr": base_lr}
    left_over = study.finish(only=("adem", "other")) / "runs"
    for run in ("adem", "other"):
        study.raw["runs"][run] |= {"seeds": [0], "optimization": {}}
    study.finish(only=("adem", "other"))
    assert (left_over / "adem/seed7/scores/scienceqa.json").is_file()
    effect, _ = _effects(study)
    assert effect.difference is not None
    assert effect.difference.num_seeds == (1, 1)


def test_table_has_a_row_for_each_effect(study: FinishedStudy) -> None:
    table = effects_table(_effects(study)).splitlines()
    assert table[2] == (
        "| `method.gamma`: 0.1 -> 0.0 | adem | 75.00 | 75.00 | +0.00 (-6.02, +6.02)† "
        "| cannot tell, one seed | not known | 100.0 % | 60 | 1 |"
    )
    assert table[3] == "| `method.alpha`: 0.1 -> 0.5 | adem | – | – | – | – | – | – | – | – |"


def test_command_line_prints_effects_and_refuses_studies_without_base_runs(
    study: FinishedStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study.root / "results/tiny/study.yaml"
    assert main(["effects", str(path)]) == 0
    printed = capsys.readouterr()
    assert "`method.gamma`" in printed.out
    assert "but no other training" in printed.err
    path.write_text(path.read_text().replace("base_runs:\n- adem\n", ""))
    assert main(["effects", str(path)]) == 2
