"""Protects `ademvl compare`: what is compared, what is refused, and that methods are named."""

import json
import shutil

import pytest

from ademvl.cli import main
from ademvl.errors import DataError, SettingsError
from ademvl.evaluation.asked import asked_now
from ademvl.evaluation.comparison.compare import compare, to_json
from ademvl.evaluation.comparison.text import render
from ademvl.evaluation.predictions import read_header
from ademvl.statistics.intervals import wilson_interval
from ademvl.statistics.paired import WITH_SEEDS, mcnemar
from ademvl.statistics.paired_proportions import PAIRED_SCORE
from tests.reporting.synthetic import write_predictions
from tests.tiny import make_run, make_scienceqa, write_run

NUM_TEST = 12


@pytest.fixture
def data(tmp_path):
    return make_scienceqa(tmp_path / "data" / "scienceqa", num_test=NUM_TEST)


def _test_problems(data):
    problems = json.loads((data / "problems.json").read_text())
    return {i: problems[i] for i in json.loads((data / "pid_splits.json").read_text())["test"]}


def _evaluated(run_dir, run, rows):
    """Write what an evaluation leaves behind."""
    write_run(run_dir, run)
    asked = asked_now(run)  # none of the captions' images are there
    write_predictions(run_dir, run.task, rows, {"data": dict(asked.data)})
    return run_dir


def _answered(tmp_path, data, name, right, *, seed=0):
    """A run that answers the questions numbered in `right` correctly and no others."""
    rows = [
        {
            "id": i,
            "predicted_index": problem["answer"] if number in right else 1 - problem["answer"],
        }
        for number, (i, problem) in enumerate(_test_problems(data).items())
    ]
    run = make_run(tmp_path, name=name, seed=seed)
    return _evaluated(tmp_path / "runs" / name / f"seed{seed}", run, rows)


def test_two_runs_are_compared_question_by_question(tmp_path, data):
    first = _answered(tmp_path, data, "a", range(9))
    second = _answered(tmp_path, data, "b", range(6, 11))
    found = compare(first, second)
    assert found.scores["AVG"] == (wilson_interval(9, NUM_TEST), wilson_interval(5, NUM_TEST))
    assert found.differences["AVG"].value == pytest.approx(4 / NUM_TEST)
    right = [
        [number in numbers for number in range(NUM_TEST)] for numbers in (range(9), range(6, 11))
    ]
    assert found.tests == (mcnemar(*right),)
    assert (found.tests[0].only_first, found.tests[0].only_second) == (6, 2)
    assert sum(found.differences[column].n for column in ("NAT", "SOC", "LAN")) == NUM_TEST


def test_order_of_predictions_changes_nothing(tmp_path, data):
    first = _answered(tmp_path, data, "a", range(9))
    second = _answered(tmp_path, data, "b", range(6, 11))
    before = to_json(compare(first, second))
    path = first / "predictions" / "scienceqa.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write_predictions(first, "scienceqa", rows[::-1], read_header(path))
    assert to_json(compare(first, second)) == before


def test_seeds_of_a_run_are_a_second_level(tmp_path, data):
    for seed, right in enumerate((range(9), range(10), range(8))):
        _answered(tmp_path, data, "a", right, seed=seed)
        _answered(tmp_path, data, "b", range(6 - seed), seed=seed)
    found = compare(tmp_path / "runs" / "a", tmp_path / "runs" / "b")
    assert found.differences["AVG"].num_seeds == (3, 3)
    assert found.differences["AVG"].method == f"{PAIRED_SCORE}, {WITH_SEEDS}"
    assert found.differences["AVG"].value == pytest.approx((9 - 5) / NUM_TEST)
    assert len(found.tests) == 3
    text = render(found)
    assert "Wilson score interval, seeds and items combined" in text
    assert "A: tiny/a (3 seeds)" in text
    assert "How many seeds of each run, with these questions: " in text


def test_output_names_methods_and_what_is_not_known(tmp_path, data, capsys):
    first = _answered(tmp_path, data, "a", range(9))
    second = _answered(tmp_path, data, "b", range(6, 11))
    output = tmp_path / "comparison.json"
    assert main(["compare", str(first), str(second / "run.yaml"), "--output", str(output)]) == 0
    text = capsys.readouterr().out
    for words in ("Wilson score interval", "mid-p", "Tango 1998", "one seed"):
        assert words in text
    assert "--seed-spread" in text
    written = json.loads(output.read_text())
    assert written["scores"]["AVG"]["difference"]["points"] == pytest.approx(100 * 4 / NUM_TEST)
    assert written["mcnemar"]["pairs_of_seeds"][0]["only_first"] == 6
    assert "seeds" not in written["scores"]["AVG"]["difference"]["needed"]


def test_needed_numbers_follow_the_difference_asked_for(tmp_path, data):
    first = _answered(tmp_path, data, "a", range(9))
    second = _answered(tmp_path, data, "b", range(6, 11))
    needed = [
        to_json(compare(first, second, to_see=points / 100, assumed_spread=0.005))["scores"]["AVG"][
            "difference"
        ]["needed"]
        for points in (1, 2)
    ]
    assert needed[0]["items"] == pytest.approx(4 * needed[1]["items"], rel=0.01)
    assert needed[0]["seeds"] is None  # twelve questions are too few


def test_files_of_predictions_are_compared_on_the_data_they_answer(tmp_path, data):
    problems = _test_problems(data)
    answers = {i: problem["answer"] for i, problem in problems.items()}
    (tmp_path / "plain.json").write_text(json.dumps(answers))
    wrong = {i: 1 - answer for i, answer in answers.items()}
    (tmp_path / "official.json").write_text(json.dumps({"acc": 0, "results": wrong}))
    found = compare(tmp_path / "plain.json", tmp_path / "official.json", data_dir=data)
    assert found.differences["AVG"].value == 1.0
    with pytest.raises(SettingsError, match="--data"):
        compare(tmp_path / "plain.json", tmp_path / "official.json")


def test_files_of_other_programs_are_compared_as_they_are_scored(tmp_path, data, caplog):
    problems = _test_problems(data)
    texts = {i: f"Final answer: ({'AB'[problem['answer']]})" for i, problem in problems.items()}
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    samples = [
        {"doc_id": place, "target": "AB"[problem["answer"]], "filtered_resps": ["I cannot tell."]}
        for place, problem in enumerate(problems.values())
    ]
    lines = "".join(f"{json.dumps(row)}\n" for row in samples)
    (tmp_path / "samples.jsonl").write_text(lines, encoding="utf-8-sig")
    arguments = ["compare", tmp_path / "texts.json", tmp_path / "samples.jsonl", "--data", data]
    arguments += ["--output", tmp_path / "comparison.json"]
    assert main(list(map(str, arguments))) == 3
    assert f"{tmp_path / 'samples.jsonl'}: 12 of 12 answers (100.0 %) name no choice" in caplog.text
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["scores"]["AVG"]["difference"]["points"] == 100
    assert main([*map(str, arguments), "--allow-unread"]) == 0


def test_published_file_compares_with_a_worse_one(real_dir, tmp_path):
    folder = real_dir / "scienceqa_subset"
    published = json.loads((folder / "gpt3_predictions.json").read_text())["results"]
    (tmp_path / "first_choice.json").write_text(json.dumps(dict.fromkeys(published, 0)))
    found = compare(
        folder / "gpt3_predictions.json", tmp_path / "first_choice.json", data_dir=folder
    )
    assert found.differences["AVG"].ci_low > 0
    assert found.tests[0].p_value < 0.001


def test_other_questions_are_refused_with_their_ids(tmp_path, data):
    first = _answered(tmp_path, data, "a", range(9))
    other = tmp_path / "other"
    shutil.copytree(data, other)
    splits = json.loads((other / "pid_splits.json").read_text())
    moved = splits["test"].pop()
    splits["val"].append(moved)
    (other / "pid_splits.json").write_text(json.dumps(splits))
    problems = json.loads((other / "problems.json").read_text())
    problems[moved]["split"] = "val"
    (other / "problems.json").write_text(json.dumps(problems))
    rows = [{"id": i, "predicted_index": 0} for i in splits["test"]]
    second = _evaluated(tmp_path / "b", make_run(tmp_path, name="b", data_dir=str(other)), rows)
    with pytest.raises(DataError, match=f"not asked the same.*\n.*{moved}: only in tiny/a"):
        compare(first, second)


def test_same_ids_with_other_content_are_refused(tmp_path, data):
    first = _answered(tmp_path, data, "a", range(9))
    other = tmp_path / "other"
    shutil.copytree(data, other)
    problems = json.loads((other / "problems.json").read_text())
    changed = next(iter(_test_problems(data)))
    problems[changed]["question"] = "Another question?"
    (other / "problems.json").write_text(json.dumps(problems))
    rows = [{"id": i, "predicted_index": 0} for i in _test_problems(data)]
    second = _evaluated(tmp_path / "b", make_run(tmp_path, name="b", data_dir=str(other)), rows)
    with pytest.raises(DataError, match=f"{changed}: same id, other content"):
        compare(first, second)


def _change_an_answer(data):
    problems = json.loads((data / "problems.json").read_text())
    changed = problems[next(iter(_test_problems(data)))]
    changed["answer"] = 1 - changed["answer"]
    (data / "problems.json").write_text(json.dumps(problems))


def _change_an_image(data):
    (first, second, *_) = sorted((data / "images" / "test").glob("*/*.png"))
    first.write_bytes(second.read_bytes())


@pytest.mark.parametrize("change", [_change_an_answer, _change_an_image])
def test_predictions_from_data_that_has_changed_are_refused(tmp_path, data, change):
    first = _answered(tmp_path, data, "a", range(9))
    second = _answered(tmp_path, data, "b", range(9))
    change(data)
    with pytest.raises(DataError, match="predicted from other data"):
        compare(first, second)


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (lambda rows: rows[1:], "no prediction"),
        (lambda rows: [*rows, rows[0]], "occurs twice"),
        (lambda rows: [{"id": "x", "predicted_index": 0}, *rows], "x: not in the data"),
        (lambda rows: [{**rows[0], "predicted_index": "B"}, *rows[1:]], "'B' is no choice index"),
        (lambda rows: [{"id": rows[0]["id"]}, *rows[1:]], "line 1: no object with id"),
        (
            lambda rows: [{**rows[0], "predicted_index": 7}, *rows[1:]],
            "choice 7, but it has 0 to 1",
        ),
    ],
)
def test_predictions_that_do_not_fit_are_refused(tmp_path, data, spoil, finding):
    first = _answered(tmp_path, data, "a", range(9))
    second = _answered(tmp_path, data, "b", range(9))
    path = second / "predictions" / "scienceqa.jsonl"
    rows = spoil([json.loads(line) for line in path.read_text().splitlines()])
    write_predictions(second, "scienceqa", rows, read_header(path))
    with pytest.raises(DataError, match=finding):
        compare(first, second)


def test_predictions_that_were_changed_by_hand_are_refused(tmp_path, data):
    first = _answered(tmp_path, data, "a", range(9))
    second = _answered(tmp_path, data, "b", range(9))
    path = second / "predictions" / "scienceqa.jsonl"
    path.write_text(path.read_text().replace('"predicted_index": 0', '"predicted_index": 1'))
    with pytest.raises(DataError, match=r"b/seed0/.*jsonl: changed since it was made"):
        compare(first, second)


def test_seeds_that_were_not_evaluated_are_left_out_and_named(tmp_path, data, caplog):
    first = _answered(tmp_path, data, "a", range(9))
    _answered(tmp_path, data, "b", range(9))
    write_run(tmp_path / "runs" / "b" / "seed1", make_run(tmp_path, name="b", seed=1))
    found = compare(first, tmp_path / "runs" / "b")
    assert len(found.second.predictions) == 1
    assert "seed1: not evaluated" in caplog.text
    shutil.rmtree(tmp_path / "runs" / "b" / "seed0")
    with pytest.raises(DataError, match="no seed has been evaluated"):
        compare(first, tmp_path / "runs" / "b")


def test_folder_without_a_run_is_refused(tmp_path, data):
    first = _answered(tmp_path, data, "a", range(9))
    with pytest.raises(DataError, match="neither a run"):
        compare(first, tmp_path / "data")


@pytest.mark.parametrize(
    ("key", "changes"),
    [("images", {"images": "withheld"}), ("optimization", {"base_lr": 0.77})],
)
def test_seeds_with_different_settings_are_refused(tmp_path, data, key, changes):
    first = _answered(tmp_path, data, "a", range(9))
    run = make_run(tmp_path, name="a", seed=1, **changes)
    rows = [{"id": i, "predicted_index": 0} for i in _test_problems(data)]
    _evaluated(tmp_path / "runs" / "a" / "seed1", run, rows)
    with pytest.raises(DataError, match=f"made with different .*{key}"):
        compare(tmp_path / "runs" / "a", first)


def _with_adapter(run_dir, checksum):
    """Say which adapter predictions were made with."""
    path = run_dir / "predictions" / "scienceqa.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    header = {**read_header(path), "adapter_sha256": checksum}
    write_predictions(run_dir, "scienceqa", rows, header)


def test_seeds_with_one_adapter_are_named_whatever_run_yaml_says(tmp_path, data):
    other = _answered(tmp_path, data, "b", range(9))
    for seed, checksum in enumerate("aba"):
        _with_adapter(_answered(tmp_path, data, "a", range(9), seed=seed), checksum)
    folder = tmp_path / "runs" / "a"
    with pytest.raises(DataError, match="were scored with the same adapter") as raised:
        compare(folder, other)
    assert f"  - {folder / 'seed0'} and {folder / 'seed2'}\n" in str(raised.value)
    _with_adapter(folder / "seed2", "c")
    assert len(compare(folder, other).first.predictions) == 3


def test_seeds_of_a_released_adapter_share_it(tmp_path, data):
    other = _answered(tmp_path, data, "b", range(9))
    for seed in (0, 1):
        run_dir = _answered(tmp_path, data, "a", range(9), seed=seed)
        released = {"adapter": "released", "released_from": "theirs.pth"}
        write_run(run_dir, make_run(tmp_path, name="a", seed=seed, **released))
        _with_adapter(run_dir, "theirs")
    assert len(compare(tmp_path / "runs" / "a", other).first.predictions) == 2


def test_a_copied_seed_is_no_second_one(tmp_path, data):
    other = _answered(tmp_path, data, "b", range(9))
    first = _answered(tmp_path, data, "a", range(9))
    shutil.copytree(first, first.with_name("seed1"))
    with pytest.raises(SettingsError, match=r"seed1/run\.yaml: seed is 0, but the folder is seed1"):
        compare(tmp_path / "runs" / "a", other)


def test_seeds_of_the_same_data_at_another_place_are_compared(tmp_path, data, monkeypatch):
    """Same data is what has the same checksum, wherever and however it is named."""
    _answered(tmp_path, data, "b", range(6), seed=0)
    first = _answered(tmp_path, data, "a", range(9))
    rows = (first / "predictions" / "scienceqa.jsonl").read_text().splitlines()
    copy = shutil.copytree(data, tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    for seed, place in ((1, data.relative_to(tmp_path)), (2, copy)):
        run = make_run(tmp_path, name="a", seed=seed, data_dir=str(place))
        _evaluated(tmp_path / "runs/a" / f"seed{seed}", run, map(json.loads, rows))
    found = compare(tmp_path / "runs/a", tmp_path / "runs/b")
    assert found.differences["AVG"].num_seeds == (3, 1)


def test_seeds_that_were_asked_about_other_data_are_refused(tmp_path, data):
    first = _answered(tmp_path, data, "a", range(9))
    other = make_scienceqa(tmp_path / "other", num_test=NUM_TEST, num_train=3)
    run = make_run(tmp_path, name="a", seed=1, data_dir=str(other))
    rows = [{"id": i, "predicted_index": 0} for i in _test_problems(other)]
    _evaluated(tmp_path / "runs" / "a" / "seed1", run, rows)
    with pytest.raises(DataError, match="made with different data"):
        compare(tmp_path / "runs" / "a", first)


def _predicted_by(run_dir, part):
    path = run_dir / "predictions" / "scienceqa.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write_predictions(run_dir, "scienceqa", rows, read_header(path) | part)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"settings": {"task": "scienceqa"}}, "predicted with other settings than run.yaml has"),
        ({"adapter_sha256": "other"}, "predicted with another adapter than is there"),
    ],
)
def test_predictions_that_are_not_of_the_run_are_refused(tmp_path, data, part, message):
    """Such as those of another run, or from before run.yaml was changed."""
    first, second = (_answered(tmp_path, data, name, range(9)) for name in "ab")
    (first / "adapter").mkdir()
    (first / "adapter" / "adapter.json").write_text('{"sha256": "own"}')
    _predicted_by(first, part)
    with pytest.raises(DataError, match=message):
        compare(first, second)


def test_predictions_are_compared_where_the_adapter_was_not_passed_on(tmp_path, data):
    first, second = (_answered(tmp_path, data, name, range(9)) for name in "ab")
    _predicted_by(first, {"adapter_sha256": "gone"})
    assert compare(first, second).differences["AVG"].value == 0


def test_sides_of_one_name_are_told_by_their_places(tmp_path, data):
    for seed in (0, 1):
        _answered(tmp_path, data, "a", range(9 - seed), seed=seed)
    seeds = [tmp_path / "runs/a/seed0", tmp_path / "runs/a/seed1"]
    text = render(compare(*seeds))
    assert f"A: {seeds[0]} (1 seed)\nB: {seeds[1]} (1 seed)" in text


def _captioned(tmp_path, root, name, captions):
    rows = [{"id": str(i), "caption": text} for i, text in captions.items()]
    run = make_run(tmp_path, name=name, task="coco_caption", data_dir=str(root))
    return _evaluated(tmp_path / "runs" / name / "seed0", run, rows)


@pytest.fixture
def caption_root(tmp_path):
    root = tmp_path / "coco"
    (root / "karpathy").mkdir(parents=True)
    colors = ("red", "green", "very light blue", "gray", "black")
    texts = {i: [f"a {c} square on a table", f"one {c} square"] for i, c in enumerate(colors)}
    annotations = [
        {"id": 10 * i + number, "image_id": i, "caption": text}
        for i, pair in texts.items()
        for number, text in enumerate(pair)
    ]
    truth = {"images": [{"id": i} for i in texts], "annotations": annotations}
    (root / "karpathy" / "coco_karpathy_test_gt.json").write_text(json.dumps(truth))
    rows = [{"image": f"{i}.png"} for i in texts]
    (root / "karpathy" / "coco_karpathy_test.json").write_text(json.dumps(rows))
    return root, {i: pair[0] for i, pair in texts.items()}


@pytest.mark.java
def test_captions_are_compared_by_a_bootstrap_over_images(tmp_path, caption_root):
    root, right = caption_root
    good = _captioned(tmp_path, root, "good", right)
    bad = _captioned(tmp_path, root, "bad", dict.fromkeys(right, "a square on a chair"))
    found = compare(good, bad)
    first, second = found.scores["CIDEr"]
    assert found.differences["CIDEr"].value == pytest.approx(first.value - second.value)
    assert found.differences["CIDEr"].ci_low > 0
    assert found.scores["BLEU-1"][0].value == pytest.approx(1.0)
    assert found.tests == ()
    assert "document frequencies held fixed" in render(found)
    results = [{"image_id": i, "caption": text} for i, text in right.items()]
    for shape in (results, {"annotations": results}, {str(i): text for i, text in right.items()}):
        (tmp_path / "results.json").write_text(json.dumps(shape))
        same = compare(good, tmp_path / "results.json", data_dir=root)
        assert same.differences["CIDEr"].value == 0
        assert same.differences["CIDEr"].ci_low < 0 < same.differences["CIDEr"].ci_high


def test_tasks_are_not_mixed(tmp_path, data, caption_root):
    root, right = caption_root
    first = _answered(tmp_path, data, "a", range(9))
    with pytest.raises(DataError, match="compare runs of one task"):
        compare(first, _captioned(tmp_path, root, "captions", right))
