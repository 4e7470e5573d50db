"""LoRA (arXiv 2106.09685) by the library peft: a product of two thin matrices beside each weight.

The method owns the matrices; peft's layers, which stand in the language model while the method is
attached, compute with them. peft's dropout draws its masks from the global generator; in its place
stands one that takes the rows' seeds.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ademvl.errors import SettingsError
from ademvl.methods.base import DecoderShape, Method
from ademvl.methods.dropout import drop_rows
from ademvl.methods.lora.settings import LoraSettings
from ademvl.methods.projection import uninitialized_linear
from ademvl.methods.registry import implements
from ademvl.methods.sites import Attachment, Pass, decoder_layers
from ademvl.randomness import derive_seed
from ademvl.vision.tower import TowerShape, VisionTower

_PEFT_NAME = "default"  # of the adapter, among others that peft's layers could hold
_PEFT_ROOT = "base_model.model"  # stands before every name in files of peft


class LowRankMap(nn.Module):
    """The two matrices of one product: lora_B lora_A, of sizes (out, r) and (r, in)."""

    def __init__(self, *, num_inputs: int, num_outputs: int, rank: int) -> None:
        super().__init__()
        self.lora_A = uninitialized_linear(num_inputs, rank, bias=False)
        self.lora_B = uninitialized_linear(rank, num_outputs, bias=False)


class LoraPass(Pass):
    """What peft's layers need to know of a batch.

    Attributes:
        dropout_seeds: one for each row, in training.
    """

    def __init__(
        self, dropout_seeds: Sequence[int] | None, *, with_image: Tensor | None = None
    ) -> None:
        self.dropout_seeds = dropout_seeds
        self.with_image = with_image


@implements(LoraSettings)
class LoraMethod(Method):
    """Adds (lora_alpha / rank) B A dropout(x) to maps of the language model's attention.

    Tensors are named as in peft's files, `base_model.model.model.layers.<i>.self_attn.<map>.`, so
    that peft can load an adapter.

    Args:
        settings, llm, tower, trains_tower: see `Method`.
    """

    settings: LoraSettings

    def __init__(
        self,
        settings: LoraSettings,
        *,
        llm: DecoderShape,
        tower: TowerShape,
        trains_tower: bool,
    ) -> None:
        super().__init__(settings, llm=llm, tower=tower, trains_tower=trains_tower)
        num_queried, num_read = llm.heads * llm.head_dim, llm.kv_heads * llm.head_dim
        sizes = {
            "q_proj": (llm.width, num_queried),
            "k_proj": (llm.width, num_read),
            "v_proj": (llm.width, num_read),
            "o_proj": (num_queried, llm.width),
        }
        for path in self._target_paths():
            num_inputs, num_outputs = sizes[path.rpartition(".")[2]]
            low_rank = LowRankMap(
                num_inputs=num_inputs, num_outputs=num_outputs, rank=settings.rank
            )
            _put(self, f"{_PEFT_ROOT}.{path}", low_rank)

    def attach(self, llm: nn.Module, tower: VisionTower | None) -> Attachment:
        """Let peft put its layers into the language model; see `Method.attach`.

        Raises:
            SettingsError: the model has another layout, or a method is attached already.
        """
        decoder_layers(llm)
        present = dict(llm.named_modules())
        for path in self._target_paths():
            if path not in present:
                raise SettingsError(
                    f"method.targets: {type(llm).__name__} has no {path}; choose among its layers' "
                    "linear maps"
                )
        attachment = super().attach(llm, tower)
        try:
            self._inject(llm, attachment)
        except BaseException:
            attachment.detach()
            raise
        return attachment

    def _inject(self, llm: nn.Module, attachment: Attachment) -> None:
        # peft imports bitsandbytes where that is installed, which misses kernels of no use here.
        logging.getLogger("bitsandbytes.backends").setLevel(logging.ERROR)
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(
            r=self.settings.rank,
            lora_alpha=cast(int, self.settings.lora_alpha),  # any number works
            # Whole names: the ends alone would match a vision tower's maps too.
            target_modules="|".join(re.escape(path) for path in self._target_paths()),
        )
        originals = {path: llm.get_submodule(path) for path in self._target_paths()}

        def restore() -> None:
            for path, original in originals.items():
                llm.set_submodule(path, original)
            if hasattr(llm, "peft_config"):
                del llm.peft_config

        attachment.on_detach(restore)
        with torch.device("meta"):  # the matrices are ours
            inject_adapter_in_model(config, llm)
        for path in originals:
            layer: Any = llm.get_submodule(path)
            own = cast(LowRankMap, self.get_submodule(f"{_PEFT_ROOT}.{path}"))
            layer.lora_A[_PEFT_NAME] = own.lora_A
            layer.lora_B[_PEFT_NAME] = own.lora_B
            layer.lora_dropout[_PEFT_NAME] = _RowDropout(attachment, self.settings.dropout, path)
        self.requires_grad_(True)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Draw A as torch's Linear does, and set B to zero, as peft does."""
        for name, parameter in self.named_parameters():
            if ".lora_A." in name:
                generator = torch.Generator().manual_seed(derive_seed(seed, "lora", name))
                values = torch.empty(parameter.shape)
                nn.init.kaiming_uniform_(values, a=5**0.5, generator=generator)
                parameter.copy_(values)
            elif ".lora_B." in name:
                parameter.zero_()

    def open(
        self,
        features: Tensor | None,
        has_image: Tensor,
        *,
        dtype: torch.dtype,
        dropout_seeds: Sequence[int] | None,
    ) -> Pass:
        """Return what the layers need to know; features are not looked at. See `Method.open`."""
        return LoraPass(dropout_seeds)

    def _target_paths(self) -> list[str]:
        """Return the names of the maps in a model of transformers."""
        return [
            f"model.layers.{layer}.self_attn.{target}"
            for layer in range(self.llm_shape.layers)
            for target in self.settings.targets
        ]


class _RowDropout(nn.Module):
    """Dropout by the seeds of the pass that is open.

    Args:
        attachment: finds the pass.
        p: probability.
        purpose: name of this place.
    """

    def __init__(self, attachment: Attachment, p: float, purpose: str) -> None:
        super().__init__()
        self._attachment = attachment
        self._p = p
        self._purpose = purpose

    def forward(self, states: Tensor) -> Tensor:
        """Drop elements of (B, T, in)."""
        opened = cast(LoraPass, self._attachment.current)
        return drop_rows(states, opened.dropout_seeds, p=self._p, purpose=self._purpose)


def _put(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register a module below `root` by a dotted name, with plain modules on the way."""
    *parents, last = path.split(".")
    for name in parents:
        if name not in dict(root.named_children()):
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, module)
