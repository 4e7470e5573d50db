"""One process's part of a training: from the newest state, if any, to the results.

All processes take the same steps; process 0 alone reads and writes files.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from math import isclose, isnan
from typing import Any

import torch

from ademvl.config.run import RunSettings
from ademvl.data.prompt_forms import TrainedForms
from ademvl.errors import ProcessLostError, TrainingError, list_findings
from ademvl.machine.cpu_kernels import fast_cpu
from ademvl.machine.usage import Usage, UsageMeter
from ademvl.model.adapter_file import not_finite_weights, save_adapter
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.planning.operations import operations_of_row
from ademvl.runs.adapter_training import AdapterTraining
from ademvl.runs.identity import identity_sha256
from ademvl.runs.provenance import write_provenance
from ademvl.runs.run_files import RunFiles
from ademvl.training.guard import NonFiniteGuard, NotFiniteError
from ademvl.training.interruption import Interruption
from ademvl.training.kept import KeptLog
from ademvl.training.live_logs import LiveLogs
from ademvl.training.loop import Trainer
from ademvl.training.metrics import MetricsLog, StepResult
from ademvl.training.progress import TrainingProgress
from ademvl.training.state import (
    StateStore,
    TrainingState,
    capture,
    capture_average,
    restore,
    restore_average,
)

_log = logging.getLogger(__name__)

_NORM_TOLERANCE = 1e-5  # sums of fp32 squares on processors of two kinds differ by 2e-7


class Session:
    """Trains from the newest state, which process 0 reads for all, to the end.

    Args:
        files: of the run's directory.
        identity: of the training.
        trainer: with its parameters as they are before the first step.
    """

    def __init__(
        self, run: RunSettings, files: RunFiles, identity: Mapping[str, Any], trainer: Trainer
    ) -> None:
        self._run = run
        self._files = files
        self._identity = identity
        self._trainer = trainer
        self._processes = trainer.processes
        self._store = StateStore(files.state, identity)
        found = self._store.load_newest() if self._processes.is_first else None
        state = self._processes.from_first(found)
        self._steps_done = state.step if state else 0
        self._step_saved = self._steps_done
        record = state.record if state else {}
        self._usage_before = Usage(**record.get("usage", {}))
        self._usage = self._usage_before
        if state:
            restore(state.tensors, trainer.parameters, trainer.optimizer)
            if trainer.average is not None:
                averaged_steps = record["averaged_steps"]
                restore_average(state.tensors, trainer.average, num_steps=averaged_steps)
            trainer.scaler.load_state_dict(record["scaler"])
            trainer.guard = NonFiniteGuard(
                limit=run.optimization.max_nonfinite_steps, record=record["guard"]
            )
            _log.info("going on after step %d", state.step)
        self._metrics: MetricsLog | None = None
        self._live: LiveLogs | None = None
        if self._processes.is_first:
            self._live = LiveLogs(run, files.run_dir, first_step=self._steps_done + 1)
            self._metrics = MetricsLog(
                files.metrics,
                interval_steps=run.optimization.log_interval_steps,
                record=record.get("metrics"),
                also=self._live.add,
            )
        self._kept = self._kept_log(record.get("kept"))
        self._saved_at = time.monotonic()

    def _kept_log(self, record: Sequence[Sequence[Any]] | None) -> KeptLog | None:
        trainer = self._trainer
        is_shown = self._run.images == "shown" and self._run.method.learns_what_is_kept
        model = trainer.model
        if not (is_shown and self._processes.is_first and isinstance(model, VisionLanguageModel)):
            return None
        return KeptLog(
            self._files.kept,
            self._run,
            model,
            trainer.rows,
            trainer.visual_source,
            record=record,
        )

    def train(self, interruption: Interruption, meter: UsageMeter, *, progress: bool) -> int:
        """Do the steps that are left, then write the results; return the exit code."""
        plan = self._trainer.plan
        bar = TrainingProgress(
            total_steps=plan.total_steps,
            first_step=self._steps_done,
            shown=progress and self._processes.is_first,
        )
        device = self._trainer.model.device
        live = closing(self._live) if self._live else nullcontext()
        with closing(self._trainer), fast_cpu(device), interruption.deferred(), live, bar:
            while self._steps_done < plan.total_steps:
                result = self._step(meter)
                bar.advance(result.step, loss=result.loss, num_items=result.num_items)
                exit_code = self._confer(interruption, meter, grad_norm=result.grad_norm)
                if exit_code or self._is_state_due():
                    self._save()
                if exit_code:
                    self._processes.wait()  # until process 0 has saved it
                    if self._processes.is_first:
                        _log.warning("stopped by a signal; step %d is saved", result.step)
                    return exit_code
            if self._trainer.average is not None:
                self._trainer.average.put_in()
            self._refuse_unusable()
            self._confer(interruption, meter)
            if self._processes.is_first:
                self._finish(meter)
        return 0

    def _step(self, meter: UsageMeter) -> StepResult:
        """Do one step; where it fails, keep what was done before it."""
        plan = self._trainer.plan
        try:
            result = self._trainer.step(self._steps_done)
        except NotFiniteError:
            raise
        except Exception:
            self._rescue()
            raise
        self._steps_done = result.step
        if self._metrics is not None:
            self._metrics.add(result, is_last=result.step == plan.total_steps)
        is_end = result.step == plan.total_steps  # which is measured of the adapter
        if self._kept is not None and plan.ends_epoch(result.step - 1) and not is_end:
            self._kept.measure(result.epoch)
        return result

    def _rescue(self) -> None:
        """Save the steps done so far, where a failing one has not touched the parameters yet."""
        if self._trainer.is_updating or self._steps_done == self._step_saved:
            return
        try:
            self._save()
        except Exception:  # what is raised already says more
            _log.exception("step %d could not be saved", self._steps_done)

    def _confer(
        self, interruption: Interruption, meter: UsageMeter, *, grad_norm: float = 0.0
    ) -> int:
        """Hear from all processes; return the exit code that any of them was told by a signal.

        Raises:
            TrainingError: they have not got the same gradients, as they would on sound devices.
            ProcessLostError: another process is gone; the steps done are saved.
        """
        own = meter.read()
        try:
            every = self._processes.gather_numbers(
                grad_norm,
                interruption.exit_code,
                own.cpu_seconds,
                own.peak_memory_mib,
                own.peak_gpu_memory_mib,
            )
        except ProcessLostError:
            self._rescue()
            raise
        norms, exit_codes, cpu_seconds, memory, gpu_memory = zip(*every, strict=True)
        same = all(isclose(norm, norms[0], rel_tol=_NORM_TOLERANCE) for norm in norms)
        if not (isnan(grad_norm) or same):
            raise TrainingError(
                f"step {self._steps_done}: after adding up, processes have gradients of different "
                f"norms {list(norms)}: a device or its connection is faulty. The same command goes "
                "on from the last state"
            )
        self._usage = self._usage_before + replace(
            own,
            cpu_seconds=sum(cpu_seconds),
            peak_memory_mib=max(memory),
            peak_gpu_memory_mib=max(gpu_memory),
        )
        return int(max(exit_codes))

    def _refuse_unusable(self) -> None:
        """Make sure that an adapter came out that is worth keeping; the last state stays.

        Raises:
            TrainingError: the last steps, or all of them, were left out, or weights are not finite.
        """
        self._trainer.guard.refuse_end(self._trainer.plan.total_steps)
        findings = not_finite_weights(self._trainer.parameters)
        if findings:
            remedy = (
                "Lower optimization.base_lr or lengthen the warm-up; then the same command trains "
                "anew. No adapter is written; the state stays."
            )
            raise TrainingError(
                list_findings("the last step made weights that are not finite", findings, remedy)
            )

    def _is_state_due(self) -> bool:
        age_seconds = time.monotonic() - self._saved_at
        is_old = age_seconds >= self._run.optimization.state_interval_seconds
        return is_old or self._trainer.plan.ends_epoch(self._steps_done - 1)

    def _save(self) -> None:
        if self._metrics is None:
            return
        trainer = self._trainer
        record: dict[str, Any] = {
            "metrics": self._metrics.to_record(),
            "scaler": trainer.scaler.state_dict(),
            "guard": trainer.guard.to_record(),
            "usage": asdict(self._usage),
        }
        tensors = capture(trainer.parameters, trainer.optimizer)
        if trainer.average is not None:
            tensors |= capture_average(trainer.average)
            record["averaged_steps"] = trainer.average.num_steps
        if self._kept is not None:
            record["kept"] = self._kept.to_record()
        self._store.save(TrainingState(self._steps_done, tensors, record))
        self._step_saved = self._steps_done
        self._saved_at = time.monotonic()

    def _finish(self, meter: UsageMeter) -> None:
        """Write the results; killed in between, the last state leads here again."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics.write()
        if self._kept is not None:
            self._kept.measure(self._trainer.plan.epoch_at(self._trainer.plan.total_steps))
        write_provenance(
            self._files.provenance,
            usage=self._usage,
            started=meter.started,
            checksums=checksums_of(self._identity),
            details=self._details(),
        )
        save_adapter(
            self._files.adapter,
            self._trainer.model,
            self._run,
            forms=TrainedForms.of_rows(self._trainer.rows),
            training=AdapterTraining.of(self._run, self._identity),
        )
        self._store.clear()

    def _details(self) -> dict[str, Any]:
        plan, guard = self._trainer.plan, self._trainer.guard
        counts = {name: p.numel() for name, p in self._trainer.parameters.items()}
        return {
            "identity_sha256": identity_sha256(self._identity),
            "train_version": self._identity["version"],
            "seed": self._run.seed,
            "steps": plan.total_steps,
            "skipped_steps": guard.skipped_steps,
            "overflow_steps": guard.overflow_steps,
            "items": plan.num_items,
            "device": str(self._trainer.model.device),
            "parallel_processes": self._processes.world_size,
            "accumulation_steps": plan.optimization.accumulation_steps(self._processes.world_size),
            "threads": torch.get_num_threads(),
            "trainable_parameters": sum(counts.values()),
            "trainable_parameters_by_part": count_by_part(counts),
            "operations": operations_of_row(self._run, self._trainer.rows),
        }


def checksums_of(identity: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksums of data and weights in an identity, by kind and name."""
    return {
        f"{kind}/{name}": checksum
        for kind in ("data", "weights")
        for name, checksum in identity[kind].items()
    }


def count_by_part(counts: Mapping[str, int]) -> dict[str, int]:
    """Sum numbers of parameters by the first part of their names."""
    parts: dict[str, int] = {}
    for name, count in counts.items():
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0) + count
    return parts
