"""Protects what is named better, and the run of all that is: named by val, asked the test split."""

from pathlib import Path

import pytest
import yaml

from ademvl.cli import main
from ademvl.config.factors import one_factor_runs
from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from ademvl.reporting.effects import Effect, measure_effects
from ademvl.reporting.improvements import combine, conclusion, winners
from ademvl.reporting.results import read_results
from tests.bundle.finished import FinishedStudy

RUNS = {
    "base": {"label": "base", "method": {"alpha": 0.2}, "reported": []},
    "better": {"method": {"alpha": 0.2, "gamma": 0.3}},
    "best": {"method": {"alpha": 0.2, "gamma": 0.2}},
    "over_best": {"method": {"alpha": 0.2, "gamma": 0.2, "beta": 0.5}},
    "worse": {"method": {"alpha": 0.2, "phi": "relu"}},
    "same": {"method": {"alpha": 0.2, "pool": "max"}},
    "unsure": {"method": {"alpha": 0.2, "drop_by": "magnitude"}},
    "other_lr": {"method": {"alpha": 0.2}, "optimization": {"base_lr": 0.02}},
}
WRONG = {  # of 60 questions, by run; the same for all seeds unless said
    "base": 30,
    "better": 20,
    "best": 10,
    "over_best": 2,
    "worse": 45,
    "same": 30,
    "unsure": 28,
    "other_lr": 15,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedStudy:
    study = FinishedStudy(
        tmp_path_factory.mktemp("improvements"), base_runs=["base", "best"], runs=RUNS
    )
    study.raw["defaults"]["seeds"] = [0, 1, 2]
    for name, wrong in WRONG.items():

        def predict(place: int, right: int, seed: int, wrong: int = wrong) -> int:
            return 1 - right if place < wrong else right

        study.finish(only=(name,), predict=predict)
    return study


@pytest.fixture(scope="module")
def effects(finished: FinishedStudy) -> list[Effect]:
    study = load_study(finished.raw)
    return measure_effects(read_results(study), one_factor_runs(study))


def test_winners_are_seen_to_be_higher(effects: list[Effect]) -> None:
    assert [effect.factor.run for effect in winners(effects)] == [
        "better",
        "best",
        "over_best",
        "other_lr",
    ]


def test_conclusion_names_winners_and_seeds_of_the_undecided(effects: list[Effect]) -> None:
    first, second = conclusion(effects).splitlines()
    assert first == "Higher than the base run: `better`, `best`, `over_best`, `other_lr`."
    assert second.startswith("Undecided, with the seeds of each run that would tell: ")
    assert "`unsure` (more questions)" in second
    assert "`worse`" not in second
    assert conclusion([]).count("none") == 2


def test_combined_run_has_the_best_of_each_setting_over_the_base_run(
    finished: FinishedStudy, effects: list[Effect], tmp_path: Path
) -> None:
    file = finished.root / "mine.yaml"
    file.write_text(yaml.safe_dump(finished.raw), encoding="utf-8")
    study = load_study(file)
    found = combine(study, file, effects, tmp_path / "combined.yaml")
    assert found.results_dir == study.results_dir  # finished trainings are there
    run, base = found.settings.runs["combined"], found.settings.runs["base"]
    assert (run.method.gamma, run.method.beta, run.method.alpha) == (0.2, 0.5, 0.2)  # type: ignore[attr-defined]
    assert run.method.phi == base.method.phi  # type: ignore[attr-defined]
    assert run.optimization.base_lr == 0.02
    assert (run.seeds, run.dataset, run.adapter) == ((0, 1, 2), "squares", "trained")
    assert run.label == "best + over_best + other_lr"
    asked = found.settings.runs["base_on_test"]
    assert (asked.adapter, asked.evaluation.split) == ("base", "test")
    assert run.evaluation.split == "test"
    assert set(study.settings.runs) < set(found.settings.runs)


def test_a_single_winner_is_not_trained_again(
    finished: FinishedStudy, effects: list[Effect], tmp_path: Path
) -> None:
    file = finished.root / "mine.yaml"
    file.write_text(yaml.safe_dump(finished.raw), encoding="utf-8")
    alone = [effect for effect in effects if effect.factor.run in ("better", "worse")]
    found = combine(load_study(file), file, alone, tmp_path / "combined.yaml")
    assert found.settings.runs["combined"].adapter == "better"
    assert found.settings.runs["combined"].method.gamma == 0.3  # type: ignore[attr-defined]


def test_nothing_to_combine_and_taken_names_are_refused(
    finished: FinishedStudy, effects: list[Effect], tmp_path: Path
) -> None:
    study, output = load_study(finished.raw), tmp_path / "combined.yaml"
    worse = [effect for effect in effects if effect.factor.run == "worse"]
    with pytest.raises(SettingsError, match="nothing is seen to be higher than base"):
        combine(study, Path("mine.yaml"), worse, output)
    finished_runs = finished.raw["runs"] | {"combined": {"method": {"alpha": 0.9}}}
    named = load_study(finished.raw | {"runs": finished_runs})
    with pytest.raises(SettingsError, match="has a run combined already"):
        combine(named, Path("mine.yaml"), effects, output)
    assert not output.exists()


def test_command_line_names_winners_and_writes_the_study(
    finished: FinishedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = finished.root / "results/tiny/study.yaml"
    assert main(["effects", str(file), "--combine", str(tmp_path / "combined.yaml")]) == 0
    printed = capsys.readouterr()
    assert "\n\nHigher than the base run: `better`, " in printed.out
    assert "combined.yaml: written, with run combined" in printed.err
    assert "combined" in load_study(tmp_path / "combined.yaml").settings.runs
    assert main(["effects", str(file), "--combine", str(file)]) == 2
