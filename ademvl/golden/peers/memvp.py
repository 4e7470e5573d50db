"""Golden cases of MemVP: A, a forward and backward pass with three steps; B, greedy generation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from ademvl.config.method import ClipAdapterSettings
from ademvl.data.collate import collate
from ademvl.golden.checks import Check
from ademvl.golden.peers.cases import Comparison, PeerSet
from ademvl.golden.peers.generation import compare_calls
from ademvl.golden.peers.rows import training_rows
from ademvl.golden.peers.training import (
    TrainingCase,
    compare_gradients,
    compare_initial_values,
    compare_trajectory,
    compare_zeroed,
)
from ademvl.golden.recording import record_states
from ademvl.methods.fusing import FusingPass
from ademvl.methods.memvp.method import MemvpMethod
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.methods.tower_adapters import ClipAdapter, TowerAdapters
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.released.memvp_names import from_released, to_released

_TRAINING, _GENERATION = "A_forward_train", "B_generate"
_VARIANT = re.compile(
    r"(adapter_scale|clip_adapter_scale|emb)_([\d.]+)(_first_rows_of_the_tables)?"
)
_TABLES = ("key_table", "value_table")


def check_training(peers: PeerSet) -> Sequence[Check]:
    """Compare everything that case A records."""
    case = peers.compare(_TRAINING)
    settings = _settings(case.details["settings"])
    state = _state(case)
    pixel_index = case.input("pixel_index").tolist()
    rows = training_rows(peers, case, settings, pixel_index)
    batch = collate(rows, trim_after_labels=True)
    case.same("seqlen_after_cut", batch.input_ids.shape[1:], [case.details["seqlen_after_cut"]])
    shown = [place for place in pixel_index if place >= 0]
    run = TrainingCase(_model(peers, settings, state), batch, peers.pixels[shown], to_released)
    _compare_states(peers, case, run, pixel_index)
    compare_gradients(case, run)
    compare_zeroed(case, run)
    for name, loss in case.details["loss_of_variants"].items():
        changed = _variant(peers, name, settings, state)
        variant = replace(run, model=changed) if changed else None
        with torch.no_grad():
            mine = float(variant.loss()) if variant else float("nan")
        case.close(f"loss of {name}", mine, loss, case.tolerance("loss"))
    compare_trajectory(case, run)
    compare_initial_values(case, run)
    return case.finish()


def check_generation(peers: PeerSet) -> Sequence[Check]:
    """Compare every call of case B, with the trained tensors and the pictures of case A."""
    trained, case = peers.compare(_TRAINING), peers.compare(_GENERATION)
    model = _model(peers, _settings(trained.details["settings"]), _state(trained)).eval()
    compare_calls(peers, case, model, trained.input("pixel_index").tolist())
    return case.finish()


CASES = {_TRAINING: check_training, _GENERATION: check_generation}


def _settings(recorded: Mapping[str, Any]) -> MemvpSettings:
    return MemvpSettings(
        alpha=recorded["adapter_scale"],
        beta=recorded["beta"],
        dropout=recorded["dropout"],
        table_rows=recorded["emb"],
        projection_width=recorded["hidden_proj"],
        clip_adapter=ClipAdapterSettings(
            dim=recorded["adapter_dim"],
            scale=recorded["clip_adapter_scale"],
            dropout=recorded["dropout"],
        ),
    )


def _state(case: Comparison) -> dict[str, Tensor]:
    return from_released(case.inputs("param."), source=f"{case.case}.safetensors")


def _model(
    peers: PeerSet, settings: MemvpSettings, state: Mapping[str, Tensor]
) -> VisionLanguageModel:
    model = peers.models.untrained(settings)
    model.load_adapter_state_dict(state, source=f"{_TRAINING}.safetensors")
    return model


def _variant(
    peers: PeerSet, name: str, settings: MemvpSettings, state: Mapping[str, Tensor]
) -> VisionLanguageModel | None:
    """Build the model of a variant that is named by what it changes; None for an unknown name."""
    match = _VARIANT.fullmatch(name)
    if match is None:
        return None
    kind, value = match[1], match[2]
    if kind == "adapter_scale":
        settings = replace(settings, alpha=float(value))
    elif kind == "clip_adapter_scale":
        adapters = replace(settings.clip_adapter, scale=float(value))
        settings = replace(settings, clip_adapter=adapters)
    else:
        settings = replace(settings, table_rows=int(value))
        state = {**state, **{table: state[table][: int(value)] for table in _TABLES}}
    return _model(peers, settings, state)


@torch.no_grad()
def _compare_states(
    peers: PeerSet, case: Comparison, run: TrainingCase, pixel_index: Sequence[int]
) -> None:
    """Compare what the forward pass goes through, inside the tower and the language model."""
    states, opened = record_states(run.model, run.batch, run.pixels)
    method = cast(MemvpMethod, run.model.method)
    features, branch = _encode_recorded(run.model, peers.pixels_or_zero(pixel_index))
    case.tensor("features", features[:, 1:], "features")
    case.tensor("clip_adapter_out_0", branch, "intermediate")
    visual = method.visual_prompt(features) * run.batch.has_image[:, None, None]
    case.tensor("visual_prompt", visual, "intermediate")
    assert isinstance(opened, FusingPass)
    fused = opened.rule(
        states["mlp_in_0"],
        opened.keys,
        opened.values,
        target=torch.zeros_like(states["mlp_in_0"]),
        layer=0,
    )
    case.tensor("adapter_mlp_out_0", fused / method.settings.alpha, "intermediate")
    for name in ("inputs_embeds", "mlp_in_0"):
        case.tensor(name, states[name], "intermediate")
    layers = {name.removeprefix("layer_out_"): tensor for name, tensor in states.items()}
    case.tensors("layer_out_", layers, "intermediate")
    case.tensor("logits", states["logits"][:, case.input("logit_positions").long()], "logits")


def _encode_recorded(model: VisionLanguageModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return features, (B, 1 + G, C), and the first block's branch before its factor."""
    method = cast(MemvpMethod, model.method)
    assert model.tower is not None
    branches: list[Tensor] = []
    first = cast(ClipAdapter, cast(TowerAdapters, method.clip_adapters)["0"])
    hook = first.up.register_forward_hook(lambda *call: branches.append(call[2]))
    try:
        features = method.encode(model.tower, pixels, dropout_seeds=None)
    finally:
        hook.remove()
    return features, branches[0]
