"""Golden cases of gated cross-attention, recorded from OpenFlamingo.

A, the resampler alone; B, a gated block alone, in three ways of seeing images; C, a forward and
backward pass with several images in a row, and greedy generation.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ademvl.data.tokenizer import IGNORED_LABEL
from ademvl.golden.checks import Check
from ademvl.golden.peers.cases import Comparison, PeerSet
from ademvl.golden.peers.flamingo_model import MarkedModel, all_previous, only_last
from ademvl.golden.peers.flamingo_names import from_released, to_released
from ademvl.golden.peers.training import (
    INITIAL_SEED,
    compare_drawn,
    compare_norms,
    compare_zeroed,
)
from ademvl.methods.gated_xattn.blocks import GatedBlock, PerceiverResampler, set_initial_values
from ademvl.methods.gated_xattn.settings import GatedXattnSettings, PerceiverSettings
from ademvl.training.loss import token_losses

_RESAMPLER, _BLOCK, _MODEL = "A_perceiver", "B_gated_block", "C_forward"
_NEW_INPUTS = "new_input_embeddings"
_FEWER_BLOCKS = re.compile(r"loss_if_every_(\d+)_with_block_[\d_]+_only")


def check_resampler(peers: PeerSet) -> Sequence[Check]:
    """Compare output and gradients of case A, each image on its own, and initial values."""
    case = peers.compare(_RESAMPLER)
    resampler = _resampler(case, case.details["settings"]["dim"])
    _load(case, resampler)
    images = case.input("x").requires_grad_()  # (B, images, frames, N, C)
    output = resampler(images.flatten(0, 1).flatten(1, 2)).unflatten(0, images.shape[:2])
    case.tensor("out", output, "output")
    gradients = _gradients(resampler, output, case.input("grad_out"))
    case.tensors("grad.", {**gradients, "x": _gradient(images)}, "gradients")
    compare_norms(case, gradients, case.details["grad_norms"])
    width = case.details["init"]["latents"]["shape"][1]  # not always that of the case
    _compare_drawn(case, _resampler(case, width))
    return case.finish()


def check_block(peers: PeerSet) -> Sequence[Check]:
    """Compare each mode of case B, and initial values."""
    case = peers.compare(_BLOCK)
    block = _block(case)
    _load(case, block)
    numbers = case.input("media_locations").long().cumsum(dim=1)  # (B, T)
    media_of = {
        "immediate": (numbers, only_last),
        "all_previous": (numbers, all_previous),
        "cached": (numbers[:, -1:].expand_as(numbers), only_last),
    }
    case.same_names("modes", [*media_of], [*case.details["grad_norms"]])
    for mode, (of_tokens, see) in media_of.items():
        states = case.input("x").clone().requires_grad_()
        media = case.input("media").clone().requires_grad_()
        source, hidden = see(of_tokens, media)
        read = block.attention.read(source)
        case.tensor(f"{mode}.attn_branch", block.attend(states, read, hidden), "output")
        output = block(states, read, hidden=hidden)
        case.tensor(f"{mode}.out", output, "output")
        gradients = _gradients(block, output, case.input("grad_out"))
        case.tensors(f"{mode}.grad.", gradients, "gradients")
        case.tensor(f"{mode}.grad_x", _gradient(states), "gradients")
        case.tensor(f"{mode}.grad_media", _gradient(media), "gradients")
        compare_norms(case, gradients, case.details["grad_norms"][mode])
    _compare_drawn(case, _block(case))
    return case.finish()


def check_model(peers: PeerSet) -> Sequence[Check]:
    """Compare everything that case C records, padding left out."""
    case = peers.compare(_MODEL)
    run = _MarkedCase.of(peers, case)
    _compare_states(case, run)
    _compare_gradients(case, run)
    compare_zeroed(case, run)
    for name, loss in case.details.items():
        if match := _FEWER_BLOCKS.fullmatch(name):
            fewer = _MarkedCase.of(peers, case, every=int(match[1]))
            layers = fewer.model.method.places()["layer_in"]
            places = case.details[f"layers_with_gate_if_every_{match[1]}"]
            case.same(f"layers with a block, every {match[1]}", layers, places)
            with torch.no_grad():
                case.close(name, float(fewer.loss()), loss, case.tolerance("loss"))
    for name in case.details["generate"]:
        _compare_generated(case, run, name)
    return case.finish()


CASES = {_RESAMPLER: check_resampler, _BLOCK: check_block, _MODEL: check_model}


def _resampler(case: Comparison, width: int) -> PerceiverResampler:
    recorded = case.details["settings"]
    return PerceiverResampler(
        width=width,
        num_latents=recorded["num_latents"],
        layers=recorded["depth"],
        heads=recorded["heads"],
        head_width=recorded["dim_head"],
        ratio=recorded["ff_mult"],
    )


def _block(case: Comparison) -> GatedBlock:
    recorded = case.details["settings"]
    return GatedBlock(
        width=recorded["dim"],
        media_width=recorded["dim_visual"],
        heads=recorded["heads"],
        head_width=recorded["dim_head"],
        ratio=recorded["ff_mult"],
    )


def _load(case: Comparison, module: nn.Module) -> None:
    state = from_released(case.inputs("param."), dict(module.named_parameters()))
    module.load_state_dict(state)


def _gradients(module: nn.Module, output: Tensor, output_gradient: Tensor) -> dict[str, Tensor]:
    """Return the gradients of a module's tensors by released name; those of inputs stay there."""
    module.zero_grad(set_to_none=True)
    torch.autograd.backward(output, output_gradient)
    return to_released({name: _gradient(p) for name, p in module.named_parameters()})


def _gradient(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, float("nan")) if tensor.grad is None else tensor.grad


def _compare_drawn(case: Comparison, module: nn.Module) -> None:
    set_initial_values(module, INITIAL_SEED)
    compare_drawn(case, to_released(dict(module.named_parameters())), case.details["init"])


@dataclass(frozen=True)
class _MarkedCase:
    """The model of case C with its batch.

    Attributes:
        model: the model.
        input_ids: (B, T).
        attention_mask: (B, T), 0 for padding.
        labels: (B, T).
        pixels: of all images of each row, (B, images, 3, H, W).
    """

    model: MarkedModel
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    pixels: Tensor

    @classmethod
    def of(cls, peers: PeerSet, case: Comparison, *, every: int | None = None) -> "_MarkedCase":
        """Build the model as recorded, or with fewer blocks."""
        recorded = case.details["settings"]
        model = MarkedModel(
            peers.models,
            _settings(recorded, every=every or recorded["every"]),
            case.inputs("param."),
            image_token=recorded["media_token"],
            new_inputs=case.input(_NEW_INPUTS),
            new_outputs=case.input("new_output_embeddings"),
        )
        places = case.input("pixel_index")
        return cls(
            model=model,
            input_ids=case.input("input_ids").long(),
            attention_mask=case.input("attention_mask").long(),
            labels=case.input("labels").long(),
            pixels=peers.pixels_or_zero(places.flatten().tolist()).unflatten(0, places.shape),
        )

    def logits(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the logits of all places and what was computed, latents too."""
        latents = self.model.latents(self.pixels)
        logits, states = self.model.logits(self.input_ids, latents, self.attention_mask)
        return logits, {**states, "latents": latents}

    def loss(self) -> Tensor:
        """Return the mean over all scored tokens."""
        logits, _ = self.logits()
        targets = self.labels[:, 1:]
        is_scored = targets != IGNORED_LABEL
        return token_losses(logits[:, :-1][is_scored], targets[is_scored]).mean()

    def parameters(self) -> dict[str, Tensor]:
        """Return the method's tensors by released name."""
        return self.model.parameters()


def _settings(recorded: Mapping[str, Any], *, every: int) -> GatedXattnSettings:
    perceiver, block = recorded["perceiver"], recorded["gated_block"]
    return GatedXattnSettings(
        every=every,
        heads=block["heads"],
        head_width=block["dim_head"],
        ratio=block["ff_mult"],
        ln_post="after ln_post" in recorded["vision"],
        perceiver=PerceiverSettings(
            num_latents=perceiver["num_latents"],
            layers=perceiver["depth"],
            heads=perceiver["heads"],
            head_width=perceiver["dim_head"],
            ratio=perceiver["ff_mult"],
        ),
    )


@torch.no_grad()
def _compare_states(case: Comparison, run: _MarkedCase) -> None:
    logits, states = run.logits()
    case.tensor("latents", states["latents"], "intermediate")
    is_token = run.attention_mask.bool()
    for name in case.recorded:
        if name.startswith(("attn_branch_", "gated_out_", "layer_out_")):
            mine = _without_padding(states.get(name), case.input(name), is_token)
            case.tensor(name, mine, "intermediate")
    places = case.input("logit_positions").long()
    mine = _without_padding(logits[:, places], case.input("logits"), is_token[:, places])
    case.tensor("logits", mine, "logits")


def _without_padding(mine: Tensor | None, recorded: Tensor, is_token: Tensor) -> Tensor | None:
    """Return what is recorded at padded places, so that they are not compared."""
    if mine is None or mine.shape != recorded.shape:
        return mine
    return torch.where(is_token[..., None], mine, recorded)


def _compare_gradients(case: Comparison, run: _MarkedCase) -> None:
    """Compare the loss and its gradients; of the new embeddings, those of the two trained rows."""
    loss = run.loss()
    loss.backward()  # type: ignore[no-untyped-call]
    case.close("loss", float(loss.detach()), case.details["loss"], case.tolerance("loss"))
    gradients = {name: _gradient(tensor) for name, tensor in run.parameters().items()}
    recorded = case.details["settings"]
    new = sorted([recorded["end_of_chunk"], recorded["media_token"], recorded["pad"]])
    trained = [place for place, token in enumerate(new) if token != recorded["pad"]]
    new_inputs = _gradient(run.model.new_inputs)[trained]
    case.tensors("grad.", {**gradients, _NEW_INPUTS: new_inputs}, "gradients")
    compare_norms(case, gradients, case.details["grad_norms"])


@torch.no_grad()
def _compare_generated(case: Comparison, run: _MarkedCase, name: str) -> None:
    """Compare a greedy answer, with a cache and without, for the row that begins as its prompt."""
    recorded = case.details["generate"][name]
    prompt = torch.tensor([recorded["input_ids"]])
    answer = recorded["same_without_cache"]
    begins = (run.input_ids[:, : prompt.shape[1]] == prompt).all(dim=1)
    row = int(begins.nonzero()[0])
    latents = run.model.latents(run.pixels[row : row + 1])
    everything = torch.cat((prompt, torch.tensor([answer])), dim=1)
    whole, _ = run.model.logits(everything, latents)
    uncached = whole[0, prompt.shape[1] - 1 : -1]
    cached = run.model.cached_logits(prompt, latents, answer)
    case.same(f"{name} output ids", recorded["output_ids"], everything[0].tolist())
    for what, found in (("without cache", uncached), ("with cache", cached)):
        case.same(f"{name} ids {what}", found.argmax(dim=-1).tolist(), answer)
        logits = f"generate.{name}.logits_without_cache"
        case.tensor(logits, found, "logits")
