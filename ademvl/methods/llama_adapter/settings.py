"""Settings of LLaMA-Adapter, with the source of each default."""

from collections.abc import Sequence
from typing import Literal

from ademvl.config.method import MethodSettings, TowerStates
from ademvl.config.setting import setting, settings_class


def _check_blocks(blocks: Sequence[int]) -> None:
    if not blocks or len(set(blocks)) < len(blocks):
        raise ValueError(f"{list(blocks)}, expected one or more different numbers of blocks")


@settings_class
class LlamaAdapterSettings(MethodSettings):
    """LLaMA-Adapter (arXiv 2303.16199); the part for images, never released, is rebuilt.

    Attributes:
        name: of the method.
        prompt_length: prompts of each layer that has them, K; 10 (paper).
        first_layer: first layer with prompts, counted from 0; 2, so 30 of LLaMA-7B's 32 layers
            have them (paper).
        image: add what is made of an image to all prompts; without, questions are answered by
            their text alone, as in the released code.
        cls_blocks: blocks of the tower whose [cls] is read, counted from 0, or from the end where
            negative; every fourth of ViT-L/14's 24. Six give the published number of parameters,
            which six is not published. Another tower needs numbers of its own.
        projected: bring each [cls] through the tower's output projection, behind ln_post; with it
            the number of parameters is the published one.
        projection_width: hidden width of the projection of all [cls] together; 64, by which the
            number of parameters is the published one.
    """

    name: Literal["llama_adapter"] = setting(changes="results", default="llama_adapter")
    prompt_length: int = setting(changes="results", default=10, ge=1, le=100_000)
    first_layer: int = setting(changes="results", default=2, ge=0, le=100_000)
    image: bool = setting(changes="results", default=True)
    cls_blocks: tuple[int, ...] = setting(
        changes="results",
        default=(3, 7, 11, 15, 19, 23),
        ge=-100_000,
        le=100_000,
        check=_check_blocks,
    )
    projected: bool = setting(changes="results", default=True)
    projection_width: int = setting(changes="results", default=64, ge=1, le=1_000_000)

    @property
    def tower_states(self) -> TowerStates:
        """The [cls] of several blocks."""
        if not self.image:
            return TowerStates()
        return TowerStates(blocks=self.cls_blocks, projected=self.projected, tokens="cls")
