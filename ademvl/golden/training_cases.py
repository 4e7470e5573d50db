"""Recomputes the golden cases about training: D (one forward and backward pass) and E (six steps).

All sizes and hyper-parameters come from the set's own files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import BackboneSettings
from ademvl.data.collate import Batch, collate
from ademvl.data.rows import RowLayout, TokenizedExample, build_row
from ademvl.data.tokenizer import IGNORED_LABEL, TokenizedText
from ademvl.golden.checks import Check
from ademvl.golden.files import REMEDY, GoldenSet, by_reference_name, largest_difference
from ademvl.golden.recording import record_states
from ademvl.llm.loading import load_llm
from ademvl.methods.adem.method import AdemMethod
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.storage.files import read_json
from ademvl.training.loss import token_losses
from ademvl.training.optimizer import build_optimizer, set_lr
from ademvl.training.schedule import lr_at

# Tolerances of the set's README: several times what an independent program differs by.
LOSS_TOLERANCE = 1e-5
STATES_TOLERANCE = 2e-4
GRADIENT_TOLERANCE = 5e-6
STEP_LOSS_TOLERANCE = 2e-5
PARAMETER_TOLERANCE = 5e-6
LR_TOLERANCE = 1e-12


class _Inputs:
    """Rows of a case, made by the code that makes the rows of a data set."""

    def __init__(
        self,
        golden: GoldenSet,
        arrays: Mapping[str, Tensor],
        common: Mapping[str, Tensor],
        *,
        with_cls: bool,
    ) -> None:
        self._pixels = golden.pixels("pixels_sqa")
        self._pixel_index = common["pixel_index"].tolist()
        layout = RowLayout(
            image_prefix=tuple(common["prefix_img"].tolist()) if with_cls else (),
            no_image_prefix=tuple(common["prefix_nonimg"].tolist()) if with_cls else (),
            num_slots=int(with_cls),
        )
        self.rows = [
            self._row(arrays, common, layout, index) for index in range(len(arrays["examples"]))
        ]

    def _row(
        self,
        arrays: Mapping[str, Tensor],
        common: Mapping[str, Tensor],
        layout: RowLayout,
        index: int,
    ) -> TokenizedExample:
        length = int(arrays["example_mask"][index].sum())
        labels = arrays["labels"][index, :length].tolist()
        text = TokenizedText(
            arrays["examples"][index, :length].tolist(),
            [label if label else IGNORED_LABEL for label in labels],
        )
        has_image = bool(common["indicators"][index])
        return build_row(
            text,
            layout,
            max_seq_len=arrays["examples"].shape[1],
            item_id=str(index),
            image=Path(str(index)) if has_image else None,
        )

    def batch(self, indices: Sequence[int]) -> tuple[Batch, Tensor | None]:
        """Return a batch and the pixels of its images."""
        batch = collate([self.rows[index] for index in indices], trim_after_labels=True)
        shown = [self._pixel_index[i] for i in indices if self.rows[i].image is not None]
        return batch, self._pixels[shown] if shown else None


def check_weights(golden_dir: Path) -> list[Check]:
    """Compare the language model read from one shard and from several: equal bit for bit."""
    first, *others = (
        load_llm(BackboneSettings(llm=str(folder))).state_dict()
        for folder in GoldenSet(golden_dir).llm_dirs()
    )
    return [
        Check(
            "D_weights",
            f"folder {number}",
            float(sum(not torch.equal(state[name], tensor) for name, tensor in first.items())),
            0.0,
        )
        for number, state in enumerate(others, start=2)
    ]


def check_forward(golden_dir: Path) -> list[Check]:
    """Compare loss, states and gradients of each variant of case D."""
    golden = GoldenSet(golden_dir)
    common = golden.tensors("D_inputs")
    if common is None:
        return []
    details = golden.json("D_forward")
    checks = []
    for name, variant in details["variants"].items():
        case = golden.require_tensors(f"D_{name}")
        with_cls = variant["with_cls"]
        model = golden.model(
            golden.settings(details, variant.get("hyper_override"), with_cls=with_cls)
        )
        arrays = case if "examples" in case else common
        inputs = _Inputs(golden, arrays, common, with_cls=with_cls)
        batch, pixels = inputs.batch(range(len(inputs.rows)))
        checks += _forward_checks(f"D_{name}", model, batch, pixels, case, variant)
    return checks


def _forward_checks(
    case_name: str,
    model: VisionLanguageModel,
    batch: Batch,
    pixels: Tensor | None,
    case: Mapping[str, Tensor],
    variant: Mapping[str, Any],
) -> list[Check]:
    predictions = model.labelled_logits(batch, pixels)
    loss = token_losses(predictions.logits, predictions.targets).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    labels = batch.labels.masked_fill(batch.labels == IGNORED_LABEL, 0)
    found: dict[str, tuple[Tensor, float]] = {
        "labels_assembled": (labels, 0.0),
        "loss": (loss.reshape(1), LOSS_TOLERANCE),
    }
    if "inputs_embeds" in case:
        found |= {name: (t, STATES_TOLERANCE) for name, t in _states(model, batch, pixels).items()}
    checks = [
        Check(case_name, name, largest_difference(tensor, _used(name, case, batch)), tolerance)
        for name, (tensor, tolerance) in found.items()
        if name in case
    ]
    gradients = by_reference_name(
        {name: parameter.grad for name, parameter in model.named_trainable_parameters()}
    )
    without = {name for name, gradient in gradients.items() if gradient is None}
    unexpected = without ^ set(variant["params_without_grad"])
    checks.append(Check(case_name, "parameters without gradient", float(len(unexpected)), 0.0))
    return checks + [
        Check(case_name, key, largest_difference(gradients[key[5:]], case[key]), GRADIENT_TOLERANCE)
        for key in sorted(case)
        if key.startswith("grad.")
    ]


def _used(name: str, case: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Leave out the [cls] vectors of rows without an image: computed by the reference, not used."""
    return case[name][batch.has_image] if name == "cls_tokens" else case[name]


@torch.no_grad()
def _states(model: VisionLanguageModel, batch: Batch, pixels: Tensor | None) -> dict[str, Tensor]:
    """Return everything that the forward pass goes through, by the names of the golden file."""
    states, opened = record_states(model, batch, pixels)
    if opened.with_image is not None:
        states["cls_tokens"] = opened.with_image
    if model.tower is not None and pixels is not None:
        states["features"] = model.method.encode(model.tower, pixels, dropout_seeds=None)
        assert isinstance(model.method, AdemMethod)
        visual = model.method.visual_tokens(states["features"])
        states["image_embeds"] = visual.new_zeros(len(batch.has_image), *visual.shape[1:])
        states["image_embeds"][batch.has_image] = visual
    return states


def check_trajectory(golden_dir: Path) -> list[Check]:
    """Compare losses, learning rates, gradient norms and parameters of case E's steps."""
    golden = GoldenSet(golden_dir)
    case = golden.tensors("E_trajectory")
    if case is None:
        return []
    details = golden.json("E_trajectory")
    recipe = details["settings"]
    optimization = OptimizationSettings(
        epochs=recipe["epochs"],
        warmup_epochs=recipe["warmup_epochs"],
        base_lr=recipe["blr"],
        min_lr=recipe["min_lr"],
        effective_batch_size=recipe["effective_batch"],
        per_device_batch_size=recipe["batch_size"],
        loss_group_size=recipe["batch_size"],
        weight_decay=recipe["weight_decay"],
        beta1=recipe["betas"][0],
        beta2=recipe["betas"][1],
        eps=recipe["eps"],
    )
    with_cls = any("adapter_proj_cls" in name for name in case)
    model = golden.model(golden.settings(details, with_cls=with_cls))
    inputs = _Inputs(golden, case, case, with_cls=with_cls)
    optimizer = build_optimizer(model.method, optimization)
    checks, losses, lrs, norms = [], [], [], []
    for epoch, micro_batches in enumerate(details["batches_per_epoch"]):
        for first in range(0, len(micro_batches), recipe["accum_iter"]):
            lrs.append(lr_at(epoch + first / len(micro_batches), optimization))
            set_lr(optimizer, lrs[-1])
            optimizer.zero_grad(set_to_none=True)
            for indices in micro_batches[first : first + recipe["accum_iter"]]:
                predictions = model.labelled_logits(*inputs.batch(indices))
                loss = token_losses(predictions.logits, predictions.targets).mean()
                (loss / recipe["accum_iter"]).backward()
                losses.append(float(loss.detach()))
            gradients = [
                p.grad for _, p in model.named_trainable_parameters() if p.grad is not None
            ]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))
            optimizer.step()
            checks += _parameter_checks(model, case, step=len(lrs))
    for what, values, tolerance in (
        ("micro_loss", losses, STEP_LOSS_TOLERANCE),
        ("lr", lrs, LR_TOLERANCE),
        ("grad_norm", norms, STEP_LOSS_TOLERANCE),
    ):
        error = largest_difference(torch.tensor(values, dtype=torch.float64), case[what].double())
        checks.append(Check("E_trajectory", what, error, tolerance))
    return checks


def _parameter_checks(
    model: VisionLanguageModel, case: Mapping[str, Tensor], *, step: int
) -> list[Check]:
    parameters = by_reference_name(dict(model.named_trainable_parameters()))
    prefix = f"step{step}."
    return [
        Check(
            "E_trajectory",
            key,
            largest_difference(parameters[key.removeprefix(prefix)], case[key]),
            PARAMETER_TOLERANCE,
        )
        for key in sorted(case)
        if key.startswith(prefix)
    ]


def check_lr_table(golden_dir: Path) -> list[Check]:
    """Compare the schedule with case E's table."""
    path = golden_dir / "E_lr_table.json"
    if not path.is_file():
        return []
    error = 0.0
    for row in read_json(path, remedy=REMEDY):
        optimization = OptimizationSettings(
            epochs=row["epochs"],
            warmup_epochs=row["warmup_epochs"],
            base_lr=row["peak_lr"],
            min_lr=row["min_lr"],
            effective_batch_size=256,
            per_device_batch_size=256,
        )
        error = max(error, abs(lr_at(row["fractional_epoch"], optimization) - row["lr"]))
    return [Check("E_lr_table", "lr", error, LR_TOLERANCE)]
