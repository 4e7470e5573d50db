"""Settings of LaVIN, with the source of each default."""

from collections.abc import Sequence
from typing import Literal

from ademvl.config.method import MethodSettings, TextPlaces, TowerStates
from ademvl.config.setting import setting, settings_class

TowerAdapterKind = Literal["routed", "plain"]
TowerRouting = Literal["own_image", "first_of_batch"]
GeneratedPositions = Literal["continued", "one_repeated"]


def _check_even(number: int) -> None:
    if number % 2:
        raise ValueError(f"{number}, expected an even number, for two groups")


def _check_blocks(blocks: Sequence[int]) -> None:
    if not blocks or list(blocks) != sorted(set(blocks)):
        raise ValueError(f"{list(blocks)}, expected one or more blocks in ascending order")


@settings_class
class LavinSettings(MethodSettings):
    """LaVIN (arXiv 2305.15023); defaults are those of its released scripts for LLaMA-7B.

    Attributes:
        name: of the method.
        dim: width of each adapter's bottleneck, even; 8 (released scripts).
        scale: factor of what the two experts of an adapter add; 1 (released scripts).
        temperature: that the router's two values are divided by; 10 for 7B and 5 for 13B (released
            scripts).
        dropout: on the bottlenecks, training only; 0.1 (released implementation).
        cls_blocks: blocks of the tower whose [cls] states are put into the text, counted from 0,
            ascending; every fourth of CLIP ViT-L/14's 24 (released implementation). Smaller towers
            need others.
        projection_width: hidden width of the projection; 128 (released scripts).
        tower_adapters: in the tower, with online features: `routed` as in the language model, and
            as in the released scripts, or `plain`, one expert without router and without identity,
            which is the default of the released command line and hides the image at the start.
        tower_routing: what decides the mixture at each place of an image: that place's state of
            the image itself, or of the first image of the batch, as in the released code, where
            features then depend on what else is in the batch; a first row without an image counts
            as an all-zero picture.
        generated_positions: generated tokens go on counting positions, or the first of them
            repeats the position of the prompt's last token, as in the released code.
    """

    name: Literal["lavin"] = setting(changes="results", default="lavin")
    dim: int = setting(changes="results", default=8, ge=2, le=100_000, check=_check_even)
    scale: float = setting(changes="results", default=1.0)
    temperature: float = setting(changes="results", default=10.0, gt=0)
    dropout: float = setting(changes="training", default=0.1, ge=0, lt=1)
    cls_blocks: tuple[int, ...] = setting(
        changes="results", default=(3, 7, 11, 15, 19, 23), ge=0, le=1_000, check=_check_blocks
    )
    projection_width: int = setting(changes="results", default=128, ge=1, le=1_000_000)
    tower_adapters: TowerAdapterKind = setting(changes="results", default="routed")
    tower_routing: TowerRouting = setting(changes="results", default="own_image", portable=True)
    generated_positions: GeneratedPositions = setting(changes="evaluation", default="continued")

    @property
    def tower_states(self) -> TowerStates:
        """The [cls] states as they leave the blocks."""
        return TowerStates(blocks=self.cls_blocks, normalized=False, tokens="cls")

    @property
    def text_places(self) -> TextPlaces:
        """The modality token in front of every row, and a slot for each [cls] state."""
        return TextPlaces(before_begin=1, with_image=len(self.cls_blocks))
