"""Settings of LLaMA-Adapter V2, with the source of each default."""

from collections.abc import Iterator
from typing import Literal

from ademvl.config.method import MethodSettings, TowerStates
from ademvl.config.setting import relation, setting, settings_class


@settings_class
class LlamaAdapterV2Settings(MethodSettings):
    """LLaMA-Adapter V2, multimodal (arXiv 2304.15010); defaults are those of its released code.

    Attributes:
        name: of the method.
        stage: what is trained: `pretrain` the image's part, prompts and gates, as the first stage
            of the released code; `finetune` the language model's norms and biases alone, as the
            second, without the first one's part, so that it sees no image;
            `finetune_after_pretrain` the same behind that part, which comes from the adapter of
            `start_from` and stays as it is; `both` all of it at once.
        prompt_length: prompts of each layer that has them, and learned queries of an image; 10.
        first_layer: first layer with prompts, counted from 0; 1, so that all but the lowest have
            them.
        visual_width: width of the blocks that turn an image into queries; 768.
        visual_blocks: how many there are; 8.
        visual_heads: heads of their attention; 16.
        visual_mlp_ratio: width of their MLP in widths of a block; 4.
    """

    name: Literal["llama_adapter_v2"] = setting(changes="results", default="llama_adapter_v2")
    stage: Literal["both", "pretrain", "finetune", "finetune_after_pretrain"] = setting(
        changes="results", default="both"
    )
    prompt_length: int = setting(changes="results", default=10, ge=1, le=100_000)
    first_layer: int = setting(changes="results", default=1, ge=0, le=100_000)
    visual_width: int = setting(changes="results", default=768, ge=1, le=100_000)
    visual_blocks: int = setting(changes="results", default=8, ge=1, le=1000)
    visual_heads: int = setting(changes="results", default=16, ge=1, le=100_000)
    visual_mlp_ratio: int = setting(changes="results", default=4, ge=1, le=1000)

    @property
    def has_prompts(self) -> bool:
        """Whether there are prompts, and what an image adds to them."""
        return self.stage != "finetune"

    @property
    def has_tuning(self) -> bool:
        """Whether norms and biases of the language model are trained."""
        return self.stage != "pretrain"

    @property
    def needs_start(self) -> bool:
        """Whether prompts, and what an image adds to them, stay as a first stage has made them."""
        return self.stage == "finetune_after_pretrain"

    @property
    def tower_states(self) -> TowerStates:
        """All tokens of the last block, through ln_post and the output projection."""
        return TowerStates(blocks=(-1,), projected=True)

    @property
    def sees_empty_picture(self) -> bool:
        """Whether rows without an image are shown an empty picture."""
        return self.has_prompts

    @relation("visual_width", "visual_heads")
    def _heads_divide_width(self) -> Iterator[str]:
        if self.visual_width % self.visual_heads:
            yield (
                f"{self.visual_width}, expected a multiple of visual_heads, which is "
                f"{self.visual_heads}"
            )
