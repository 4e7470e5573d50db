"""Running out of memory: told as an error that names the settings which need less."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ademvl.config.run import RunSettings
from ademvl.errors import SettingsError, TrainingError
from ademvl.storage.byte_sizes import gib

if TYPE_CHECKING:
    import torch

# What torch says where it raises no class of its own: on the CPU, and in cuBLAS and NCCL.
_MARKS = ("DefaultCPUAllocator", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class OutOfMemoryError(TrainingError):
    """A device has no memory left for what was to be done."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the machine or of a GPU."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in _MARKS)


@contextmanager
def explained_out_of_memory(describe: Callable[[], str]) -> Iterator[None]:
    """Turn running out of memory in this block into an error with what `describe` says.

    Raises:
        OutOfMemoryError: memory ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(describe()) from error


def training_advice(run: RunSettings, device: "torch.device") -> str:
    """Return the message for a training that ran out of memory."""
    optimization = run.optimization
    lines = [
        f"{run.study}/{run.name}: out of memory on {device} ({_in_use(device)}) at "
        f"optimization.per_device_batch_size {optimization.per_device_batch_size}. What was "
        "trained so far is kept."
    ]
    smaller = [
        size
        for size in range(optimization.per_device_batch_size - 1, 0, -1)
        if optimization.effective_batch_size % size == 0
    ]
    same_results = []
    if smaller:
        same_results.append(f"optimization.per_device_batch_size: {' or '.join(map(str, smaller))}")
    if not optimization.gradient_checkpointing:
        same_results.append("optimization.gradient_checkpointing: true")
    if same_results:
        lines.append("These need less and leave the results as they are; training then goes on:")
        lines += [f"  - {each}" for each in same_results]
    lines += _predicted(run, device)
    lines.append(
        f"Shorter sequences (prompts.max_seq_len, now {run.prompts.max_seq_len}) need less, too, "
        "where rows are that long."
    )
    return "\n".join(lines)


def evaluation_advice(run: RunSettings, device: "torch.device") -> str:
    """Return the message for an evaluation that ran out of memory."""
    return (
        f"{run.study}/{run.name}: out of memory on {device} ({_in_use(device)}) at "
        f"evaluation.batch_size {run.evaluation.batch_size}. Choose a smaller one: it has no "
        "influence on results, and the same command goes on after the last whole batch. With a "
        "batch_size of 1, backbones.quantization (int8, int4) needs less."
    )


def _predicted(run: RunSettings, device: "torch.device") -> list[str]:
    """Return settings that are predicted to fit, where the sizes of the models are known."""
    from ademvl.planning.fit import describe_alternatives, settings_that_fit

    try:
        found = settings_that_fit(
            run, _whole_memory(device), device="cuda" if device.type == "cuda" else "cpu"
        )
    except SettingsError:
        return []
    if not found:
        return []
    return [f"Predicted for {device}: {describe_alternatives(found)}"]


def _whole_memory(device: "torch.device") -> int:
    """Return what the process could have on a device, with what it has now."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    import psutil

    from ademvl.machine.free_memory import free_host_memory

    return free_host_memory().bytes + int(psutil.Process().memory_info().rss)


def _in_use(device: "torch.device") -> str:
    """Say how much of a device this process had at most, of how much."""
    if device.type == "cuda":
        import torch

        peak, total = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)[1]
        return f"{gib(peak)} of {gib(total)} in use"
    from ademvl.machine.usage import peak_memory_mib

    return f"{gib(peak_memory_mib() * 2**20)} in use"
