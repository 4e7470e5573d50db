"""One optimiser step, and the loop over a run's steps: the same for cached and online features."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ademvl.config.run import OptimizationSettings, Precision
from ademvl.data.collate import Batch, TokenizedExample, collate
from ademvl.data.tokenizer import IGNORED_LABEL
from ademvl.errors import TrainingError, list_findings
from ademvl.model import VisionLanguageModel
from ademvl.randomness import derive_seed
from ademvl.training.loss import token_losses, token_weights
from ademvl.training.metrics import StepResult
from ademvl.training.optimizer import set_lr, zero_missing_gradients
from ademvl.training.order import StepPlan
from ademvl.training.schedule import lr_at
from ademvl.visual_source import VisualSource

AUTOCAST_DTYPES: Mapping[Precision, torch.dtype] = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


class _MicroBatch(NamedTuple):
    batch: Batch
    item_weights: Tensor  # (B,), of each scored token of an item


class Trainer:
    """Carries out the steps of a plan.

    Args:
        model: in training mode, on its device.
        parameters: its trained parameters by name.
        optimizer: over them.
        rows: the training split; step plans refer to their positions.
        visual_source: gives features or pixels of a batch.
        plan: which items each step sees.
        precision: of the frozen language model; half precisions run under autocast, and fp16
            with loss scaling.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        *,
        rows: Sequence[TokenizedExample],
        visual_source: VisualSource,
        plan: StepPlan,
        precision: Precision,
    ) -> None:
        self.plan = plan
        self.parameters = parameters
        self.optimizer = optimizer
        self.model = model
        self._rows = rows
        self._visual_source = visual_source
        self._device = next(iter(parameters.values())).device
        self._autocast_dtype = AUTOCAST_DTYPES.get(precision)
        self.scaler = torch.amp.GradScaler(self._device.type, enabled=precision == "fp16")

    @property
    def optimization(self) -> OptimizationSettings:
        """Settings of the optimiser and its schedule."""
        return self.plan.optimization

    def steps(self, *, first: int) -> Iterator[StepResult]:
        """Do the steps from number `first` (from 0) to the last, yielding after each."""
        for step in range(first, self.plan.total_steps):
            yield self.step(step)

    def step(self, step: int) -> StepResult:
        """Do step number `step` (from 0).

        Raises:
            TrainingError: loss or gradient is not finite; nothing was updated.
        """
        items = self.plan.items_of(step)
        lr = lr_at(self.plan.lr_epoch(step), self.optimization)
        set_lr(self.optimizer, lr)
        epoch = step // self.plan.steps_per_epoch
        self.model.dropout_seed = derive_seed(self.plan.seed, "dropout", epoch)
        self.optimizer.zero_grad(set_to_none=True)
        micro_batches = self._micro_batches(items)
        loss = self._accumulate_gradients(micro_batches, step, epoch)
        grad_norm = self._update(step, items)
        return StepResult(
            step=step + 1,
            epoch=self.plan.epoch_at(step + 1),
            lr=lr,
            loss=loss,
            grad_norm=grad_norm,
            num_items=len(items),
            num_tokens=sum(int(batch.lengths.sum()) for batch, _ in micro_batches),
        )

    def _micro_batches(self, items: Sequence[int]) -> list[_MicroBatch]:
        """Spread an effective batch over passes, rows of like length together.

        Which items a pass holds has no influence on what is learned: each item's weight in the
        loss is settled here, in the order of the plan.
        """
        rows = [self._rows[item] for item in items]
        counts = torch.tensor([_num_scored(row) for row in rows])
        weights = token_weights(counts, group_size=self.optimization.loss_group_size)
        size = self.optimization.per_device_batch_size
        by_length = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
        return [
            _MicroBatch(
                collate([rows[place] for place in places], trim_after_labels=True),
                weights[places],
            )
            for places in (by_length[i : i + size] for i in range(0, len(rows), size))
        ]

    def _accumulate_gradients(
        self, micro_batches: Sequence[_MicroBatch], step: int, epoch: int
    ) -> float:
        """Add up the gradients of all passes and return the loss."""
        losses, failing = [], []
        for batch, item_weights in micro_batches:
            visual = self._visual_source.for_batch(batch, epoch=epoch)
            with self._autocast():
                logits, targets, row_numbers = self.model.labelled_logits(batch, visual)
            per_token = token_losses(logits, targets)  # (M,)
            loss = per_token @ item_weights.to(self._device)[row_numbers]
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            failing.append(row_numbers[~per_token.detach().isfinite()])
        total = float(torch.stack(losses).sum())
        if not isfinite(total):
            concerned = [
                micro_batch.batch.item_ids[row]
                for micro_batch, rows in zip(micro_batches, failing, strict=True)
                for row in sorted(set(rows.tolist()))
            ]
            raise _not_finite("loss", step, concerned)
        return total

    def _update(self, step: int, items: Sequence[int]) -> float:
        """Move the parameters and return the gradient's norm."""
        if self.optimization.imageless_steps == "zero_gradient":
            zero_missing_gradients(self.optimizer)
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        grad_norm = float(torch.nn.utils.get_total_norm(gradients))
        # With loss scaling an overflow is expected now and then: the scaler skips that step.
        if not isfinite(grad_norm) and not self.scaler.is_enabled():
            raise _not_finite("gradient", step, [self._rows[item].item_id for item in items])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return grad_norm

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self._device.type,
            dtype=self._autocast_dtype,
            enabled=self._autocast_dtype is not None,
        )


def _num_scored(row: TokenizedExample) -> int:
    """Count the labels that have a token before them."""
    return int((row.labels[1:] != IGNORED_LABEL).sum())


def _not_finite(what: str, step: int, item_ids: Sequence[str]) -> TrainingError:
    return TrainingError(
        list_findings(
            f"step {step + 1}: the {what} is not finite; items concerned",
            [f"item {item_id}" for item_id in item_ids],
            "Lower optimization.base_lr or lengthen the warm-up, or choose another "
            "backbones.precision; the state before this step is kept.",
        )
    )
