"""Ways to a wrong number, each of which is refused, marked, or harmless.

All start from a study that was really trained and evaluated; `tests/finished_world.py` has the
commands and edits of the tests.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.runs.versions import RESULT_VERSIONS
from tests.finished_world import (
    DATA,
    NUM_TEST,
    STUDY,
    Outcome,
    World,
    copy_world,
    edit_json,
    edit_lines,
    edit_yaml,
    make_world,
    predictions_of,
    run_dir,
    scores_of,
)
from tests.tiny import set_weights

STUDY_FILE = STUDY / "study.yaml"
DIFFERENCE = "images over text-only: "


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    make_world(folder)
    return folder


@pytest.fixture
def world(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> World:
    monkeypatch.chdir(copy_world(finished, tmp_path / "project"))
    return World(capsys, caplog)


def refused(outcome: Outcome, *words: str) -> bool:
    """Whether a command ended with a message for users, which has these words."""
    assert "Traceback" not in outcome.text
    missing = [word for word in words if word not in outcome.text]
    assert (outcome.code, missing) == (2, []), outcome.text
    return True


def row_of(outcome: Outcome, label: str) -> str:
    """Return the row of a run in a table that was written."""
    assert outcome.code == 0, outcome.text
    pattern = rf"\| {re.escape(label)}(<sup>| +\|)"
    return next(line for line in outcome.text.splitlines() if re.match(pattern, line))


def is_printed(outcome: Outcome, label: str = "ADEM-VL") -> bool:
    """Whether a run has numbers in the main table."""
    return re.search(r"[\[(]\d+\.\d\d, ", row_of(outcome, label)) is not None


def test_the_study_itself_is_printed_with_its_differences(world: World) -> None:
    """Else the tests below would show nothing."""
    tables, summary = world.tables(), world.summary().text
    assert all(is_printed(tables, label) for label in ("ADEM-VL", "text-only control", "quirk"))
    assert "ADEM-VL minus text-only control" in " ".join(summary.split())
    assert summary.count(DIFFERENCE) == 2
    assert world.compare("adem", "text_only").code == 0


# What was trained ------------------------------------------------------------------------------


def test_training_that_diverges_is_refused_and_marked(world: World) -> None:
    edit_yaml(STUDY_FILE, "runs", "quirk", "optimization", "base_lr", value=1e6)
    shutil.rmtree(run_dir("quirk/seed0/adapter"))
    edit_yaml(run_dir("quirk/seed0/run.yaml"), "optimization", "base_lr", value=1e6)
    assert refused(world.ademvl("train", run_dir("quirk/seed0")), "base_lr")
    assert "failed" in row_of(world.tables(), "quirk")


@pytest.mark.parametrize("value", [float("nan"), 1e38])
def test_adapter_with_weights_or_logits_that_are_no_numbers_is_refused(
    world: World, value: float
) -> None:
    set_weights(run_dir("quirk/seed0"), value)
    assert refused(world.evaluate("quirk/seed0"), "not finite")
    assert not is_printed(world.tables(), "quirk")


@pytest.mark.parametrize("other", ["quirk/seed0", "text_only/seed0", "adem/seed1"])
def test_adapters_of_two_runs_or_seeds_exchanged_are_refused(world: World, other: str) -> None:
    ours, theirs = run_dir("adem/seed0/adapter"), run_dir(other) / "adapter"
    ours.rename("kept")
    theirs.rename(ours)
    Path("kept").rename(theirs)
    assert refused(world.evaluate("adem/seed0"), "adem/seed0")
    assert refused(world.evaluate(other), other)
    tables = world.tables()
    assert "stale" in tables.text or "unfinished" in tables.text


def test_adapter_under_other_settings_than_it_was_trained_with_is_refused(world: World) -> None:
    edit_yaml(run_dir("quirk/seed0/run.yaml"), "method", "gamma", value=0.9)
    assert refused(world.evaluate("quirk/seed0"), "gamma")


def test_language_model_changed_after_the_training_is_refused(world: World) -> None:
    from tests.tiny import make_llm

    make_llm(Path("llm"), seed=3, width=64)
    edit_yaml(run_dir("quirk/seed0/run.yaml"), "evaluation", "answer_by", value="greedy")
    assert refused(world.evaluate("quirk/seed0"), "trained with another language model")


@pytest.mark.parametrize("seed", [0, 2])
def test_copied_seed_is_refused_as_a_second_one(world: World, seed: int) -> None:
    """Also where its run.yaml was edited to say that it is another seed."""
    shutil.copytree(run_dir("adem/seed0"), run_dir("adem/seed2"))
    edit_yaml(run_dir("adem/seed2/run.yaml"), "seed", value=seed)
    assert refused(world.compare("adem", "text_only"), "seed2")


def test_steps_that_a_training_left_out_are_marked(world: World) -> None:
    edit_json(run_dir("quirk/seed0/provenance.json"), lambda raw: raw.update(skipped_steps=1))
    assert "left out 1 of 12 steps" in world.tables().text


# What was asked --------------------------------------------------------------------------------


def other_answers(problems: dict[str, Any]) -> None:
    """Turn the right answers of the test split round."""
    for problem in problems.values():
        if problem["split"] == "test":
            problem["answer"] = 1 - problem["answer"]


def keep_questions(number: int) -> None:
    """Take all but the first questions out of the test split."""
    gone = json.loads((DATA / "pid_splits.json").read_text())["test"][number:]
    edit_json(DATA / "pid_splits.json", lambda splits: splits.update(test=splits["test"][:number]))
    edit_json(DATA / "problems.json", lambda problems: [problems.pop(i) for i in gone])


def test_scores_on_answers_that_were_changed_since_are_marked(world: World) -> None:
    edit_json(DATA / "problems.json", other_answers)
    tables = world.tables()
    assert "stale" in row_of(tables, "ADEM-VL")
    assert DIFFERENCE not in world.summary().text
    assert refused(world.compare("adem", "text_only"), "other data")


def test_one_run_evaluated_on_changed_data_is_not_compared_with_the_others(world: World) -> None:
    edit_json(DATA / "problems.json", other_answers)
    assert world.evaluate("text_only/seed0").code == 0
    tables = world.tables()
    assert is_printed(tables, "text-only control")
    assert "stale" in row_of(tables, "ADEM-VL")
    assert DIFFERENCE not in world.summary().text
    assert refused(world.compare("adem", "text_only"))


def test_scores_on_images_that_were_changed_since_are_marked(world: World) -> None:
    first, second = sorted((DATA / "images/test").glob("*/image.png"))[:2]
    first.write_bytes(second.read_bytes())
    tables = world.tables()
    assert "stale" in row_of(tables, "ADEM-VL")
    assert is_printed(tables, "text-only control")  # which was shown none
    assert DIFFERENCE not in world.summary().text


def test_scores_on_questions_that_are_gone_are_marked(world: World) -> None:
    keep_questions(NUM_TEST - 1)
    assert "stale" in row_of(world.tables(), "ADEM-VL")


def test_questions_of_another_split_are_harmless(world: World) -> None:
    before = world.tables().text
    edit_json(DATA / "problems.json", lambda problems: problems["13"].update(question="Which?"))
    tables = world.tables()
    assert (
        row_of(tables, "ADEM-VL").split("|")[4:]
        == row_of(Outcome(0, before), "ADEM-VL").split("|")[4:]
    )


# What was written down -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("percent", 99.9),
        ("percent", 0.5),  # a fraction
        ("percent", 150),
        ("percent", -5),
        ("percent", float("nan")),
        ("percent", "50"),
        ("n", -5),
        ("n", 1.5),
        ("n", 10 * NUM_TEST),
        ("ci_low", 80.0),
    ],
)
def test_scores_edited_by_hand_are_refused(world: World, key: str, value: object) -> None:
    def edit(scores: dict[str, Any]) -> None:
        scores["columns"]["AVG"][key] = value

    edit_json(scores_of("quirk/seed0"), edit)
    assert refused(world.tables(), str(scores_of("quirk/seed0")))
    assert refused(world.summary(), str(scores_of("quirk/seed0")))


def test_scores_of_another_run_are_refused(world: World) -> None:
    shutil.copy(scores_of("text_only/seed0"), scores_of("quirk/seed0"))
    tables = world.tables()
    assert tables.code == 2 or not is_printed(tables, "quirk")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows[0].update(predicted_index=1 - rows[0]["predicted_index"]),
        lambda rows: rows.pop(),
        lambda rows: rows.append(rows[0]),
        lambda rows: rows[0].update(id=rows[1]["id"]),
        lambda rows: rows[0].update(id="13"),
        lambda rows: rows[0].update(predicted_index=7),
        lambda rows: rows[0].update(predicted_index=None),
        lambda rows: rows[0].update(predicted_index=True),
    ],
    ids=["other", "missing", "twice", "doubled", "val", "no_choice", "nothing", "boolean"],
)
def test_predictions_edited_by_hand_are_refused(world: World, spoil: Any) -> None:
    edit_lines(predictions_of("text_only/seed0"), spoil)
    path = str(predictions_of("text_only/seed0"))
    assert refused(world.compare("adem", "text_only"), path)
    assert refused(world.tables(), path)


def test_predictions_of_another_run_are_refused(world: World) -> None:
    for source in predictions_of("text_only/seed0").parent.iterdir():
        shutil.copy(source, predictions_of("quirk/seed0").parent / source.name)
    tables = world.tables()
    assert tables.code == 2 or not is_printed(tables, "quirk")
    assert refused(world.compare("quirk", "text_only"), "predicted with another adapter")


@pytest.mark.parametrize("name", ["scores", "predictions"])
def test_header_edited_by_hand_is_refused_or_marked(world: World, name: str) -> None:
    path = scores_of("quirk/seed0")
    if name == "predictions":
        path = predictions_of("quirk/seed0").with_suffix(".header.json")
    edit_json(path, lambda raw: raw.get("header", raw).update(adapter_sha256="0" * 64))
    tables = world.tables()
    assert tables.code == 2 or not is_printed(tables, "quirk")


def test_provenance_edited_by_hand_is_marked(world: World) -> None:
    edit_json(
        run_dir("quirk/seed0/provenance.json"), lambda raw: raw.update(identity_sha256="0" * 64)
    )
    assert not is_printed(world.tables(), "quirk")


def test_edited_scores_are_a_difference_though_the_predictions_are_the_same(world: World) -> None:
    original = copy_world(Path(), Path("../original")).absolute()
    edit_json(
        scores_of("quirk/seed0"), lambda scores: scores["columns"]["AVG"].update(percent=99.9)
    )
    found = world.ademvl("diff", STUDY, original / STUDY)
    assert found.code == 1
    assert "the scores differ, the predictions are the same" in found.text


def test_edited_scores_are_not_passed_on(world: World) -> None:
    edit_json(
        scores_of("quirk/seed0"), lambda scores: scores["columns"]["AVG"].update(percent=99.9)
    )
    assert refused(world.ademvl("bundle", STUDY, "--output", "tiny.zip"), "quirk")
    assert not Path("tiny.zip").exists()


def test_damaged_bundle_is_refused(world: World) -> None:
    assert world.ademvl("bundle", STUDY, "--output", "tiny.zip").code == 0
    content = bytearray(Path("tiny.zip").read_bytes())
    content[len(content) // 2] ^= 1
    Path("damaged.zip").write_bytes(content)
    assert refused(world.ademvl("diff", "tiny.zip", "damaged.zip"), "damaged.zip")


# Which study and settings ----------------------------------------------------------------------


def test_numbers_of_a_study_that_was_changed_since_are_marked(world: World) -> None:
    edit_yaml(STUDY_FILE, "runs", "quirk", "method", "gamma", value=0.7)
    assert "stale" in row_of(world.tables(), "quirk")
    effects = world.ademvl("effects", STUDY_FILE)
    assert "quirk: stale" in effects.text


def test_numbers_of_an_evaluation_with_other_settings_are_marked_or_refused(world: World) -> None:
    edit_yaml(STUDY_FILE, "runs", "quirk", "evaluation", "answer_by", value="letter")
    assert "stale" in row_of(world.tables(), "quirk")
    edit_yaml(run_dir("quirk/seed0/run.yaml"), "evaluation", "answer_by", value="letter")
    assert refused(world.compare("quirk", "adem"), "other settings than run.yaml has")


def test_numbers_of_an_earlier_version_are_marked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RESULT_VERSIONS, "evaluate", RESULT_VERSIONS["evaluate"] + 1)
    assert "stale" in row_of(world.tables(), "quirk")


def test_seed_that_the_study_no_longer_has_does_not_count(world: World) -> None:
    edit_yaml(STUDY_FILE, "runs", "adem", "seeds", value=[0])
    assert "| 0 " in row_of(world.tables(), "ADEM-VL")


def test_seeds_of_different_settings_are_refused(world: World) -> None:
    edit_yaml(run_dir("adem/seed1/run.yaml"), "optimization", "base_lr", value=0.1)
    assert refused(world.compare("adem", "text_only"), "optimization")


def test_old_scores_do_not_count_while_the_run_trains_again(world: World) -> None:
    (run_dir("quirk/seed0") / "adapter/adapter.json").unlink()
    assert "unfinished" in row_of(world.tables(), "quirk")


def test_mini_models_in_a_column_of_the_papers_are_refused(world: World) -> None:
    edit_yaml(STUDY_FILE, "runs", "quirk", "backbones", "llm", value="mini")
    edit_yaml(STUDY_FILE, "scale", value="paper")
    assert refused(world.tables(), "scale is paper")


# What stands side by side ----------------------------------------------------------------------


def score_on_val(world: World, run: str) -> None:
    edit_yaml(STUDY_FILE, "runs", run, "evaluation", "split", value="val")
    for seed in run_dir(run).iterdir():
        edit_yaml(seed / "run.yaml", "evaluation", "split", value="val")
        assert world.evaluate(f"{run}/{seed.name}").code == 0


def test_val_beside_test_is_marked_and_not_compared(world: World) -> None:
    score_on_val(world, "quirk")
    assert is_printed(world.tables(), "quirk (val)")
    summary = world.summary().text
    assert "quirk (val)" in summary
    assert "quirk: +" not in summary
    assert "4, 6" in summary  # n of IMG and of AVG, beside those of test
    assert f"16, {NUM_TEST}" in summary
    assert refused(world.compare("quirk", "adem"), "were not asked the same")
    assert "gamma" not in world.ademvl("effects", STUDY_FILE).text


def test_control_that_was_asked_in_another_way_is_not_compared(world: World) -> None:
    edit_yaml(STUDY_FILE, "runs", "text_only", "evaluation", "answer_by", value="letter")
    edit_yaml(run_dir("text_only/seed0/run.yaml"), "evaluation", "answer_by", value="letter")
    assert world.evaluate("text_only/seed0").code == 0
    assert is_printed(world.tables(), "text-only control")
    assert DIFFERENCE not in world.summary().text


def test_runs_with_one_label_are_told_apart(world: World) -> None:
    for run in ("adem", "text_only"):
        edit_yaml(STUDY_FILE, "runs", run, "label", value="same")
    summary = world.summary().text
    assert "same (adem) minus same (text_only)" in " ".join(summary.split())


def test_runs_that_answer_all_alike_are_not_said_to_be_equal(world: World) -> None:
    found = world.compare("adem/seed0", "quirk/seed0")
    assert "+0.00 (-13.80, +13.80)†" in found.text  # z^2 / (24 + z^2)


def test_a_single_question_says_next_to_nothing(world: World) -> None:
    keep_questions(1)
    world.evaluate("adem/seed0", "quirk/seed0")
    assert "+0.00 (-79.35, +79.35)†" in world.compare("adem/seed0", "quirk/seed0").text


@pytest.mark.parametrize(
    "arguments",
    [
        ("--difference", "nan"),
        ("--difference", "-1"),
        ("--difference", "150"),
        ("--seed-spread", "inf"),
        ("--seed", "-1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(world: World, arguments: tuple[str, str]) -> None:
    option, number = arguments
    assert refused(world.compare("adem", "text_only", f"{option}={number}"), number, option)


# Files of other people -------------------------------------------------------------------------


def answers(**changes: Any) -> dict[str, Any]:
    """Return the right answers to the test split, with changes."""
    problems = json.loads((DATA / "problems.json").read_text())
    right = {i: problem["answer"] for i, problem in problems.items() if problem["split"] == "test"}
    return {i: value for i, value in {**right, **changes}.items() if value is not ...}


def score(world: World, predictions: object, *arguments: str) -> Outcome:
    text = predictions if isinstance(predictions, str) else json.dumps(predictions)
    Path("theirs.json").write_text(text)
    files = ("--problems", DATA / "problems.json", "--predictions", "theirs.json")
    return world.ademvl("score", "scienceqa", *files, *arguments)


def test_right_answers_of_others_score_all(world: World) -> None:
    assert "100.00" in score(world, answers()).text


@pytest.mark.parametrize(
    "changes",
    [{"20": ...}, {"13": 0}, {"20": 7}, {"20": 1.5}, {"20": True}],
    ids=["part", "other_split", "no_choice", "fraction", "boolean"],
)
def test_files_that_do_not_answer_what_was_asked_are_refused(
    world: World, changes: dict[str, Any]
) -> None:
    found = score(world, answers(**changes))
    assert refused(found, next(iter(changes)))
    found = world.ademvl("compare", run_dir("adem"), "theirs.json", "--data", DATA)
    assert refused(found, next(iter(changes)))


def test_file_that_answers_a_question_twice_is_refused(world: World) -> None:
    text = json.dumps(answers())
    assert refused(score(world, f'{{"20": 0, {text[1:]}'), "20")


def test_file_scored_on_another_split_is_refused(world: World) -> None:
    assert refused(score(world, answers(), "--split", "val"))


def test_file_of_which_much_cannot_be_read_does_not_pass_in_silence(world: World) -> None:
    texts = dict.fromkeys(answers(), "It is hard to say.")
    assert score(world, texts).code != 0


def test_captions_are_not_compared_with_answers(world: World) -> None:
    Path("theirs.json").write_text(json.dumps([{"image_id": 1, "caption": "a dog"}]))
    assert refused(world.ademvl("compare", run_dir("adem"), "theirs.json", "--data", DATA))


# What is harmless ------------------------------------------------------------------------------


def test_order_of_a_file_is_harmless(world: World) -> None:
    there = score(world, answers(**{"20": 0, "21": 0})).text
    back = score(world, dict(reversed(answers(**{"20": 0, "21": 0}).items()))).text
    assert there == back


def test_another_batch_size_is_harmless(world: World) -> None:
    before = json.loads(scores_of("quirk/seed0").read_text())["columns"]
    shutil.rmtree(scores_of("quirk/seed0").parent)
    shutil.rmtree(predictions_of("quirk/seed0").parent)
    edit_yaml(run_dir("quirk/seed0/run.yaml"), "evaluation", "batch_size", value=5)
    assert world.evaluate("quirk/seed0").code == 0
    assert json.loads(scores_of("quirk/seed0").read_text())["columns"] == before


def test_another_folder_of_the_whole_project_is_harmless(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.tables().text
    monkeypatch.chdir(Path.cwd().rename(Path.cwd().with_name("moved")))
    assert world.tables().text == before


def test_text_of_a_label_is_never_a_formula_or_a_number(world: World) -> None:
    edit_yaml(STUDY_FILE, "runs", "quirk", "label", value="=1+1")
    world.tables()
    assert ",'=1+1," in (STUDY / "tables/accuracy.csv").read_text()


def test_note_to_a_column_that_does_not_exist_is_refused(world: World) -> None:
    edit_yaml(STUDY_FILE, "column_notes", value={"IMG": "with an image"})
    assert refused(world.tables(), "column_notes.IMG", "did you mean img?")


def test_left_over_table_does_not_outlive_its_scores(world: World) -> None:
    assert is_printed(world.tables(), "quirk")
    shutil.rmtree(run_dir("quirk"))
    assert "not run" in row_of(world.tables(), "quirk")


def test_settings_of_the_study_are_those_of_the_tests(world: World) -> None:
    """The names that the tests above use."""
    assert list(yaml.safe_load(STUDY_FILE.read_text())["runs"]) == ["adem", "text_only", "quirk"]
