"""LLaMA-Adapter (arXiv 2303.16199): prompts beside the upper layers' text, the image on them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ademvl.errors import SettingsError
from ademvl.methods.base import DecoderShape, rows_with_image, spread_rows
from ademvl.methods.llama_adapter.settings import LlamaAdapterSettings
from ademvl.methods.projection import Projection
from ademvl.methods.prompting import PromptedMethod, PromptPass
from ademvl.methods.registry import implements
from ademvl.methods.sites import Pass
from ademvl.vision.tower import TowerShape


@implements(LlamaAdapterSettings)
class LlamaAdapterMethod(PromptedMethod):
    """LLaMA-Adapter on a frozen decoder; the text's part is as released, the image's rebuilt.

    The [cls] of several blocks of the tower, side by side, are projected to one vector, which is
    added to all prompts of all layers that have some (paper); 0 for rows without an
    image.

    Args:
        settings, llm, tower, trains_tower: see `Method`.

    Raises:
        SettingsError: the tower has no such blocks, or the language model no such layer.
    """

    settings: LlamaAdapterSettings

    def __init__(
        self,
        settings: LlamaAdapterSettings,
        *,
        llm: DecoderShape,
        tower: TowerShape,
        trains_tower: bool,
    ) -> None:
        super().__init__(settings, llm=llm, tower=tower, trains_tower=trains_tower)
        self.add_prompts(
            length=settings.prompt_length,
            first_layer=settings.first_layer,
            first_gate=settings.first_layer,
        )
        if settings.image:
            _check_blocks(settings, tower)
            width = tower.output_width if settings.projected else tower.width
            self.image_projection = Projection(
                tower_width=len(settings.cls_blocks) * width,
                hidden_width=settings.projection_width,
                llm_width=llm.width,
            )

    def open(
        self,
        features: Tensor | None,
        has_image: Tensor,
        *,
        dtype: torch.dtype,
        dropout_seeds: Sequence[int] | None,
    ) -> Pass:
        """Turn the [cls] of a batch's images into what they add to the prompts; see `Method.open`.

        Args:
            features: (B_img, blocks, C), the [cls] of each chosen block.
            has_image: (B,) bool; rows without an image have the prompts alone.
            dtype: not needed: prompts take that of the text's queries.
            dropout_seeds: not needed: nothing is dropped.
        """
        rows = rows_with_image(features, has_image)
        if features is None or not len(features) or not self.settings.image:
            return PromptPass(self, None)
        image = self.image_projection(features.float().flatten(1))[:, None]  # (B_img, 1, d)
        return PromptPass(self, spread_rows(image, rows, batch_size=len(has_image)))


def _check_blocks(settings: LlamaAdapterSettings, tower: TowerShape) -> None:
    different = {block % tower.num_blocks for block in settings.cls_blocks}
    if len(different) < len(settings.cls_blocks):
        raise SettingsError(
            f"method.cls_blocks: {list(settings.cls_blocks)}, expected different ones of the "
            f"tower's {tower.num_blocks} blocks, counted from 0, or from the end where negative"
        )
