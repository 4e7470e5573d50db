"""Protects what is counted as run, and that seeds are combined and controls found."""

import json
from pathlib import Path

import pytest

from ademvl.config.schema import to_plain
from ademvl.config.study import load_study, read_run, run_to_json, write_settings
from ademvl.errors import DataError
from ademvl.evaluation.statistics import SEEDS_AND_ITEMS
from ademvl.reporting.results import read_results
from tests.reporting.synthetic import SyntheticStudy


def test_nothing_run_is_recorded_as_not_run(synthetic: SyntheticStudy) -> None:
    results = read_results(synthetic.study)
    assert [run.name for run in results.runs] == ["adem", "text_only", "captions"]
    assert [run.state for run in results.runs] == ["not run"] * 3
    assert results.runs[0].estimate("AVG") is None


def test_missing_seed_is_named(synthetic: SyntheticStudy) -> None:
    synthetic.finish_scienceqa("adem", {"AVG": (9, 10)}, seed=1)
    run = read_results(synthetic.study).runs[0]
    assert run.state == "1 of 2 seeds"
    assert [seed.settings.seed for seed in run.finished] == [1]


def test_seeds_are_averaged_and_combined(finished: SyntheticStudy) -> None:
    estimate = read_results(finished.study).runs[0].estimate("AVG")
    assert estimate is not None
    assert estimate.value == pytest.approx((269 / 300 + 279 / 300) / 2)
    assert (estimate.n, estimate.method) == (300, SEEDS_AND_ITEMS)


def test_column_without_questions_has_no_estimate(finished: SyntheticStudy) -> None:
    assert read_results(finished.study).runs[0].estimate("SOC") is None


def test_caption_scores_have_their_ceiling(finished: SyntheticStudy) -> None:
    (run,) = read_results(finished.study).of_task("coco_caption")
    score, ceiling = run.estimate("BLEU-4"), run.ceiling("BLEU-4")
    assert score is not None
    assert ceiling is not None
    assert ceiling.value - score.value == pytest.approx(0.05)


def test_run_made_with_other_settings_is_stale(finished: SyntheticStudy) -> None:
    finished.raw["runs"]["text_only"]["optimization"] = {"epochs": 3.0}
    run = read_results(finished.study).runs[1]
    assert run.state == "stale"
    assert run.estimate("AVG") is None


def test_scores_from_before_a_change_of_settings_are_stale(finished: SyntheticStudy) -> None:
    folder = finished.run_dir("text_only")
    path = folder / "scores" / "scienceqa.json"
    settings = to_plain(read_run(folder))
    settings["method"]["gamma"] = 0.5
    path.write_text(json.dumps({**json.loads(path.read_text()), "header": {"settings": settings}}))
    assert read_results(finished.study).runs[1].state == "stale"


def test_cost_and_curve_are_read(finished: SyntheticStudy) -> None:
    seed = read_results(finished.study).runs[0].seeds[0]
    assert (seed.cost.train_seconds, seed.cost.peak_memory_mib) == (61.5, 900.0)
    assert seed.cost.trainable_parameters == 123456
    assert [row.step for row in seed.learning_curve()] == list(range(10, 210, 10))


def test_control_withholds_images_and_has_none_itself(finished: SyntheticStudy) -> None:
    results = read_results(finished.study)
    adem, text_only, captions = results.runs
    assert results.control_of(adem) is text_only
    assert results.control_of(text_only) is None
    assert results.control_of(captions) is None


@pytest.mark.parametrize("content", ["[]", "{", '{"columns": {"AVG": {"n": 3}}}'])
def test_malformed_scores_are_refused(synthetic: SyntheticStudy, content: str) -> None:
    folder = synthetic.finish_scienceqa("text_only", {"AVG": (1, 2)})
    path = folder / "scores" / "scienceqa.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"scienceqa\.json"):
        read_results(synthetic.study)


def test_provenance_may_be_absent(finished: SyntheticStudy) -> None:
    (finished.run_dir("text_only") / "provenance.json").unlink()
    run = read_results(finished.study).runs[1]
    assert run.state == "finished"
    assert run.seeds[0].cost.train_seconds is None


def test_zero_n_reads_as_no_items(synthetic: SyntheticStudy) -> None:
    folder = synthetic.finish_scienceqa("text_only", {"AVG": (1, 2)})
    path = folder / "scores" / "scienceqa.json"
    scores = json.loads(path.read_text())
    scores["columns"]["NAT"] = {"n": 0, "percent": None}
    path.write_text(json.dumps(scores))
    assert read_results(synthetic.study).runs[1].estimate("NAT") is None


def test_sums_of_mme_are_read_in_hundredths_of_points(tmp_path: Path) -> None:
    raw = {
        "study": "instructions",
        "results_dir": str(tmp_path),
        "datasets": {"lavin": {"source": "lavin_instruct"}, "mme": {"source": "mme"}},
        "runs": {"adem": {"task": "instruction", "dataset": "lavin", "evaluation_dataset": "mme"}},
    }
    study = load_study(raw)
    (settings,) = study.runs
    folder = study.run_dir(settings)
    write_settings(folder / "run.yaml", run_to_json(settings))
    perception = {"n": 2054, "score": 966.2, "ci_low": 930.0, "ci_high": 1001.0, "method": "b"}
    (folder / "scores").mkdir()
    scores = {"sums": {"perception": perception, "cognition": None}}
    (folder / "scores" / "mme.json").write_text(json.dumps(scores), encoding="utf-8")
    (run,) = read_results(study).of_task("instruction")
    estimate = run.estimate("MME-P")
    assert estimate is not None
    assert (100 * estimate.value, estimate.n) == (pytest.approx(966.2), 2054)
    assert run.estimate("MME-C") is None


def test_training_by_another_version_is_stale(finished: SyntheticStudy) -> None:
    path = finished.run_dir("text_only") / "provenance.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"train_version": content["train_version"] - 1}))
    assert read_results(finished.study).runs[1].state == "stale"


def test_metrics_of_another_version_are_stale(finished: SyntheticStudy) -> None:
    path = finished.run_dir("text_only") / "metrics.csv"
    path.write_text("step,loss\n1,2.0\n")
    assert read_results(finished.study).runs[1].state == "stale"


def test_scores_of_another_version_are_stale(finished: SyntheticStudy) -> None:
    path = finished.run_dir("text_only") / "scores" / "scienceqa.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"header": {"version": 0}}))
    assert read_results(finished.study).runs[1].state == "stale"


def test_training_without_scores_is_unfinished(finished: SyntheticStudy) -> None:
    (finished.run_dir("text_only") / "scores" / "scienceqa.json").unlink()
    assert read_results(finished.study).runs[1].state == "unfinished"


def test_taken_adapter_cost_nothing_more(finished: SyntheticStudy) -> None:
    path = finished.run_dir("text_only") / "provenance.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "adapter_of": "adem"}))
    cost = read_results(finished.study).runs[1].seeds[0].cost
    assert (cost.train_seconds, cost.trainable_parameters) == (None, 123456)
