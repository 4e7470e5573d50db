"""Golden cases of MM-CoT: A, on T5; B, on Flan-T5; C, its texts and how answers are read."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ademvl.golden.checks import Check
from ademvl.golden.peers.cases import Comparison, PeerSet
from ademvl.golden.peers.training import INITIAL_SEED, compare_drawn
from ademvl.systems.mm_cot.fusion import FusedT5
from ademvl.systems.mm_cot.prompts import build_source, build_target, stated_letter
from ademvl.tasks.scienceqa.reader import Problem

_T5, _FLAN, _PROMPTS = "A_t5", "B_flan_t5", "C_prompts"
_ENCODER, _PAD = "encoder.", 0
_FAILED = "FAILED"
_NORM_TOLERANCE = 1e-5  # of its size: sums of fp32 squares in another order


def check_t5(peers: PeerSet) -> Sequence[Check]:
    """Compare case A."""
    return _check(peers.compare(_T5))


def check_flan_t5(peers: PeerSet) -> Sequence[Check]:
    """Compare case B."""
    return _check(peers.compare(_FLAN))


def check_prompts(peers: PeerSet) -> Sequence[Check]:
    """Compare sources, targets and answers of case C."""
    content = peers.cases.json(_PROMPTS)
    case = Comparison(_PROMPTS, content, {})
    for question_id, pairs in content["pairs"].items():
        for what, expected in pairs.items():
            mine = _texts(peers.problems[question_id], what, content["made_up_rationale"])
            case.same(f"{question_id}: {what}", mine, expected)
    reading = content["answer_extraction"]
    letters = [stated_letter(text) or _FAILED for text in reading["texts"]]
    case.same("answers read", letters, reading["expected"])
    return case.finish()


CASES = {_T5: check_t5, _FLAN: check_flan_t5, _PROMPTS: check_prompts}


def _texts(problem: Problem, what: str, made_up: str) -> list[str]:
    text_format, caption, *generated = what.split("|")
    source = build_source(
        problem,
        text_format,
        use_caption=caption == "caption",
        rationale=made_up if generated else "",
    )
    return [source, build_target(problem, text_format)]


def build_model(settings: Mapping[str, Any]) -> FusedT5:
    """Build the model of a case, with random weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    kept = ("vocab_size", "d_model", "d_kv", "num_heads", "d_ff", "feed_forward_proj")
    tables = ("relative_attention_num_buckets", "relative_attention_max_distance")
    options: dict[str, Any] = {key: settings[key] for key in (*kept, *tables)}
    options |= {"tie_word_embeddings": settings["tie_word_embeddings"], "decoder_start_token_id": 0}
    config = T5Config(num_layers=settings["layers"], dropout_rate=0.0, **options)
    t5 = T5ForConditionalGeneration(config)
    if not settings["tie_word_embeddings"]:  # transformers 5 ties them whatever it is told
        t5.lm_head.weight = torch.nn.Parameter(t5.lm_head.weight.detach().clone())
    return FusedT5(t5, image_width=settings["image_dim"])


def _check(case: Comparison) -> Sequence[Check]:
    model = build_model(case.details["settings"]).eval()
    recorded = case.inputs("param.")
    ours = {_released_name(name): parameter for name, parameter in model.named_parameters()}
    case.same_names("parameters", [*ours], [*recorded])
    with torch.no_grad():
        for name, tensor in recorded.items():
            ours[name].copy_(tensor)
    _compare_passes(case, model, ours)
    ids = case.details["generated_ids"]
    for what, mask in (
        ("generated_ids", case.input("attention_mask").long()),
        # transformers reads a mask that is not given off the padding.
        ("generated_ids_without_attention_mask", (case.input("input_ids") != _PAD).long()),
    ):
        case.same(what, _generated(case, model, mask, length=len(ids[0])), case.details[what])
    model.fusion.initialize(torch.Generator().manual_seed(INITIAL_SEED))
    init = case.details["init_of_fusion"]
    compare_drawn(case, {name: ours[name] for name in init if name in ours}, init)
    return case.finish()


def _compare_passes(case: Comparison, model: FusedT5, ours: Mapping[str, Tensor]) -> None:
    """Compare encoder, fusion, logits, both losses and the gradients."""
    ids, mask = case.input("input_ids").long(), case.input("attention_mask").long()
    labels, features = case.input("labels").long(), case.input("image_features")
    states = model.t5.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    case.tensor("enc_norm", states, "intermediate")
    for name, part in model.fusion.parts(states, features).items():
        case.tensor(name, part, "intermediate")
    logits = model(model.encode(ids, mask, features), mask, model.shifted(labels))
    case.tensor("logits", logits, "logits")
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())  # padding, id 0, is scored
    ignoring = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=0)
    case.close("loss", loss.item(), case.details["loss"], case.tolerance("loss"))
    expected = case.details["loss_if_padding_were_ignored"]
    case.close("loss without padding", ignoring.item(), expected, case.tolerance("loss"))
    loss.backward()
    gradients = {name: p.grad for name, p in ours.items() if p.grad is not None}
    case.tensors("grad.", gradients, "gradients")
    for name, norm in case.details["grad_norms"].items():
        mine = float(gradients[name].norm()) if name in gradients else float("nan")
        tolerance = max(case.tolerance("gradients"), _NORM_TOLERANCE * norm)
        case.close(f"norm of grad.{name}", mine, norm, tolerance)


def _generated(
    case: Comparison, model: FusedT5, mask: Tensor, *, length: int
) -> Sequence[Sequence[int]]:
    fused = model.encode(case.input("input_ids").long(), mask, case.input("image_features"))
    options = {"max_new_tokens": length - 1, "min_new_tokens": length - 1, "do_sample": False}
    ids: list[list[int]] = model.generate(fused, mask, **options).tolist()
    return ids


def _released_name(name: str) -> str:
    part, _, rest = name.partition(".")
    return _ENCODER + rest if part == "fusion" else rest
