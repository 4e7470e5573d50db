"""Golden cases of LaVIN: A, a training step and three of them; B, plain adapters; C, generation.

In the released code a batch's first image routes in the tower and generation repeats a position, so
the cases are recomputed with the settings for that; what an image routes by itself is a variant.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.data.collate import Batch, collate
from ademvl.data.rows import IMAGE_PREFIX, NO_IMAGE_PREFIX, TokenizedExample
from ademvl.data.tokenizer import FILLER_ID, IGNORED_LABEL
from ademvl.evaluation.generation import cut_at
from ademvl.golden.checks import Check
from ademvl.golden.decoding import GreedyCall
from ademvl.golden.files import largest_difference
from ademvl.golden.peers.cases import Comparison, PeerSet
from ademvl.golden.peers.rows import evaluation_rows, training_rows
from ademvl.golden.peers.training import (
    TrainingCase,
    compare_gradients,
    compare_initial_values,
    compare_trajectory,
    compare_zeroed,
)
from ademvl.golden.recording import record_states
from ademvl.methods.lavin.method import LavinMethod, LavinPass
from ademvl.methods.lavin.settings import LavinSettings, TowerAdapterKind
from ademvl.methods.sites import decoder_layers
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.released.lavin_names import from_released, to_released
from ademvl.vision.tower import VisionTower

_TRAINING, _PLAIN, _GENERATION = "A_forward_train", "B_plain_visual_adapter", "C_generate"
_VARIANT = re.compile(r"(router_temperature|scale)_([\d.]+)")
_VARIANT_KEYS = {"router_temperature": "temperature", "scale": "scale"}
_KINDS: Mapping[str, TowerAdapterKind] = {"router": "routed", "normal": "plain"}


def check_training(peers: PeerSet) -> Sequence[Check]:
    """Compare all that case A records but roundings of a GPU."""
    case = peers.compare(_TRAINING)
    settings = _settings(case.details["settings"])
    pixel_index = case.input("pixel_index").tolist()
    rows = training_rows(peers, case, settings, pixel_index)
    for name, prefix in (("prefix_img", IMAGE_PREFIX), ("prefix_nonimg", NO_IMAGE_PREFIX)):
        case.same(name, peers.tokenizer.encode(prefix), case.input(name).tolist())
    width = case.details["settings"]["max_seq_len"]
    batch = _as_wide(collate(rows, trim_after_labels=False), width - 1)
    shown = [place for place in pixel_index if place >= 0]
    model = _trained_model(peers, case, settings)
    run = TrainingCase(model, batch, peers.pixels[shown], to_released)
    _compare_states(peers, case, run, pixel_index)
    compare_gradients(case, run)
    compare_zeroed(case, run)
    _compare_losses(peers, case, run, rows, pixel_index)
    compare_trajectory(case, run)
    compare_initial_values(case, run)
    return case.finish()


def check_plain(peers: PeerSet) -> Sequence[Check]:
    """Compare the features of case B; its settings go before those of case A."""
    trained, case = peers.compare(_TRAINING), peers.compare(_PLAIN)
    recorded = {**trained.details["settings"], **case.details["settings"]}
    model = _model(peers, _settings(recorded), recorded["clip_layers"]).eval()
    state = from_released(case.inputs("param."), source=f"{_PLAIN}.safetensors")
    names = [name for name, _ in model.named_trainable_parameters()]
    expected = [name for name in names if name.startswith("clip_adapters.")]
    case.same_names("tensors of the tower", [*state], expected)
    model.method.load_state_dict(state, strict=False)
    pixels = peers.pixels_or_zero(case.input("pixel_index").tolist())
    case.tensor("features", _encode(model, pixels), "features")
    return case.finish()


@torch.inference_mode()
def check_generation(peers: PeerSet) -> Sequence[Check]:
    """Compare every call of case C, with the trained tensors and the pictures of case A."""
    trained, case = peers.compare(_TRAINING), peers.compare(_GENERATION)
    settings = _settings(trained.details["settings"])
    case.same("n_feats", [len(settings.cls_blocks)], [case.details["n_feats"]])
    model = _trained_model(peers, trained, settings).eval()
    pixel_index = trained.input("pixel_index").tolist()
    for name, details in case.details["calls"].items():
        shown = [pixel_index[row] for row in details["rows"]]
        rows = evaluation_rows(
            peers,
            case,
            name,
            settings,
            shown,
            prompt_format=case.details["prompt_format"],
            cue="",
        )
        _compare_call(peers, case, name, GreedyCall(model, rows, shown, peers.pixels))
    return case.finish()


CASES = {
    _TRAINING: check_training,
    _PLAIN: check_plain,
    _GENERATION: check_generation,
}
NOT_COVERED: Mapping[str, Mapping[str, Sequence[str]]] = {
    _TRAINING: {"loss_with_explicit_half_roundings, of float16 where a GPU has it": ()},
    "D_scoring": {
        "how LaVIN's own evaluation reads answers from prompt and continuation together, and "
        "guesses where there is none; here all methods are scored alike": ()
    },
}
"""By case, what is not compared, with the names of its tensors."""


def _settings(recorded: Mapping[str, Any]) -> LavinSettings:
    every, num_blocks = recorded["cls_every"], recorded["clip_layers"]
    return LavinSettings(
        dim=recorded["adapter_dim"],
        scale=recorded["scale"],
        temperature=recorded["router_temperature"],
        dropout=recorded["dropout"],
        cls_blocks=tuple(range(every - 1, num_blocks, every)),
        projection_width=recorded["hidden_proj"],
        tower_adapters=_KINDS[recorded["visual_adapter"]],
        tower_routing="first_of_batch",
        generated_positions="one_repeated",
    )


def _model(peers: PeerSet, settings: LavinSettings, num_blocks: int) -> VisionLanguageModel:
    return peers.models.untrained(settings, _with_blocks(peers.models.tower(), num_blocks))


def _with_blocks(tower: VisionTower, num_blocks: int) -> VisionTower:
    """Repeat a tower's blocks in order until there are enough."""
    blocks = tower.visual.transformer.resblocks
    tower.visual.transformer.resblocks = nn.ModuleList(
        copy.deepcopy(blocks[number % len(blocks)]) for number in range(num_blocks)
    )
    tower.shape = replace(tower.shape, num_blocks=num_blocks)
    return tower


def _trained_model(
    peers: PeerSet, trained: Comparison, settings: LavinSettings
) -> VisionLanguageModel:
    """Build a model with the tensors of case A."""
    model = _model(peers, settings, trained.details["settings"]["clip_layers"])
    source = f"{_TRAINING}.safetensors"
    model.load_adapter_state_dict(
        from_released(trained.inputs("param."), source=source), source=source
    )
    return model


def _as_wide(batch: Batch, width: int) -> Batch:
    """Pad a batch on the right to a width."""
    more = (0, width - batch.input_ids.shape[1])
    return replace(
        batch,
        input_ids=F.pad(batch.input_ids, more, value=FILLER_ID),
        labels=F.pad(batch.labels, more, value=IGNORED_LABEL),
    )


def _encode(model: VisionLanguageModel, pixels: Tensor) -> Tensor:
    """Return the features of pictures that are a batch by themselves."""
    assert model.tower is not None
    with torch.no_grad():
        return model.method.encode(model.tower, pixels, dropout_seeds=None)


@torch.no_grad()
def _compare_states(
    peers: PeerSet, case: Comparison, run: TrainingCase, pixel_index: Sequence[int]
) -> None:
    """Compare what the forward pass goes through, inside the tower and the language model."""
    method = cast(LavinMethod, run.model.method)
    with _recorded_inputs(run.model) as inputs:
        features = _encode(run.model, peers.pixels_or_zero(pixel_index))
        states, opened = record_states(run.model, run.batch, run.pixels)
    assert isinstance(opened, LavinPass)
    assert opened.before_begin is not None
    case.tensor("features", features, "features")
    case.tensor("clip_adapter_in_0.batch0", inputs["norm"][0], "intermediate")
    case.tensor("clip_adapter_out_0", inputs["tower"], "intermediate")
    first = cast(Any, method.clip_adapters)["0"]
    routed = first.mixture(inputs["norm"][0])
    case.tensor("clip_router_weights_0", routed, "intermediate")
    case.tensor("image_embeds", method.cls_projection(features), "intermediate")
    case.tensor("modality_embed", opened.before_begin, "intermediate")
    whole = torch.cat((opened.before_begin, states["inputs_embeds"]), dim=1)
    case.tensor("inputs_embeds", whole, "intermediate")
    case.tensor("adapter_attn_out_0", inputs["llm"], "intermediate")
    layers = range(len(method.layers))
    weights = {str(number): opened.mixture(number) for number in layers}
    case.tensors("router_weights_", weights, "intermediate")
    outputs = {name.removeprefix("layer_out_"): tensor for name, tensor in states.items()}
    case.tensors("layer_out_", outputs, "intermediate")
    places = case.input("logit_positions").long() - 1  # position 0 is the modality token's
    case.tensor("logits", states["logits"][:, places], "logits")


@contextmanager
def _recorded_inputs(model: VisionLanguageModel) -> Iterator[dict[str, Tensor]]:
    """Keep what the first attention gets in either model, and the tower's norm before it.

    Only the first call of each counts.
    """
    found: dict[str, Tensor] = {}
    assert model.tower is not None
    block, layer = model.tower.visual.transformer.resblocks[0], decoder_layers(model.llm)[0]

    def keep_norm(norm: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        found.setdefault("norm", output)

    def keep_tower(attention: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.setdefault("tower", args[0])

    def keep_llm(attention: nn.Module, args: Any, kwargs: Any) -> None:
        found.setdefault("llm", kwargs["hidden_states"])

    attention = cast(nn.Module, layer.self_attn)
    hooks = [
        block.ln_1.register_forward_hook(keep_norm, prepend=True),  # before the adapter's
        block.attn.register_forward_pre_hook(keep_tower),
        attention.register_forward_pre_hook(keep_llm, with_kwargs=True),
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _compare_losses(
    peers: PeerSet,
    case: Comparison,
    run: TrainingCase,
    rows: Sequence[TokenizedExample],
    pixel_index: Sequence[int],
) -> None:
    """Compare the losses of other orders of the rows, of other routing and of other settings."""
    tolerance = case.tolerance("loss")
    width = run.batch.input_ids.shape[1]
    for name, loss in case.details["loss_of_row_orders"].items():
        order = [int(row) for row in re.findall(r"\d+", name)]
        shown = [pixel_index[row] for row in order]
        batch = _as_wide(collate([rows[row] for row in order], trim_after_labels=False), width)
        pixels = peers.pixels[[place for place in shown if place >= 0]]
        mine = replace(run, batch=batch, pixels=pixels).loss()
        case.close(f"loss of {name}", float(mine), loss, tolerance)
        features = _encode(run.model, peers.pixels_or_zero(shown))
        by_row = {f"features_row{row}": features[place] for place, row in enumerate(order)}
        case.tensors(f"variant.{name}.", by_row, "features")
    settings = cast(LavinSettings, run.model.method.settings)
    variants = {"images encoded one by one": replace(settings, tower_routing="own_image")}
    losses = {"images encoded one by one": case.details["loss_with_images_encoded_one_by_one"]}
    for name, loss in case.details["loss_of_variants"].items():
        losses[name] = loss
        if match := _VARIANT.fullmatch(name):
            change: dict[str, Any] = {_VARIANT_KEYS[match[1]]: float(match[2])}
            variants[name] = replace(settings, **change)
    for name, loss in losses.items():
        mine = torch.tensor(float("nan"))
        if name in variants:
            mine = replace(run, model=_trained_model(peers, case, variants[name])).loss()
        case.close(f"loss of {name}", float(mine), loss, tolerance)


def _compare_call(peers: PeerSet, case: Comparison, name: str, call: GreedyCall) -> None:
    details, tokenizer = case.details["calls"][name], peers.tokenizer
    logits = case.input(f"{name}.logits")
    lengths = [len(row.ids) for row in call.rows]
    limit = min(case.details["max_seq_len"], max(lengths) + details["max_gen_len"])
    starts = [[0, min(lengths) + 1], *([place, 1] for place in range(min(lengths), limit - 1))]
    case.same(f"{name} steps", starts, details["steps"])
    found, ids = _fed_on(call, limit)
    error = largest_difference(found, logits)
    case.number(f"{name}.logits", error, case.tolerance("logits"))
    texts = [
        cut_at(row[: length + details["max_gen_len"]], tokenizer.eos_id)
        for row, length in zip(ids, lengths, strict=True)
    ]
    case.same(f"{name} tokens", texts, details["decoded_tokens"])
    case.same(f"{name} decoded", [tokenizer.decode(row) for row in texts], details["decoded"])
    if len(call.rows) == 1:
        alone, chosen = call.cached([0], len(logits))
        error = largest_difference(alone, logits)
        case.number(f"{name}.logits of generation", error, case.tolerance("logits"))
        case.same(f"{name} generated", chosen[:, 0].tolist(), ids[0][lengths[0] :])


def _fed_on(call: GreedyCall, limit: int) -> tuple[Tensor, list[list[int]]]:
    """Generate as the released code does: longer rows are fed their own prompts on, step by step.

    Args:
        call: rows with their images.
        limit: places of each row in the end.

    Returns:
        Logits, (steps, B, V), and the ids of each row.
    """
    model = call.model
    batch, pixels = call.batch(range(len(call.rows)))
    lengths = batch.lengths
    ids = F.pad(batch.input_ids, (0, limit - batch.input_ids.shape[1]), value=FILLER_ID)
    no_slots = torch.full_like(batch.slot_start, -1)
    steps = []
    with model.opened(pixels, batch.has_image) as opened:
        prompts = model.embed(ids, batch.slot_start, opened.with_image)  # (B, limit, d)
        fed, cache = prompts[:, : int(lengths.min())], None
        for place in range(int(lengths.min()), limit):
            states, cache = model.decode(fed, cache=cache, use_cache=True)
            steps.append(model.last_logits(states))
            is_prompt = lengths > place
            ids[:, place] = torch.where(is_prompt, ids[:, place], steps[-1].argmax(dim=-1))
            chosen = model.embed(ids[:, place, None], no_slots, None)  # (B, 1, d)
            fed = torch.where(is_prompt[:, None, None], prompts[:, place, None], chosen)
    return torch.stack(steps), ids.tolist()
