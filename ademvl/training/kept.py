"""kept.csv: what text tokens keep of the image while a training learns it.

Measured in evaluation on a few items of the training split, always the same ones: it then depends
on no batch, and costs a forward pass of these an epoch.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ademvl.config.run import RunSettings
from ademvl.data.collate import collate
from ademvl.data.rows import TokenizedExample
from ademvl.data.tokenizer import FILLER_ID, Tokenizer
from ademvl.llm.tokenizer import load_llm_tokenizer
from ademvl.machine.precision import autocast
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.runs.kept import MEASURED_ITEMS, KeptRow, write_kept
from ademvl.vision.features.source import VisualSource

Floats = NDArray[np.float64]


class KeptLog:
    """Measures rows of kept.csv, and writes the file anew with each measurement.

    Args:
        path: of kept.csv.
        run: whose model is measured.
        model: on its device.
        rows: of the training split; its first items with an image are measured.
        visual_source: of the training.
        record: what `to_record` gave at the state to go on from; None measures the start.
    """

    def __init__(
        self,
        path: Path,
        run: RunSettings,
        model: VisionLanguageModel,
        rows: Sequence[TokenizedExample],
        visual_source: VisualSource,
        *,
        record: Sequence[Sequence[Any]] | None,
    ) -> None:
        self._path = path
        self._precision = run.backbones.precision
        self._model = model
        self._tokenizer = load_llm_tokenizer(run.backbones)
        shown = [row for row in rows if row.image is not None][:MEASURED_ITEMS]
        # One at a time, as a batch of few long texts may be larger than those of the training.
        self._batches = [collate([row], trim_after_labels=True) for row in shown]
        self._visual = [visual_source.for_batch(batch) for batch in self._batches]
        self._rows = [KeptRow(*values) for values in record or ()]
        if record is None:
            self.measure(0.0)

    def measure(self, epoch: float) -> None:
        """Add what the model keeps now."""
        was_training = self._model.training
        self._model.eval()
        kept = [
            self._kept(number).double().cpu().numpy()  # (L, T)
            for number in range(len(self._batches))
        ]
        self._model.train(was_training)
        ids = [batch.input_ids[0].tolist() for batch in self._batches]
        self._rows += kept_rows(epoch, kept, ids, self._tokenizer)
        write_kept(self._path, self._rows)

    def _kept(self, number: int) -> Tensor:
        batch = self._batches[number]
        with autocast(self._model.device, self._precision):
            is_kept = self._model.fusion_scores(batch, self._visual[number]).is_kept  # (L, 1, T, N)
        return is_kept[:, 0].float().mean(dim=-1)

    def to_record(self) -> list[tuple[Any, ...]]:
        """Return all rows as plain JSON."""
        return [astuple(row) for row in self._rows]


def kept_rows(
    epoch: float, kept: Sequence[Floats], ids: Sequence[Sequence[int]], tokenizer: Tokenizer
) -> Iterator[KeptRow]:
    """Yield a row for each layer, then one for each word in the order of the alphabet.

    Args:
        epoch: epochs done.
        kept: of each item the fraction by layer and text token, (L, T).
        ids: of each item's T tokens; places of the image and begin tokens are left out.
        tokenizer: tells what they are.
    """
    of_layers: list[Floats] = []
    of_words: dict[str, list[Floats]] = defaultdict(list)
    for fractions, row in zip(kept, ids, strict=True):
        for place, token in enumerate(row):
            if token in (FILLER_ID, tokenizer.bos_id):
                continue
            of_layers.append(fractions[:, place])
            if word := tokenizer.decode([token]).strip():
                of_words[word].append(fractions[:, place])
    if not of_layers:
        return
    for layer, fraction in enumerate(np.mean(of_layers, axis=0)):
        yield KeptRow(epoch, layer, "", float(fraction), len(of_layers))
    for word, found in sorted(of_words.items()):
        yield KeptRow(epoch, -1, word, float(np.mean(found)), len(found))
