"""The loop over batches that predicts with a trained run, whatever is asked of it.

Where all is predicted already, by the process that trained, no model is loaded, nor torch.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RunSettings
from ademvl.data.batching import batches_by_length
from ademvl.evaluation.predictions import PredictionLog
from ademvl.machine.devices import compute_device, set_threads
from ademvl.model.adapter_file import load_adapter
from ademvl.planning.out_of_memory import evaluation_advice, explained_out_of_memory
from ademvl.runs.answer_speed import AnswerSpeed, speed_file, write_speed
from ademvl.runs.run_files import RunFiles
from ademvl.tasks.base import Row

if TYPE_CHECKING:
    from ademvl.data.collate import Batch
    from ademvl.data.rows import TokenizedExample
    from ademvl.model.build import Answering

Predict = Callable[["Answering", "Batch", Any], Sequence[Row]]
"""Model, batch and its visual input to the rows of the batch, in order."""
LoadModel = Callable[[], "Answering"]
"""Gives the run's model with its adapter, in evaluation mode."""


@dataclass(frozen=True)
class Answerer:
    """What answers the items of a run, and how.

    Attributes:
        run: whose evaluation says how many items go together, and whose features are read.
        load_model: called once, before the first item that is left to be predicted.
        predict: what is asked of the model.
    """

    run: RunSettings
    load_model: LoadModel
    predict: Predict

    @contextmanager
    def answering(
        self, tokenized: "Sequence[TokenizedExample]", *, progress: bool
    ) -> Iterator[Callable[[Sequence[int]], Sequence[Row]]]:
        """Load the model, and yield what answers items, given by their numbers, as one batch."""
        import torch

        from ademvl.data.collate import collate
        from ademvl.machine.cpu_kernels import fast_cpu
        from ademvl.machine.precision import autocast
        from ademvl.model.build import open_images

        run, model = self.run, self.load_model()
        images = list(dict.fromkeys(row.image for row in tokenized if row.image is not None))
        source = open_images(run, images, model, progress=progress)

        def answer(items: Sequence[int]) -> Sequence[Row]:
            batch = collate([tokenized[item] for item in items], trim_after_labels=False)
            with torch.inference_mode(), autocast(model.device, run.backbones.precision):
                return self.predict(model, batch, source.for_batch(batch))

        with (
            fast_cpu(model.device),
            explained_out_of_memory(lambda: evaluation_advice(run, model.device)),
        ):
            yield answer


def load_trained(run: RunSettings, run_dir: Path, *, threads: int | None = None) -> "Answering":
    """Load a run's model with its adapter, or its whole system, in evaluation mode.

    Args:
        run_dir: folder with adapter/.
        threads: of torch on the CPU; None leaves its own choice.

    Raises:
        SettingsError, WeightsError: what is wrong, what to do.
    """
    from ademvl.model.build import build_trainable

    set_threads(threads)
    device = compute_device(run.backbones)
    if run.method.kind == "pretrained":
        from ademvl.systems.registry import load_system

        return load_system(run, device)
    model = build_trainable(run, device=device)
    load_adapter(RunFiles(run_dir).adapter, model)
    return model.eval()


def predict_rows(
    answerer: Answerer,
    tokenized: "Sequence[TokenizedExample]",
    log: PredictionLog,
    *,
    progress: bool,
    ahead: bool = False,
) -> list[Row]:
    """Predict all items, going on after the last whole batch in `log`.

    Items of like length are predicted together, whatever their order. How long the models took is
    written beside the predictions.

    Args:
        answerer: loads its model only where something is left to be predicted.
        tokenized: prompts, in the order of `log`.
        log: where rows are kept; its task stands before the progress bar.
        progress: show a progress bar, on a terminal only.
        ahead: see `PredictionLog.filling`.

    Raises:
        SettingsError, DataError, WeightsError, CacheError, OutOfMemoryError: what is wrong, what to
            do.
    """
    from tqdm import tqdm

    lengths = [len(row.ids) for row in tokenized]
    batches = batches_by_length(lengths, max_rows=answerer.run.evaluation.batch_size)
    bar_is_off = None if progress else True  # None: shown on a terminal only
    took: list[tuple[int, float]] = []  # items and seconds of each batch
    with (
        tqdm(total=len(tokenized), desc=log.task, unit="item", disable=bar_is_off) as bar,
        log.filling(batches, ahead=ahead) as filling,
    ):
        bar.update(filling.num_found)
        if filling.missing:
            with answerer.answering(tokenized, progress=progress) as answer:
                for items in filling.missing:
                    started = time.perf_counter()
                    rows = answer(items)
                    took.append((len(items), time.perf_counter() - started))
                    filling.append(rows)
                    bar.update(len(items))
    if took:
        answered, seconds = map(sum, zip(*took, strict=True))
        write_speed(speed_file(log.path), AnswerSpeed(int(answered), seconds))
    return filling.rows()
