"""Starts the processes that train a run: this one alone, or several through torchrun.

torchrun runs inside this process, as torch.distributed.run does it with --standalone: it meets its
processes at a free port of this machine, so two jobs never clash; when one process fails it ends
the others; and it passes signals on to all of them.
"""

import ctypes
import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ademvl.config.run import TRAINED
from ademvl.config.settings_files import read_run
from ademvl.errors import AdemvlError, ProcessLostError, SettingsError, TrainingError
from ademvl.machine.devices import set_threads, usable_gpus
from ademvl.training.interruption import EXIT_CODES, EXIT_RETRY, Interruption
from ademvl.training.membership import find_membership

if TYPE_CHECKING:
    from ademvl.training.run import OnTrained

_log = logging.getLogger(__name__)

EXIT_USER_ERROR = 2
_TIME_FOR_THE_CAUSE_SECONDS = 2.0
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # set by torchrun for each process it starts
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


class _Failure(NamedTuple):
    """How one process ended; `exit_code` as its parent would report it."""

    rank: int
    exit_code: int
    message: str


def train(
    run_dir: Path,
    *,
    processes: int | None = None,
    threads: int | None = None,
    ignore_memory: bool = False,
    on_trained: "OnTrained | None" = None,
) -> int:
    """Train a run on the devices that are there; return the exit code.

    Where this process was started as one of several, by torchrun or srun, it does its part;
    otherwise it starts as many as there are GPUs, or as `processes` says.

    Args:
        processes: that train together; None for one on each visible GPU, or one on the CPU.
        threads: CPU threads of all processes together; None for all cores.
        ignore_memory: start though the run is predicted not to fit into memory.
        on_trained: see `train_run`.

    Raises:
        AdemvlError: what is wrong with the run's inputs, or with the number of processes.
    """
    membership = find_membership(os.environ)
    if membership is not None:
        from ademvl.training.run import train_run

        set_threads(threads)
        return run_as_one_of_several(
            lambda: train_run(run_dir, membership=membership, ignore_memory=ignore_memory),
            rank=membership.rank,
        )
    with Interruption().handled():
        run = read_run(run_dir)
        count = 1
        if run.adapter == TRAINED:
            count = _checked_count(processes, usable_gpus(run.backbones))
            run.optimization.accumulation_steps(count)
        if count > 1:
            share = max(1, (threads or len(os.sched_getaffinity(0))) // count)
            command = [sys.executable, "-m", "ademvl", "train", str(run_dir)]
            command += ["--threads", str(share), *["--ignore-memory"][: int(ignore_memory)]]
            return run_processes(command, count=count)
    from ademvl.training.run import train_run

    set_threads(threads)
    return train_run(run_dir, ignore_memory=ignore_memory, on_trained=on_trained)


def _checked_count(processes: int | None, gpus: int) -> int:
    count = max(1, gpus) if processes is None else processes
    if count < 1 or (gpus and count > gpus):
        expected = f"1 to {gpus}: one on each GPU of this job (--gpus)" if gpus else ">= 1"
        raise SettingsError(f"--processes: {count}, expected {expected}")
    return count


def run_as_one_of_several(work: Callable[[], int], *, rank: int) -> int:
    """Do the work of one process; what goes wrong is left where the starting process finds it.

    A process whose torchrun was killed gets SIGTERM, as if the job had been ended: it saves a state
    and leaves its device to others. Progress and hints are logged by process 0 alone.
    """
    error_file = os.environ.get(_ERROR_FILE)
    if rank:
        logging.getLogger().setLevel(logging.WARNING)
    if error_file:
        _end_with_parent()
    try:
        return work()
    except ProcessLostError as error:
        if not error_file:
            raise
        # The first process to end is taken for the cause: let the lost one come to its end.
        time.sleep(_TIME_FOR_THE_CAUSE_SECONDS)
        _record(Path(error_file), str(error))
        return EXIT_RETRY
    except AdemvlError as error:
        if not error_file:
            raise
        _record(Path(error_file), str(error))
        return EXIT_USER_ERROR
    except Exception as error:
        if error_file:
            _record(Path(error_file), f"{type(error).__name__}: {error}")
        traceback.print_exc()
        return 1


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _record(error_file: Path, message: str) -> None:
    """Write what happened in the format that torchrun reads."""
    details = {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}
    error_file.write_text(json.dumps({"message": details}), encoding="utf-8")


def run_processes(command: Sequence[str], *, count: int) -> int:
    """Run a command in several processes that find each other; return the exit code of them all.

    0 when all succeed; 75 or 130 after a signal; 1 where one had a bug or was killed.

    Raises:
        TrainingError: the message of the process that failed first.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _silence_torchrun()
    _log.info("training on %d processes", count)
    with _signal_handlers_kept(), tempfile.TemporaryDirectory(prefix="ademvl-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            run_id=uuid.uuid4().hex,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, command[0])(*command[1:])
        except SignalException as ended:
            return EXIT_CODES.get(ended.sigval, 128 + int(ended.sigval))
        except ChildFailedError as error:
            return _verdict(
                [
                    _Failure(rank, failure.exitcode, _message(Path(failure.error_file)))
                    for rank, failure in sorted(error.failures.items())
                ]
            )
    return 0


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Put back the handlers that torchrun replaces."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _silence_torchrun() -> None:
    """Leave it to this module to say what happened: torchrun's loggers have levels of their own."""
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _message(error_file: Path) -> str:
    try:
        return str(json.loads(error_file.read_text(encoding="utf-8"))["message"]["message"])
    except (OSError, ValueError, KeyError):
        return ""


def _verdict(failures: Sequence[_Failure]) -> int:
    """Find the failure that made the others fail; return its exit code.

    Processes that only lost the others end with 75, those that torchrun ended with -15 or -9.
    """
    for failure in failures:
        if failure.exit_code == EXIT_USER_ERROR:
            raise TrainingError(failure.message)
    bugs = [failure for failure in failures if failure.exit_code == 1]
    if bugs:
        _log.error("process %d failed: %s", bugs[0].rank, bugs[0].message or "see above")
        return 1
    ended = (-signal.SIGTERM, *EXIT_CODES.values())
    for failure in failures:
        if failure.exit_code not in ended:
            _log.error(
                "process %d was ended by %s; the same command goes on from the last state",
                failure.rank,
                signal.Signals(-failure.exit_code).name
                if failure.exit_code < 0
                else f"exit code {failure.exit_code}",
            )
            return 1
    return max(failure.exit_code for failure in failures)
