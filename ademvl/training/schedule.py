"""The learning rate as a function of the fractional epoch."""

from math import cos, pi

from ademvl.config.optimization import OptimizationSettings


def lr_at(epoch: float, optimization: OptimizationSettings) -> float:
    """Return the learning rate in force at a fractional epoch.

    Linear from zero to the peak during the warm-up, then half a cosine, or a line, down to
    `min_lr` at the last epoch. It is evaluated once per optimiser step, by default at the step's
    first item, so the first step of a run with a warm-up has a learning rate of zero, as in the
    reference implementation (util/lr_sched.py, adjust_learning_rate; `lr_evaluated_at`). Past the
    last epoch it stays at `min_lr`.

    Args:
        epoch: number of epochs done, with its fraction, >= 0.
        optimization: gives the peak (`lr`), `min_lr`, `epochs` and `warmup_epochs`.
    """
    warmup, peak, floor = optimization.warmup_epochs, optimization.lr, optimization.min_lr
    if epoch < warmup:
        return peak * epoch / warmup
    if epoch >= optimization.epochs:
        return floor
    progress = (epoch - warmup) / (optimization.epochs - warmup)
    if optimization.lr_decay == "linear":
        return floor + (peak - floor) * (1 - progress)
    return floor + (peak - floor) * 0.5 * (1 + cos(pi * progress))
