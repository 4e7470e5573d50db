#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.13.0: an attention function put into the registry by item assignment
# is used, but the mask function beside it is not.
#
# ALL_ATTENTION_FUNCTIONS and ALL_MASK_ATTENTION_FUNCTIONS are mappings and take `registry[name] = function`
# as well as `Interface.register(name, function)`. Attention functions are looked up either way. Masks are
# made only for names that were registered: after an assignment the model runs without any error, and
# padding is attended to (with eager attention, so are later tokens), though the very mask function of
# "sdpa" stands under the name.
#
# Seen on 2026-11-29:
#   assigned:   output moves with the padding by 2.875
#   registered: output moves with the padding by 0.000
# Exits with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cat >"$folder/show.py" <<'PYTHON'
import torch
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaForCausalLM
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

attention, mask = ALL_ATTENTION_FUNCTIONS["sdpa"], ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
ALL_ATTENTION_FUNCTIONS["assigned"] = attention
ALL_MASK_ATTENTION_FUNCTIONS["assigned"] = mask
AttentionInterface.register("registered", attention)
AttentionMaskInterface.register("registered", mask)


def moved_by_padding(implementation: str) -> float:
    """Change the token under a padding place, and return how far the last logits move."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, initializer_range=0.2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.config._attn_implementation = implementation
    padding = torch.tensor([[0, 1, 1, 1]])
    with torch.no_grad():
        logits = [
            model(torch.tensor([[under, 5, 9, 3]]), attention_mask=padding).logits[0, -1]
            for under in (7, 21)
        ]
    return float((logits[0] - logits[1]).abs().max())


assigned, registered = moved_by_padding("assigned"), moved_by_padding("registered")
print(f"assigned:   output moves with the padding by {assigned:.3f}")
print(f"registered: output moves with the padding by {registered:.3f}")
raise SystemExit(not (assigned > 0.01 and registered == 0.0))
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
