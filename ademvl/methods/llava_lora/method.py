"""LLaVA-LoRA: every token of the image's grid, projected, stands in the text behind "Image: "."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ademvl.methods.base import DecoderShape, rows_with_image
from ademvl.methods.llava_lora.settings import LlavaLoraSettings
from ademvl.methods.lora.method import LoraMethod, LoraPass
from ademvl.methods.projection import Projection
from ademvl.methods.registry import implements
from ademvl.methods.sites import Pass
from ademvl.randomness import derive_seed
from ademvl.vision.tower import TowerShape


@implements(LlavaLoraSettings)
class LlavaLoraMethod(LoraMethod):
    """Projected image tokens before the question (arXiv 2304.08485, section 4.1), and LoRA.

    Args:
        settings, llm, tower, trains_tower: see `Method`.

    Raises:
        SettingsError: the tower's grid has another number of tokens.
    """

    settings: LlavaLoraSettings

    def __init__(
        self,
        settings: LlavaLoraSettings,
        *,
        llm: DecoderShape,
        tower: TowerShape,
        trains_tower: bool,
    ) -> None:
        super().__init__(settings, llm=llm, tower=tower, trains_tower=trains_tower)
        self.projection = Projection(
            tower_width=tower.width, hidden_width=settings.projection_width, llm_width=llm.width
        )

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Draw LoRA's matrices, and the projection Xavier-uniform with zero biases."""
        super().initialize(seed)
        for name, parameter in self.projection.named_parameters():
            generator = torch.Generator().manual_seed(derive_seed(seed, "projection", name))
            values = torch.zeros(parameter.shape)
            if name.endswith("weight"):
                nn.init.xavier_uniform_(values, generator=generator)
            parameter.copy_(values)

    def open(
        self,
        features: Tensor | None,
        has_image: Tensor,
        *,
        dtype: torch.dtype,
        dropout_seeds: Sequence[int] | None,
    ) -> Pass:
        """Project the grids, (B_img, N, C), to the vectors in the text; see `Method.open`."""
        rows_with_image(features, has_image)
        if features is None or not len(features):
            return LoraPass(dropout_seeds)
        return LoraPass(dropout_seeds, with_image=self.projection(features.float()).to(dtype))
