"""Gated cross-attention (Flamingo, arXiv 2204.14198): blocks that read the image between layers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ademvl.errors import SettingsError
from ademvl.methods.base import DecoderShape, Method, rows_with_image, spread_rows
from ademvl.methods.gated_xattn.blocks import (
    GatedBlock,
    KeysAndValues,
    PerceiverResampler,
    set_initial_values,
)
from ademvl.methods.gated_xattn.settings import GatedXattnSettings
from ademvl.methods.registry import implements
from ademvl.methods.sites import Pass, Position
from ademvl.vision.tower import TowerShape


@implements(GatedXattnSettings)
class GatedXattnMethod(Method):
    """Gated cross-attention on a frozen decoder (paper: arXiv 2204.14198; as OpenFlamingo).

    A resampler makes latents of each image's patches. Before every k-th decoder layer a block adds
    what the text's states see of them, and a feed-forward, each times the tanh of a gate that
    starts at 0: the model starts as the decoder alone.

    Deviation: OpenFlamingo marks an image's place in the text by a new token, `<image>`, and text
    sees the image that was marked last. Here a row has one image at most, which all of its text
    sees, the begin token included; neither that token nor `<|endofchunk|>` exists, so the two rows
    of the embedding table that are trained there do not either.

    Args:
        settings, llm, tower, trains_tower: see `Method`.

    Raises:
        SettingsError: the decoder has too few layers for a block.
    """

    settings: GatedXattnSettings

    def __init__(
        self,
        settings: GatedXattnSettings,
        *,
        llm: DecoderShape,
        tower: TowerShape,
        trains_tower: bool,
    ) -> None:
        super().__init__(settings, llm=llm, tower=tower, trains_tower=trains_tower)
        if settings.every > llm.layers:
            raise SettingsError(
                f"method.every: {settings.every}, but the language model has {llm.layers} layers, "
                f"so that no block would stand before any; choose 1 to {llm.layers}"
            )
        perceiver = settings.perceiver
        self.perceiver = PerceiverResampler(
            width=tower.width,
            num_latents=perceiver.num_latents,
            layers=perceiver.layers,
            heads=perceiver.heads,
            head_width=perceiver.head_width,
            ratio=perceiver.ratio,
        )
        self.blocks = nn.ModuleDict(
            {
                str(layer): GatedBlock(
                    width=llm.width,
                    media_width=tower.width,
                    heads=settings.heads,
                    head_width=settings.head_width,
                    ratio=settings.ratio,
                )
                for layer in self._layers
            }
        )

    @property
    def _layers(self) -> range:
        every = self.settings.every
        return range(every - 1, self.llm_shape.layers, every)

    def places(self) -> Mapping[Position, range]:
        """Return the inputs of every k-th layer."""
        return {"layer_in": self._layers}

    def initialize(self, seed: int) -> None:
        """Set all tensors as OpenFlamingo does, see `set_initial_values`."""
        set_initial_values(self, seed)

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Say yes for all of the blocks, norms and gates too, and no for the resampler.

        As in OpenFlamingo's training script.
        """
        return name.startswith("blocks.")

    def open(
        self,
        features: Tensor | None,
        has_image: Tensor,
        *,
        dtype: torch.dtype,
        dropout_seeds: Sequence[int] | None,
    ) -> Pass:
        """Turn the patches of a batch's images into keys and values of every block.

        Rows without an image have zeros for both, so that their attention gives zero; the blocks'
        feed-forward acts on them as on others. A batch without any image leaves attention out.

        Args:
            features: (B_img, G, C), of the last block.
            has_image: (B,) bool.
            dtype: not used; blocks compute in fp32, or as autocast says.
        """
        rows = rows_with_image(features, has_image)
        if features is None or not len(features):
            return GatedPass(self.blocks, None)
        latents = self.perceiver(features.float())  # (B_img, n, C)
        return GatedPass(self.blocks, self.read_media(latents, rows, batch_size=len(has_image)))

    def read_media(
        self, latents: Tensor, rows: Tensor, *, batch_size: int
    ) -> Mapping[int, KeysAndValues]:
        """Return each block's keys and values of latents, by layer.

        Args:
            latents: (B_img, N, C).
            rows: numbers of the rows that they belong to, (B_img,).
            batch_size: B; the other rows' keys and values are zero.
        """
        media = {}
        for layer in self._layers:
            parts = self.block(layer).attention.read(latents)
            spread = (spread_rows(part, rows, batch_size=batch_size) for part in parts)
            media[layer] = KeysAndValues(*spread)
        return media

    def block(self, layer: int) -> GatedBlock:
        """Return the block before a decoder layer, counted from 0."""
        block = self.blocks[str(layer)]
        assert isinstance(block, GatedBlock)
        return block


class GatedPass(Pass):
    """Sends the states through a block before every k-th layer.

    Args:
        blocks: by number of the layer.
        media: keys and values of each block, by layer; None without any image.
    """

    def __init__(self, blocks: nn.ModuleDict, media: Mapping[int, KeysAndValues] | None) -> None:
        self.blocks = blocks
        self.media = media

    def visit(self, position: Position, layer: int, states: Tensor) -> Tensor:
        """Return what goes into the layer."""
        media = None if self.media is None else self.media[layer]
        visited: Tensor = self.blocks[str(layer)](states, media)
        return visited

    def repeated(self, times: int) -> "GatedPass":
        """Repeat keys and values of each row side by side."""
        if times == 1 or self.media is None:
            return self
        media = {
            layer: KeysAndValues(*(part.repeat_interleave(times, dim=0) for part in parts))
            for layer, parts in self.media.items()
        }
        return GatedPass(self.blocks, media)
