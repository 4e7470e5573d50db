"""Settings of LoRA on the language model, with the source of each default."""

from collections.abc import Sequence
from typing import Literal

from ademvl.config.method import MethodSettings
from ademvl.config.setting import setting, settings_class

Projected = Literal["q_proj", "k_proj", "v_proj", "o_proj"]
"""Linear maps of a decoder layer's attention, as transformers names them."""


def _check_targets(targets: Sequence[str]) -> None:
    if not targets or len(set(targets)) < len(targets):
        raise ValueError(f"{list(targets)}, expected one or more different maps")


@settings_class
class LoraSettings(MethodSettings):
    """LoRA (arXiv 2106.09685) on the language model alone; images are not looked at.

    Attributes:
        name: of the method.
        rank: of the product that is added to each weight; 8, with which query and value maps of
            LLaMA-7B have the 4.2 M parameters nearest to LLaVA-LoRA's published 4.4 M (assumed).
        lora_alpha: the product counts `lora_alpha / rank` times; twice the rank (assumed).
        dropout: on what the product is applied to, training only; 0.05 (assumed).
        targets: which maps of each layer's attention get a product; query and value, as in the
            LoRA paper, section 7.1.
    """

    name: Literal["lora"] = setting(changes="results", default="lora")
    rank: int = setting(changes="results", default=8, ge=1, le=100_000)
    lora_alpha: float = setting(changes="results", default=16.0)
    dropout: float = setting(changes="training", default=0.05, ge=0, lt=1)
    targets: tuple[Projected, ...] = setting(
        changes="results", default=("q_proj", "v_proj"), check=_check_targets
    )

    @property
    def sees_images(self) -> bool:
        """Images are not looked at."""
        return False
