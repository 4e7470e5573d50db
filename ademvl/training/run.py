"""Trains one run from its settings to its adapter, and goes on where a killed process stopped.

In the run's directory it writes metrics.csv and state/ while it works, and at the end
provenance.json and adapter/, adapter.json last: that file says that the run is complete.
"""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.adapter_file import DESCRIPTION_FILE, adapter_checksum, save_adapter
from ademvl.config.run import TRAINED, RunSettings
from ademvl.config.study import read_run
from ademvl.errors import WeightsError
from ademvl.locks import lock_file
from ademvl.reporting.provenance import Usage, UsageMeter, write_provenance
from ademvl.training.identity import identity_sha256, training_identity
from ademvl.training.interruption import Interruption
from ademvl.training.taken_adapter import take_adapter

if TYPE_CHECKING:
    from ademvl.data.collate import TokenizedExample
    from ademvl.training.loop import Trainer
    from ademvl.training.state import StateStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFiles:
    """Files of a run's directory that training writes."""

    run_dir: Path

    @property
    def adapter(self) -> Path:
        """Folder of what a user keeps."""
        return self.run_dir / "adapter"

    @property
    def adapter_json(self) -> Path:
        """Written last."""
        return self.adapter / DESCRIPTION_FILE

    @property
    def metrics(self) -> Path:
        """Table of logged steps."""
        return self.run_dir / "metrics.csv"

    @property
    def provenance(self) -> Path:
        """Code, packages, hardware, checksums and cost."""
        return self.run_dir / "provenance.json"

    @property
    def state(self) -> Path:
        """Folder of resumable states."""
        return self.run_dir / "state"

    @property
    def lock(self) -> Path:
        """Held by the process that trains."""
        return self.run_dir / ".train.lock"

    def of_run(self, name: str) -> "RunFiles":
        """Files of another run of the same study, with the same seed."""
        return RunFiles(self.run_dir.parent.parent / name / self.run_dir.name)

    def is_complete(self, identity: Mapping[str, Any]) -> bool:
        """Tell whether a training of this identity has finished here."""
        if not (self.adapter_json.is_file() and self.metrics.is_file()):
            return False
        try:
            adapter_checksum(self.adapter)
            provenance = json.loads(self.provenance.read_text(encoding="utf-8"))
            return bool(provenance["identity_sha256"] == identity_sha256(identity))
        except (WeightsError, OSError, ValueError, KeyError, TypeError):
            return False

    def mark_incomplete(self) -> None:
        """Remove what a training with other settings left, the mark of completion first."""
        self.adapter_json.unlink(missing_ok=True)
        self.provenance.unlink(missing_ok=True)


def train_run(run_dir: Path, *, progress: bool = True) -> int:
    """Train the run whose settings are in `run_dir`/run.yaml; do nothing when it is complete.

    A run that evaluates another run's adapter takes it from there.

    Killed at any moment, the same call goes on from the last state, and on the CPU with the same
    number of threads ends in exactly the adapter of an undisturbed run.

    Args:
        run_dir: directory of the run.
        progress: show a bar on a terminal, else a log line every ten seconds.

    Returns:
        0 when the run is complete; 75 (EX_TEMPFAIL) after SIGTERM and 130 after SIGINT, with a
        state written to go on from.

    Raises:
        SettingsError, DataError, WeightsError, CacheError: what is wrong with the run's inputs.
        TrainingError: loss or gradient is not finite.
        SystemExit: SIGTERM or SIGINT before the first step.
    """
    interruption = Interruption()
    with interruption.handled(), UsageMeter() as meter:
        run, files = read_run(run_dir), RunFiles(run_dir)
        identity = training_identity(run)
        # A process whose workflow was killed may still be training here: wait for it.
        with lock_file(files.lock):
            if run.adapter != TRAINED:
                take_adapter(files.of_run(run.adapter), files, identity)
                return 0
            if files.is_complete(identity):
                logger.info("%s: already trained with these settings", run_dir)
                _store(files, identity).clear()
                return 0
            files.mark_incomplete()
            session = _Session(run, files, identity, build_trainer(run, progress=progress))
            return session.train(interruption, meter, progress=progress)


def _store(files: RunFiles, identity: Mapping[str, Any]) -> "StateStore":
    from ademvl.training.state import StateStore

    return StateStore(files.state, identity)


def build_trainer(run: RunSettings, *, progress: bool) -> "Trainer":
    """Load everything that a run trains with; its adapter is newly initialised.

    Raises:
        SettingsError, DataError, WeightsError, CacheError: what is wrong with the run's inputs.
    """
    from ademvl.model import build_model
    from ademvl.training.loop import Trainer
    from ademvl.training.optimizer import build_optimizer
    from ademvl.training.order import StepPlan
    from ademvl.visual_source import open_visual_source

    rows = training_rows(run)
    plan = StepPlan(len(rows), run.seed, run.optimization)
    model = build_model(run).train()
    images = list(dict.fromkeys(row.image for row in rows if row.image is not None))
    parameters = dict(model.named_trainable_parameters())
    return Trainer(
        model,
        parameters,
        build_optimizer(parameters.items(), run.optimization),
        rows=rows,
        visual_source=open_visual_source(run, model, images, progress=progress, training=True),
        plan=plan,
        precision=run.backbones.precision,
    )


def training_rows(run: RunSettings) -> "list[TokenizedExample]":
    """Read and tokenize a run's training split.

    Raises:
        DataError: the data set is missing or malformed, or an example keeps nothing to learn.
        WeightsError: the language model has no readable tokenizer.
    """
    from ademvl.data.collate import tokenize_examples
    from ademvl.data.examples import training_examples
    from ademvl.llm.tokenizer import load_llm_tokenizer

    return tokenize_examples(
        load_llm_tokenizer(run.backbones),
        training_examples(run),
        max_seq_len=run.prompts.max_seq_len,
        num_slots=run.method.num_slots,
        with_prefix=run.has_image_prefix,
        label_mask=run.prompts.label_mask,
        # A few prompts of Alpaca are longer than the limit; those of the other tasks are not.
        unlearnable="leave_out" if run.task == "instruction" else "refuse",
    )


class _Session:
    """One process's part of a training: from the newest state, if any, to the end."""

    def __init__(
        self,
        run: RunSettings,
        files: RunFiles,
        identity: Mapping[str, Any],
        trainer: "Trainer",
    ) -> None:
        from ademvl.training.metrics import MetricsLog
        from ademvl.training.state import restore

        self._run = run
        self._files = files
        self._identity = identity
        self._trainer = trainer
        self._store = _store(files, identity)
        state = self._store.load_newest()
        self._first_step = state.step if state else 0
        record = state.record if state else {}
        self._usage_before = Usage(**record.get("usage", {}))
        if state:
            restore(state.tensors, trainer.parameters, trainer.optimizer)
            trainer.scaler.load_state_dict(record["scaler"])
            logger.info("going on after step %d", state.step)
        self._metrics = MetricsLog(
            files.metrics,
            interval_steps=run.optimization.log_interval_steps,
            record=record.get("metrics"),
        )
        self._saved_at = time.monotonic()

    def train(self, interruption: Interruption, meter: UsageMeter, *, progress: bool) -> int:
        """Do the steps that are left, then write the results; return the exit code."""
        from ademvl.cpu_kernels import fast_cpu
        from ademvl.training.progress import TrainingProgress

        plan = self._trainer.plan
        bar = TrainingProgress(
            total_steps=plan.total_steps, first_step=self._first_step, shown=progress
        )
        with fast_cpu(), interruption.deferred(), bar:
            for result in self._trainer.steps(first=self._first_step):
                self._metrics.add(result, is_last=result.step == plan.total_steps)
                bar.advance(result.step, loss=result.loss, num_items=result.num_items)
                if interruption.exit_code or self._is_state_due(result.step):
                    self._save(result.step, meter)
                if interruption.exit_code:
                    logger.warning("stopped by a signal; step %d is saved", result.step)
                    return interruption.exit_code
            self._finish(meter)
        return 0

    def _is_state_due(self, step: int) -> bool:
        age_seconds = time.monotonic() - self._saved_at
        is_old = age_seconds >= self._run.optimization.state_interval_seconds
        return is_old or self._trainer.plan.ends_epoch(step - 1)

    def _save(self, step: int, meter: UsageMeter) -> None:
        from ademvl.training.state import TrainingState, capture

        trainer = self._trainer
        record = {
            "metrics": self._metrics.to_record(),
            "scaler": trainer.scaler.state_dict(),
            "usage": asdict(self._usage_before + meter.read()),
        }
        tensors = capture(trainer.parameters, trainer.optimizer)
        self._store.save(TrainingState(step, tensors, record))
        self._saved_at = time.monotonic()

    def _finish(self, meter: UsageMeter) -> None:
        """Write the results; killed in between, the last state leads here again."""
        self._metrics.close()
        self._metrics.write()
        write_provenance(
            self._files.provenance,
            usage=self._usage_before + meter.read(),
            started=meter.started,
            checksums=_checksums(self._identity),
            details=self._details(),
        )
        save_adapter(self._files.adapter, self._trainer.model, self._run)
        self._store.clear()

    def _details(self) -> dict[str, Any]:
        import torch

        plan = self._trainer.plan
        counts = {name: p.numel() for name, p in self._trainer.parameters.items()}
        return {
            "identity_sha256": identity_sha256(self._identity),
            "seed": self._run.seed,
            "steps": plan.total_steps,
            "items": plan.num_items,
            "device": str(self._trainer.model.device),
            "threads": torch.get_num_threads(),
            "trainable_parameters": sum(counts.values()),
            "trainable_parameters_by_part": _by_part(counts),
        }


def _checksums(identity: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"{kind}/{name}": checksum
        for kind in ("data", "weights")
        for name, checksum in identity[kind].items()
    }


def _by_part(counts: Mapping[str, int]) -> dict[str, int]:
    parts: dict[str, int] = {}
    for name, count in counts.items():
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0) + count
    return parts
