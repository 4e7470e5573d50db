"""LLaMA-Adapter V2 (arXiv 2304.15010): the image on prompts; norms and biases are trained too."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ademvl.methods.base import DecoderShape
from ademvl.methods.llama_adapter_v2.settings import LlamaAdapterV2Settings
from ademvl.methods.llama_adapter_v2.tuning import attach_tuning, tuned_biases, tuned_norms
from ademvl.methods.llama_adapter_v2.visual import VisualPrompts
from ademvl.methods.prompting import PromptedMethod, PromptPass
from ademvl.methods.registry import implements
from ademvl.methods.sites import Attachment, Pass
from ademvl.vision.tower import TowerShape, VisionTower


@implements(LlamaAdapterV2Settings)
class LlamaAdapterV2Method(PromptedMethod):
    """LLaMA-Adapter V2 as its multimodal code was released for LLaMA-7B.

    Learned queries read an image's tokens in a few blocks and are added to the prompts of each
    layer, one to one. Rows without an image are shown an empty picture. Norms of the language
    model, and biases on five of the seven matrices of a layer, are trained too.

    Args:
        settings, llm, tower, trains_tower: see `Method`.

    Raises:
        SettingsError: the language model has no such layer.
    """

    settings: LlamaAdapterV2Settings

    def __init__(
        self,
        settings: LlamaAdapterV2Settings,
        *,
        llm: DecoderShape,
        tower: TowerShape,
        trains_tower: bool,
    ) -> None:
        super().__init__(settings, llm=llm, tower=tower, trains_tower=trains_tower)
        if settings.has_prompts:
            self.visual = VisualPrompts(
                settings, tower_width=tower.output_width, llm_width=llm.width
            )
            # The released code has a gate in the layers without prompts too.
            self.add_prompts(
                length=settings.prompt_length, first_layer=settings.first_layer, first_gate=0
            )
        if settings.has_tuning:
            self.biases = tuned_biases(llm)
            self.norms = tuned_norms(llm)
        if settings.needs_start:
            for part in (self.visual, self.gates):
                part.requires_grad_(False)
            self.prompts.requires_grad_(False)

    def tuned_layers(self) -> range:
        """Return all layers where norms and biases are trained."""
        return range(self.llm_shape.layers if self.settings.has_tuning else 0)

    def attach(self, llm: Any, tower: VisionTower | None) -> Attachment:
        """Hook prompts, biases and norms into the language model; see `Method.attach`."""
        attachment = super().attach(llm, tower)
        if self.settings.has_tuning:
            try:
                attach_tuning(llm, attachment, self.biases, self.norms)
            except BaseException:
                attachment.detach()
                raise
        return attachment

    def open(
        self,
        features: Tensor | None,
        has_image: Tensor,
        *,
        dtype: torch.dtype,
        dropout_seeds: Sequence[int] | None,
    ) -> Pass:
        """Turn the pictures of all rows into what they add to the prompts; see `Method.open`.

        Args:
            features: (B, N, C), of all rows, as these settings' `sees_empty_picture` asks.
            has_image: (B,) bool.
            dtype: not needed: prompts take that of the text's queries.
            dropout_seeds: not needed: nothing is dropped.

        Raises:
            ValueError: there are not as many features as rows.
        """
        if not self.settings.has_prompts:
            return Pass()
        num_pictures = 0 if features is None else len(features)
        if features is None or num_pictures != len(has_image):
            raise ValueError(f"features of {num_pictures} pictures for {len(has_image)} rows")
        return PromptPass(self, self.visual(features.float()))
