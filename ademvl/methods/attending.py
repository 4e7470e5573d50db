"""Adding to the attention of a decoder's layers, by the interface that transformers has for it.

transformers looks an attention function up by its name, in a registry that all models share: each
attachment registers one under a name of its own, and the mask function of the original beside it,
because a name without one gets no mask.
"""

import itertools
import sys
import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ademvl.methods.sites import Attachment, decoder_layers

_numbers = itertools.count()
_free_names: list[str] = []
"""Names of attachments that are gone: the registry forgets none, so they are used again."""


def attach_attention(llm: Any, attachment: Attachment, layers: range) -> None:
    """Let `Pass.attend` add to the heads' outputs of some layers, before their output projection.

    Args:
        llm: model of transformers.
        attachment: finds the passes.
        layers: counted from 0; none leaves the model as it is.
    """
    if not layers:
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    original_name = llm.config._attn_implementation
    original = _attention_function(llm, original_name, ALL_ATTENTION_FUNCTIONS)
    attached = weakref.ref(attachment)  # a name stays registered longer than a model lives

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any
    ) -> tuple[Tensor, Any]:
        output, weights = original(module, query, key, value, mask, **options)
        here = attached()
        if here is None or module.layer_idx not in layers:
            return output, weights
        added = here.current.attend(module.layer_idx, module, query)  # (B, T, H, h)
        return (output if added is None else output + added.to(output.dtype)), weights

    name = _free_names.pop() if _free_names else f"ademvl_{next(_numbers)}"
    # By `register`: masks are not made for names that one object of the registry alone knows.
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[original_name])
    llm.config._attn_implementation = name

    def undo() -> None:
        llm.config._attn_implementation = original_name
        _free_names.append(name)

    attachment.on_detach(undo)


def _attention_function(llm: nn.Module, name: str, registry: Any) -> Callable[..., Any]:
    """Return the function that a model's attention calls; that of `eager` is in its own module."""
    if name in registry:
        function: Callable[..., Any] = registry[name]
        return function
    attention = decoder_layers(llm)[0].self_attn
    eager: Callable[..., Any] = sys.modules[type(attention).__module__].eager_attention_forward
    return eager
