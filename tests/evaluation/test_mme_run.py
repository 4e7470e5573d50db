"""Protects the MME runner: a trained run's answers in the official form, resumed, strict."""

import dataclasses
import json

import pytest
from PIL import Image

from ademvl.cli import main
from ademvl.config.evaluation import EvaluationSettings
from ademvl.errors import DataError, SettingsError
from ademvl.evaluation.mme_run import answer_benchmark
from ademvl.evaluation.predictions import PredictionLog
from ademvl.model.adapter_file import save_adapter
from ademvl.model.build import build_model
from ademvl.tasks.mme.reader import load_answers
from tests.tiny import make_run, set_weights, write_run

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "gray": (128, 128, 128)}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("base")


@pytest.fixture
def make(base, tmp_path):
    """Write a run with a random adapter."""

    def build(name="run", *, batch_size=4, **changes):
        run = dataclasses.replace(
            make_run(base, **changes), evaluation=EvaluationSettings(batch_size=batch_size)
        )
        run_dir = write_run(tmp_path / "runs" / name, run)
        model = build_model(run)
        model.initialize(1)
        save_adapter(run_dir / "adapter", model, run)
        return run_dir

    return build


def test_answers_of_a_diverged_adapter_are_refused(make, benchmark, tmp_path, capsys):
    run_dir = make()
    set_weights(run_dir, 1e38)
    arguments = [run_dir, "--benchmark", benchmark, "--answers", tmp_path / "answers"]
    assert main(["evaluate-mme", *map(str, arguments)]) == 2
    assert "logits of a next token are not finite" in capsys.readouterr().err
    assert not (tmp_path / "answers").exists()


@pytest.fixture
def benchmark(tmp_path):
    """One task flat, one with its images apart, as in the published folder."""
    root = tmp_path / "MME"
    for task, texts, images in (
        ("color", "", ""),
        ("landmark", "questions_answers_YN", "images"),
    ):
        for name, rgb in COLORS.items():
            text, image = root / task / texts / f"{name}.txt", root / task / images / f"{name}.png"
            for path in (text, image):
                path.parent.mkdir(parents=True, exist_ok=True)
            questions = f"Is the square {name}?\tYes\nIs the square blue?\tNo\n"
            text.write_text(questions, encoding="utf-8")
            Image.new("RGB", (8, 8), rgb).save(image)
    return root


def _read(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_answers_are_written_in_the_official_form_and_scored(make, benchmark, tmp_path, capsys):
    output = tmp_path / "scores.json"
    arguments = [make(), "--benchmark", benchmark, "--answers", tmp_path / "answers"]
    arguments += ["--output", output, "--max-new-tokens", 3]
    assert main(["evaluate-mme", *map(str, arguments)]) == 0
    answers = load_answers(tmp_path / "answers" / "landmark.txt")
    assert [(row.image, row.gold) for row in answers] == [
        (f"{name}.png", gold) for name in sorted(COLORS) for gold in ("Yes", "No")
    ]
    assert answers[0].question == "Is the square gray?"
    scores = json.loads(output.read_text(encoding="utf-8"))
    assert scores["n"] == 12
    assert scores["sums"] == {"perception": None, "cognition": None}
    assert "color.txt: 6 questions, expected 60" in "\n".join(scores["incomplete"])
    assert "incomplete" in capsys.readouterr().out


def test_gpu_is_taken_by_its_lock(make, benchmark, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("ADEMVL_GPU_LOCKS", str(tmp_path / "locks"))
    arguments = [make(), "--benchmark", benchmark, "--answers", tmp_path / "answers"]
    with caplog.at_level("INFO"):
        assert main(["evaluate-mme", *map(str, arguments), "--max-new-tokens", "1"]) == 0
    assert "on GPU 3" in caplog.text


@pytest.mark.parametrize("changes", [{"batch_size": 5}, {"batch_size": 1}])
def test_answers_do_not_depend_on_the_batch_size(make, benchmark, tmp_path, changes):
    answer_benchmark(make("one"), benchmark, tmp_path / "one", max_new_tokens=3)
    answer_benchmark(make("two", **changes), benchmark, tmp_path / "two", max_new_tokens=3)
    assert _read(tmp_path / "one") == _read(tmp_path / "two")


def test_images_reach_the_answers(make, benchmark, tmp_path):
    answer_benchmark(make("shown"), benchmark, tmp_path / "shown", max_new_tokens=5)
    withheld = make("withheld", images="withheld")
    answer_benchmark(withheld, benchmark, tmp_path / "withheld", max_new_tokens=5)
    assert _read(tmp_path / "shown") != _read(tmp_path / "withheld")


def test_killed_run_goes_on_and_a_complete_one_predicts_nothing(
    make, benchmark, tmp_path, monkeypatch
):
    whole, killed = make("whole"), make("killed")
    answer_benchmark(whole, benchmark, tmp_path / "whole", max_new_tokens=3)
    from ademvl.evaluation import generation

    real, calls = generation.generate, []

    def dying(*arguments, **settings):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **settings)

    monkeypatch.setattr(generation, "generate", dying)
    with pytest.raises(KeyboardInterrupt):
        answer_benchmark(killed, benchmark, tmp_path / "killed", max_new_tokens=3)
    assert not (tmp_path / "killed").exists()
    answer_benchmark(killed, benchmark, tmp_path / "killed", max_new_tokens=3)
    assert len(calls) == 4  # of 12 questions in batches of 4 the first was done
    assert _read(tmp_path / "killed") == _read(tmp_path / "whole")
    monkeypatch.setattr(PredictionLog, "filling", None)
    answer_benchmark(killed, benchmark, tmp_path / "killed", max_new_tokens=3)
    assert _read(tmp_path / "killed") == _read(tmp_path / "whole")
    assert not (killed / "predictions").exists()


def test_other_questions_are_answered_anew(make, benchmark, tmp_path):
    run_dir = make()
    answer_benchmark(run_dir, benchmark, tmp_path / "answers", max_new_tokens=3)
    path = benchmark / "color" / "red.txt"
    path.write_text("Is it red?\tYes\nIs it not red?\tNo\n", encoding="utf-8")
    answer_benchmark(run_dir, benchmark, tmp_path / "answers", max_new_tokens=3)
    rows = load_answers(tmp_path / "answers" / "color.txt")
    assert "Is it red?" in [row.question for row in rows]


def test_answers_of_other_tasks_and_senseless_lengths_are_refused(make, benchmark, tmp_path):
    folder = tmp_path / "answers"
    folder.mkdir()
    (folder / "OCR.txt").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="holds answers to OCR"):
        answer_benchmark(make(), benchmark, folder)
    with pytest.raises(SettingsError, match="max_new_tokens: 0"):
        answer_benchmark(make(), benchmark, tmp_path / "other", max_new_tokens=0)


def test_missing_adapter_is_said(make, benchmark, tmp_path, capsys):
    run_dir = make()
    (run_dir / "adapter" / "adapter.json").unlink()
    arguments = [run_dir, "--benchmark", benchmark, "--answers", tmp_path / "answers"]
    assert main(["evaluate-mme", *map(str, arguments)]) == 2
    assert "no complete adapter" in capsys.readouterr().err
