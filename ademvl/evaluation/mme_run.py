"""Answers the MME benchmark with a trained run, and writes the answer files that are scored.

Answers are generated greedily after the prompt of instruction data. Images are preprocessed as in
the run's own training. Killed at any moment, the same call goes on after the last whole batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RunSettings
from ademvl.data.examples import Example
from ademvl.data.mme import TASKS, MmeAnswer, MmeQuestion, load_benchmark, write_answers
from ademvl.data.prompts import build_instruction_prompt
from ademvl.errors import DataError, SettingsError
from ademvl.evaluation.predictions import PredictionLog, Row
from ademvl.versions import RESULT_VERSIONS

if TYPE_CHECKING:
    from ademvl.data.collate import Batch
    from ademvl.data.tokenizer import Tokenizer
    from ademvl.model import VisionLanguageModel

PREDICTIONS = "mme"


def answer_benchmark(
    run_dir: Path,
    benchmark: Path,
    answers: Path,
    *,
    max_new_tokens: int = 20,
) -> None:
    """Answer every question of a benchmark folder and write `answers`/<task>.txt.

    Args:
        run_dir: folder with run.yaml and adapter/; answers are kept in its predictions/ as well.
        benchmark: folder of the benchmark, whole or some of its tasks.
        answers: folder that gets one file a task.
        max_new_tokens: greedy tokens of an answer at most.

    Raises:
        SettingsError, DataError, WeightsError, CacheError, ToolError: what is wrong, what to do.
    """
    from ademvl.config.study import read_run
    from ademvl.locks import lock_file

    run = read_run(run_dir)
    if max_new_tokens < 1:
        raise SettingsError(f"--max-new-tokens: {max_new_tokens}, expected >= 1")
    questions = load_benchmark(benchmark)
    tasks = dict.fromkeys(question.task for question in questions)
    stale = [task for task in TASKS if task not in tasks and (answers / f"{task}.txt").exists()]
    if stale:
        raise DataError(
            f"{answers}: holds answers to {', '.join(stale)}, which {benchmark} does not ask. "
            "Name another folder, or remove them."
        )
    with lock_file(run_dir / ".evaluate.lock"):
        rows = _answer(run, run_dir, questions, max_new_tokens)
    by_task: dict[str, list[MmeAnswer]] = {task: [] for task in tasks}
    for question, row in zip(questions, rows, strict=True):
        answer = MmeAnswer(
            question.image.name, question.question, question.gold, str(row["text"]).strip()
        )
        by_task[question.task].append(answer)
    write_answers(answers, by_task)


def _answer(
    run: RunSettings,
    run_dir: Path,
    questions: Sequence[MmeQuestion],
    max_new_tokens: int,
) -> list[Row]:
    from ademvl.adapter_file import adapter_checksum
    from ademvl.config.schema import to_plain
    from ademvl.data.tokenizer import load_tokenizer
    from ademvl.llm.loading import llm_dir
    from ademvl.training.identity import weight_checksums
    from ademvl.vision.image_digests import digest_images

    digests = digest_images([question.image for question in questions], progress=True)
    plain = to_plain(run)
    header = {
        "adapter_sha256": adapter_checksum(run_dir / "adapter"),
        "weights": weight_checksums(run.backbones),
        "settings": {key: plain[key] for key in ("task", "images", "method", "backbones")},
        "max_seq_len": run.prompts.max_seq_len,
        "max_new_tokens": max_new_tokens,
        "questions": [
            [question.task, digests[question.image], question.question] for question in questions
        ],
        "version": RESULT_VERSIONS["evaluate_mme"],
    }
    examples = [_example(question, number, run) for number, question in enumerate(questions)]
    item_ids = [example.item_id for example in examples]
    log = PredictionLog(run_dir / "predictions", PREDICTIONS, header=header, item_ids=item_ids)
    rows = log.read_complete()
    if rows is None:
        folder = llm_dir(run.backbones)
        if folder is None:
            raise SettingsError(
                f"backbones.llm: {run.backbones.llm} is no folder; evaluation needs one that holds "
                "weights and tokenizer.model"
            )
        rows = _predict(run, run_dir, examples, load_tokenizer(folder), log, max_new_tokens)
    return rows


def _example(question: MmeQuestion, number: int, run: RunSettings) -> Example:
    return Example(
        item_id=f"{question.task}/{question.image.name}/{number}",
        prompt=build_instruction_prompt(question.question),
        answer="",
        image=question.image if run.images == "shown" else None,
        context=question.question,
    )


def _predict(
    run: RunSettings,
    run_dir: Path,
    examples: Sequence[Example],
    tokenizer: "Tokenizer",
    log: PredictionLog,
    max_new_tokens: int,
) -> list[Row]:
    from ademvl.data.collate import tokenize_examples
    from ademvl.evaluation.generation import generate
    from ademvl.evaluation.prediction_loop import predict_rows

    tokenized = tokenize_examples(
        tokenizer,
        examples,
        max_seq_len=run.prompts.max_seq_len - max_new_tokens,
        num_slots=run.method.num_slots,
        with_prefix=run.has_image_prefix,
    )

    def predict(model: "VisionLanguageModel", batch: "Batch", visual: Any) -> Sequence[Row]:
        generated = generate(
            model, batch, visual, max_new_tokens=max_new_tokens, eos_id=tokenizer.eos_id
        )
        return [
            {"id": item_id, "text": tokenizer.decode(ids)}
            for item_id, ids in zip(batch.item_ids, generated, strict=True)
        ]

    return predict_rows(run, run_dir, tokenized, log, predict, label="mme", progress=True)
