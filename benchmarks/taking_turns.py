"""Timing that benchmarks share: the clock of a device, and ways that take turns.

Turns let whatever else goes on on the machine meet all ways alike; medians forget the worst of it.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def now(device: torch.device) -> float:
    """Return processor seconds on a CPU, as all machines do other things too; else wall clock."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def take_turns(
    ways: Mapping[str, Callable[[], object]],
    *,
    turns: int,
    clock: Callable[[], float] = time.process_time,
    before: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Return the median seconds of each way; the caller warms them up.

    Args:
        ways: what is timed, by name.
        turns: rounds in which each way has one turn.
        clock: seconds so far.
        before: called before each turn, outside of its time.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(turns):
        for way, work in ways.items():
            before()
            started = clock()
            work()
            seconds[way].append(clock() - started)
    return {way: statistics.median(taken) for way, taken in seconds.items()}
