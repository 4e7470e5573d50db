"""What evaluation asks of a trained run, and how predictions of any task are made and kept.

Killed at any moment, the same call goes on after the last whole batch; predictions of another
adapter, other data or other settings are made anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.run import RunSettings
from ademvl.data.tokenizer import Tokenizer
from ademvl.errors import DataError
from ademvl.evaluation.asked import Asked
from ademvl.evaluation.prediction_loop import Answerer, LoadModel, Predict, predict_rows
from ademvl.evaluation.predictions import PredictionLog
from ademvl.llm.tokenizer import load_llm_tokenizer
from ademvl.runs.adapter_folder import adapter_checksum, check_settings
from ademvl.runs.adapter_training import check_training
from ademvl.runs.identity import evaluation_settings, weight_checksums, without_places
from ademvl.runs.run_files import RunFiles
from ademvl.runs.versions import RESULT_VERSIONS
from ademvl.tasks.base import Row

if TYPE_CHECKING:
    from ademvl.data.examples import Example
    from ademvl.data.rows import TokenizedExample


@dataclass(frozen=True)
class EvaluationTask:
    """What differs between tasks.

    Attributes:
        name: stem of the files with predictions and scores.
        examples: prompts in data set order.
        max_new_tokens: tokens generated for each.
        predict: rows of a batch, in order.
        asked: checksums of what is asked, and how rows are scored.
    """

    name: str
    examples: "Sequence[Example]"
    max_new_tokens: int
    predict: Predict
    asked: Asked


class TaskPredictions:
    """Predictions of one run for one task: those that are there, or new ones.

    Args:
        run_dir: folder with adapter/.
        task: what is asked.
        tokenizer: of what answers; None where answers are read from a file.
        other_folder: where new predictions go instead of the run's predictions/, which are read
            only then.

    Attributes:
        header: what the predictions depend on.
        item_ids: of all that is asked, in data set order.

    Raises:
        DataError: nothing is asked.
        WeightsError: there is no complete adapter, or it was trained with other settings or is
            another run's.
    """

    def __init__(
        self,
        run: RunSettings,
        run_dir: Path,
        task: EvaluationTask,
        tokenizer: Tokenizer | None,
        *,
        other_folder: Path | None = None,
    ) -> None:
        if not task.examples:
            folder = run.evaluation_data_dir or run.data_dir
            raise DataError(
                f"{folder}: nothing to evaluate, split {run.evaluation.split!r} is empty. Choose "
                "another one by evaluation.split, or make the data again."
            )
        self._run = run
        self._task = task
        self._tokenizer = tokenizer
        weights = weight_checksums(run.backbones)
        files = RunFiles(run_dir)
        self.header: dict[str, object] = {
            "adapter_sha256": adapter_checksum(files.adapter),
            "data": dict(task.asked.data),
            "weights": weights,
            "settings": without_places(evaluation_settings(run, task=task.name), weights),
            "version": RESULT_VERSIONS["evaluate"],
        }
        check_settings(files.adapter, run)
        check_training(files.adapter, run)
        self.item_ids = [example.item_id for example in task.examples]
        folders = [files.predictions_dir, *([other_folder] if other_folder else [])]
        self._logs = [
            PredictionLog(folder, task.name, header=self.header, item_ids=self.item_ids)
            for folder in folders
        ]

    @property
    def path(self) -> Path:
        """File of the run's own predictions."""
        return self._logs[0].path

    def read_complete(self) -> list[Row] | None:
        """Return all predictions if they are there already, else None."""
        found = (log.read_complete() for log in self._logs)
        return next((rows for rows in found if rows is not None), None)

    def make(
        self,
        tokenized: "Sequence[TokenizedExample]",
        *,
        load_model: LoadModel,
        progress: bool,
        ahead: bool = False,
    ) -> list[Row]:
        """Return all predictions, made as far as they are not there.

        Args:
            tokenized: as `tokenize` gives them.
            load_model: called only where predictions are missing.
            progress: show a progress bar, on a terminal only.
            ahead: see `PredictionLog.filling`.

        Raises:
            SettingsError, DataError, WeightsError, CacheError: what is wrong, what to do.
        """
        rows = self.read_complete()
        if rows is not None:
            return rows
        answerer = Answerer(self._run, load_model, self._task.predict)
        return predict_rows(answerer, tokenized, self._logs[-1], progress=progress, ahead=ahead)

    def keep(self, rows: Sequence[Row]) -> list[Row]:
        """Keep rows that another program made, one an item, as the run's own."""
        with self._logs[-1].filling([range(len(rows))]) as filling:
            if filling.missing:
                filling.append(rows)
        return filling.rows()

    def tokenize(self) -> "list[TokenizedExample]":
        """Return the task's prompts as rows; those that are too long are cut to fit.

        Raises:
            SettingsError: `prompts.max_seq_len` leaves no room for text.
        """
        task = self._task
        if self._tokenizer is None:
            raise ValueError("answers are read from a file: there is no tokenizer")
        return tokenize_prompts(
            self._run, self._tokenizer, task.examples, max_new_tokens=task.max_new_tokens
        )


def load_run_tokenizer(run: RunSettings) -> Tokenizer:
    """Load the tokenizer of what answers in a run.

    Raises:
        WeightsError, SettingsError: it is missing or damaged, or of another system.
    """
    if run.method.kind == "pretrained":
        from ademvl.systems.registry import text_of

        return text_of(run).tokenizer
    return load_llm_tokenizer(run.backbones)


def tokenize_prompts(
    run: RunSettings,
    tokenizer: Tokenizer,
    examples: "Sequence[Example]",
    *,
    max_new_tokens: int,
) -> "list[TokenizedExample]":
    """Return a run's prompts as the rows that its evaluation reads.

    Args:
        tokenizer: of the run's language model; a system has its own.

    Raises:
        SettingsError: `prompts.max_seq_len` leaves no room for text.
    """
    if run.method.kind == "pretrained":
        from ademvl.systems.registry import text_of

        return text_of(run).tokenize(examples, max_new_tokens=max_new_tokens)
    if run.method.kind == "trained_whole":
        from ademvl.systems.mm_cot.rows import tokenize

        return tokenize(run, tokenizer, examples)
    from ademvl.data.rows import RowLayout, tokenize_examples

    return tokenize_examples(
        tokenizer,
        examples,
        RowLayout.of_run(run, tokenizer),
        max_seq_len=run.prompts.window - max_new_tokens,
        overflow="cut_end" if run.prompts.cuts_end else "keep_end",
    )
