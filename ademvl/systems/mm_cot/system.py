"""MM-CoT in the harness: one stage's T5 with its fusion, trained whole and asked to write.

T5's own dropout draws from the global generator: each pass gives it a seed of its own, from the
epoch and the pass's items, so that what came before has no part in it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ademvl.data.collate import Batch
from ademvl.data.passes import image_tokens
from ademvl.data.tokenizer import IGNORED_LABEL
from ademvl.machine.precision import compute_dtype
from ademvl.randomness import derive_seed
from ademvl.systems.mm_cot.fusion import FusedT5
from ademvl.systems.mm_cot.rows import PAD_ID
from ademvl.systems.mm_cot.settings import MmCotSettings
from ademvl.systems.pretrained import GenerateOptions, GeneratingSystem
from ademvl.systems.trained import LabelledLogits, TrainableModel
from ademvl.vision.tower import TowerShape, VisionTower


class TrainedFusedT5(FusedT5):
    """All that a stage trains, with how it is trained."""

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Whether weight decay moves a parameter: neither biases nor norms."""
        return parameter.ndim > 1 and "bias" not in name

    def lr_factor(self, name: str) -> float:
        """Return 1: all learn alike."""
        return 1.0

    def initialize(self, seed: int) -> None:
        """Draw the fusion; T5 stays as it was loaded."""
        self.fusion.initialize(torch.Generator().manual_seed(derive_seed(seed, "fusion")))


class MmCotModel(TrainableModel, GeneratingSystem):
    """One stage of MM-CoT.

    Args:
        t5: `T5ForConditionalGeneration`, in fp32.
        settings: of MM-CoT.
        tower: for online features; None where features are given, as from the cache.
        shape: sizes of the tower that features come from.
    """

    gradient_sum_dtype = torch.float32  # of all weights: fp64 would take twice as much as these

    def __init__(
        self, t5: Any, settings: MmCotSettings, tower: VisionTower | None, *, shape: TowerShape
    ) -> None:
        super().__init__()
        self.method = TrainedFusedT5(t5, image_width=shape.width)
        self.method.requires_grad_(True)
        self.tower = tower
        self.dropout_seed = 0
        self._settings, self._shape = settings, shape

    @property
    def llm(self) -> Any:
        """T5."""
        return self.method.t5

    @property
    def generating(self) -> Any:
        """T5."""
        return self.method.t5

    def labelled_logits(self, batch: Batch, visual: Tensor | None) -> LabelledLogits:
        """Predict the targets of a batch. See `TrainableModel.labelled_logits`."""
        sources, mask, targets = (part.to(self.device) for part in divide(batch))
        features = self._features(visual, batch.has_image)
        with self._own_dropout(batch.item_ids):
            fused = self.method.encode(sources, mask, features)
            read = self.method.shifted(targets.clamp(min=0))
            logits = self.method(fused, mask, read)  # (B, T, V)
        rows, places = (targets != IGNORED_LABEL).nonzero(as_tuple=True)  # (M,), (M,)
        return LabelledLogits(logits[rows, places], targets[rows, places], rows)

    def generate(
        self, batch: Batch, visual: Tensor | None, options: GenerateOptions
    ) -> list[list[int]]:
        """Write behind each source; see `GeneratingSystem.generate`."""
        sources, mask, _ = (part.to(self.device) for part in divide(batch))
        fused = self.method.encode(sources, mask, self._features(visual, batch.has_image))
        found = self.method.generate(fused, mask, **options(batch.item_ids))
        new: list[list[int]] = found[:, 1:].tolist()  # the first is the start token
        return new

    def enable_checkpointing(self) -> None:
        """Recompute T5's blocks in the backward pass."""
        self.llm.gradient_checkpointing_enable({"use_reentrant": False})

    def train(self, mode: bool = True) -> "MmCotModel":
        """Switch dropout; the tower stays in evaluation mode."""
        nn.Module.train(self, mode)
        if self.tower is not None:
            self.tower.eval()
        return self

    def eval(self) -> "MmCotModel":
        """Switch dropout off."""
        return self.train(False)

    @property
    def image_tokens(self) -> int:
        """Tokens of text that take as long as an image of a batch; 0 where features are given."""
        if self.tower is None:
            return 0
        config = self.llm.config
        return image_tokens(
            tower_tokens=1 + self._shape.num_grid_tokens,
            tower_width=self._shape.width,
            tower_blocks=self._shape.num_blocks,
            llm_width=config.d_model,
            llm_layers=config.num_layers + config.num_decoder_layers,
        )

    def _features(self, visual: Tensor | None, has_image: Tensor) -> Tensor:
        """Return features of all rows, (B, N, C): zeros for those without an image."""
        tokens = 1 + self._shape.num_grid_tokens
        dtype = compute_dtype(self.device, torch.float32)
        found = torch.zeros(
            len(has_image), tokens, self._shape.width, device=self.device, dtype=dtype
        )
        if visual is None:
            return found
        visual = visual.to(self.device)
        if self.tower is not None:
            with torch.no_grad():
                visual = self.tower.encode(visual, self._settings.tower_states)
        rows = has_image.nonzero().flatten().to(self.device)
        return found.index_copy(0, rows, visual.to(dtype))

    @contextmanager
    def _own_dropout(self, item_ids: Sequence[str]) -> Iterator[None]:
        """Let T5's dropout draw from a seed of this pass, whatever was drawn before."""
        if not self.training:
            yield
            return
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(derive_seed(self.dropout_seed, *item_ids))
            yield


def divide(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Divide a batch into sources (B, S), their mask, and targets (B, T), -100 as padding."""
    num_rows, width = batch.input_ids.shape
    is_target = batch.labels != IGNORED_LABEL  # (B, W)
    num_target = is_target.sum(dim=1)
    num_source = torch.where(num_target > 0, is_target.long().argmax(dim=1), batch.lengths)
    places = torch.arange(width).expand(num_rows, width)
    mask = (places < num_source[:, None])[:, : int(num_source.max())]
    sources = batch.input_ids[:, : mask.shape[1]].masked_fill(~mask, PAD_ID)
    behind = (places[:, : max(1, int(num_target.max()))] + num_source[:, None]).clamp(max=width - 1)
    is_inside = places[:, : behind.shape[1]] < num_target[:, None]
    targets = batch.labels.gather(1, behind).masked_fill(~is_inside, IGNORED_LABEL)
    return sources, mask.long(), targets
