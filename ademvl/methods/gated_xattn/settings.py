"""Settings of gated cross-attention, with the source of each default."""

from typing import Literal

from ademvl.config.method import MethodSettings, TowerStates
from ademvl.config.setting import group, setting, settings_class


@settings_class
class PerceiverSettings:
    """The resampler, which makes few latents of an image's patches.

    Attributes:
        num_latents: vectors that stand for an image; 64 (arXiv 2204.14198, and OpenFlamingo).
        layers: of attention and feed-forward each; 6 (both).
        heads: of the attention; 8 (OpenFlamingo).
        head_width: of each head; 64 (OpenFlamingo).
        ratio: of the feed-forward's inner width to the tower's; 4 (both).
    """

    num_latents: int = setting(changes="results", default=64, ge=1, le=10_000)
    layers: int = setting(changes="results", default=6, ge=1, le=100)
    heads: int = setting(changes="results", default=8, ge=1, le=1_000)
    head_width: int = setting(changes="results", default=64, ge=1, le=10_000)
    ratio: int = setting(changes="results", default=4, ge=1, le=100)


@settings_class
class GatedXattnSettings(MethodSettings):
    """Gated cross-attention (Flamingo, arXiv 2204.14198); defaults are those of OpenFlamingo.

    Attributes:
        name: of the method.
        every: a block stands before each decoder layer whose number, from 1, this divides; 4 (its
            model with a decoder of 7B). Each adds 139 M trained parameters at LLaMA-7B; the blocks
            before all layers, 1, are as large as two thirds of the decoder.
        heads: of the blocks' attention; 8 (OpenFlamingo).
        head_width: of each of these; 64 (OpenFlamingo).
        ratio: of the blocks' feed-forward's inner width to the decoder's; 4 (the paper too).
        ln_post: whether the patches pass the tower's last normalisation before the resampler. Not
            with the release of open_clip that OpenFlamingo's models were trained with; with present
            ones its code reads them behind it.
        perceiver: the resampler.
    """

    name: Literal["gated_xattn"] = setting(changes="results", default="gated_xattn")
    every: int = setting(changes="results", default=4, ge=1, le=1_000)
    heads: int = setting(changes="results", default=8, ge=1, le=1_000)
    head_width: int = setting(changes="results", default=64, ge=1, le=10_000)
    ratio: int = setting(changes="results", default=4, ge=1, le=100)
    ln_post: bool = setting(changes="results", default=False)
    perceiver: PerceiverSettings = group(default_factory=PerceiverSettings)

    @property
    def tower_states(self) -> TowerStates:
        """Patches of the last block, without [cls]."""
        return TowerStates(blocks=(-1,), normalized=self.ln_post, tokens="grid")
