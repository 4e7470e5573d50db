"""Golden cases of VL-Adapter: A, on BART, of which its own parts; B, an adapter with norms."""

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ademvl.golden.checks import Check
from ademvl.golden.peers.cases import Comparison, PeerSet
from ademvl.golden.peers.training import INITIAL_SEED, compare_drawn
from ademvl.methods.base import DecoderShape
from ademvl.methods.vl_adapter.method import Adapter, VlAdapterMethod, VlAdapterPass
from ademvl.methods.vl_adapter.settings import VlAdapterSettings
from ademvl.vision.tower import TowerShape

_BART, _ALONE = "A_vlbart", "B_adapter_with_norms"
_ENCODER = "model.encoder."
_OFFSET = 2  # rows of BART's table of positions that belong to none
_RENAMED = (
    (r"^attention_adapters\.(\d+)\.", rf"{_ENCODER}layers.\1.attn_adapter."),
    (r"^mlp_adapters\.(\d+)\.", rf"{_ENCODER}layers.\1.ff_adapter."),
    (r"^visual_embedding\.projection\.", f"{_ENCODER}visual_embedding.feat_embedding.0."),
    (r"^visual_embedding\.norm\.", f"{_ENCODER}visual_embedding.feat_embedding.1."),
    (r"\b(down|up)\.", r"adapters.*.\1_sampler."),
    (r"\bnorm_before\.", "pre_layer_norm."),
    (r"\bnorm_after\.", "post_layer_norm."),
)
"""Our names as the released ones; `*` stands for the task, which may be any."""
_TASK = re.compile(r"\badapters\.\w+\.")


def check_bart(peers: PeerSet) -> Sequence[Check]:
    """Compare visual tokens and the encoder's first layer of case A, and initial values.

    Attention is BART's own; what it gives the adapter is recorded.
    """
    case = peers.compare(_BART)
    method = _method(case)
    ours = dict(method.named_parameters())
    recorded = {_any_task(name): tensor for name, tensor in case.inputs("param.").items()}
    method.load_state_dict({name: recorded[_released_name(name)] for name in ours})
    with torch.no_grad():
        _compare_encoder(case, method, recorded)
    method.initialize(INITIAL_SEED)
    drawn = {_released_name(name): tensor for name, tensor in ours.items()}
    expected = {_any_task(name): each for name, each in case.details["init"].items()}
    compare_drawn(case, drawn, {name: expected[name] for name in drawn if name in expected})
    return case.finish(left_out=NOT_COVERED[_BART])


def check_adapter_with_norms(peers: PeerSet) -> Sequence[Check]:
    """Compare output and gradients of case B."""
    case = peers.compare(_ALONE)
    recorded = {_any_task(name): tensor for name, tensor in case.inputs("param.").items()}
    bottleneck, width = recorded["adapters.*.down_sampler.weight"].shape
    adapter = Adapter(
        width=width,
        bottleneck=bottleneck,
        norm_before=case.details["settings"]["layer_norm_before"],
        norm_after=case.details["settings"]["layer_norm_after"],
    )
    ours = dict(adapter.named_parameters())
    case.same_names("parameters", [_released_name(name) for name in ours], [*recorded])
    adapter.load_state_dict({name: recorded[_released_name(name)] for name in ours})
    states = case.input("x").requires_grad_()
    output = adapter(states)
    case.tensor("out", output, "output")
    torch.autograd.backward(output, case.input("grad_out"))
    case.tensor("grad_x", states.grad, "output")  # the one tolerance that is recorded
    gradients = {_released_name(name): p.grad for name, p in ours.items() if p.grad is not None}
    for name in [name for name in case.recorded if name.startswith("grad.")]:
        mine = gradients.get(_any_task(name.removeprefix("grad.")))
        case.tensor(name, mine, "output")
    return case.finish()


CASES = {_BART: check_bart, _ALONE: check_adapter_with_norms}
NOT_COVERED: Mapping[str, Mapping[str, Sequence[str]]] = {
    _BART: {
        "BART's attention, its encoder behind the first layer, its decoder, loss and gradients": (
            *("encoder_out", "dec0_*", "logits", "labels", "scores", "grad.*"),
        )
    }
}


def _method(case: Comparison) -> VlAdapterMethod:
    """Build the method on a decoder as wide and deep as the encoder; case A has no tower."""
    recorded = case.details["settings"]
    layer = re.compile(rf"param\.{re.escape(_ENCODER)}layers\.(\d+)\.")
    layers = {found[1] for name in case.recorded if (found := layer.match(name))}
    return VlAdapterMethod(
        VlAdapterSettings(
            reduction_factor=recorded["reduction_factor"],
            visual_tokens=recorded["n_boxes"],
            train_norms=False,
        ),
        llm=DecoderShape(
            width=recorded["d_model"],
            layers=len(layers),
            heads=1,
            kv_heads=1,
            head_dim=recorded["d_model"],
            ffn_width=0,
        ),
        tower=TowerShape(
            width=recorded["feat_dim"],
            num_blocks=2,
            image_size=1,
            num_grid_tokens=recorded["grid"],
            output_width=recorded["feat_dim"],
        ),
        trains_tower=False,
    )


def _compare_encoder(
    case: Comparison, method: VlAdapterMethod, recorded: Mapping[str, Tensor]
) -> None:
    """Compare the visual tokens, and the first layer from what its attention gave."""

    def norm(states: Tensor, name: str) -> Tensor:
        weight, bias = recorded[f"{_ENCODER}{name}.weight"], recorded[f"{_ENCODER}{name}.bias"]
        return F.layer_norm(states, weight.shape, weight, bias)

    def linear(states: Tensor, name: str) -> Tensor:
        weight, bias = recorded[f"{_ENCODER}{name}.weight"], recorded[f"{_ENCODER}{name}.bias"]
        return F.linear(states, weight, bias)

    words = recorded["model.shared.weight"]
    visual = method.visual_tokens(case.input("vis_feats"))  # (B, S, d)
    # What this package leaves out: boxes, all of them zero, the image's number, the token's.
    no_box = recorded[f"{_ENCODER}visual_embedding.absolute_vis_pos_embedding.0.bias"]
    visual = visual + norm(no_box, "visual_embedding.absolute_vis_pos_embedding.1")
    visual = visual + recorded[f"{_ENCODER}visual_embedding.img_order_embedding.weight"][0]
    visual = visual + words.flip(0)[: visual.shape[1]]
    case.tensor("visual_tokens", visual, "intermediate")
    input_ids = case.input("input_ids").long()
    positions = recorded[f"{_ENCODER}embed_positions.weight"][_OFFSET:][: input_ids.shape[1]]
    text = norm(words[input_ids] + positions, "layernorm_embedding")
    opened = VlAdapterPass(method, None)
    adapted = opened.visit("mhsa_out", 0, case.input("enc0_attn_adapter_in"))
    case.tensor("enc0_attn_adapter", adapted, "intermediate")
    residual = torch.cat((text, visual), dim=1)
    between = norm(residual + adapted, "layers.0.self_attn_layer_norm")
    fed = linear(F.gelu(linear(between, "layers.0.fc1")), "layers.0.fc2")
    adapted = opened.visit("mlp_out", 0, fed)
    case.tensor("enc0_ff_adapter", adapted, "intermediate")
    output = norm(between + adapted, "layers.0.final_layer_norm")
    case.tensor("enc0_out", output, "intermediate")


def _released_name(name: str) -> str:
    for ours, theirs in _RENAMED:
        name = re.sub(ours, theirs, name)
    return name


def _any_task(name: str) -> str:
    return _TASK.sub("adapters.*.", name)
