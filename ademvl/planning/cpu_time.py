"""How long a training would take on this machine's processor, for those who have no GPU.

A short product of matrices says how fast the processor is; the operations of the run do the rest.
It is good for "minutes or weeks": `ademvl plan --probe` measures real steps.
"""

import json
import logging
import time
from functools import cache
from pathlib import Path

from ademvl.config.dataset import DatasetSettings
from ademvl.config.reading import read
from ademvl.config.run import TRAINED, RunSettings
from ademvl.errors import AdemvlError
from ademvl.machine.devices import usable_gpus, wants_gpu

_log = logging.getLogger(__name__)

_SIZE = 1024
_MEASURED_SECONDS = 0.3
_UNITS = ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def warn_of_cpu(run: RunSettings) -> None:
    """Say how long the training will take if a run that wants a GPU has to do without.

    Nothing is said where the data is missing, because then nothing is trained.
    """
    if run.adapter != TRAINED or not wants_gpu(run.backbones) or usable_gpus(run.backbones):
        return
    if not Path(run.data_dir).is_dir():
        return
    try:
        time_needed = describe(training_seconds(run, processor_flops_per_second()))
        expected = f"expected to take {time_needed}, within a factor of about three"
    except (AdemvlError, OSError, ValueError, KeyError) as error:
        expected = f"for how long is not known ({error})"
    _log.warning(
        "no GPU is usable: training on the processor, %s; `ademvl plan --probe` measures it",
        expected,
    )


def training_seconds(run: RunSettings, flops_per_second: float) -> float:
    """Return the time of a whole training at this rate.

    Raises:
        AdemvlError: sizes of the run's models or of its data are not known.
        OSError, ValueError, KeyError: the data set has no whole manifest.
    """
    manifest = Path(run.data_dir).parent / "manifest.json"
    raw = json.loads(manifest.read_text(encoding="utf-8"))["settings"]
    dataset = read(DatasetSettings, raw, source=str(manifest))
    return _training_flops(run, dataset) / flops_per_second


def expected_days(run: RunSettings, dataset: DatasetSettings) -> float:
    """Return how long a training would take on this processor, before its data is made.

    Raises:
        AdemvlError: sizes of the run's models or of its data are not known.
    """
    return _training_flops(run, dataset) / processor_flops_per_second() / 86_400


def _training_flops(run: RunSettings, dataset: DatasetSettings) -> float:
    from ademvl.planning.fit import model_sizes, numerics_of
    from ademvl.planning.schedule import run_flops
    from ademvl.planning.workload import workload_of

    load = workload_of(run, dataset)
    return run_flops(run, model_sizes(run), numerics_of(run), load, trains=True).training


@cache
def processor_flops_per_second() -> float:
    """Measure products of matrices in fp32 on torch's threads, once in a process."""
    import torch

    left, right = torch.rand(_SIZE, _SIZE), torch.rand(_SIZE, _SIZE)
    torch.mm(left, right)
    started, products = time.perf_counter(), 0
    while time.perf_counter() - started < _MEASURED_SECONDS:
        torch.mm(left, right)
        products += 1
    return products * 2 * _SIZE**3 / (time.perf_counter() - started)


def describe(seconds: float) -> str:
    """Render a time in the unit that suits it."""
    size, name = next((unit for unit in _UNITS if seconds >= unit[0]), _UNITS[-1])
    return f"{seconds / size:,.1f} {name}"
