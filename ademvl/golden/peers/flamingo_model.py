"""OpenFlamingo's form of text around gated cross-attention: tokens that mark where images stand.

This package puts no such tokens into its rows (see `GatedXattnMethod`); its blocks and resampler
are run here as the released code does, any number of images in a row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ademvl.golden.files import GoldenSet
from ademvl.golden.peers.flamingo_names import from_released, to_released
from ademvl.golden.recording import recorded_layers
from ademvl.llm.kv_cache import cache_name
from ademvl.methods.base import DecoderShape
from ademvl.methods.gated_xattn.blocks import KeysAndValues
from ademvl.methods.gated_xattn.method import GatedPass, GatedXattnMethod
from ademvl.methods.gated_xattn.settings import GatedXattnSettings
from ademvl.methods.sites import Position


def only_last(numbers: Tensor, media: Tensor) -> tuple[Tensor, Tensor]:
    """Let each token see the image that was marked last, and tokens without any see nothing.

    Nothing is an image of zeros, in front: a source of zeros gives values of zero.

    Args:
        numbers: of the image, from 1, that each token belongs to; 0 for none; (B, T).
        media: latents, (B, images, n, C).

    Returns:
        The latents with those of nothing, (B, (1 + images) n, C), and what is hidden, (B, T, N).
    """
    nothing = torch.zeros_like(media[:, :1])
    order = _order(media, first=0)
    return torch.cat((nothing, media), dim=1).flatten(1, 2), numbers[..., None] != order


def all_previous(numbers: Tensor, media: Tensor) -> tuple[Tensor, Tensor]:
    """Let each token see all images marked before it; those without any see all alike.

    The latter is a quirk: scores that are all hidden are equal.
    """
    order = _order(media, first=1)
    return media.flatten(1, 2), numbers[..., None] < order


def _order(media: Tensor, *, first: int) -> Tensor:
    """Return the number of the image that each place of the source belongs to, (N,)."""
    return torch.arange(first, media.shape[1] + 1).repeat_interleave(media.shape[2])


class MarkedPass(GatedPass):
    """Blocks whose text sees only some of its row's media; keeps what they compute.

    Attributes:
        states: `gated_out_<layer>`, and `attn_branch_<layer>` before the gate.
    """

    def __init__(
        self, method: GatedXattnMethod, media: Mapping[int, KeysAndValues], hidden: Tensor
    ) -> None:
        super().__init__(method.blocks, media)
        self._method = method
        self._hidden = hidden
        self.states: dict[str, Tensor] = {}

    def visit(self, position: Position, layer: int, states: Tensor) -> Tensor:
        """Return what goes into the layer."""
        assert self.media is not None
        block, media = self._method.block(layer), self.media[layer]
        self.states[f"attn_branch_{layer}"] = block.attend(states, media, self._hidden)
        self.states[f"gated_out_{layer}"] = block(states, media, hidden=self._hidden)
        return self.states[f"gated_out_{layer}"]


class MarkedModel:
    """The tiny language model with new tokens, the tower, and the method on them.

    Args:
        models: the frozen ones.
        state: trained tensors by OpenFlamingo's names; those that the method lacks are left out.
        image_token: id of `<image>`.
        new_inputs, new_outputs: rows behind the frozen tables of embeddings, (3, d).
    """

    def __init__(
        self,
        models: GoldenSet,
        settings: GatedXattnSettings,
        state: Mapping[str, Tensor],
        *,
        image_token: int,
        new_inputs: Tensor,
        new_outputs: Tensor,
    ) -> None:
        self._llm: Any = models.llm().eval().requires_grad_(False)
        self._tower = models.tower()
        self.method = GatedXattnMethod(
            settings,
            llm=DecoderShape.of(self._llm.config),
            tower=self._tower.shape,
            trains_tower=False,
        )
        ours = dict(self.method.named_parameters())
        named = from_released(state, ours)
        self.method.load_state_dict({name: named[name] for name in ours if name in named})
        self._attachment = self.method.attach(self._llm, self._tower)
        self._image_token = image_token
        self.new_inputs = new_inputs.clone().requires_grad_()
        self._new_outputs = new_outputs

    def parameters(self) -> dict[str, Tensor]:
        """Return the method's tensors by OpenFlamingo's names."""
        return to_released(dict(self.method.named_parameters()))

    def latents(self, pixels: Tensor) -> Tensor:
        """Return the latents of (B, images, 3, H, W), (B, images, n, C)."""
        features = self._tower.encode(pixels.flatten(0, 1), self.method.settings.tower_states)
        latents: Tensor = self.method.perceiver(features).unflatten(0, pixels.shape[:2])
        return latents

    def open(self, numbers: Tensor, media: Tensor) -> MarkedPass:
        """Return a pass for tokens that belong to images of these numbers; see `only_last`."""
        source, hidden = only_last(numbers, media)
        everyone = torch.arange(len(source))
        read = self.method.read_media(source, everyone, batch_size=len(source))
        return MarkedPass(self.method, read, hidden)

    def numbers(self, input_ids: Tensor) -> Tensor:
        """Return the number of the image that each token belongs to, (B, T)."""
        return (input_ids == self._image_token).cumsum(dim=1)

    def logits(
        self, input_ids: Tensor, media: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the logits of all places, (B, T, V), and what layers and blocks computed."""
        opened = self.open(self.numbers(input_ids), media)
        states: dict[str, Tensor] = {}
        with self._attachment.active(opened), recorded_layers(self._llm, states):
            output = self._llm.model(
                inputs_embeds=self._embed(input_ids),
                attention_mask=attention_mask,
                use_cache=False,
            )
        return self._predict(output.last_hidden_state), {**states, **opened.states}

    def cached_logits(self, prompt: Tensor, media: Tensor, answer: Sequence[int]) -> Tensor:
        """Return the logits before each token of an answer, (S, V), step by step with a cache.

        All of them belong to the prompt's last image, as in the released generation.

        Args:
            prompt: (1, T).
            media: (1, images, n, C).
            answer: S ids, each given once the one before it is predicted.
        """
        name = cache_name(self._llm.model)
        numbers, cache, found = self.numbers(prompt), None, []
        fed = prompt
        for token in answer:
            with self._attachment.active(self.open(numbers, media)):
                output = self._llm.model(
                    inputs_embeds=self._embed(fed), use_cache=True, **{name: cache}
                )
            cache = getattr(output, name)
            found.append(self._predict(output.last_hidden_state)[0, -1])
            fed, numbers = torch.tensor([[token]]), numbers[:, -1:]
        return torch.stack(found)

    def _embed(self, input_ids: Tensor) -> Tensor:
        table = self._llm.get_input_embeddings().weight
        return F.embedding(input_ids, torch.cat((table, self.new_inputs)))

    def _predict(self, hidden_states: Tensor) -> Tensor:
        table = self._llm.get_output_embeddings().weight
        return hidden_states @ torch.cat((table, self._new_outputs)).T
