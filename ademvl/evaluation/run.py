"""Evaluates one trained run: predictions of every item, and their scores with intervals."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.adapter_file import adapter_checksum
from ademvl.config.run import RunSettings
from ademvl.config.schema import to_plain
from ademvl.config.study import read_run
from ademvl.data.captions import extract_caption, load_caption_images
from ademvl.data.examples import caption_evaluation_examples, scienceqa_evaluation_examples
from ademvl.data.scienceqa import load_scienceqa
from ademvl.data.tokenizer import Tokenizer, load_tokenizer
from ademvl.errors import DataError, SettingsError
from ademvl.evaluation.captions import score_captions
from ademvl.evaluation.prediction_loop import Predict, predict_rows
from ademvl.evaluation.predictions import PredictionLog, Row
from ademvl.evaluation.scienceqa import NO_ANSWER, answer_batch, letter_ids, score_scienceqa
from ademvl.files import read_json, write_json
from ademvl.llm.loading import llm_dir
from ademvl.locks import lock_file
from ademvl.training.identity import data_checksums, weight_checksums
from ademvl.versions import RESULT_VERSIONS

if TYPE_CHECKING:
    from ademvl.data.collate import Batch, TokenizedExample
    from ademvl.data.examples import Example
    from ademvl.model import VisionLanguageModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Task:
    """What differs between tasks.

    Attributes:
        examples: prompts in data set order.
        max_new_tokens: tokens generated for each.
        predict: rows of a batch, in order.
        score: scores of all rows, ready for JSON.
    """

    examples: "Sequence[Example]"
    max_new_tokens: int
    predict: Predict
    score: Callable[[Sequence[Row]], dict[str, object]]


def evaluate_run(run_dir: Path, *, progress: bool = True) -> None:
    """Predict and score the run in `run_dir`; do nothing when it is done for the same adapter.

    Killed at any moment, the same call goes on after the last whole batch.

    Args:
        run_dir: folder with run.yaml and adapter/.
        progress: show a progress bar on a terminal.

    Raises:
        SettingsError, DataError, WeightsError, CacheError, ToolError: what is wrong, what to do.
    """
    run = read_run(run_dir)
    # An evaluation whose workflow was killed may still be at work here: wait for it.
    with lock_file(run_dir / ".evaluate.lock"):
        _evaluate(run, run_dir, progress=progress)


def _evaluate(run: RunSettings, run_dir: Path, *, progress: bool) -> None:
    tokenizer = _load_tokenizer(run)
    task = _caption_task(run, tokenizer) if run.task == "coco_caption" else _qa_task(run, tokenizer)
    header = {
        "adapter_sha256": adapter_checksum(run_dir / "adapter"),
        "data": data_checksums(Path(run.data_dir)),
        "weights": weight_checksums(run.backbones),
        "settings": _relevant_settings(run),
        "version": RESULT_VERSIONS["evaluate"],
    }
    item_ids = [example.item_id for example in task.examples]
    log = PredictionLog(run_dir / "predictions", run.task, header=header, item_ids=item_ids)
    scores_path = run_dir / "scores" / f"{run.task}.json"
    rows = log.read_complete()
    if rows is not None and _is_current(scores_path, header):
        logger.info("%s: already evaluated with this adapter", run_dir)
        return
    tokenized = _tokenize(run, task, tokenizer)
    if rows is None:
        rows = predict_rows(
            run, run_dir, tokenized, log, task.predict, label=run.task, progress=progress
        )
    shortened = sum(row.is_shortened for row in tokenized)
    settings = to_plain(run.evaluation) | {"prompts": run.prompts.evaluation}
    identity = {"task": run.task, "study": run.study, "run": run.name, "seed": run.seed}
    counts = {"n": len(rows), "num_shortened_prompts": shortened}
    write_json(
        scores_path,
        identity | counts | {"settings": settings, "header": header} | task.score(rows),
    )


def _load_tokenizer(run: RunSettings) -> Tokenizer:
    folder = llm_dir(run.backbones)
    if folder is None:
        raise SettingsError(
            f"backbones.llm: {run.backbones.llm} is no folder; evaluation needs one that holds "
            "weights and tokenizer.model"
        )
    return load_tokenizer(folder)


def _relevant_settings(run: RunSettings) -> dict[str, Any]:
    """Return the settings that predictions depend on: the batch size is none of them."""
    plain = to_plain(run)
    kept = {key: plain[key] for key in ("task", "images", "method", "backbones", "prompts")}
    unused = "answer_by" if run.task == "coco_caption" else "decoding"
    evaluation = {
        key: value
        for key, value in plain["evaluation"].items()
        if key not in ("batch_size", unused)
    }
    shown = ("mode", "precision", "normalization")
    features = {key: value for key, value in plain["features"].items() if key in shown}
    return kept | {"evaluation": evaluation, "features": features}


def _is_current(scores_path: Path, header: Mapping[str, object]) -> bool:
    try:
        found = read_json(scores_path, remedy="It is written anew.")
    except DataError:
        return False
    return isinstance(found, dict) and found.get("header") == header


def _qa_task(run: RunSettings, tokenizer: Tokenizer) -> _Task:
    root = Path(run.data_dir)
    dataset = load_scienceqa(root)
    split = run.evaluation.split
    problems = dataset.split(split)
    num_choices = {problem.question_id: len(problem.choices) for problem in problems}
    answer_by = run.evaluation.answer_by
    if answer_by == "likelihood":
        letter_ids(tokenizer, max(num_choices.values(), default=0))

    def predict(model: "VisionLanguageModel", batch: "Batch", visual: Any) -> Sequence[Row]:
        return answer_batch(model, tokenizer, batch, visual, num_choices, answer_by=answer_by)

    def score(rows: Sequence[Row]) -> dict[str, object]:
        predicted = {str(row["id"]): int(str(row["predicted_index"])) for row in rows}
        columns = score_scienceqa(problems, predicted)
        return {
            "columns": {name: column.to_json() for name, column in columns.items()},
            "num_without_answer": sum(index == NO_ANSWER for index in predicted.values()),
        }

    return _Task(
        examples=scienceqa_evaluation_examples(dataset, split, run.prompts, run.images),
        max_new_tokens=1,
        predict=predict,
        score=score,
    )


def _caption_task(run: RunSettings, tokenizer: Tokenizer) -> _Task:
    from ademvl.evaluation.generation import generate

    root, split = Path(run.data_dir), run.evaluation.split
    images = load_caption_images(root, split)
    examples = caption_evaluation_examples(root, split, run.images, run.prompts)
    image_ids = [image.image_id for image in images]
    new_tokens = run.evaluation.max_new_tokens

    def predict(model: "VisionLanguageModel", batch: "Batch", visual: Any) -> Sequence[Row]:
        generated = generate(
            model,
            batch,
            visual,
            max_new_tokens=new_tokens,
            eos_id=tokenizer.eos_id,
            decoding=run.evaluation.decoding,
            seed=run.seed,
        )
        texts = [tokenizer.decode(ids) for ids in generated]
        return [
            {"id": item_id, "text": text, "caption": extract_caption(text)}
            for item_id, text in zip(batch.item_ids, texts, strict=True)
        ]

    def score(rows: Sequence[Row]) -> dict[str, object]:
        captions = {i: str(row["caption"]) for i, row in zip(image_ids, rows, strict=True)}
        references = {image.image_id: image.references for image in images}
        return score_captions(references, captions, with_ceiling=True).to_json()

    return _Task(
        examples=examples,
        max_new_tokens=new_tokens,
        predict=predict,
        score=score,
    )


def _tokenize(run: RunSettings, task: _Task, tokenizer: Tokenizer) -> "list[TokenizedExample]":
    from ademvl.data.collate import tokenize_examples

    return tokenize_examples(
        tokenizer,
        task.examples,
        max_seq_len=run.prompts.window - task.max_new_tokens,
        num_slots=run.method.num_slots,
        with_prefix=run.has_image_prefix,
        overflow="cut_end" if run.prompts.cuts_end else "keep_end",
    )
