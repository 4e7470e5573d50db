"""The loop over batches that predicts with a trained run, whatever is asked of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RunSettings
from ademvl.evaluation.batching import batches_by_length
from ademvl.evaluation.predictions import PredictionLog, Row
from ademvl.machine.devices import compute_device
from ademvl.machine.precision import autocast
from ademvl.model.adapter_file import load_adapter
from ademvl.planning.out_of_memory import evaluation_advice, explained_out_of_memory

if TYPE_CHECKING:
    from ademvl.data.collate import Batch
    from ademvl.data.rows import TokenizedExample
    from ademvl.model.vision_language import VisionLanguageModel

Predict = Callable[["VisionLanguageModel", "Batch", Any], Sequence[Row]]
"""Model, batch and its visual input to the rows of the batch, in order."""


def predict_rows(
    run: RunSettings,
    run_dir: Path,
    tokenized: "Sequence[TokenizedExample]",
    log: PredictionLog,
    predict_batch: Predict,
    *,
    label: str,
    progress: bool,
) -> list[Row]:
    """Predict all items with the run's adapter, going on after the last whole batch in `log`.

    Items of like length are predicted together, whatever their order.

    Args:
        run: its settings.
        run_dir: folder with adapter/.
        tokenized: prompts, in the order of `log`.
        log: where rows are kept.
        predict_batch: what to ask of the model.
        label: of the progress bar.
        progress: show a progress bar on a terminal.

    Raises:
        SettingsError, DataError, WeightsError, CacheError, OutOfMemoryError: what is wrong, what to
            do.
    """
    import torch
    from tqdm import tqdm

    from ademvl.data.collate import collate
    from ademvl.machine.cpu_kernels import fast_cpu
    from ademvl.model.build import build_model
    from ademvl.vision.features.source import open_visual_source

    device = compute_device(run.backbones)
    model = build_model(run, device=device)
    load_adapter(run_dir / "adapter", model)
    model.eval()
    images = list(dict.fromkeys(row.image for row in tokenized if row.image is not None))
    source = open_visual_source(
        run, images, tower=model.tower, device=model.device, progress=progress
    )

    def predict(items: Sequence[int]) -> Sequence[Row]:
        batch = collate([tokenized[item] for item in items], trim_after_labels=False)
        with torch.inference_mode(), autocast(model.device, run.backbones.precision):
            return predict_batch(model, batch, source.for_batch(batch))

    lengths = [len(row.ids) for row in tokenized]
    batches = batches_by_length(lengths, max_rows=run.evaluation.batch_size)
    bar_is_off = None if progress else True  # None: shown on a terminal only
    with (
        fast_cpu(device),
        explained_out_of_memory(lambda: evaluation_advice(run, device)),
        tqdm(total=len(tokenized), desc=label, unit="item", disable=bar_is_off) as bar,
    ):
        return log.fill(predict, batches=batches, on_items=bar.update)
