"""MM-CoT (arXiv 2302.00923): T5 whose encoder's output is fused with an image's features.

- The encoder changes at its end only: behind its final norm each token attends, with one head, to
  the projected features, and a gate mixes what it read into its state, channel by channel.
- The fused states are handed on as `encoder_outputs`, so that T5 itself is that of transformers.
- A row without an image has features of zeros; the fusion acts all the same, as in the reference.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ademvl.methods.projection import uninitialized_linear


class GatedFusion(nn.Module):
    """Z = (1 - g) H + g A, with A what H reads of the image and g = sigmoid(W [H; A] + b).

    Modules are named as in the released checkpoints, and uninitialised.

    Args:
        width: d, of the encoder.
        image_width: C, of the features.
    """

    def __init__(self, *, width: int, image_width: int) -> None:
        super().__init__()
        self.image_dense = uninitialized_linear(image_width, width)
        with torch.device("meta"):  # its own draws come from the global generator
            attention = nn.MultiheadAttention(width, num_heads=1, batch_first=True)
        self.mha_layer = attention.to_empty(device=torch.get_default_device())
        self.gate_dense = uninitialized_linear(2 * width, width)

    def forward(self, hidden_states: Tensor, features: Tensor) -> Tensor:
        """Fuse states (B, T, d) with features (B, N, C)."""
        return self.parts(hidden_states, features)["fused"]

    def parts(self, hidden_states: Tensor, features: Tensor) -> dict[str, Tensor]:
        """Return what the fusion computes on its way, by the names of the golden cases."""
        image = self.image_dense(features)  # (B, N, d)
        attended, _ = self.mha_layer(hidden_states, image, image, need_weights=False)
        gate = self.gate_dense(torch.cat((hidden_states, attended), dim=-1)).sigmoid()
        return {
            "image_embedding": image,
            "image_attended": attended,
            "gate": gate,
            "fused": (1 - gate) * hidden_states + gate * attended,
        }

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw initial values as torch does: linear layers by their fan-in, attention by Xavier."""
        for layer in (self.image_dense, self.gate_dense):
            bound = layer.in_features**-0.5
            for parameter in (layer.weight, layer.bias):
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        attention = self.mha_layer
        nn.init.xavier_uniform_(attention.in_proj_weight, generator=generator)
        bound = attention.out_proj.in_features**-0.5
        nn.init.uniform_(attention.out_proj.weight, -bound, bound, generator=generator)
        nn.init.zeros_(attention.in_proj_bias)
        nn.init.zeros_(attention.out_proj.bias)


class FusedT5(nn.Module):
    """T5 with the fusion behind its encoder; all of it is trained.

    Args:
        t5: `T5ForConditionalGeneration` of transformers.
        image_width: C, of the features.
    """

    def __init__(self, t5: Any, *, image_width: int) -> None:
        super().__init__()
        self.t5 = t5
        self.fusion = GatedFusion(width=t5.config.d_model, image_width=image_width)

    def encode(self, input_ids: Tensor, mask: Tensor, features: Tensor) -> Tensor:
        """Return the fused states of a source, (B, S, d).

        Args:
            input_ids: (B, S).
            mask: (B, S), 1 for tokens.
            features: (B, N, C), zeros for rows without an image.
        """
        states = self.t5.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        fused: Tensor = self.fusion(states, features)
        return fused

    def forward(self, fused: Tensor, mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """Return the decoder's logits, (B, T, V), on fused states."""
        logits: Tensor = self.t5(
            encoder_outputs=(fused,), attention_mask=mask, decoder_input_ids=decoder_input_ids
        ).logits
        return logits

    def shifted(self, targets: Tensor) -> Tensor:
        """Return what the decoder reads to predict targets, (B, T): its start token before them."""
        start = torch.full_like(targets[:, :1], self.t5.config.decoder_start_token_id)
        return torch.cat((start, targets[:, :-1]), dim=1)

    @torch.no_grad()
    def generate(self, fused: Tensor, mask: Tensor, **options: Any) -> Tensor:
        """Return the ids that the decoder writes, its start token first, (B, T)."""
        from transformers.modeling_outputs import BaseModelOutput

        found: Tensor = self.t5.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=fused),
            attention_mask=mask,
            **options,
        )
        return found
