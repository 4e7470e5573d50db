"""Protects what the process that trained predicts: the same files, bound to adapter and questions.

The process that evaluates afterwards neither loads a model nor imports torch.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ademvl.cli import main
from ademvl.config.evaluation import EvaluationSettings
from ademvl.config.run import BackboneSettings, FeatureSettings
from ademvl.evaluation import asking, prediction_loop
from ademvl.evaluation.run import evaluate_run
from ademvl.methods.lora.settings import LoraSettings
from ademvl.training.run import train_run
from tests import tiny

PREDICTIONS, SCORES = Path("predictions/scienceqa.jsonl"), Path("scores/scienceqa.json")
PARTIAL = Path("predictions/scienceqa.partial.jsonl")
WITHOUT_TORCH = """
import sys
from ademvl.cli import main

code = main(sys.argv[1:])
sys.exit(code or int("torch" in sys.modules or "transformers" in sys.modules))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    tiny.make_run(folder)
    return folder


@pytest.fixture
def write(world, tmp_path):
    """Write the settings of a run that is trained for two steps."""

    def build(mode="cached", **changes):
        features = FeatureSettings(mode=mode, precision="fp32", cache_dir=str(world / "features"))
        defaults = {"epochs": 1.0, "features": features}
        run = tiny.make_run(world, **{**defaults, **changes})
        return tiny.write_run(tmp_path / "run", run)

    return build


def _train(run_dir):
    assert main(["train", str(run_dir), "--threads", "1", "--gpus", "0"]) == 0
    return run_dir


def _results(run_dir):
    names = [*run_dir.glob("predictions/*"), *run_dir.glob("scores/*")]
    return {
        path.relative_to(run_dir): path.read_bytes()
        for path in names
        if not path.name.endswith(".speed.json")  # measured
    }


def _evaluate_alone(run_dir):
    """Return what an evaluation makes that finds nothing but the adapter."""
    for name in ("predictions", "scores"):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    evaluate_run(run_dir, threads=1, progress=False)
    return _results(run_dir)


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "cached"},
        {"mode": "online"},
        {"images": "withheld"},
        {"gradient_checkpointing": True},
        {"method": LoraSettings(rank=2)},
        {"evaluation": EvaluationSettings(answer_by="likelihood")},
    ],
    ids=["cached", "online", "withheld", "checkpointing", "lora", "likelihood"],
)
def test_evaluation_after_training_gives_the_same_files_without_torch(write, changes):
    run_dir = _train(write(**changes))
    assert not (run_dir / PREDICTIONS).exists()  # the rule `evaluate_run` declares it
    command = [sys.executable, "-c", WITHOUT_TORCH, "evaluate", str(run_dir), "--threads", "1"]
    subprocess.run(command, check=True, timeout=120)
    made = _results(run_dir)
    assert {PREDICTIONS, SCORES} < set(made)
    assert made == _evaluate_alone(run_dir)


def test_rows_of_another_adapter_are_predicted_again(write, monkeypatch):
    run_dir = _train(write())
    assert (run_dir / PARTIAL).is_file()
    tiny.set_weights(run_dir, 0.5)
    loaded = []
    real = prediction_loop.load_adapter
    monkeypatch.setattr(
        prediction_loop, "load_adapter", lambda *given: (loaded.append(given), real(*given))
    )
    evaluate_run(run_dir, progress=False)
    assert loaded
    assert not (run_dir / PARTIAL).exists()
    header = json.loads((run_dir / "predictions/scienceqa.header.json").read_text())
    adapter = json.loads((run_dir / "adapter/adapter.json").read_text())
    assert header["adapter_sha256"] == adapter["sha256"]


@pytest.mark.parametrize("edited", ["questions", "rows"])
def test_rows_that_do_not_belong_are_predicted_again(write, world, tmp_path, edited, caplog):
    data = shutil.copytree(world / "data/scienceqa", tmp_path / "data")
    run_dir = _train(write(data_dir=str(data)))
    if edited == "questions":
        path, old, new = data / "problems.json", "What color is", "Which color has"
    else:
        path, old, new = run_dir / PARTIAL, '"predicted_index": ', '"predicted_index": 1'
    path.write_text(path.read_text().replace(old, new))
    evaluate_run(run_dir, progress=False)
    made = _results(run_dir)
    assert made == _evaluate_alone(run_dir)
    assert ("changed since it was made" in caplog.text) == (edited == "rows")


def test_what_fails_ahead_is_left_to_evaluate(write, tmp_path, caplog):
    run_dir = _train(write(data_dir=str(tiny.make_scienceqa(tmp_path / "data", num_test=0))))
    assert "left to `ademvl evaluate`" in caplog.text
    assert not (run_dir / "predictions").exists()
    assert main(["evaluate", str(run_dir), "--gpus", "0"]) == 2


def test_killed_while_it_answers_the_training_is_complete(write, monkeypatch):
    run_dir = write(evaluation=EvaluationSettings(batch_size=1))
    real, asked = asking.answer_batch, []

    def answer(model, tokenizer, batch, *others, **options):
        asked.append(batch.item_ids)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(model, tokenizer, batch, *others, **options)

    monkeypatch.setattr(asking, "answer_batch", answer)
    arguments = [str(run_dir), "--threads", "1", "--gpus", "0"]
    assert main(["train", *arguments]) == 130
    monkeypatch.setattr("ademvl.training.run.build_trainer", None)
    assert main(["train", *arguments]) == 0
    assert main(["evaluate", *arguments]) == 0
    assert len(asked) == 3 + 2  # of four questions two were answered before
    made = _results(run_dir)
    assert made == _evaluate_alone(run_dir)


def test_what_training_took_is_written_before_and_stays(write):
    run_dir, seen = write(), []

    def used(run, folder, model):
        assert (run.name, folder, model.training) == ("adem", run_dir, True)
        seen.append((run_dir / "provenance.json").read_bytes())

    assert train_run(run_dir, progress=False, on_trained=used) == 0
    assert seen == [(run_dir / "provenance.json").read_bytes()]
    assert train_run(run_dir, progress=False, on_trained=used) == 0
    assert len(seen) == 1  # nothing was loaded by the second call


def test_several_processes_leave_evaluation_to_its_own(write, world):
    # Processes of their own know open_clip's architectures and the mini tower alone.
    backbones = BackboneSettings(llm=str(world / "llm"), tower="mini")
    run_dir = write(per_device_batch_size=2, images="withheld", backbones=backbones)
    code = main(["train", str(run_dir), "--threads", "2", "--gpus", "0", "--processes", "2"])
    assert code == 0
    assert not (run_dir / "predictions").exists()
