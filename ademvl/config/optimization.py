"""Settings of the optimiser, its schedule and its steps."""

from dataclasses import dataclass, field
from typing import Literal

from ademvl.config.ranges import check_ranges
from ademvl.config.schema import OMITTED_AT_DEFAULT
from ademvl.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class OptimizationSettings:
    """AdamW and its schedule; defaults are the paper's ScienceQA recipe.

    Attributes:
        epochs: passes over the training split, may be a fraction.
        warmup_epochs: linear warm-up, may be a fraction.
        base_lr: learning rate for an effective batch of 256; lr = base_lr * batch / 256.
        min_lr: end of the half-cosine.
        effective_batch_size: items of one optimiser step over all devices.
        per_device_batch_size: items that one device holds at once; accumulation is derived.
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
        max_nonfinite_steps: steps in a row whose loss or gradient is not finite, each left out and
            counted, that end the training, >= 1.
        state_interval_seconds: time between two resumable states.
        log_interval_steps: optimiser steps averaged in one row of metrics.csv.
    """

    epochs: float = 20.0
    warmup_epochs: float = 2.0
    base_lr: float = 9e-3
    min_lr: float = 0.0
    effective_batch_size: int = 32
    per_device_batch_size: int = 4
    gradient_checkpointing: bool = field(default=False, metadata=OMITTED_AT_DEFAULT)
    loss_group_size: int = 2
    weight_decay: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    lr_evaluated_at: Literal["start", "middle"] = field(
        default="start", metadata=OMITTED_AT_DEFAULT
    )
    imageless_steps: Literal["skip", "zero_gradient"] = field(
        default="skip", metadata=OMITTED_AT_DEFAULT
    )
    max_nonfinite_steps: int = field(default=10, metadata=OMITTED_AT_DEFAULT)
    state_interval_seconds: float = 60.0
    log_interval_steps: int = 10

    def __post_init__(self) -> None:
        batches = ("effective_batch_size", "per_device_batch_size")
        rates = ("base_lr", "min_lr", "weight_decay", "eps")
        ranges = {
            "> 0": ("epochs",),
            ">= 0": (*rates, "warmup_epochs", "loss_group_size", "state_interval_seconds"),
            ">= 1": (*batches, "max_nonfinite_steps", "log_interval_steps"),
            ">= 0 and < 1": ("beta1", "beta2"),
        }
        check_ranges("optimization", self, ranges)
        if self.effective_batch_size % self.per_device_batch_size:
            raise SettingsError(
                f"optimization.per_device_batch_size: {self.per_device_batch_size} does not divide "
                f"effective_batch_size {self.effective_batch_size}; possible: "
                f"{_divisors(self.effective_batch_size)}"
            )
        if self.loss_group_size and self.effective_batch_size % self.loss_group_size:
            raise SettingsError(
                f"optimization.loss_group_size: {self.loss_group_size} does not divide "
                f"effective_batch_size {self.effective_batch_size}"
            )

    @property
    def lr(self) -> float:
        """Peak learning rate in force."""
        return self.base_lr * self.effective_batch_size / 256

    def accumulation_steps(self, processes: int = 1) -> int:
        """Return the passes of one step on each device.

        Args:
            processes: that train together, one a device.

        Raises:
            SettingsError: the batches do not divide; the message names what is possible.
        """
        passes = self.effective_batch_size // self.per_device_batch_size
        if passes % processes:
            sizes = (
                _divisors(self.effective_batch_size // processes)
                if self.effective_batch_size % processes == 0
                else []
            )
            raise SettingsError(
                f"{processes} processes of per_device_batch_size {self.per_device_batch_size} do "
                f"not divide effective_batch_size {self.effective_batch_size}; possible: "
                f"{_divisors(passes)} processes (--processes, or CUDA_VISIBLE_DEVICES)"
                + (f", or a per_device_batch_size of {sizes} on {processes}" if sizes else "")
            )
        return passes // processes


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
