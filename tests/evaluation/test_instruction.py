"""Protects task instruction end to end: trained on instructions, evaluated on MME."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ademvl.cli import main
from ademvl.config.evaluation import EvaluationSettings
from ademvl.config.run import FeatureSettings, RunSettings
from ademvl.evaluation.comparison.compare import compare
from ademvl.evaluation.comparison.item_scores import read_item_scores
from ademvl.evaluation.comparison.text import render
from ademvl.evaluation.others_formats import write_predictions
from ademvl.evaluation.predictions import PredictionLog
from ademvl.vision.features.whole import run_images
from tests import tiny


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    tiny.make_instructions(folder / "data" / "lavin" / "instruction")
    tiny.make_mme(folder / "data" / "mme" / "mme")
    return folder


def make_run(world: Path, *, mode: str) -> RunSettings:
    run = tiny.make_run(
        world,
        task="instruction",
        data_dir=str(world / "data" / "lavin" / "instruction"),
        evaluation_data_dir=str(world / "data" / "mme" / "mme"),
        features=FeatureSettings(mode=mode, precision="fp32", cache_dir=str(world / "features")),
        epochs=1.0,
    )
    evaluation = EvaluationSettings(batch_size=5, max_new_tokens=4)
    return dataclasses.replace(run, evaluation=evaluation)


@pytest.fixture(scope="module", params=["cached", "online"])
def evaluated(request: pytest.FixtureRequest, world: Path) -> Path:
    """Directory of a run that `ademvl train` and `ademvl evaluate` have finished."""
    run_dir = tiny.write_run(world / "runs" / request.param, make_run(world, mode=request.param))
    for verb in ("train", "evaluate"):
        assert main([verb, str(run_dir), "--threads", "1"]) == 0
    return run_dir


def test_every_question_has_an_answer_and_scores_have_intervals(evaluated: Path) -> None:
    lines = (evaluated / "predictions" / "mme.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows[:2]] == ["color/blue.png/0", "color/blue.png/1"]
    scores = json.loads((evaluated / "scores" / "mme.json").read_text(encoding="utf-8"))
    assert scores["n"] == len(rows) == 12
    assert scores["sums"] == {"perception": None, "cognition": None}
    color = scores["tasks"]["color"]
    assert color["n"] == 6
    assert color["ci_low"] <= color["score"] <= color["ci_high"]
    assert scores["settings"]["max_new_tokens"] == 4
    assert scores["run"] == "adem"


def test_second_evaluation_predicts_nothing_and_answer_files_come_from_the_first(
    evaluated: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PredictionLog, "filling", None)
    assert main(["evaluate", str(evaluated)]) == 0
    benchmark, answers = world / "data" / "mme" / "mme", tmp_path / "answers"
    arguments = ["--benchmark", benchmark, "--answers", answers]
    assert main(["evaluate-mme", str(evaluated), *map(str, arguments)]) == 0
    assert sorted(path.name for path in answers.iterdir()) == ["color.txt", "landmark.txt"]
    assert list(tmp_path.iterdir()) == [answers]


def test_answers_of_other_settings_leave_the_evaluation_as_it_is(
    evaluated: Path, world: Path, tmp_path: Path
) -> None:
    kept = {path: path.read_bytes() for path in evaluated.rglob("*.json*")}
    benchmark, answers = world / "data" / "mme" / "mme", tmp_path / "answers"
    arguments = ["--benchmark", benchmark, "--answers", answers, "--max-new-tokens", 2]
    assert main(["evaluate-mme", str(evaluated), *map(str, arguments)]) == 0
    assert (tmp_path / "answers.predictions" / "mme.jsonl").is_file()
    assert {path: path.read_bytes() for path in evaluated.rglob("*.json*")} == kept


def test_features_are_those_of_both_data_sets(world: Path) -> None:
    images = run_images(make_run(world, mode="cached"))
    folders = {path.relative_to(world / "data").parts[0] for path in images}
    assert folders == {"lavin", "mme"}
    assert len(images) == 8 + 6


def test_changed_question_is_asked_anew(world: Path, tmp_path: Path) -> None:
    benchmark = tiny.make_mme(tmp_path / "mme")
    run = dataclasses.replace(make_run(world, mode="cached"), evaluation_data_dir=str(benchmark))
    run_dir = tiny.write_run(tmp_path / "run", run)
    for verb in ("train", "evaluate"):
        assert main([verb, str(run_dir), "--threads", "1"]) == 0
    before = json.loads((run_dir / "scores" / "mme.json").read_text(encoding="utf-8"))
    gold = "Is the square red?\tNo\nIs the square gray?\tNo\n"
    (benchmark / "color" / "red.txt").write_text(gold, encoding="utf-8")
    assert main(["evaluate", str(run_dir), "--threads", "1"]) == 0
    after = json.loads((run_dir / "scores" / "mme.json").read_text(encoding="utf-8"))
    assert after["header"]["data"] != before["header"]["data"]


def test_question_of_ones_own_is_asked_as_the_benchmark_asks(
    evaluated: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = world / "data" / "mme" / "mme" / "color" / "red.png"
    requests = tmp_path / "requests.jsonl"
    requests.write_text(json.dumps({"image": str(image), "question": "Is the square red?"}))
    assert main(["predict", str(evaluated), "--jsonl", str(requests)]) == 0
    said = json.loads(capsys.readouterr().out)["text"]
    lines = (evaluated / "predictions" / "mme.jsonl").read_text(encoding="utf-8").splitlines()
    answers = {row["id"]: row["text"] for row in map(json.loads, lines)}
    assert said == answers["color/red.png/4"]


def test_answers_are_compared_like_those_to_other_questions(evaluated: Path) -> None:
    found = compare(evaluated, evaluated)
    assert list(found.scores) == ["MME-P", "MME-C", "accuracy", "accuracy+"]
    assert found.differences[found.main].value == 0
    assert found.differences[found.main].n == 6  # images
    assert "images with these seeds" in render(replace(found, to_see=0.1))
    items = read_item_scores([evaluated])
    scores = json.loads((evaluated / "scores" / "mme.json").read_text(encoding="utf-8"))
    points = sum(task["score"] for task in scores["tasks"].values())
    assert 100 * items.score(evaluated.name) == pytest.approx(points)


def test_a_file_of_answers_is_compared_by_the_benchmark_that_it_answers(
    evaluated: Path, world: Path, tmp_path: Path
) -> None:
    file = tmp_path / "answers.jsonl"
    assert write_predictions(evaluated, file) == 12
    found = compare(file, evaluated, data_dir=world / "data" / "mme" / "mme")
    assert found.differences["accuracy"].value == 0
