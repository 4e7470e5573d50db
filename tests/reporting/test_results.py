"""Protects what is counted as run, and that seeds are combined and controls found."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from ademvl.config.settings_files import read_run, run_to_json, write_settings
from ademvl.config.study import load_study
from ademvl.errors import DataError, TrainingError
from ademvl.reporting.reported import load_reported
from ademvl.reporting.results import read_results
from ademvl.reporting.summary import main_table
from ademvl.reporting.tables.rows import gap_notes
from ademvl.runs.failures import noted_failure
from ademvl.runs.identity import evaluation_settings
from ademvl.runs.versions import RESULT_VERSIONS
from ademvl.statistics.intervals import ITEMS_ONLY
from ademvl.statistics.seed_spread import Spread
from tests.reporting.synthetic import (
    SyntheticStudy,
    header_of,
    trained_with,
    write_adapter_json,
    write_sealed,
)
from tests.tiny import make_scienceqa

REPORTED_DIR = Path(__file__).resolve().parents[2] / "workflow" / "reported"


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
    # Two seeds, and a control with one: nobody knows how much trainings of this study scatter.
    assert (estimate.n, estimate.method) == (300, ITEMS_ONLY)


def test_spread_is_pooled_over_other_rows_of_the_kind_and_adapters_once(
    synthetic: SyntheticStudy,
) -> None:
    runs = synthetic.raw["runs"]
    runs["again"] = {"adapter": "adem", "evaluation": {"answer_by": "likelihood"}}
    runs["text_only"]["seeds"] = [0, 1, 2]
    runs["one"] = {"label": "one seed"}
    for seed, right in enumerate((260, 270, 280)):
        synthetic.finish_scienceqa("text_only", {"AVG": (right, 300)}, seed=seed)
    for seed, right in enumerate((200, 230)):
        synthetic.finish_scienceqa("adem", {"AVG": (right, 300)}, seed=seed)
        synthetic.finish_scienceqa("again", {"AVG": (right - 50, 300)}, seed=seed)
    synthetic.finish_scienceqa("one", {"AVG": (250, 300)})
    found = {run.name: run.others.get("AVG") for run in read_results(synthetic.study).runs}
    # Variances 1/900 with 2 degrees of freedom and 1/200 with 1.
    control = Spread(variance=pytest.approx(1 / 900), degrees=2)
    assert found["adem"] == found["again"] == control
    assert found["text_only"] == Spread(variance=pytest.approx(1 / 200), degrees=1)
    assert found["one"] == Spread(variance=pytest.approx((2 / 900 + 1 / 200) / 3), degrees=3)
    assert found["captions"] is None


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


def _change(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def _change_header(run_dir: Path, **changes: Any) -> None:
    path = run_dir / "scores" / "scienceqa.json"
    _change(path, header={**json.loads(path.read_text())["header"], **changes})


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [("method", "gamma", 0.5), ("evaluation", "split", "val"), ("features", "mode", "online")],
)
def test_scores_from_before_a_change_of_settings_are_stale(
    finished: SyntheticStudy, part: str, key: str, value: object
) -> None:
    folder = finished.run_dir("text_only")
    settings = evaluation_settings(read_run(folder))
    _change_header(folder, settings={**settings, part: {**settings[part], key: value}})
    assert read_results(finished.study).runs[1].state == "stale"


def test_training_with_settings_from_before_run_yaml_was_rewritten_is_stale(
    finished: SyntheticStudy,
) -> None:
    finished.raw["runs"]["text_only"]["optimization"] = {"base_lr": 0.0001}
    finished.run_dir("text_only")
    assert read_results(finished.study).runs[1].state == "stale"


@pytest.mark.parametrize("name", ["adapter/adapter.json", "provenance.json"])
def test_old_scores_do_not_count_while_the_run_trains_again(
    finished: SyntheticStudy, name: str
) -> None:
    (finished.run_dir("text_only") / name).unlink()
    run = read_results(finished.study).runs[1]
    assert (run.state, run.estimate("AVG")) == ("unfinished", None)


def test_adapter_that_was_not_evaluated_yet_is_unfinished(finished: SyntheticStudy) -> None:
    _change(finished.run_dir("text_only") / "adapter" / "adapter.json", sha256="other")
    assert read_results(finished.study).runs[1].state == "unfinished"


def test_taken_adapter_is_that_which_its_owner_has_now(finished: SyntheticStudy) -> None:
    finished.raw["runs"]["again"] = {"adapter": "adem", "evaluation": {"answer_by": "letter"}}
    finished.finish_scienceqa("again", {"AVG": (9, 10)})
    finished.finish_scienceqa("again", {"AVG": (9, 10)}, seed=1)
    assert read_results(finished.study).runs[3].state == "finished"
    _change(finished.run_dir("adem") / "adapter" / "adapter.json", sha256="other")
    assert read_results(finished.study).runs[3].state == "1 of 2 seeds"


def _claim(folder: Path, **claim: object) -> None:
    training = {"study": "tiny", "run": "other", "seed": 0, "identity_sha256": "0" * 64, **claim}
    _change(folder / "adapter" / "adapter.json", training=training)


def test_adapter_of_another_training_is_stale_with_its_name(finished: SyntheticStudy) -> None:
    folder = finished.run_dir("text_only")
    own = json.loads((folder / "provenance.json").read_text())["identity_sha256"]
    _claim(folder, identity_sha256=own)
    assert read_results(finished.study).runs[1].state == "finished"
    _claim(folder)
    run = read_results(finished.study).runs[1]
    assert (run.state, run.estimate("AVG")) == ("stale", None)
    assert run.seeds[0].reason == "its adapter is of another training (tiny/other, seed 0)"


def test_two_seeds_with_one_adapter_count_once(finished: SyntheticStudy) -> None:
    folder = finished.run_dir("adem", 1)
    adapter = json.loads((finished.run_dir("adem") / "adapter" / "adapter.json").read_text())
    _change(folder / "adapter" / "adapter.json", **adapter)
    _change_header(folder, adapter_sha256=adapter["sha256"])
    run = read_results(finished.study).runs[0]
    assert run.state == "1 of 2 seeds"
    assert run.seeds[1].reason == "scored with the same adapter as seed 0"
    sentence = "Left out, scored with the same adapter as seed 0: seed 1."
    assert sentence in list(gap_notes(run))
    printed = main_table(read_results(finished.study), load_reported(REPORTED_DIR))
    assert sentence in " ".join(printed.split())


def test_copied_seed_is_stale(finished: SyntheticStudy) -> None:
    first, second = finished.run_dir("adem"), finished.run_dir("adem", 1)
    shutil.rmtree(second)
    shutil.copytree(first, second)
    assert read_results(finished.study).runs[0].state == "1 of 2 seeds"


def test_failure_wins_over_scores_from_before(finished: SyntheticStudy) -> None:
    folder = finished.run_dir("text_only")
    with pytest.raises(TrainingError), noted_failure(folder, "train"):
        raise TrainingError("loss is not finite")
    run = read_results(finished.study).runs[1]
    assert (run.state, run.estimate("AVG")) == ("failed", None)
    with noted_failure(folder, "train"):
        pass
    assert read_results(finished.study).runs[1].state == "finished"


def test_of_seeds_scored_on_different_data_those_on_the_present_count(tmp_path: Path) -> None:
    study = SyntheticStudy(tmp_path)
    data = tmp_path / "shared/data/shapes/scienceqa"
    make_scienceqa(data)
    study.finish_scienceqa("adem", {"AVG": (9, 10)}, seed=0)
    problems = json.loads((data / "problems.json").read_text())
    for problem in problems.values():
        problem["answer"] = 1 - problem["answer"]
    (data / "problems.json").write_text(json.dumps(problems))
    study.finish_scienceqa("adem", {"AVG": (8, 10)}, seed=1)
    first, second = read_results(study.study).runs[0].seeds
    assert (first.state, second.state) == ("stale", "finished")
    assert first.reason == "scored on other answers than data set shapes holds now"


@pytest.mark.parametrize("of_other", [{"data": {"texts": "1"}}, {}])
def test_seeds_scored_on_different_items_are_not_averaged(
    synthetic: SyntheticStudy, of_other: dict[str, Any]
) -> None:
    first = synthetic.finish_scienceqa("adem", {"AVG": (90, 120)}, seed=0)
    _change_header(first, data={"texts": "0"})
    folder = synthetic.finish_scienceqa("adem", {"AVG": (90, 120 if of_other else 130)}, seed=1)
    _change_header(folder, **of_other)
    run = read_results(synthetic.study).runs[0]
    assert [seed.state for seed in run.seeds] == ["finished", "stale"]
    estimate = run.estimate("AVG")
    assert estimate is not None
    assert estimate.value == pytest.approx(0.75)


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


_CONTROL_OF_OTHERS = [
    {"evaluation": {"split": "val"}},
    {"evaluation": {"answer_by": "letter"}},
    {"prompts": {"evaluation": "reference"}},
    {"backbones": {"llm": "larger"}},
]


@pytest.mark.parametrize("change", _CONTROL_OF_OTHERS)
def test_control_that_was_asked_otherwise_is_none(
    synthetic: SyntheticStudy, change: dict[str, Any]
) -> None:
    synthetic.raw["runs"]["text_only"].update(change)
    results = read_results(synthetic.study)
    assert results.control_of(results.runs[0]) is None


@pytest.mark.parametrize("content", ["[]", "{"])
def test_malformed_scores_are_refused(finished: SyntheticStudy, content: str) -> None:
    (finished.run_dir("text_only") / "scores" / "scienceqa.json").write_text(content)
    with pytest.raises(DataError, match=r"scienceqa\.json"):
        read_results(finished.study)


@pytest.mark.parametrize(
    "changes",
    [
        {"header": [1]},
        {"columns": [1]},
        {"columns": {"AVG": 1}},
        {"columns": {"AVG": {"n": 3}}},
        {
            "columns": {
                "AVG": {"n": 3, "percent": math.nan, "ci_low": 1, "ci_high": 2, "method": ""}
            }
        },
        {"ceiling": [1]},
    ],
)
def test_malformed_parts_of_scores_are_refused(
    finished: SyntheticStudy, changes: dict[str, Any]
) -> None:
    _change(finished.run_dir("text_only") / "scores" / "scienceqa.json", **changes)
    with pytest.raises(DataError, match=r"scienceqa\.json"):
        read_results(finished.study)


@pytest.mark.parametrize(
    "changes",
    [{"usage": [1]}, {"usage": {"wall_seconds": "x"}}, {"checksums": [1]}, {"hardware": "CPU"}],
)
def test_malformed_provenance_is_refused(finished: SyntheticStudy, changes: dict[str, Any]) -> None:
    _change(finished.run_dir("text_only") / "provenance.json", **changes)
    with pytest.raises(DataError, match=r"provenance\.json"):
        read_results(finished.study)


def test_zero_n_reads_as_no_items(synthetic: SyntheticStudy) -> None:
    folder = synthetic.finish_scienceqa("text_only", {"AVG": (1, 2)})
    path = folder / "scores" / "scienceqa.json"
    scores = json.loads(path.read_text())
    scores["columns"]["NAT"] = {"n": 0, "percent": None}
    write_sealed(path, scores)
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
    write_adapter_json(folder)
    (folder / "provenance.json").write_text(json.dumps(trained_with(settings)))
    perception = {"n": 2054, "score": 966.2, "ci_low": 930.0, "ci_high": 1001.0, "method": "b"}
    sums = {"perception": perception, "cognition": None}
    write_sealed(folder / "scores" / "mme.json", {"header": header_of(settings), "sums": sums})
    (run,) = read_results(study).of_task("instruction")
    estimate = run.estimate("MME-P")
    assert estimate is not None
    assert (100 * estimate.value, estimate.n) == (pytest.approx(966.2), 2054)
    assert run.estimate("MME-C") is None


def test_training_by_another_version_is_stale(
    finished: SyntheticStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RESULT_VERSIONS, "train", RESULT_VERSIONS["train"] + 1)
    assert read_results(finished.study).runs[1].state == "stale"


def test_metrics_of_another_version_are_stale(finished: SyntheticStudy) -> None:
    path = finished.run_dir("text_only") / "metrics.csv"
    path.write_text("step,loss\n1,2.0\n")
    assert read_results(finished.study).runs[1].state == "stale"


def test_scores_of_another_version_are_stale(finished: SyntheticStudy) -> None:
    _change_header(finished.run_dir("text_only"), version=0)
    assert read_results(finished.study).runs[1].state == "stale"


def test_training_without_scores_is_unfinished(finished: SyntheticStudy) -> None:
    (finished.run_dir("text_only") / "scores" / "scienceqa.json").unlink()
    assert read_results(finished.study).runs[1].state == "unfinished"


def test_taken_adapter_cost_nothing_more(finished: SyntheticStudy) -> None:
    path = finished.run_dir("text_only") / "provenance.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "adapter_of": "adem"}))
    cost = read_results(finished.study).runs[1].seeds[0].cost
    assert (cost.train_seconds, cost.trainable_parameters) == (None, 123456)
