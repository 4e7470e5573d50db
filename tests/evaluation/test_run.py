"""Protects the evaluation of a run: resumed, idempotent, the same in any batch size, strict."""

import dataclasses
import json
import math
import shutil

import pytest

from ademvl.config.evaluation import DecodingSettings, EvaluationSettings
from ademvl.config.run import FeatureSettings, PromptSettings
from ademvl.config.settings_files import read_run
from ademvl.errors import AdemvlError, DataError, WeightsError
from ademvl.evaluation import asking
from ademvl.evaluation.predictions import PredictionLog
from ademvl.evaluation.run import evaluate_run
from ademvl.evaluation.sealed_scores import seal_of_scores
from ademvl.llm.tokenizer import load_llm_tokenizer
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.adapter_file import save_adapter
from ademvl.model.build import build_model
from ademvl.runs.answer_speed import read_speed, speed_file
from tests.tiny import make_run, make_scienceqa, set_weights, write_run

NUM_TEST = 10


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Data, backbones and a random adapter, made once."""
    folder = tmp_path_factory.mktemp("base")
    make_scienceqa(folder / "data" / "scienceqa", num_test=NUM_TEST)
    _make_captions(folder / "data" / "coco_caption", folder / "data" / "scienceqa")
    return folder


@pytest.fixture
def make(base, tmp_path):
    """Write a run with settings changed, and an adapter."""

    def build(name="run", *, batch_size=4, adapter_seed=1, evaluation=None, **changes):
        run = make_run(base, **changes)
        settings = {"batch_size": batch_size, "max_new_tokens": 5, **(evaluation or {})}
        run = dataclasses.replace(run, evaluation=EvaluationSettings(**settings))
        run_dir = write_run(tmp_path / name, run)
        model = build_model(run)
        model.initialize(adapter_seed)
        save_adapter(run_dir / "adapter", model, run)
        return run_dir

    return build


def _captions(base):
    return {"task": "coco_caption", "data_dir": str(base / "data" / "coco_caption")}


def _make_captions(root, scienceqa):
    """Write six captioned images in the layout of COCO with Karpathy's splits."""
    (root / "karpathy").mkdir(parents=True)
    (root / "images").mkdir()
    sources = sorted(scienceqa.glob("images/*/*/image.png"))[:6]
    rows, annotations = [], []
    for number, source in enumerate(sources):
        shutil.copy(source, root / "images" / f"{number}.png")
        references = [f"a {number} square", f"one square of {number}"]
        rows.append({"image": f"{number}.png", "caption": references, "image_id": number})
        annotations += [{"image_id": number, "caption": text} for text in references]
    for number, annotation in enumerate(annotations):
        annotation["id"] = number
    train = [{**row, "caption": row["caption"][0]} for row in rows]
    truth = {"images": [{"id": row["image_id"]} for row in rows], "annotations": annotations}
    for name, content in (("train", train), ("test", rows), ("test_gt", truth)):
        path = root / "karpathy" / f"coco_karpathy_{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")


def _read(run_dir, task="scienceqa"):
    predictions = (run_dir / "predictions" / f"{task}.jsonl").read_bytes()
    return predictions, json.loads((run_dir / "scores" / f"{task}.json").read_bytes())


def _kill_at_batch(monkeypatch, number):
    """Let the evaluation die before its batch of that number, in the middle of a line."""
    real = asking.answer_batch
    calls = []

    def dying(*arguments, **options):
        calls.append(arguments)
        if len(calls) > number:
            raise KilledError
        return real(*arguments, **options)

    monkeypatch.setattr(asking, "answer_batch", dying)


def test_scores_hold_columns_counts_and_what_they_depend_on(make):
    run_dir = make()
    evaluate_run(run_dir, progress=False)
    predictions, scores = _read(run_dir)
    assert predictions.count(b"\n") == NUM_TEST
    assert scores["n"] == NUM_TEST
    assert scores["columns"]["AVG"]["n"] == NUM_TEST
    assert scores["num_shortened_prompts"] == 0
    assert scores["settings"]["split"] == "test"
    adapter = json.loads((run_dir / "adapter" / "adapter.json").read_bytes())
    assert scores["header"]["adapter_sha256"] == adapter["sha256"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_on_a_cpu_reads_cached_features(make, base, precision):
    backbones = dataclasses.replace(make_run(base).backbones, precision=precision)
    run_dir = make(backbones=backbones, features=FeatureSettings(mode="cached"))
    evaluate_run(run_dir, progress=False)
    _, scores = _read(run_dir)
    assert scores["columns"]["AVG"]["n"] == NUM_TEST


def test_second_call_predicts_nothing(make, monkeypatch):
    run_dir = make()
    evaluate_run(run_dir, progress=False)
    before = _read(run_dir)
    monkeypatch.setattr(PredictionLog, "filling", None)
    evaluate_run(run_dir, progress=False)
    assert _read(run_dir) == before


@pytest.mark.parametrize(
    ("task", "evaluation"),
    [
        ("scienceqa", {"answer_by": "greedy"}),
        ("scienceqa", {"answer_by": "letter"}),
        ("scienceqa", {"answer_by": "likelihood"}),
        ("coco_caption", {"decoding": DecodingSettings()}),
        ("coco_caption", {"decoding": DecodingSettings(strategy="sample")}),
        ("coco_caption", {"decoding": DecodingSettings(strategy="beam", num_beams=2)}),
    ],
)
def test_logits_that_are_not_finite_are_not_scored(make, base, task, evaluation):
    changes = _captions(base) if task == "coco_caption" else {}
    run_dir = make(evaluation=evaluation, **changes)
    set_weights(run_dir, 1e38)
    with pytest.raises(WeightsError, match=r"logits .* are not finite") as raised:
        evaluate_run(run_dir, progress=False)
    asked = "0" if task == "coco_caption" else "15"  # the first of the first batch
    assert f"  - item {asked}\n" in str(raised.value)
    assert "base_lr" in str(raised.value)
    assert not (run_dir / "scores").exists()
    assert not list(run_dir.glob("predictions/*.jsonl"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(make, value):
    run_dir = make()
    set_weights(run_dir, value)
    with pytest.raises(WeightsError, match="weights are not finite") as raised:
        evaluate_run(run_dir, progress=False)
    assert str(run_dir / "adapter" / "adapter.safetensors") in str(raised.value)
    assert "  - value_table: 640 of 640\n" in str(raised.value)


def test_missing_scores_are_made_from_the_predictions(make, monkeypatch):
    run_dir = make()
    evaluate_run(run_dir, progress=False)
    before = _read(run_dir)
    (run_dir / "scores" / "scienceqa.json").unlink()
    monkeypatch.setattr(PredictionLog, "filling", None)
    evaluate_run(run_dir, progress=False)
    assert _read(run_dir) == before


@pytest.mark.parametrize(
    ("mode", "answer_by"), [("cached", "greedy"), ("online", "greedy"), ("cached", "likelihood")]
)
def test_batch_size_changes_nothing(make, mode, answer_by, base):
    features = FeatureSettings(mode=mode, precision="fp32", cache_dir=str(base / "features"))
    evaluation = {"answer_by": answer_by}
    one, eight = (
        make(f"b{size}", batch_size=size, features=features, evaluation=evaluation)
        for size in (1, 8)
    )
    for run_dir in (one, eight):
        evaluate_run(run_dir, progress=False)
    (first, scores), (second, other_scores) = _read(one), _read(eight)
    assert first == second
    assert scores["columns"] == other_scores["columns"]
    assert scores["header"] == other_scores["header"]


def _answers(run_dir):
    lines = (run_dir / "predictions" / "scienceqa.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


@pytest.mark.parametrize("answer_by", ["greedy", "likelihood"])
def test_order_and_padding_change_nothing(make, base, tmp_path, answer_by):
    """The other run asks in the reverse order, each batch beside a question ten times as long."""
    data = tmp_path / "data"
    shutil.copytree(base / "data" / "scienceqa", data)
    problems = json.loads((data / "problems.json").read_text())
    splits = json.loads((data / "pid_splits.json").read_text())
    long = {**next(p for p in problems.values() if p["image"] is None), "split": "test"}
    long["hint"] = "The square is red. " * 3
    ids = [f"long{number}" for number in range(3)]
    problems.update(dict.fromkeys(ids, long))
    reversed_ids = splits["test"][::-1]
    for place, question_id in zip((0, 4, 8), ids, strict=True):
        reversed_ids.insert(place, question_id)
    splits["test"] = reversed_ids
    (data / "problems.json").write_text(json.dumps(problems))
    (data / "pid_splits.json").write_text(json.dumps(splits))
    plain = make("plain", evaluation={"answer_by": answer_by})
    other = make("other", evaluation={"answer_by": answer_by}, data_dir=str(data))
    for run_dir in (plain, other):
        evaluate_run(run_dir, progress=False)
    expected, found = _answers(plain), _answers(other)
    assert len({row["text"] for row in expected.values()}) > 1
    assert {question_id: found[question_id] for question_id in expected} == expected


def test_likelihood_answers_every_question(make):
    greedy, likelihood = make("greedy"), make("other", evaluation={"answer_by": "likelihood"})
    for run_dir in (greedy, likelihood):
        evaluate_run(run_dir, progress=False)
    assert _read(greedy)[1]["num_without_answer"] > 0
    assert _read(likelihood)[1]["num_without_answer"] == 0
    assert _read(likelihood)[1]["settings"]["answer_by"] == "likelihood"


@pytest.mark.java
def test_captions_do_not_depend_on_the_batch_size(make, base):
    one, four = (make(f"b{size}", batch_size=size, **_captions(base)) for size in (1, 4))
    for run_dir in (one, four):
        evaluate_run(run_dir, progress=False)
    (first, scores), (second, other_scores) = (_read(d, "coco_caption") for d in (one, four))
    assert first == second
    assert scores["metrics"] == other_scores["metrics"]
    assert scores["ceiling"]["num_references"] == 6


def test_killed_evaluation_goes_on_and_ends_the_same(make, monkeypatch):
    undisturbed, killed = make("undisturbed"), make("killed")
    evaluate_run(undisturbed, progress=False)
    with monkeypatch.context() as patch:
        _kill_at_batch(patch, 2)
        with pytest.raises(KilledError):
            evaluate_run(killed, progress=False)
    assert not (killed / "predictions" / "scienceqa.jsonl").exists()
    assert not (killed / "scores").exists()
    partial = killed / "predictions" / "scienceqa.partial.jsonl"
    partial.write_bytes(partial.read_bytes()[:-7])
    evaluate_run(killed, progress=False)
    assert _read(killed) == _read(undisturbed)


def test_new_adapter_is_evaluated_anew(make):
    run_dir = make(adapter_seed=1)
    evaluate_run(run_dir, progress=False)
    _, before = _read(run_dir)
    make(adapter_seed=2)
    evaluate_run(run_dir, progress=False)
    _, after = _read(run_dir)
    assert after["header"]["adapter_sha256"] != before["header"]["adapter_sha256"]
    header = (run_dir / "predictions" / "scienceqa.header.json").read_text(encoding="utf-8")
    assert after["header"]["adapter_sha256"] in header


def test_withheld_images_need_no_image_files(make, base, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(base / "data" / "scienceqa", data)
    shutil.rmtree(data / "images")
    run_dir = make(images="withheld", data_dir=str(data))
    evaluate_run(run_dir, progress=False)
    assert _read(run_dir)[1]["n"] == NUM_TEST


@pytest.mark.parametrize("mode", ["cached", "online"])
def test_missing_image_is_named_before_anything_is_predicted(make, base, tmp_path, mode):
    data = tmp_path / "data"
    shutil.copytree(base / "data" / "scienceqa", data)
    missing = max(data.glob("images/test/*/image.png"))
    missing.unlink()
    features = FeatureSettings(mode=mode, precision="fp32", cache_dir=str(tmp_path / "features"))
    run_dir = make(data_dir=str(data), features=features)
    with pytest.raises(DataError, match=str(missing)):
        evaluate_run(run_dir, progress=False)
    assert not (run_dir / "scores").exists()


def test_damaged_adapter_is_refused(make):
    run_dir = make()
    weights = run_dir / "adapter" / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\1\2\3")
    with pytest.raises(WeightsError, match="damaged"):
        evaluate_run(run_dir, progress=False)


def test_adapter_of_other_settings_is_refused_before_anything_is_predicted(make):
    run_dir = make()
    run = read_run(run_dir)
    write_run(run_dir, dataclasses.replace(run, method=dataclasses.replace(run.method, alpha=1.0)))
    with pytest.raises(WeightsError, match=r"method\.alpha: 1\.0, but .* trained with 0\.1"):
        evaluate_run(run_dir, progress=False)
    assert not (run_dir / "predictions").exists()


def test_missing_adapter_is_refused(make):
    run_dir = make()
    shutil.rmtree(run_dir / "adapter")
    with pytest.raises(AdemvlError, match="no complete adapter"):
        evaluate_run(run_dir, progress=False)


def test_shortened_prompts_are_counted(make):
    run_dir = make()
    run = read_run(run_dir)
    short = dataclasses.replace(run.prompts, evaluation_window=40)
    write_run(run_dir, dataclasses.replace(run, prompts=short))
    evaluate_run(run_dir, progress=False)
    assert _read(run_dir)[1]["num_shortened_prompts"] > 0


def test_window_and_end_of_long_prompts_are_settings_of_evaluation(make):
    answers, shortened = {}, set()
    for overflow in ("keep_cue", "cut_end"):
        run_dir = make(overflow)
        run = read_run(run_dir)
        prompts = dataclasses.replace(run.prompts, evaluation_window=40, overflow=overflow)
        write_run(run_dir, dataclasses.replace(run, prompts=prompts))
        evaluate_run(run_dir, progress=False)
        answers[overflow], scores = _read(run_dir)
        shortened.add(scores["num_shortened_prompts"])
    assert len(shortened) == 1
    assert shortened.pop() > 0
    assert answers["keep_cue"] != answers["cut_end"]


@pytest.mark.parametrize("image_prefix", ["with_slots", "always"])
def test_prefix_without_slots_is_one_of_evaluation_too(make, monkeypatch, image_prefix):
    asked = []
    run_dir = make(
        method=AdemSettings(scales=(16,), projection_width=8, cls=False),
        prompts=PromptSettings(max_seq_len=128, image_prefix=image_prefix),
    )
    monkeypatch.setattr(
        "ademvl.evaluation.task.predict_rows",
        lambda answerer, tokenized, *_, **__: asked.extend(tokenized) or _stop(),
    )
    with pytest.raises(KilledError):
        evaluate_run(run_dir, progress=False)
    tokenizer = load_llm_tokenizer(read_run(run_dir).backbones)
    prefix = tokenizer.encode("Image: ")
    (row, *_) = (row for row in asked if row.image is not None)
    assert (row.ids[1 : 1 + len(prefix)].tolist() == prefix) == (image_prefix == "always")


def _stop():
    raise KilledError


_EDITS = {
    "a number": lambda scores: scores["columns"]["AVG"].update(percent=99.9),
    "n": lambda scores: scores["columns"]["AVG"].update(n=-5),
    "the end of an interval": lambda scores: scores["columns"]["AVG"].update(ci_low=0.0),
    "a column": lambda scores: scores["columns"].pop("IMG"),
    "a count": lambda scores: scores.update(num_without_answer=0, n=1),
    "the seal": lambda scores: scores.pop("seal"),
    "a number, sealed again": lambda scores: (
        scores["columns"]["AVG"].update(percent=99.9),
        scores.update(seal=seal_of_scores(scores)),
    ),
}


@pytest.mark.parametrize("name", _EDITS)
def test_scores_edited_by_hand_are_made_anew_from_the_predictions(make, monkeypatch, name, caplog):
    run_dir = make()
    evaluate_run(run_dir, progress=False)
    before = _read(run_dir)
    path = run_dir / "scores" / "scienceqa.json"
    scores = json.loads(path.read_text())
    _EDITS[name](scores)
    path.write_text(json.dumps(scores))
    monkeypatch.setattr(PredictionLog, "filling", None)
    evaluate_run(run_dir, progress=False)
    assert _read(run_dir) == before
    assert "written anew from the predictions" in caplog.text


def test_predictions_edited_by_hand_are_made_again(make):
    run_dir = make()
    evaluate_run(run_dir, progress=False)
    before = _read(run_dir)
    path = run_dir / "predictions" / "scienceqa.jsonl"
    path.write_text(path.read_text().replace('"predicted_index": 0', '"predicted_index": 1'))
    evaluate_run(run_dir, progress=False)
    assert _read(run_dir) == before


def test_speed_is_that_of_what_was_answered_here(make) -> None:
    run_dir = make()
    evaluate_run(run_dir, progress=False)
    path = speed_file(run_dir / "predictions" / "scienceqa.jsonl")
    speed = read_speed(path)
    assert speed is not None
    assert speed.items == NUM_TEST
    path.write_text('{"items": 0, "seconds": 1.0}')
    with pytest.raises(DataError, match="speed"):
        read_speed(path)
