"""Recomputes the golden cases about single parts: A (tower), B (pooling), C (fusion).

All sizes and hyper-parameters come from the set's own files, so that other sets of the same format
can be checked. A case whose files are absent gives no checks.
"""

import re
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ademvl.golden.checks import Check
from ademvl.golden.files import GoldenSet, largest_difference
from ademvl.methods.adem.rule import PHI, drop_low_scores, fuse_adem, keep_mask, visual_scores
from ademvl.methods.multiscale import pool_grid

# Tolerances of the set's README: several times what an independent program differs by.
FEATURES_TOLERANCE = 2e-5
POOLING_TOLERANCE = 1e-6
FUSION_TOLERANCE = 2e-5

_SCALES_OF_OUTPUT = re.compile(r"out((?:_\d+)+)")


def check_vision(golden_dir: Path) -> list[Check]:
    """Compare the tower's features of case A, with and without its adapters."""
    golden = GoldenSet(golden_dir)
    case = golden.tensors("A_vision")
    if case is None:
        return []
    pixels = golden.pixels("pixels_sqa")[: len(case["features_plain"])]
    details = golden.json("A_vision")
    plain = golden.tower().encode(pixels)
    named = {"clip_adapter_scale": "clip_adapter_scale", "clip_adapter_dim": "adapter_dim"}
    overrides = {ours: details[name] for name, ours in named.items() if name in details}
    model = golden.model(golden.settings(details, overrides)).eval()
    assert model.tower is not None
    with torch.no_grad():
        adapted = model.method.encode(model.tower, pixels, dropout_seeds=None)
    return [
        _check("A_vision", name, mine, case[name], FEATURES_TOLERANCE)
        for name, mine in {"features_plain": plain, "features_adapted": adapted}.items()
    ]


def check_pooling(golden_dir: Path) -> list[Check]:
    """Compare the pooled grids of case B, one for each list of scales."""
    case = GoldenSet(golden_dir).tensors("B_sampler")
    if case is None:
        return []
    checks = []
    for name in sorted(case):
        if match := _SCALES_OF_OUTPUT.fullmatch(name):
            scales = tuple(int(scale) for scale in match[1].strip("_").split("_"))
            mine = pool_grid(case["x"], scales, pool="avg")
            checks.append(_check("B_sampler", name, mine, case[name], POOLING_TOLERANCE))
    return checks


def check_fusion(golden_dir: Path) -> list[Check]:
    """Compare output, gradients and number of kept scores of each case in C."""
    golden = GoldenSet(golden_dir)
    case = golden.tensors("C_fusion")
    if case is None:
        return []
    checks = []
    for name, details in golden.json("C_fusion")["cases"].items():
        tied = "ties." if details["inputs"].startswith("ties") else ""
        inputs = {
            key: case.get(f"{tied}{key}", case[key]).clone().requires_grad_()
            for key in ("x", "image_embeds", "adapter_emb1", "adapter_emb2")
        }
        gamma = details["drop_ratio"]
        keys = PHI["silu"](inputs["image_embeds"] + inputs["adapter_emb1"])
        output = fuse_adem(
            inputs["x"],
            keys,
            inputs["image_embeds"] + inputs["adapter_emb2"],
            target=torch.zeros_like(case["grad_out"]),
            alpha=1.0,
            phi="silu",
            select=partial(drop_low_scores, gamma=gamma),
        )
        torch.autograd.backward(output, case["grad_out"])
        scores = visual_scores(inputs["x"], keys, phi="silu")
        num_kept = keep_mask(scores, gamma=gamma).sum(dim=-1)
        expected_kept = torch.tensor(details["kept_per_row"])
        what = f"{name}."
        checks.append(_check("C_fusion", f"{what}kept", num_kept, expected_kept, 0.0))
        checks.append(
            _check("C_fusion", f"{what}out", output, case[f"{name}.out"], FUSION_TOLERANCE)
        )
        checks += [
            _check(
                "C_fusion",
                f"{what}grad_{key}",
                tensor.grad,
                case[f"{name}.grad_{key}"],
                FUSION_TOLERANCE,
            )
            for key, tensor in inputs.items()
        ]
    return checks


def _check(case: str, what: str, mine: Tensor | None, expected: Tensor, tolerance: float) -> Check:
    return Check(case, what, largest_difference(mine, expected), tolerance)
