"""The average of the trained weights over steps, which the adapter holds where it is asked for."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ademvl.config.optimization import OptimizationSettings


class WeightAverage:
    """The mean of trained parameters over the steps of a training, in fp32 like these.

    - `ema`: the weights behind a step count `ema_decay` times what those behind the next one do,
      and all counts sum to 1, so that the initial weights have no part (the bias correction of
      Adam, arXiv 1412.6980, section 3).
    - `swa`: their plain mean over the steps behind `swa_start` of the training (arXiv 1803.05407;
      the schedule of the learning rate stays what it is).

    Args:
        parameters: trained ones by name.
        optimization: how to average.
        total_steps: of the training.

    Attributes:
        means: by name, on the parameters' device.
        num_steps: taken in so far.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimization: OptimizationSettings,
        *,
        total_steps: int,
    ) -> None:
        self._parameters = parameters
        self._optimization = optimization
        self._first = int(optimization.swa_start * total_steps)
        self.means: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in parameters.items()
        }
        self.num_steps = 0

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Take in the parameters behind step number `step` (from 0)."""
        is_ema = self._optimization.weight_averaging == "ema"
        if not is_ema and step < self._first:
            return
        self.num_steps += 1
        decay = self._optimization.ema_decay
        newest = (1 - decay) / (1 - decay**self.num_steps) if is_ema else 1 / self.num_steps
        for name, mean in self.means.items():
            mean.lerp_(self._parameters[name].detach(), newest)

    @torch.no_grad()
    def put_in(self) -> None:
        """Set the parameters to their means."""
        for name, mean in self.means.items():
            self._parameters[name].copy_(mean)

    def restore(self, means: Mapping[str, Tensor], num_steps: int) -> None:
        """Go on from what an earlier process had taken in."""
        for name, mean in self.means.items():
            mean.copy_(means[name])
        self.num_steps = num_steps
