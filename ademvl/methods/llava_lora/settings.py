"""Settings of LLaVA-LoRA, with the source of each default."""

from collections.abc import Iterator
from typing import Literal

from ademvl.config.method import TextPlaces, TowerStates
from ademvl.config.setting import setting, settings_class
from ademvl.methods.lora.settings import LoraSettings


@settings_class
class LlavaLoraSettings(LoraSettings):
    """LLaVA (arXiv 2304.08485) with LoRA, as the paper's tables have it for comparison.

    Its published 4.4 M trained parameters cannot be derived: rank and projection are assumed.

    Attributes:
        name: of the method.
        visual_tokens: projected ones in the text, all of the tower's grid; 256 for ViT-L/14.
        projection_width: hidden width of the projection; 128, that of ADEM-VL (assumed). LLaVA's
            own single matrix would have as many parameters as all of LoRA's.
    """

    name: Literal["llava_lora"] = setting(  # type: ignore[assignment]
        changes="results", default="llava_lora"
    )
    visual_tokens: int = setting(changes="results", default=256, ge=1, le=1_000_000)
    projection_width: int = setting(changes="results", default=128, ge=1, le=1_000_000)

    @property
    def tower_states(self) -> TowerStates:
        """Read the grid behind the last block but one, not normalised, as LLaVA does."""
        return TowerStates(normalized=False, tokens="grid")

    @property
    def text_places(self) -> TextPlaces:
        """Put the grid's tokens behind "Image: "."""
        return TextPlaces(with_image=self.visual_tokens)

    def tower_findings(self, num_grid_tokens: int) -> Iterator[str]:
        """Yield that the tower's grid has another number of tokens."""
        if self.visual_tokens != num_grid_tokens:
            yield (
                f"visual_tokens: {self.visual_tokens}, expected the {num_grid_tokens} tokens of "
                "the tower's grid"
            )
