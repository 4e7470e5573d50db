"""Protects from scores of nothing: a split without items is refused by name."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ademvl.errors import DataError
from ademvl.evaluation.asked import Asked
from ademvl.evaluation.task import EvaluationTask, TaskPredictions
from ademvl.tasks.coco_caption.metrics.files import CaptionOptions, score_caption_file
from tests import tiny

TOKENIZER: Any = None  # not used where nothing is asked


def test_evaluation_of_an_empty_split_is_refused_before_any_work(tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path)
    task = EvaluationTask(
        name="scienceqa",
        examples=[],
        max_new_tokens=1,
        predict=lambda *_: [],
        asked=Asked(data={}, score=lambda _: {}, is_cheap=True),
    )
    with pytest.raises(DataError, match=f"{run.data_dir}: nothing to evaluate, split 'test' is"):
        TaskPredictions(run, tmp_path, task, TOKENIZER)
    val = dataclasses.replace(run.evaluation, split="val")
    with pytest.raises(DataError, match="split 'val' is empty"):
        TaskPredictions(dataclasses.replace(run, evaluation=val), tmp_path, task, TOKENIZER)


def test_references_without_captions_are_named(tmp_path: Path) -> None:
    references, results = tmp_path / "references.json", tmp_path / "results.json"
    references.write_text(json.dumps({"images": [], "annotations": []}))
    results.write_text("[]")
    with pytest.raises(DataError, match=r"references\.json: holds no captions to score by"):
        score_caption_file(references, results, options=CaptionOptions())
