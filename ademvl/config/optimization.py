"""Settings of the optimiser, its schedule and its steps."""

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from ademvl.config.setting import relation, setting, settings_class
from ademvl.errors import SettingsError

LiveLog: TypeAlias = Literal["tensorboard", "wandb"]
"""Packages of the logs that people watch, and the extras that bring them."""
CHOICE_SEED = 1000
"""Trains the candidates of grids and searches; no run with a grid may have it."""
WeightAveraging: TypeAlias = Literal["none", "ema", "swa"]
_ROUNDING = 1e-9  # so that e.g. 0.3 epochs of 10 steps are 3 steps, not 2


def _check_ascending(rates: Sequence[float]) -> None:
    if list(rates) != sorted(set(rates)):
        raise ValueError(f"{list(rates)}, expected different rates, the smallest first")
    if len({f"{rate:g}" for rate in rates}) < len(rates):  # folders of candidates are named so
        raise ValueError(f"{list(rates)}, expected rates that differ in their first six digits")


@settings_class
class OptimizationSettings:
    """AdamW and its schedule; defaults are the paper's ScienceQA recipe.

    Attributes:
        epochs: how often training goes through its split, may be a fraction.
        warmup_epochs: in which the learning rate rises in a straight line from 0 to its peak; may
            be a fraction.
        base_lr: learning rate for an effective batch of 256; lr = base_lr * batch / 256.
        lr_grid: rates of which `base_lr` is chosen, ascending; results depend on them through it.
            Each is trained once, with a seed of its own, and the best on the val split is taken
            (`rates/<run>.json` of the results); empty takes `base_lr` as it is.
        lr_grid_growth: how many rates at most are tried beyond an end of the grid, one by one and
            each as far from the last as the grid's own two, while the best is the outermost.
        min_lr: learning rate at the end of the decay; unlike `base_lr`, the same for every
            batch size.
        lr_decay: from the peak to `min_lr`: half a cosine, as in the reference, or a straight line.
        effective_batch_size: items of one optimiser step over all devices.
        per_device_batch_size: items of a pass through the models, on average: a step has
            `effective_batch_size` / `per_device_batch_size` passes, which hold like numbers of
            tokens, so fewer items where these are long. Devices share the passes.
        gradient_checkpointing: keep little of each layer and compute it again when gradients are
            taken: less memory, a third more time, the same result.
        loss_group_size: items whose answer tokens are averaged together before groups are
            averaged; 2 is the reference's micro-batch; 0 averages over the whole effective batch.
        weight_decay: on tensors of two or more dimensions.
        beta1, beta2, eps: of AdamW.
        lr_evaluated_at: the learning rate of a step is the schedule's at its `start`, as in the
            reference, so that the first one of a warm-up is 0; or at its `middle`.
        imageless_steps: a step without any image gives projections and tower adapters no gradient:
            `skip` leaves them as they are, `zero_gradient` lets momentum and decay move them, as
            the torch release that the reference pins does.
        label_smoothing: share of each answer token's target that is spread evenly over the whole
            vocabulary; the loss that is logged is the smoothed one.
        weight_averaging: what the adapter holds: the weights of the last step (`none`); the mean of
            those behind each step, in which a step counts `ema_decay` times what the next one does
            (`ema`); or their plain mean from `swa_start` on (`swa`). Training goes on from the
            unaveraged weights.
        ema_decay: of `ema`; it averages over about 1 / (1 - decay) steps.
        swa_start: of `swa`, as a fraction of the training's steps.
        max_nonfinite_steps: steps in a row whose loss or gradient is not finite, each left out and
            counted, that end the training.
        state_interval_seconds: after which a state is written to go on from, as at the end of
            every epoch: what a killed training loses at most.
        log_interval_steps: optimiser steps averaged in one row of metrics.csv.
        log_to: where these rows go as well: `tensorboard` to `tensorboard/` in the run's directory,
            `wandb` to Weights & Biases; each needs the extra of its name.
    """

    epochs: float = setting(changes="training", default=20.0, gt=0, le=10_000)
    warmup_epochs: float = setting(changes="training", default=2.0, ge=0)
    base_lr: float = setting(changes="training", default=9e-3, ge=0, le=1_000_000)
    lr_grid: tuple[float, ...] = setting(
        changes="nothing",
        default=(),
        gt=0,
        le=1_000_000,
        check=_check_ascending,
        unwritten_at_default=True,
    )
    lr_grid_growth: int = setting(
        changes="nothing", default=0, ge=0, le=10, unwritten_at_default=True
    )
    min_lr: float = setting(changes="training", default=0.0, ge=0, le=1_000_000)
    lr_decay: Literal["cosine", "linear"] = setting(
        changes="training",
        default="cosine",
        omitted_at_default=True,
        unwritten_at_default=True,
    )
    effective_batch_size: int = setting(changes="training", default=32, ge=1, le=1_000_000)
    per_device_batch_size: int = setting(changes="speed", default=4, ge=1)
    gradient_checkpointing: bool = setting(changes="speed", default=False, omitted_at_default=True)
    loss_group_size: int = setting(changes="training", default=2, ge=0)
    weight_decay: float = setting(changes="training", default=0.02, ge=0, le=1_000_000)
    beta1: float = setting(changes="training", default=0.9, ge=0, lt=1)
    beta2: float = setting(changes="training", default=0.95, ge=0, lt=1)
    eps: float = setting(changes="training", default=1e-8, ge=0, le=1)
    lr_evaluated_at: Literal["start", "middle"] = setting(
        changes="training", default="start", omitted_at_default=True
    )
    imageless_steps: Literal["skip", "zero_gradient"] = setting(
        changes="training", default="skip", omitted_at_default=True
    )
    label_smoothing: float = setting(
        changes="training",
        default=0.0,
        ge=0,
        lt=1,
        unwritten_at_default=True,
    )
    weight_averaging: WeightAveraging = setting(
        changes="training", default="none", unwritten_at_default=True
    )
    ema_decay: float = setting(
        changes="training",
        default=0.999,
        gt=0,
        lt=1,
        unwritten_at_default=True,
    )
    swa_start: float = setting(
        changes="training",
        default=0.75,
        ge=0,
        lt=1,
        unwritten_at_default=True,
    )
    max_nonfinite_steps: int = setting(changes="nothing", default=10, ge=1, omitted_at_default=True)
    state_interval_seconds: float = setting(changes="speed", default=60.0, ge=0)
    log_interval_steps: int = setting(changes="nothing", default=10, ge=1)
    log_to: tuple[LiveLog, ...] = setting(changes="nothing", default=(), omitted_at_default=True)

    @relation("per_device_batch_size", "effective_batch_size")
    def _batches_divide(self) -> Iterator[str]:
        if self.effective_batch_size % self.per_device_batch_size:
            yield (
                f"{self.per_device_batch_size} does not divide effective_batch_size "
                f"{self.effective_batch_size}; possible: {_divisors(self.effective_batch_size)}"
            )

    @relation("loss_group_size", "effective_batch_size")
    def _groups_divide(self) -> Iterator[str]:
        if self.loss_group_size and self.effective_batch_size % self.loss_group_size:
            yield (
                f"{self.loss_group_size} does not divide effective_batch_size "
                f"{self.effective_batch_size}"
            )

    @property
    def lr(self) -> float:
        """Peak learning rate in force."""
        return self.base_lr * self.effective_batch_size / 256

    def steps_per_epoch(self, num_items: int) -> int:
        """Return the full effective batches of an epoch; items left over are in none of them."""
        return num_items // self.effective_batch_size

    def total_steps(self, num_items: int) -> int:
        """Return the steps of a training; a fraction of an epoch is rounded down to whole steps.

        Args:
            num_items: of the training data.

        Raises:
            SettingsError: not a single full effective batch, or not a single step.
        """
        batch = self.effective_batch_size
        if num_items < batch:
            raise SettingsError(
                f"optimization.effective_batch_size: {batch}, but the training data has only "
                f"{num_items} items; choose a batch of at most that many"
            )
        whole, part = divmod(self.epochs, 1)
        steps_per_epoch = self.steps_per_epoch(num_items)
        part_steps = int(part * num_items / batch + _ROUNDING)
        total_steps = int(whole) * steps_per_epoch + min(part_steps, steps_per_epoch)
        if total_steps < 1:
            raise SettingsError(
                f"optimization.epochs: {self.epochs} epochs of {num_items} items are less than "
                f"one step of {batch} items"
            )
        return total_steps

    @property
    def passes(self) -> int:
        """Passes through the models in a step, on all devices together."""
        return self.effective_batch_size // self.per_device_batch_size

    def accumulation_steps(self, processes: int = 1) -> int:
        """Return the passes of one step on each device, on average.

        Args:
            processes: that train together, one a device.

        Raises:
            SettingsError: the batches do not divide; the message names what is possible.
        """
        if self.passes % processes:
            sizes = (
                _divisors(self.effective_batch_size // processes)
                if self.effective_batch_size % processes == 0
                else []
            )
            raise SettingsError(
                f"{processes} processes of per_device_batch_size {self.per_device_batch_size} do "
                f"not divide effective_batch_size {self.effective_batch_size}; possible: "
                f"{_divisors(self.passes)} processes (--processes, or CUDA_VISIBLE_DEVICES)"
                + (f", or a per_device_batch_size of {sizes} on {processes}" if sizes else "")
            )
        return self.passes // processes


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
