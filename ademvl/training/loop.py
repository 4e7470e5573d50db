"""One optimiser step, and the loop over a run's steps: the same for cached and online features.

- What an item weighs in the loss is settled for the whole step, before its rows are divided into
  passes: their number, and that of processes, has no influence on what is learned.
- The images of the next pass are made ready while this one computes.
- Nothing is updated from a step whose loss or gradient is not finite.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from math import isfinite, nan
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import Precision
from ademvl.data.collate import Batch, collate
from ademvl.data.passes import divide_rows, shared_passes
from ademvl.data.rows import TokenizedExample
from ademvl.data.tokenizer import IGNORED_LABEL
from ademvl.machine.precision import autocast
from ademvl.randomness import derive_seed
from ademvl.systems.trained import TrainableModel
from ademvl.training.ahead import one_ahead
from ademvl.training.averaging import WeightAverage
from ademvl.training.gradients import GradientSum
from ademvl.training.guard import NonFiniteGuard, Outcome
from ademvl.training.loss import token_losses, token_weights
from ademvl.training.metrics import StepResult
from ademvl.training.optimizer import set_lr, zero_missing_gradients
from ademvl.training.order import StepPlan
from ademvl.training.processes import ALONE, Processes
from ademvl.training.schedule import lr_at
from ademvl.vision.features.source import VisualSource


class _MicroBatch(NamedTuple):
    batch: Batch
    item_weights: Tensor  # (B,), of each scored token of an item


class _Ready(NamedTuple):
    """A pass with its images; None where none of a step's passes is ours."""

    micro_batch: _MicroBatch | None
    visual: Tensor | None = None
    ends_step: bool = True


class _Scored(NamedTuple):
    """What is looked at again when a loss is not finite."""

    batch: Batch
    rows: Tensor  # (M,)
    losses: Tensor  # (M,)


class Trainer:
    """Carries out the steps of a plan, alone or as one of several processes.

    Args:
        model: in training mode, on its device.
        parameters: its trained parameters by name; the same in all processes.
        optimizer: over them.
        rows: the training split; step plans refer to their positions.
        visual_source: gives features or pixels of a batch; a thread asks for those of the next pass
            while one is computed.
        plan: which items each step sees.
        precision: of the frozen language model; half precisions run under autocast, and fp16
            with loss scaling.
        processes: among which the passes of a step are divided.

    Attributes:
        rows: the training split.
        visual_source: gives features or pixels of a batch.
        guard: counts the steps that were left out.
        is_updating: whether parameters are being moved, so that they belong to no step.
        average: of the weights over steps; None where the adapter holds the last ones.

    Raises:
        SettingsError: the batch sizes do not divide among the processes.
    """

    def __init__(
        self,
        model: TrainableModel,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        *,
        rows: Sequence[TokenizedExample],
        visual_source: VisualSource,
        plan: StepPlan,
        precision: Precision,
        processes: Processes = ALONE,
    ) -> None:
        self.plan = plan
        self.parameters = parameters
        self.optimizer = optimizer
        self.model = model
        self.processes = processes
        self.guard = NonFiniteGuard(limit=plan.optimization.max_nonfinite_steps)
        self.is_updating = False
        self.average: WeightAverage | None = None
        if plan.optimization.weight_averaging != "none":
            self.average = WeightAverage(
                parameters, plan.optimization, total_steps=plan.total_steps
            )
        self.rows = rows
        self.visual_source = visual_source
        self._device = next(iter(parameters.values())).device
        self._precision = precision
        self.scaler = torch.amp.GradScaler(self._device.type, enabled=precision == "fp16")
        # A process may have to unscale before it has scaled a loss of its own: where the fusion is
        # off, a share of questions without images has nothing to learn from.
        self.scaler.scale(torch.zeros((), device=self._device))  # type: ignore[no-untyped-call]
        passes = self.optimization.accumulation_steps(processes.world_size)
        needs_sum = passes > 1 or not processes.is_alone
        sums = model.gradient_sum_dtype
        self._gradients = (
            GradientSum(parameters.values(), processes, dtype=sums) if needs_sum else None
        )
        self._ahead: Generator[_Ready] | None = None
        self._next_step = 0

    @property
    def optimization(self) -> OptimizationSettings:
        """Settings of the optimiser and its schedule."""
        return self.plan.optimization

    def step(self, step: int) -> StepResult:
        """Do step number `step` (from 0).

        Raises:
            NotFiniteError: loss or gradient is not finite, once too often; nothing was updated.
            ProcessLostError: another process is gone; nothing was updated.
        """
        items = self.plan.items_of(step)
        lr = lr_at(self.plan.lr_epoch(step), self.optimization)
        set_lr(self.optimizer, lr)
        epoch = step // self.plan.steps_per_epoch
        self.model.dropout_seed = derive_seed(self.plan.seed, "dropout", epoch)
        self.model.training_progress = step / self.plan.total_steps
        loss, num_tokens, scored = self._accumulate_gradients(step)
        grad_norm, outcome = self._update(loss)
        if outcome == "not_finite":
            self._note_not_finite(step, items, loss, scored)
        else:
            self.guard.note(outcome)
        if self.average is not None:
            self.average.add(step)
        return StepResult(
            step=step + 1,
            epoch=self.plan.epoch_at(step + 1),
            lr=lr,
            loss=loss,
            grad_norm=grad_norm,
            num_items=len(items),
            num_tokens=num_tokens,
            outcome=outcome,
        )

    def _micro_batches(self, items: Sequence[int]) -> list[_MicroBatch]:
        """Spread an effective batch over passes, rows of like length together; return our share.

        Which items a pass holds has no influence on what is learned: each item's weight in the
        loss is settled here, in the order of the plan. It does not depend on the number of
        processes either, which share the passes.
        """
        rows = [self.rows[item] for item in items]
        counts = torch.tensor([_num_scored(row) for row in rows])
        weights = token_weights(counts, group_size=self.optimization.loss_group_size)
        of_image = self.model.image_tokens
        sizes = [len(row.ids) + of_image * (row.image is not None) for row in rows]
        passes = divide_rows(sizes, num_passes=self.optimization.passes)
        shares = shared_passes(passes, sizes, num_devices=self.processes.world_size)
        return [self._micro_batch(rows, weights, places) for places in shares[self.processes.rank]]

    @staticmethod
    def _micro_batch(
        rows: Sequence[TokenizedExample], weights: Tensor, places: Sequence[int]
    ) -> _MicroBatch:
        ordered = sorted(places, key=lambda place: (len(rows[place].ids), place))
        batch = collate([rows[place] for place in ordered], trim_after_labels=True)
        return _MicroBatch(batch, weights[ordered])

    def _passes(self, step: int) -> Iterator[tuple[_MicroBatch, Tensor | None]]:
        """Give our passes of a step with their images; the first of the next is begun with."""
        if self._ahead is None or step != self._next_step:
            self.close()
            self._ahead = one_ahead(self._ready_passes(step))
        self._next_step = -1  # where this step is left, the next one begins anew
        for ready in self._ahead:
            if ready.micro_batch is not None:
                yield ready.micro_batch, ready.visual
            if ready.ends_step:
                break
        self._next_step = step + 1

    def _ready_passes(self, first: int) -> Iterator[_Ready]:
        for step in range(first, max(self.plan.total_steps, first + 1)):
            micro_batches = self._micro_batches(self.plan.items_of(step))
            if not micro_batches:
                yield _Ready(None)
            for number, micro_batch in enumerate(micro_batches, 1):
                epoch = step // self.plan.steps_per_epoch
                visual = self.visual_source.for_batch(micro_batch.batch, epoch=epoch)
                if visual is not None and self._device.type == "cuda":
                    visual = visual.pin_memory()
                yield _Ready(micro_batch, visual, ends_step=number == len(micro_batches))

    def close(self) -> None:
        """Stop making passes ready; waits for the one in the making."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _accumulate_gradients(self, step: int) -> tuple[float, int, list[_Scored]]:
        """Add up the gradients of all passes of all processes.

        Returns:
            The loss and the number of tokens, both of the whole step, and what we scored.
        """
        gradients = self._gradients
        if gradients is None:
            self.optimizer.zero_grad(set_to_none=True)
        else:
            gradients.clear()
        losses, scored, num_tokens = [], [], 0
        for (batch, item_weights), visual in self._passes(step):
            with autocast(self._device, self._precision):
                logits, targets, row_numbers = self.model.labelled_logits(batch, visual)
            per_token = token_losses(  # (M,)
                logits, targets, label_smoothing=self.optimization.label_smoothing
            )
            loss = per_token @ item_weights.to(self._device)[row_numbers]
            if (penalties := self.model.penalties) is not None:
                loss = loss + penalties.sum() / self.optimization.effective_batch_size
            if loss.requires_grad:  # not where the fusion is off and no row has an image
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            if gradients is not None:
                gradients.add()
            losses.append(loss.detach())
            num_tokens += int(batch.lengths.sum())
            scored.append(_Scored(batch, row_numbers, per_token.detach()))
        loss_sum = sum((loss.double() for loss in losses), torch.zeros((), dtype=torch.float64))
        if gradients is None:
            return float(loss_sum), num_tokens, scored
        total_loss, total_tokens = gradients.finish([loss_sum, torch.tensor(num_tokens)])
        return total_loss, int(total_tokens), scored

    def _update(self, loss: float) -> tuple[float, Outcome]:
        """Move the parameters, or leave them; return the gradient's norm and what was done.

        All processes decide alike, because loss and gradients are those of all of them.
        """
        if not isfinite(loss):
            return nan, "not_finite"
        if self.optimization.imageless_steps == "zero_gradient":
            zero_missing_gradients(self.optimizer)
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        if not gradients:
            return 0.0, "updated"
        self.scaler.unscale_(self.optimizer)
        grad_norm = float(torch.nn.utils.get_total_norm(gradients))
        if isfinite(grad_norm):
            self.is_updating = True
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.is_updating = False
            return grad_norm, "updated"
        if self.scaler.is_enabled() and self.scaler.get_scale() > 1:
            self.scaler.update()
            return grad_norm, "overflow"
        self.scaler.update(new_scale=1.0)
        return grad_norm, "not_finite"

    def _note_not_finite(
        self, step: int, items: Sequence[int], loss: float, scored: Sequence[_Scored]
    ) -> None:
        if isfinite(loss):
            what, concerned = "gradient", [self.rows[item].item_id for item in items]
        else:
            own = {
                batch.item_ids[row]
                for batch, rows, losses in scored
                for row in rows[~losses.isfinite()].tolist()
            }
            found = set().union(*self.processes.gather(own))
            ids = (self.rows[item].item_id for item in items)
            what, concerned = "loss", [item_id for item_id in ids if item_id in found]
        self.guard.note_not_finite(step + 1, what, concerned)


def _num_scored(row: TokenizedExample) -> int:
    """Count the labels that have a token before them."""
    return int((row.labels[1:] != IGNORED_LABEL).sum())
