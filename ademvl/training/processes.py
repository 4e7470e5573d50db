"""The processes that train one run together, and what they tell each other.

Each holds the whole model and does its share of every step's passes. torch's DDP is not used: it
averages in fp32 in an order that depends on the number of processes, wants to wrap every forward
pass, and gives zero gradients, which decay and momentum act on, to parameters that a step did not
use. One sum a step over the few million trained parameters takes no longer, and is exact.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ademvl.errors import ProcessLostError
from ademvl.training.membership import Membership

# One process may wait for another that encodes images or waits for a lock; one that has died is
# noticed at once, by its closed connections.
_WAIT_FOR_PROCESSES = timedelta(hours=24)
_WAIT_FOR_GPUS = timedelta(minutes=30)
_SILENT_SECONDS = 2.0  # several that start at once are rarely further apart

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Processes:
    """Those that train together, seen from one of them; it is alone if nothing else is said.

    Attributes:
        rank: number of this process, from 0.
        world_size: how many there are.
    """

    def __init__(self, membership: Membership | None = None, *, gpu_group: Any = None) -> None:
        self.rank = membership.rank if membership else 0
        self.world_size = membership.world_size if membership else 1
        self._gpu_group = gpu_group

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there are no others."""
        return self.world_size == 1

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes, bit-identical in each.

        Raises:
            ProcessLostError: another process is gone.
        """
        if not self.is_alone:
            with _lost_told():
                dist.all_reduce(tensor, group=self._gpu_group if tensor.is_cuda else None)

    def gather_numbers(self, *numbers: float) -> list[list[float]]:
        """Return everyone's numbers, in order of rank.

        Raises:
            ProcessLostError: another process is gone.
        """
        if self.is_alone:
            return [list(numbers)]
        own = torch.tensor(numbers, dtype=torch.float64)
        every = own.new_empty(self.world_size, len(numbers))
        with _lost_told():
            dist.all_gather(list(every), own)
        found: list[list[float]] = every.tolist()
        return found

    def gather(self, value: T) -> list[T]:
        """Return everyone's value, in order of rank.

        Raises:
            ProcessLostError: another process is gone.
        """
        every: list[Any] = [value] * self.world_size
        if not self.is_alone:
            with _lost_told():
                dist.all_gather_object(every, value)
        return every

    def from_first(self, value: T) -> T:
        """Return the value of process 0; what others give is ignored.

        Raises:
            ProcessLostError: another process is gone.
        """
        holder: list[Any] = [value if self.is_first else None]
        if not self.is_alone:
            with _lost_told():
                dist.broadcast_object_list(holder, src=0)
        found: T = holder[0]
        return found

    def wait(self) -> None:
        """Wait until all processes are here.

        Raises:
            ProcessLostError: another process is gone.
        """
        if not self.is_alone:
            with _lost_told():
                dist.barrier()


ALONE = Processes()


@contextmanager
def joined(membership: Membership, device: torch.device) -> Iterator[Processes]:
    """Join the other processes of a training for the duration of a block.

    Args:
        membership: of this process.
        device: on which it computes; sums of tensors on a GPU go through NCCL.

    Raises:
        ProcessLostError: the others do not come.
    """
    with _told_after(_SILENT_SECONDS, membership):
        try:
            dist.init_process_group(
                "gloo",
                init_method=membership.init_method,
                rank=membership.rank,
                world_size=membership.world_size,
                timeout=_WAIT_FOR_PROCESSES,
            )
        except RuntimeError as error:
            raise ProcessLostError(
                f"process {membership.rank} of {membership.world_size} does not meet "
                f"{membership.others} at {membership.address}: "
                f"{str(error).splitlines()[0]}. {_why(membership)}"
            ) from error
    try:
        gpu_group = None
        if device.type == "cuda":
            torch.cuda.set_device(device)
            with _lost_told():
                gpu_group = dist.new_group(backend="nccl", timeout=_WAIT_FOR_GPUS)
        yield Processes(membership, gpu_group=gpu_group)
    finally:
        dist.destroy_process_group()


@contextmanager
def _told_after(seconds: float, membership: Membership) -> Iterator[None]:
    """Say what is waited for where the block takes longer."""
    message = "process %d of %d waits for %s at %s. %s"
    values = (
        membership.rank,
        membership.world_size,
        membership.others,
        membership.address,
        _why(membership),
    )
    notice = threading.Timer(seconds, _log.warning, args=(message, *values))
    notice.daemon = True
    notice.start()
    try:
        yield
    finally:
        notice.cancel()


def _why(membership: Membership) -> str:
    return (
        f"{membership.told_by} in the environment say that several train together: where they are "
        "left over from something else, end this and unset them"
    )


@contextmanager
def _lost_told() -> Iterator[None]:
    """Tell a lost connection from other errors."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ProcessLostError(
            f"another process of this training is gone ({str(error).splitlines()[0]}); its own "
            "message says why. The same command goes on from the last state."
        ) from error
