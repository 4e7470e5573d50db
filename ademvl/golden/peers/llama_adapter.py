"""Golden cases of LLaMA-Adapter: A, V1 on text; B, V1 with images; C, V2; D, V2's generation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ademvl.config.method import MethodSettings
from ademvl.data.collate import Batch, collate
from ademvl.data.tokenizer import FILLER_ID, IGNORED_LABEL
from ademvl.golden.checks import Check
from ademvl.golden.peers.cases import Comparison, PeerSet
from ademvl.golden.peers.continuation import compare_continuations
from ademvl.golden.peers.llama_adapter_names import ReleasedNames
from ademvl.golden.peers.rows import training_rows
from ademvl.golden.peers.training import (
    TrainingCase,
    compare_gradients,
    compare_initial_values,
    compare_trajectory,
    compare_zeroed,
)
from ademvl.golden.recording import record_states
from ademvl.methods.llama_adapter.settings import LlamaAdapterSettings
from ademvl.methods.llama_adapter_v2.method import LlamaAdapterV2Method
from ademvl.methods.llama_adapter_v2.settings import LlamaAdapterV2Settings
from ademvl.methods.prompting import PromptPass
from ademvl.model.vision_language import VisionLanguageModel

_TEXT, _IMAGE = "A_v1_text", "B_v1_image_reconstructed"
_V2, _V2_GENERATION = "C_v2_multimodal", "D_v2_generate"
_BLOCKS = re.compile(r"\[cls\] of blocks? (\d+(?:(?:, | and |, and )\d+)*)")


def check_text(peers: PeerSet) -> Sequence[Check]:
    """Compare everything that case A records: V1 without images."""
    case = peers.compare(_TEXT)
    settings = _v1_settings(peers, case)
    run = _training(peers, case, settings, [-1] * len(case.details["qids"]))
    _compare_states(case, run)
    _compare_training(case, run)
    compare_initial_values(case, run)
    return case.finish()


def check_image(peers: PeerSet) -> Sequence[Check]:
    """Compare everything that case B records: V1 with images; its initial values are not known."""
    case = peers.compare(_IMAGE)
    pixel_index = case.input("pixel_index").tolist()
    run = _training(peers, case, _v1_settings(peers, case), pixel_index)
    is_shown = [float(place >= 0) for place in pixel_index]
    case.same("present", is_shown, case.input("present").tolist())
    opened = _compare_states(case, run)
    features = _features(run.model, peers.pixels_or_zero(pixel_index))
    case.tensor("global_features", features.flatten(1), "intermediate")
    token = torch.zeros(()) if opened.image is None else opened.image[:, 0]
    case.tensor("image_token", token.expand_as(case.recorded["image_token"]), "intermediate")
    without = _training(peers, case, run.model.method.settings, [-1] * len(pixel_index))
    with torch.no_grad():
        mine = float(without.loss())
    expected = case.details["loss_without_any_image"]
    case.close("loss without any image", mine, expected, case.tolerance("loss"))
    _compare_training(case, run)
    return case.finish()


def check_v2(peers: PeerSet) -> Sequence[Check]:
    """Compare everything that case C records: V2, all of it trained at once."""
    case = peers.compare(_V2)
    settings, pixel_index = _v2_settings(peers, case), case.input("pixel_index").tolist()
    run = _training(peers, case, settings, pixel_index)
    opened = _compare_states(case, run)
    case.tensor("visual_query", opened.image, "intermediate")
    _compare_visual(case, run.model, peers.pixels_or_zero(pixel_index))
    _compare_training(case, run)
    stages = {
        stage: _training(peers, case, replace(settings, stage=stage), pixel_index)
        for stage in ("pretrain", "finetune")
    }
    for stage, part in stages.items():
        name = f"{stage}_trains"
        case.same_names(name, [*part.parameters()], case.details[name])
    compare_initial_values(case, stages["pretrain"])
    return case.finish()


def check_v2_generation(peers: PeerSet) -> Sequence[Check]:
    """Compare every call of case D, with the trained tensors and the pictures of case C."""
    trained, case = peers.compare(_V2), peers.compare(_V2_GENERATION)
    model = _model(peers, trained, _v2_settings(peers, trained)).eval()
    compare_continuations(peers, case, model, trained.input("pixel_index").tolist())
    return case.finish()


CASES = {
    _TEXT: check_text,
    _IMAGE: check_image,
    _V2: check_v2,
    _V2_GENERATION: check_v2_generation,
}


def _v1_settings(peers: PeerSet, case: Comparison) -> LlamaAdapterSettings:
    recorded = case.details["settings"]
    settings = LlamaAdapterSettings(
        prompt_length=recorded["adapter_len"],
        first_layer=peers.models.sizes["llama"]["n_layers"] - recorded["adapter_layer"],
    )
    match = _BLOCKS.match(recorded.get("features", ""))
    if match is None:  # without images
        return replace(settings, image=False)
    blocks = tuple(int(number) - 1 for number in re.findall(r"\d+", match[1]))
    hidden_width, num_inputs = case.recorded["param.visual_proj.0.weight"].shape
    return replace(
        settings,
        cls_blocks=blocks,
        projected=num_inputs != len(blocks) * peers.models.sizes["clip"]["width"],
        projection_width=hidden_width,
    )


def _v2_settings(peers: PeerSet, case: Comparison) -> LlamaAdapterV2Settings:
    recorded = case.details["settings"]
    return LlamaAdapterV2Settings(
        prompt_length=recorded["query_len"],
        first_layer=peers.models.sizes["llama"]["n_layers"] - recorded["query_layer"],
        visual_width=recorded["v_embed_dim"],
        visual_blocks=recorded["v_depth"],
        visual_heads=recorded["v_num_heads"],
        visual_mlp_ratio=recorded["v_mlp_ratio"],
    )


def _training(
    peers: PeerSet, case: Comparison, settings: MethodSettings, pixel_index: Sequence[int]
) -> TrainingCase:
    """Build a training case at the full width at which it was recorded, padding and all."""
    rows = training_rows(peers, case, settings, pixel_index)
    width = case.details["settings"]["max_seq_len"]
    batch = _padded(collate(rows, trim_after_labels=False), width)
    shown = [place for place in pixel_index if place >= 0]
    model = _model(peers, case, settings)
    names = _names(peers, case)
    return TrainingCase(
        model,
        batch,
        peers.pixels[shown] if shown else None,
        names.to_released,
        {names.name(ours): weight for ours, weight in _frozen_norms(model).items()},
    )


def _padded(batch: Batch, width: int) -> Batch:
    """Pad a batch on the right as `collate` does, up to a width."""
    more = width - batch.input_ids.shape[1]
    return replace(
        batch,
        input_ids=F.pad(batch.input_ids, (0, more), value=FILLER_ID),
        labels=F.pad(batch.labels, (0, more), value=IGNORED_LABEL),
    )


def _model(peers: PeerSet, case: Comparison, settings: MethodSettings) -> VisionLanguageModel:
    """Build a model with those recorded tensors that the method has with these settings."""
    model, names = peers.models.untrained(settings), _names(peers, case)
    recorded = {ours: f"param.{names.name(ours)}" for ours, _ in model.named_trainable_parameters()}
    state = {
        ours: names.to_ours(ours, case.input(theirs))
        for ours, theirs in recorded.items()
        if theirs in case.recorded  # what is missing is told when the state is loaded
    }
    norms = _frozen_norms(model)
    state = {
        name: values - norms[name] if name in norms else values for name, values in state.items()
    }
    model.load_adapter_state_dict(state, source=f"{case.case}.safetensors")
    return model


def _names(peers: PeerSet, case: Comparison) -> ReleasedNames:
    is_multimodal = any(name.startswith("param.llama.") for name in case.recorded)
    head_dim = peers.models.sizes["llama"]["head_dim"]
    return ReleasedNames(prefix="llama." if is_multimodal else "", head_dim=head_dim)


def _frozen_norms(model: VisionLanguageModel) -> dict[str, Tensor]:
    """Return the language model's norms by our names of their changes."""
    decoder = model.llm.model
    norms = {
        f"norms.{number}.{name}": getattr(layer, name).weight
        for number, layer in enumerate(decoder.layers)
        for name in ("input_layernorm", "post_attention_layernorm")
    }
    return {**norms, "norms.final.norm": decoder.norm.weight}


def _compare_training(case: Comparison, run: TrainingCase) -> None:
    compare_gradients(case, run)
    compare_zeroed(case, run)
    compare_trajectory(case, run)


def _compare_states(case: Comparison, run: TrainingCase) -> PromptPass:
    """Compare what the forward pass goes through, and return the batch's pass."""
    states, opened = record_states(run.model, run.batch, run.pixels)
    for prefix in ("layer_out_", "attn_before_wo_"):
        found = {name.removeprefix(prefix): tensor for name, tensor in states.items()}
        case.tensors(prefix, found, "intermediate")
    case.tensor("logits", states["logits"][:, case.input("logit_positions").long()], "logits")
    assert isinstance(opened, PromptPass)
    return opened


@torch.no_grad()
def _features(model: VisionLanguageModel, pixels: Tensor) -> Tensor:
    assert model.tower is not None
    return model.method.encode(model.tower, pixels, dropout_seeds=None)


@torch.no_grad()
def _compare_visual(case: Comparison, model: VisionLanguageModel, pixels: Tensor) -> None:
    """Compare what V2 makes of the pictures, zero ones too, on the way to its queries."""
    visual: Any = cast(LlamaAdapterV2Method, model.method).visual
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, args, output: found.update({name: output})

    parts = {"clip_projected": visual.tower_norm}
    parts |= {f"visual_block_out_{number}": block for number, block in enumerate(visual.blocks, 1)}
    handles = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    features = _features(model, pixels)
    visual(features)
    for handle in handles:
        handle.remove()
    case.tensor("clip_tokens", features, "intermediate")
    case.tensor("clip_projected", found["clip_projected"], "intermediate")
    blocks: Mapping[str, Tensor] = {
        name.removeprefix("visual_block_out_"): states for name, states in found.items()
    }
    case.tensors("visual_block_out_", blocks, "intermediate")
