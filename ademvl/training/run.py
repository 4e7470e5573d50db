"""Trains one run from its settings to its adapter, and goes on where a killed process stopped.

In the run's directory it writes metrics.csv and state/ while it works, and at the end
provenance.json and adapter/, adapter.json last: that file says that the run is complete.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RELEASED, TRAINED, RunSettings
from ademvl.config.settings_files import read_run
from ademvl.config.tasks import facts_of
from ademvl.errors import SettingsError
from ademvl.machine.devices import compute_device
from ademvl.machine.free_memory import free_memory
from ademvl.machine.usage import UsageMeter
from ademvl.planning.fit import check_fits, memory_rows
from ademvl.planning.out_of_memory import explained_out_of_memory, training_advice
from ademvl.runs.adapter_training import is_complete, refuse_to_replace_other
from ademvl.runs.identity import training_identity
from ademvl.runs.run_files import RunFiles
from ademvl.runs.run_state import read_object
from ademvl.storage.locks import lock_file
from ademvl.training.given import note_given
from ademvl.training.interruption import Interruption
from ademvl.training.live_logs import refuse_missing_logs
from ademvl.training.membership import Membership
from ademvl.training.processes import ALONE, Processes, joined
from ademvl.training.released_adapter import import_released
from ademvl.training.schedule import lr_at
from ademvl.training.session import Session
from ademvl.training.state import StateStore
from ademvl.training.taken_adapter import take_adapter

if TYPE_CHECKING:
    import torch

    from ademvl.data.rows import TokenizedExample
    from ademvl.systems.trained import TrainableModel
    from ademvl.training.loop import Trainer
    from ademvl.training.order import StepPlan

_log = logging.getLogger(__name__)

OnTrained = Callable[[RunSettings, Path, "TrainableModel"], None]
"""Uses a model that has just been trained, of a run in a directory, before its process ends."""


def train_run(
    run_dir: Path,
    *,
    membership: Membership | None = None,
    progress: bool = True,
    ignore_memory: bool = False,
    on_trained: OnTrained | None = None,
) -> int:
    """Train the run whose settings are in `run_dir`/run.yaml; do nothing when it is complete.

    A run that evaluates another run's adapter takes it from there; one that evaluates a released
    adapter imports it.

    Killed at any moment, the same call goes on from the last state, on any number of processes. On
    the CPU with the same number of threads it ends in exactly the adapter of an undisturbed run.

    Args:
        membership: of this process, where several train together: all of them make this call.
        progress: show a bar on a terminal, else a log line every ten seconds.
        ignore_memory: start though the run is predicted not to fit into memory.
        on_trained: called once the adapter is written, by a process that trained alone on the CPU:
            on GPUs, and where several train, evaluation has jobs and devices of its own. What it
            takes has no part in what the training took.

    Returns:
        0 when the run is complete; 75 (EX_TEMPFAIL) after SIGTERM and 130 after SIGINT, with a
        state written to go on from.

    Raises:
        SettingsError, DataError, WeightsError, CacheError: what is wrong with the run's inputs.
        TrainingError: loss or gradient is not finite too often, memory ran out, or another process
            is gone.
        SystemExit: SIGTERM or SIGINT before the first step.
    """
    interruption = Interruption(is_alone=membership is None)
    is_first = membership is None or membership.rank == 0
    with interruption.handled(), UsageMeter(with_energy=is_first) as meter:
        run, files = read_run(run_dir), RunFiles(run_dir)
        refuse_missing_logs(run)
        device = _device(run, membership)
        with (
            joined(membership, device) if membership else nullcontext(ALONE) as processes,
            # A process whose workflow was killed may still be training here: wait for it.
            lock_file(files.lock) if is_first else nullcontext(),
        ):
            identity = training_identity(run) if is_first else {}
            if processes.from_first(is_first and _needs_no_training(run, files, identity)):
                return 0
            work = _Work(
                run=run,
                identity=identity,
                membership=membership,
                processes=processes,
                device=device,
                interruption=interruption,
                meter=meter,
                progress=progress,
                ignore_memory=ignore_memory,
            )
            exit_code = 0
            for stage, of_stage in files.stages(run).items():
                is_before = is_first and of_stage != files and is_complete(of_stage, identity)
                if exit_code or processes.from_first(is_before):
                    continue
                trainer, exit_code = work.train(stage, of_stage)
        if on_trained and not exit_code and processes.is_alone and device.type == "cpu":
            on_trained(run, run_dir, trainer.model)
        return exit_code


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What all trainings of a run have in common in this process; MM-CoT alone has two.

    Attributes:
        run: what is trained.
        identity: of the run, in the first process.
        membership, processes, device: of this process, and with which it trains.
        interruption: asks for the end.
        meter: of what all of it takes.
        progress, ignore_memory: see `train_run`.
    """

    run: RunSettings
    identity: Mapping[str, Any]
    membership: Membership | None
    processes: Processes
    device: "torch.device"
    interruption: Interruption
    meter: UsageMeter
    progress: bool
    ignore_memory: bool

    def train(self, stage: str, files: RunFiles) -> "tuple[Trainer, int]":
        """Train one stage, and return what trained it, with the exit code of `train_run`.

        Args:
            stage: see `RunFiles.stages`.
            files: of the stage.
        """
        run = self.run
        rows = training_rows(run, stage)
        if not self.ignore_memory:
            local = self.membership.local_processes if self.membership else 1
            free = free_memory(self.device, local_processes=local)
            images = len({row.image for row in rows} - {None})
            check_fits(run, free, memory_rows(rows), num_images=images)
        with explained_out_of_memory(lambda: training_advice(run, self.device)):
            trainer = build_trainer(
                run,
                rows=rows,
                processes=self.processes,
                device=self.device,
                progress=self.progress,
            )
            if self.processes.is_first:  # not before all that is read was found to be right
                files.mark_incomplete()
            session = Session(run, files, self.identity, trainer)
            return trainer, session.train(self.interruption, self.meter, progress=self.progress)


def _device(run: RunSettings, membership: Membership | None) -> "torch.device":
    """Return this process's device, after checking that the batches divide."""
    if membership is None:
        run.optimization.accumulation_steps()
        return compute_device(run.backbones)
    try:
        run.optimization.accumulation_steps(membership.world_size)
    except SettingsError as error:
        raise SettingsError(
            f"{error}. {membership.told_by} in the environment say how many"
        ) from error
    return compute_device(
        run.backbones, local_rank=membership.local_rank, local_processes=membership.local_processes
    )


def _needs_no_training(run: RunSettings, files: RunFiles, identity: Mapping[str, Any]) -> bool:
    """Say whether nothing is to be trained; an adapter that comes from elsewhere is brought in.

    Raises:
        WeightsError: the adapter there is another run's.
    """
    refuse_to_replace_other(files.adapter, run, identity, read_object(files.provenance))
    if run.adapter == RELEASED:
        import_released(run, files, identity)
        return True
    if run.method.is_given:
        note_given(run, files, identity)
        return True
    if run.adapter != TRAINED:
        take_adapter(files.of_run(run.adapter), files, identity)
        return True
    if is_complete(files, identity):
        _log.info("%s: already trained with these settings", files.run_dir)
        StateStore(files.state, identity).clear()
        return True
    return False


def build_trainer(
    run: RunSettings,
    *,
    rows: "Sequence[TokenizedExample] | None" = None,
    processes: Processes = ALONE,
    device: "torch.device | None" = None,
    progress: bool,
) -> "Trainer":
    """Load everything that a run trains with.

    Its adapter is newly initialised, or as that which it starts from.

    Args:
        rows: of its training split; None reads them.
        processes: that train together, this one among them.
        device: of this process; None chooses.

    Raises:
        SettingsError, DataError, WeightsError, CacheError: what is wrong with the run's inputs.
    """
    from ademvl.model.adapter_file import start_from_adapter
    from ademvl.model.build import build_trainable
    from ademvl.training.loop import Trainer
    from ademvl.training.optimizer import build_optimizer
    from ademvl.training.order import StepPlan
    from ademvl.vision.features.source import open_visual_source

    rows = training_rows(run) if rows is None else rows
    plan = StepPlan(len(rows), run.seed, run.optimization)
    _refuse_idle(plan)
    model = build_trainable(run, device=device).train()
    if run.start_from:
        start_from_adapter(run, model)
    if run.optimization.gradient_checkpointing:
        model.enable_checkpointing()
    images = list(dict.fromkeys(row.image for row in rows if row.image is not None))
    parameters = dict(model.named_trainable_parameters())
    return Trainer(
        model,
        parameters,
        build_optimizer(model.method, run.optimization),
        rows=rows,
        visual_source=open_visual_source(
            run,
            images,
            tower=model.tower,
            device=model.device,
            progress=progress,
            training=True,
            processes=None if processes.is_alone else processes,
        ),
        plan=plan,
        precision=run.backbones.precision,
        processes=processes,
    )


def _refuse_idle(plan: "StepPlan") -> None:
    """Refuse a training that ends where its warm-up begins, unless nothing is to be learned."""
    lrs = (lr_at(plan.lr_epoch(step), plan.optimization) for step in range(plan.total_steps))
    if plan.optimization.lr > 0 and not any(lrs):
        raise SettingsError(
            f"optimization.epochs: {plan.optimization.epochs} epochs are {plan.total_steps} step, "
            "the first of the warm-up, whose learning rate is 0: the adapter would never be "
            "updated. Train longer, or set warmup_epochs to 0 or lr_evaluated_at to middle"
        )


def training_rows(run: RunSettings, stage: str = "") -> "list[TokenizedExample]":
    """Read and tokenize a run's training split, for one of its trainings (`RunFiles.stages`).

    Raises:
        DataError: the data set is missing or malformed, or an example keeps nothing to learn.
        WeightsError: the language model has no readable tokenizer.
    """
    from ademvl.data.rows import RowLayout, tokenize_examples
    from ademvl.llm.tokenizer import load_llm_tokenizer
    from ademvl.tasks.registry import training_examples

    if run.method.kind == "trained_whole":
        from ademvl.systems.mm_cot.rows import training_rows as rows_of_stage

        return rows_of_stage(run, load_llm_tokenizer(run.backbones), stage)
    tokenizer = load_llm_tokenizer(run.backbones)
    return tokenize_examples(
        tokenizer,
        training_examples(run),
        RowLayout.of_run(run, tokenizer),
        max_seq_len=run.prompts.max_seq_len,
        label_mask=run.prompts.label_mask,
        # A few prompts of Alpaca are longer than the limit; those of the other tasks are not.
        unlearnable="leave_out" if facts_of(run.task).may_lack_answers else "refuse",
    )
