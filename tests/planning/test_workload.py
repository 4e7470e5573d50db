"""Protects what a run has to do: read from data, or from published sizes and assumed lengths."""

import dataclasses

import pytest

from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import BackboneSettings, PromptSettings, RunSettings
from ademvl.planning.workload import workload_of
from ademvl.tasks.registry import evaluation_examples
from ademvl.training.run import training_rows
from tests.tiny import make_run


def _paper_run(task, **changes):
    run = RunSettings(
        study="s",
        name="r",
        seed=0,
        task=task,
        data_dir="missing/scienceqa",
        backbones=BackboneSettings(llm="missing/llama_7b"),
    )
    return dataclasses.replace(run, **changes)


def test_rows_of_data_that_is_there_are_those_of_training(tmp_path):
    run = make_run(tmp_path)
    workload = workload_of(run, DatasetSettings(source="scienceqa"))
    rows = training_rows(run)
    assert workload.assumptions == ()
    assert workload.training.items == len(rows)
    assert workload.training.images == sum(row.image is not None for row in rows)
    assert sorted(row.width for row in workload.training.rows) == sorted(
        len(row.ids) for row in rows
    )
    assert max(row.width for row in workload.training.longest) == max(len(r.ids) for r in rows)
    assert workload.evaluation.items == len(evaluation_examples(run))


def test_withheld_images_are_no_work(tmp_path):
    run = dataclasses.replace(make_run(tmp_path), images="withheld")
    workload = workload_of(run, DatasetSettings(source="scienceqa"))
    assert workload.training.images == 0
    assert not any(row.has_image for row in workload.training.rows)


# ScienceQA: arXiv 2209.09513, table 1; COCO: the Karpathy splits.
@pytest.mark.parametrize(
    ("task", "source", "items", "images"),
    [
        ("scienceqa", "scienceqa", (12_726, 4_241), (6_218, 2_017)),
        ("coco_caption", "coco_caption", (566_747, 5_000), (113_287, 5_000)),
        ("instruction", "lavin_instruct", (209_714, 2_374), (81_479, 1_187)),
    ],
)
def test_published_sizes_stand_in_for_missing_data(task, source, items, images):
    workload = workload_of(_paper_run(task), DatasetSettings(source=source))
    assert (workload.training.items, workload.evaluation.items) == items
    assert (workload.training.images, workload.evaluation.images) == images
    assert "the data is not there yet" in workload.assumptions[0]


def test_a_data_set_that_is_cut_down_has_so_many_items():
    settings = DatasetSettings(source="scienceqa", take={"train": 800})
    workload = workload_of(_paper_run("scienceqa"), settings)
    assert (workload.training.items, workload.evaluation.items) == (800, 4_241)
    assert workload.training.images == round(800 * 6_218 / 12_726)


def test_assumed_share_of_images_is_the_published_one():
    rows = workload_of(_paper_run("scienceqa"), DatasetSettings(source="scienceqa")).training.rows
    share = sum(row.has_image for row in rows) / len(rows)
    assert share == pytest.approx(6_218 / 12_726, abs=0.025)


def test_explanations_make_assumed_rows_longer():
    def mean(train_format):
        prompts = PromptSettings(train_format=train_format, max_seq_len=2048)
        run = _paper_run("scienceqa", prompts=prompts)
        rows = workload_of(run, DatasetSettings(source="scienceqa")).training.rows
        return sum(row.width for row in rows) / len(rows)

    assert mean("QCM-ALE") > mean("QCM-A") + 200


def test_sizes_of_data_that_is_made_here_are_its_settings():
    run = _paper_run("coco_caption")
    dataset = DatasetSettings(source="easy_vqa", caption_train_images=7, caption_test_images=2)
    workload = workload_of(run, dataset)
    assert (workload.training.items, workload.training.images) == (35, 7)
    assert workload.evaluation.items == 2


def test_malformed_data_is_an_assumption_that_says_so(tmp_path):
    run = make_run(tmp_path)
    (tmp_path / "data" / "scienceqa" / "problems.json").write_text("{", encoding="utf-8")
    workload = workload_of(run, DatasetSettings(source="scienceqa"))
    assert any("data could not be read" in text for text in workload.assumptions)
    assert workload.training.items == 12_726
