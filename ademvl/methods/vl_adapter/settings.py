"""Settings of VL-Adapter, with the source of each default."""

from collections.abc import Iterator
from typing import Literal

from ademvl.config.method import MethodSettings, TextPlaces, check_square
from ademvl.config.setting import setting, settings_class


@settings_class
class VlAdapterSettings(MethodSettings):
    """VL-Adapter (arXiv 2112.06825), in its form for a pre-norm decoder.

    Attributes:
        name: of the method.
        reduction_factor: of the decoder's width to the adapters'; 8 (released scripts). They hold
            nearly all that is trained, 8.4 M in each layer of LLaMA-7B.
        norm_before: a LayerNorm before each adapter's first map; off (released scripts).
        norm_after: a LayerNorm behind its second one; off (released scripts).
        visual_tokens: an image's places in the text, from its grid by adaptive maximum pooling; 36
            (released scripts), a square number up to the tower's grid.
        train_norms: whether the decoder's norms are trained, too: before each attention and MLP,
            and the last one. The released code trains all LayerNorms of its models.
    """

    name: Literal["vl_adapter"] = setting(changes="results", default="vl_adapter")
    reduction_factor: int = setting(changes="results", default=8, ge=1, le=100_000)
    norm_before: bool = setting(changes="results", default=False)
    norm_after: bool = setting(changes="results", default=False)
    visual_tokens: int = setting(
        changes="results", default=36, ge=1, le=1_000_000, check=check_square
    )
    train_norms: bool = setting(changes="results", default=True)

    @property
    def text_places(self) -> TextPlaces:
        """The pooled grid, behind "Image: "."""
        return TextPlaces(with_image=self.visual_tokens)

    def tower_findings(self, num_grid_tokens: int) -> Iterator[str]:
        """Yield that the tokens are finer than the grid."""
        if self.visual_tokens > num_grid_tokens:
            yield (
                f"visual_tokens: {self.visual_tokens} is not possible with a tower of "
                f"{num_grid_tokens} grid tokens; choose square numbers up to {num_grid_tokens}"
            )
