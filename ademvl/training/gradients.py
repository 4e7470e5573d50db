"""The gradient of an effective batch: a sum over passes and processes, independent of both."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ademvl.training.processes import Processes


class GradientSum:
    """Adds up gradients in fp64, so that neither the order of the passes nor their process counts.

    The passes of a step are the same on any number of processes, and so are their fp32 gradients.
    Their fp64 sum differs between two orders by 1e-16 of its size, which rounding back to fp32
    nearly always removes: 1, 2 and 8 processes follow the same trajectory.

    A parameter that no pass of any process used keeps no gradient at all (None).

    Args:
        parameters: the trained ones, on one device.
        processes: among which the passes are divided.
        dtype: of the sum; fp32 is for systems that train all their weights, whose trajectories then
            differ by the rounding of a sum.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        processes: Processes,
        *,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self._parameters = list(parameters)
        self._dtype = dtype
        self._processes = processes
        self._sizes = [parameter.numel() for parameter in self._parameters]
        self._sum: Tensor | None = None  # all gradients end to end, then one mark for each

    def clear(self) -> None:
        """Begin a new effective batch."""
        for parameter in self._parameters:
            parameter.grad = None
        if self._sum is not None:
            self._sum.zero_()

    def add(self) -> None:
        """Add the gradients that a backward pass left, and remove them from the parameters."""
        total = self._allocated()
        *sums, marks = total.split([*self._sizes, len(self._sizes)])
        for place, (parameter, own_sum) in enumerate(zip(self._parameters, sums, strict=True)):
            if parameter.grad is not None:
                own_sum.add_(parameter.grad.flatten())
                marks[place] = 1.0
                parameter.grad = None

    def finish(self, numbers: Sequence[Tensor]) -> list[float]:
        """Give the parameters their summed gradients.

        Args:
            numbers: scalars to be summed over processes along with the gradients.

        Returns:
            Their sums.

        Raises:
            ProcessLostError: another process is gone.
        """
        extra = torch.stack([number.to(self._device, self._dtype) for number in numbers])
        total = torch.cat((self._allocated(), extra))
        self._processes.add_up(total)
        *sums, marks, extra = total.split([*self._sizes, len(self._sizes), len(numbers)])
        is_used = marks.tolist()
        for place, (parameter, whole_sum) in enumerate(zip(self._parameters, sums, strict=True)):
            if is_used[place]:
                parameter.grad = whole_sum.to(parameter.dtype).view_as(parameter)
        return extra.tolist()

    @property
    def _device(self) -> torch.device:
        return self._parameters[0].device

    def _allocated(self) -> Tensor:
        if self._sum is None:
            size = sum(self._sizes) + len(self._sizes)
            self._sum = torch.zeros(size, dtype=self._dtype, device=self._device)
        return self._sum
