"""Protects `ademvl predict`: the answers of an evaluation, any adapter folder, clear refusals."""

import dataclasses
import json
import math
import shutil
from types import SimpleNamespace

import pytest
import torch

from ademvl.cli import main
from ademvl.config.evaluation import EvaluationSettings
from ademvl.config.run import FeatureSettings, PromptSettings
from ademvl.config.settings_files import read_run
from ademvl.data.tokenizer import load_tokenizer
from ademvl.evaluation.choosing import letter_ids
from ademvl.evaluation.run import evaluate_run
from ademvl.prediction import answering
from ademvl.training.run import train_run
from tests.tiny import make_run, set_weights, write_run

NUM_TEST = 9  # as in conftest.py


def _problems(base):
    data = base / "data" / "scienceqa"
    problems = json.loads((data / "problems.json").read_text())
    return {i: problems[i] for i in json.loads((data / "pid_splits.json").read_text())["test"]}


def _request_file(base, tmp_path):
    """The test split as requests."""
    lines = []
    for question_id, problem in _problems(base).items():
        line = {
            "id": question_id,
            "question": problem["question"],
            "choices": problem["choices"],
            "hint": problem["hint"],
        }
        if problem["image"]:
            folder = base / "data" / "scienceqa" / "images" / "test" / question_id
            line["image"] = str(folder / "image.png")
        lines.append(json.dumps(line))
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(lines))
    return path


def _an_image(base):
    return str(next(base.glob("data/scienceqa/images/test/*/image.png")))


def _answers(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("mode", ["cached", "online"])
@pytest.mark.parametrize("evaluation", ["matched", "reference"])
def test_answers_are_those_of_the_evaluation(make, base, tmp_path, capsys, mode, evaluation):
    features = FeatureSettings(mode=mode, precision="fp16", cache_dir=str(tmp_path / "features"))
    # The reference evaluates in a window of 512 whatever the length of training rows is.
    max_seq_len = 40 if evaluation == "reference" else 128
    prompts = PromptSettings(max_seq_len=max_seq_len, evaluation=evaluation)
    run_dir = make(features=features, prompts=prompts)
    evaluate_run(run_dir, progress=False)
    lines = (run_dir / "predictions" / "scienceqa.jsonl").read_text().splitlines()
    requests = _request_file(base, tmp_path)
    for batch_size in ("1", "4"):
        call = ["predict", str(run_dir), "--jsonl", str(requests), "--batch-size", batch_size]
        assert main(call) == 0
        found = _answers(capsys)
        kept = [{key: row[key] for key in ("id", "text", "predicted_index")} for row in found]
        assert kept == [json.loads(line) for line in lines]
    choices = [problem["choices"] for problem in _problems(base).values()]
    for row, options in zip(found, choices, strict=True):
        index = row["predicted_index"]
        assert row["answer"] == (None if index < 0 else options[index])


@pytest.mark.parametrize("overflow", ["keep_cue", "cut_end"])
def test_long_prompts_are_cut_as_run_yaml_says(make, base, tmp_path, capsys, overflow):
    run_dir = make()  # adapter.json has the defaults
    run = read_run(run_dir)
    prompts = dataclasses.replace(run.prompts, evaluation_window=36, overflow=overflow)
    write_run(run_dir, dataclasses.replace(run, prompts=prompts))
    evaluate_run(run_dir, progress=False)
    assert json.loads((run_dir / "scores/scienceqa.json").read_text())["num_shortened_prompts"]
    assert main(["predict", str(run_dir), "--jsonl", str(_request_file(base, tmp_path))]) == 0
    lines = (run_dir / "predictions" / "scienceqa.jsonl").read_text().splitlines()
    assert [row["text"] for row in _answers(capsys)] == [json.loads(li)["text"] for li in lines]


@pytest.mark.parametrize("asked", [["--caption"], ["--question", "What?", "--choices", "a", "b"]])
def test_answers_of_a_diverged_adapter_are_refused(make, base, capsys, asked):
    run_dir = make()
    set_weights(run_dir, 1e38)
    assert main(["predict", str(run_dir), "--image", _an_image(base), *asked]) == 2
    printed = capsys.readouterr()
    assert "are not finite" in printed.err
    assert "  - item 1\n" in printed.err
    assert not printed.out


def test_adapter_folder_alone_is_enough(make, base, tmp_path, capsys):
    run_dir = make()
    moved = tmp_path / "elsewhere" / "my_adapter"
    shutil.copytree(run_dir / "adapter", moved)
    requests = str(_request_file(base, tmp_path))
    written = []
    for adapter in (run_dir, run_dir / "run.yaml", run_dir / "adapter", moved):
        assert main(["predict", str(adapter), "--jsonl", requests]) == 0
        written.append(_answers(capsys))
    assert written[0] == written[1] == written[2] == written[3]


def test_nothing_is_written_into_the_feature_cache(make, base, tmp_path):
    cache = tmp_path / "features"
    run_dir = make(features=FeatureSettings(mode="cached", cache_dir=str(cache)))
    main(["predict", str(run_dir), "--image", _an_image(base), "--caption"])
    assert not cache.exists()


def test_likelihood_of_the_run_is_used(make, base, capsys):
    run_dir = make()
    run = make_run(base, evaluation=EvaluationSettings(answer_by="likelihood"))
    write_run(run_dir, run)
    call = ["predict", str(run_dir), "--question", "What color?", "--choices", "red", "green"]
    assert main(call) == 0
    first, *shares = capsys.readouterr().out.splitlines()
    assert [line.partition(" %  ")[2] for line in shares] == ["(A) red", "(B) green"]
    assert first == max(shares, key=lambda line: float(line.split()[0])).partition(" %  ")[2]


def test_probabilities_are_of_the_letters_offered_alone():
    logits = torch.tensor([9.0, 0.0, math.log(3.0), 5.0])
    assert answering.choice_probabilities(logits, [1, 2]) == (0.25, 0.75)
    assert answering.choice_probabilities(logits, []) is None


def test_probabilities_do_not_depend_on_what_else_is_asked(make, tmp_path, capsys):
    """Of three choices there are none here, as the tokenizer splits " C"."""
    run_dir = make()
    path = tmp_path / "some.jsonl"
    question = {"question": "What is it?"}
    lines = [question | {"choices": list(letters)} for letters in ("ab", "abc")] + [question]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert main(["predict", str(run_dir), "--jsonl", str(path)]) == 0
    two, three, opened = _answers(capsys)
    assert sum(two["probabilities"]) == pytest.approx(1, abs=2e-6)  # rounded to six decimals
    assert three["probabilities"] is None
    assert "probabilities" not in opened


@pytest.fixture
def says_nothing(base, monkeypatch):
    """Make the end token the most likely answer; of the letters, B."""

    def logits(model, batch, visual):
        tokenizer = load_tokenizer(base / "llm")
        _, letter = letter_ids(tokenizer, 2)
        found = torch.zeros(len(batch.item_ids), tokenizer.vocab_size)
        found[:, tokenizer.eos_id], found[:, letter] = 5.0, 2.0
        return found

    monkeypatch.setattr(answering, "answer_logits", logits)


def test_answer_that_names_no_choice_is_said_and_ends_with_1(make, says_nothing, capsys):
    call = ["predict", str(make()), "--question", "What is it?", "--choices", "a", "b"]
    assert main(call) == 1
    first, *shares = capsys.readouterr().out.splitlines()
    assert first == "no answer: the model said '', which names no choice"
    assert shares == ["  11.92 %  (A) a", "  88.08 %  (B) b"]  # 1 / (1 + e ** 2)


def test_answers_that_name_no_choice_are_counted_among_many(
    make, says_nothing, tmp_path, capsys, caplog
):
    path = tmp_path / "some.jsonl"
    choices = json.dumps({"question": "What is it?", "choices": ["a", "b"]})
    path.write_text("\n".join([choices, choices, json.dumps({"question": "What?"})]))
    assert main(["predict", str(make()), "--jsonl", str(path)]) == 0
    assert [row["answer"] for row in _answers(capsys)][:2] == [None, None]
    assert "2 of 2 questions with choices got no answer" in caplog.text


def _train(base, tmp_path):
    """A run trained on two choices, with an image or else with a hint."""
    run_dir = write_run(tmp_path / "trained", make_run(base, epochs=1.0))
    assert train_run(run_dir, progress=False) == 0
    return run_dir


def test_requests_like_the_training_are_answered_without_a_warning(base, tmp_path, capsys, caplog):
    run_dir = _train(base, tmp_path)
    assert main(["predict", str(run_dir), "--jsonl", str(_request_file(base, tmp_path))]) == 0
    assert [row["warnings"] for row in _answers(capsys)] == [[]] * NUM_TEST
    assert "unlike" not in caplog.text


@pytest.mark.parametrize(
    ("asked", "warning"),
    [
        (["--choices", "red", "green", "blue"], "3 choices, but 2 choices in training"),
        ([], "no choices, but 2 choices in training"),
        (["--choices", "red", "green", "--hint", "The square is red."], "with image, with hint:"),
        (["--choices", "red", "green square " * 9], "tokens, but "),
        (["--choices", "red", "green square " * 90], "tokens, but "),
    ],
)
def test_forms_that_the_training_never_had_are_warned_of(
    base, tmp_path, capsys, caplog, asked, warning
):
    run_dir = _train(base, tmp_path)
    moved = shutil.copytree(run_dir / "adapter", tmp_path / "elsewhere")
    call = ["predict", str(moved), "--question", "What color is the square?"]
    assert main([*call, *asked, "--image", _an_image(base)]) in (0, 1)
    (told,) = [line for line in caplog.text.splitlines() if "request 1: " in line]
    assert warning in told
    path = tmp_path / "one.jsonl"
    line = {"image": _an_image(base), "question": "What color is the square?"}
    if "--hint" in asked:
        line["hint"], asked = asked[-1], asked[:-2]
    path.write_text(json.dumps(line | ({"choices": asked[1:]} if asked else {})))
    capsys.readouterr()
    assert main(["predict", str(moved), "--jsonl", str(path)]) == 0
    ((told,),) = [row["warnings"] for row in _answers(capsys)]
    assert warning in told


def test_adapter_that_does_not_tell_its_training_gives_no_warning(make, base, caplog, capsys):
    run_dir = make()
    assert "trained_forms" not in json.loads((run_dir / "adapter/adapter.json").read_text())
    call = ["predict", str(run_dir), "--question", "What?", "--choices", *"abcdefg"]
    assert main(call) in (0, 1)
    assert "unlike" not in caplog.text


@pytest.mark.parametrize("content", [{}, [{"choices": 2}], [3], "text", [{"prompt_tokens": 4}]])
def test_malformed_forms_are_refused(make, capsys, content):
    run_dir = make()
    path = run_dir / "adapter/adapter.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trained_forms": content}))
    code = main(["predict", str(run_dir), "--question", "What?"])
    assert (code, "trained_forms is malformed" in capsys.readouterr().err) == (2, True)


def test_caption_and_open_question_are_generated(make, base, tmp_path, capsys):
    run_dir = make(task="coco_caption")
    image = _an_image(base)
    assert main(["predict", str(run_dir), "--image", image, "--caption"]) == 0
    caption = capsys.readouterr().out.rstrip("\n")
    path = tmp_path / "mixed.jsonl"
    lines = [
        {"id": "c", "image": image, "caption": True},
        {"id": "o", "question": "What is it?"},
        {"id": "q", "question": "What is it?", "choices": ["a", "b"]},
        {"id": "d", "image": image, "caption": True},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert main(["predict", str(run_dir), "--jsonl", str(path)]) == 0
    found = _answers(capsys)
    assert [row["id"] for row in found] == ["c", "o", "q", "d"]
    assert found[0]["answer"] == found[3]["answer"] == caption
    assert found[1]["text"]
    assert "predicted_index" not in found[1]


def test_gpu_is_taken_by_its_lock(make, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("ADEMVL_GPU_LOCKS", str(tmp_path / "locks"))
    with caplog.at_level("INFO"):
        assert main(["predict", str(make()), "--question", "Is it red?"]) == 0
    assert "on GPU 3" in caplog.text


def test_frozen_tower_is_where_the_model_is(make):
    run = read_run(make())
    model = SimpleNamespace(tower=None, device=torch.device("meta"))
    source = answering._open_source(run, model)
    assert next(source._tower.parameters()).device == model.device


@pytest.mark.parametrize(
    ("task", "asked", "warning"),
    [
        ("scienceqa", ["--caption"], "asks for a caption; it was trained for scienceqa"),
        ("coco_caption", ["--caption"], ""),
        ("coco_caption", ["--question", "What?"], "asks for an answer; it was trained for coco_c"),
        (
            "coco_caption",
            ["--question", "What?", "--choices", "a", "b"],
            "asks for one of several choices; it was trained for coco_caption",
        ),
        ("instruction", ["--question", "What?", "--hint", "Look."], ""),
        ("instruction", ["--caption"], "asks for a caption; it was trained for instruction"),
    ],
)
def test_request_of_another_task_is_answered_with_a_warning(
    make, base, caplog, task, asked, warning
):
    run_dir = make(task=task)
    assert main(["predict", str(run_dir), "--image", _an_image(base), *asked]) in (0, 1)
    assert ("request 1: " + warning in caplog.text) == bool(warning)


def test_image_changes_the_fusion_maps_and_they_are_written(make, base, tmp_path):
    run_dir = make()
    maps = tmp_path / "maps"
    call = ["predict", str(run_dir), "--jsonl", str(_request_file(base, tmp_path))]
    assert main([*call, "--explain", str(maps)]) == 0
    content = json.loads((maps / "fusion_maps.json").read_text())
    with_image = [i for i, problem in _problems(base).items() if problem["image"]]
    assert [item["id"] for item in content["items"]] == with_image
    for item in content["items"]:
        assert (maps / item["picture"]).stat().st_size > 1000
        assert [word["word"] for word in item["words"]][:2] == ["color", "square"]
    kept = [
        [layer["kept"] for word in item["words"] for layer in word["scales"][0]["layers"]]
        for item in content["items"]
    ]
    assert kept[0] != kept[1]


def test_explained_caption_shows_what_its_words_kept(make, base, tmp_path):
    run_dir = make(task="coco_caption")
    call = ["predict", str(run_dir), "--image", _an_image(base), "--caption"]
    assert main([*call, "--explain", str(tmp_path / "maps")]) == 0
    content = json.loads((tmp_path / "maps" / "fusion_maps.json").read_text())
    (item,) = content["items"]
    first, *words = [word["word"] for word in item["words"]]
    assert first == "(first word)"
    assert all(word in item["answer"] for word in words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--caption"], "a caption needs an image"),
        (["--caption", "--image", "absent.png"], "absent.png: image of request 1 is missing"),
        (["--question", "?", "--choices", "a"], "1 choices, expected 2 to 26"),
        (["--question", " "], "no question, and no caption"),
        (["--question", "?", "--explain", "maps"], "no request has an image"),
        (["--jsonl", "x.jsonl", "--hint", "h"], "leave --hint out"),
        (["--jsonl", "x.jsonl"], "x.jsonl: cannot be read"),
    ],
)
def test_impossible_request_is_refused(make, arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run_dir = make()
    assert main(["predict", str(run_dir), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert not (tmp_path / "maps").exists()


def test_folder_without_an_adapter_is_refused(tmp_path, capsys):
    assert main(["predict", str(tmp_path), "--question", "?"]) == 2
    assert f"{tmp_path}: no trained adapter there" in capsys.readouterr().err


def test_text_only_control_refuses_images_and_answers_text(make, base, tmp_path, capsys):
    run_dir = make(images="withheld")
    assert main(["predict", str(run_dir), "--question", "?", "--image", _an_image(base)]) == 2
    assert "a text-only control" in capsys.readouterr().err
    assert main(["predict", str(run_dir), "--question", "Why?"]) == 0
    alone = shutil.copytree(run_dir / "adapter", tmp_path / "alone")
    assert main(["predict", str(alone), "--question", "?", "--image", _an_image(base)]) == 2
    assert "a text-only control" in capsys.readouterr().err


def test_adapter_without_fusion_cannot_be_explained(make, base, tmp_path, capsys):
    run = make_run(base)
    run_dir = make(method=dataclasses.replace(run.method, fusion="none"))
    call = ["predict", str(run_dir), "--question", "?", "--image", _an_image(base)]
    assert main([*call, "--explain", str(tmp_path / "maps")]) == 2
    assert "has no scores, which fusion maps show" in capsys.readouterr().err
