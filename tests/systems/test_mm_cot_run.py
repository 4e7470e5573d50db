"""Protects MM-CoT in the harness: two trainings of one run, and an evaluation through both."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from ademvl.config.evaluation import EvaluationSettings
from ademvl.config.run import RunSettings
from ademvl.config.study import load_study
from ademvl.data.collate import Batch, collate
from ademvl.data.rows import TokenizedExample
from ademvl.data.tokenizer import IGNORED_LABEL
from ademvl.errors import SettingsError
from ademvl.evaluation.run import evaluate_run
from ademvl.evaluation.two_stages import stated_index
from ademvl.llm.tokenizer import load_llm_tokenizer
from ademvl.model.build import build_trainable
from ademvl.systems.mm_cot.rows import stage_examples, tokenize
from ademvl.systems.mm_cot.settings import MmCotSettings
from ademvl.systems.mm_cot.system import divide
from ademvl.systems.trained import TrainableModel
from ademvl.training.loop import Trainer
from ademvl.training.run import train_run, training_rows
from tests.systems.tiny_mm_cot import SMALL, make_mm_cot_run
from tests.tiny import write_run

TOLERANCE = 1e-5  # fp32, other order of sums in a padded batch
WEIGHTS = ("rationale/adapter/adapter.safetensors", "adapter/adapter.safetensors")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mm_cot")


@pytest.fixture(scope="module")
def run(world: Path) -> RunSettings:
    return make_mm_cot_run(world, epochs=2.0)


@pytest.fixture(scope="module")
def rows(run: RunSettings) -> list[TokenizedExample]:
    return training_rows(run, "answer")


@pytest.fixture(scope="module")
def model(run: RunSettings) -> TrainableModel:
    online = dataclasses.replace(run, features=dataclasses.replace(run.features, mode="online"))
    return build_trainable(online).eval()


@pytest.fixture(scope="module")
def trained(run: RunSettings, world: Path) -> Path:
    run_dir = write_run(world / "runs/mm_cot/seed0", run)
    assert train_run(run_dir, progress=False) == 0
    return run_dir


def pixels_of(batch: Batch) -> torch.Tensor | None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(len(batch.item_ids), 3, 8, 8, generator=generator)
    return drawn[: int(batch.has_image.sum())] if batch.has_image.any() else None


def texts(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_row_is_a_source_and_behind_it_the_target(
    run: RunSettings, rows: list[TokenizedExample]
) -> None:
    tokenizer = load_llm_tokenizer(run.backbones)
    row = rows[0]
    is_target = row.labels != IGNORED_LABEL
    assert "The answer is (" in tokenizer.decode(row.ids[is_target])
    assert tokenizer.decode(row.ids[~is_target]).endswith("Answer:")
    assert row.ids[is_target][-1] == row.ids[~is_target][-1] == tokenizer.eos_id


def test_padding_of_targets_is_scored_if_asked_for(run: RunSettings) -> None:
    method = MmCotSettings(**SMALL, score_padding=True)
    padded = training_rows(dataclasses.replace(run, method=method), "answer")
    assert {int((row.labels != IGNORED_LABEL).sum()) for row in padded} == {10}


def test_long_sources_are_cut_and_keep_their_end_token(run: RunSettings) -> None:
    method = MmCotSettings(**{**SMALL, "max_source_tokens": 9})
    short = dataclasses.replace(run, method=method)
    tokenizer = load_llm_tokenizer(run.backbones)
    (row, *_) = tokenize(short, tokenizer, stage_examples(short, "test", "rationale"))
    assert (len(row.ids), row.ids[-1], row.is_shortened) == (9, tokenizer.eos_id, True)


def test_batches_are_divided_row_by_row(rows: list[TokenizedExample]) -> None:
    batch = collate(rows[:5], trim_after_labels=True)
    sources, mask, targets = divide(batch)
    for number, row in enumerate(rows[:5]):
        is_target = row.labels != IGNORED_LABEL
        assert sources[number][mask[number] == 1].tolist() == row.ids[~is_target].tolist()
        found = targets[number][targets[number] != IGNORED_LABEL]
        assert found.tolist() == row.ids[is_target].tolist()


def test_a_batch_changes_no_logits(model: TrainableModel, rows: list[TokenizedExample]) -> None:
    batch = collate(rows[:4], trim_after_labels=True)
    pixels = pixels_of(batch)
    assert pixels is not None
    with torch.no_grad():
        logits, targets, numbers = model.labelled_logits(batch, pixels)
        shown = iter(pixels)
        for number, row in enumerate(rows[:4]):
            single = collate([row], trim_after_labels=True)
            image = next(shown)[None] if row.image is not None else None
            alone = model.labelled_logits(single, image)
            assert_close(logits[numbers == number], alone.logits, atol=TOLERANCE, rtol=0)
            assert targets[numbers == number].tolist() == alone.targets.tolist()


def test_dropout_depends_on_the_epoch_and_not_on_what_was_drawn_before(
    model: TrainableModel, rows: list[TokenizedExample]
) -> None:
    batch = collate(rows[:2], trim_after_labels=True)
    found = []
    try:
        for seed, drawn in ((1, 0), (1, 3), (2, 0)):
            torch.rand(drawn)
            model.train().dropout_seed = seed
            with torch.no_grad():
                found.append(model.labelled_logits(batch, pixels_of(batch)).logits)
    finally:
        model.eval()
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_both_stages_learn_all_weights(trained: Path) -> None:
    for folder in (trained / "rationale", trained):
        provenance = json.loads((folder / "provenance.json").read_text("utf-8"))
        assert provenance["trainable_parameters_by_part"].keys() == {"t5", "fusion"}
        lines = (folder / "metrics.csv").read_text("utf-8").splitlines()[1:]
        losses = [float(line.split(",")[3]) for line in lines]
        assert losses[-1] < losses[0]


def test_an_interrupted_training_ends_in_the_same_weights(
    run: RunSettings, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = write_run(tmp_path / "runs/mm_cot/seed0", run)
    steps, original = iter(range(100)), Trainer.step

    def fail_once(self: Trainer, step: int) -> Any:
        if next(steps) in (3, 9):  # in either stage
            raise RuntimeError("interrupted")
        return original(self, step)

    monkeypatch.setattr(Trainer, "step", fail_once)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="interrupted"):
            train_run(run_dir, progress=False)
    assert (run_dir / "rationale/adapter/adapter.json").is_file()
    assert not (run_dir / "adapter/adapter.json").is_file()
    assert train_run(run_dir, progress=False) == 0
    for name in WEIGHTS:
        assert (run_dir / name).read_bytes() == (trained / name).read_bytes()


def test_the_second_stage_answers_behind_what_the_first_wrote(trained: Path) -> None:
    evaluate_run(trained, progress=False)

    written = texts(trained / "rationale/predictions/rationale.jsonl")
    answers = texts(trained / "predictions/scienceqa.jsonl")
    assert [row["id"] for row in answers] == [row["id"] for row in written]
    assert all(row["rationale"] in (each["text"], "Solution:")
               for row, each in zip(answers, written, strict=True))  # fmt: skip
    scores = json.loads((trained / "scores/scienceqa.json").read_text("utf-8"))
    unstated = sum(not row["states_answer"] for row in answers)
    assert (scores["n"], scores["num_without_stated_answer"]) == (4, unstated)


def test_a_text_without_an_answer_is_wrong_or_a_guess_out_of_five(run: RunSettings) -> None:
    guessing = dataclasses.replace(run, method=MmCotSettings(**SMALL, no_answer="random"))
    ids = [str(number) for number in range(400)]

    assert {stated_index(run, i, "no idea", num_choices=2) for i in ids} == {-1}
    guesses = [stated_index(guessing, i, "no idea", num_choices=2) for i in ids]
    assert {*guesses} == {-1, 0, 1}
    assert 0.5 < guesses.count(-1) / len(ids) < 0.7  # three of five letters are no choice
    stated = [stated_index(guessing, i, "The answer is (B).", num_choices=2) for i in ids]
    assert {*stated} == {1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "coco_caption"}, "method mm_cot is for scienceqa"),
        ({"adapter": "other"}, "mm_cot is always trained"),
    ],
)
def test_what_it_cannot_do_is_refused(changes: dict[str, Any], message: str) -> None:
    method = {"name": "mm_cot"}
    study = {
        "study": "x",
        "datasets": {"few": {"source": "easy_vqa"}},
        "defaults": {"dataset": "few", "method": method},
        "runs": {"other": {}, "one": changes},
    }
    with pytest.raises(SettingsError, match=message):
        load_study(study)


def test_how_it_is_evaluated_trains_nothing_anew(run: RunSettings) -> None:
    from ademvl.runs.identity import training_settings

    other = dataclasses.replace(
        run,
        method=MmCotSettings(**SMALL, no_answer="random"),
        evaluation=EvaluationSettings(split="val"),
    )
    assert training_settings(other) == training_settings(run)
