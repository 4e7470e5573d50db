"""Processes that need the same images at once: each reads a share, and tells the others."""

from typing import Protocol, TypeVar

T = TypeVar("T")


class ProcessGroup(Protocol):
    """What `ademvl.training.processes.Processes` is for the feature cache.

    Attributes:
        rank: number of this process, from 0.
        world_size: how many there are.
    """

    rank: int
    world_size: int

    def gather(self, value: T) -> list[T]:
        """Return everyone's value, in order of rank; all make this call."""
