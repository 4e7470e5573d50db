"""What is known of one training of a run: its settings, state, scores and cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ademvl.config.run import RunSettings
from ademvl.runs.failures import Failure
from ademvl.runs.kept import KeptRow, read_kept
from ademvl.runs.metrics import MetricsRow, read_metrics
from ademvl.runs.run_files import RunFiles
from ademvl.runs.run_state import State
from ademvl.statistics.intervals import Estimate


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run took; None where provenance.json does not tell.

    Attributes:
        trainable_parameters: tensors' elements that were trained.
        steps: of the optimiser.
        skipped_steps: of them, left out because loss or gradient was not finite.
        train_seconds: wall time of training, resumed parts added.
        peak_memory_mib: of the training process, or of the GPU where one was used.
        energy_joules: of the GPUs.
        gpu_hours: wall time of training times GPUs; None on a CPU.
        adapter_of: run that trained the adapter, where it is another one: what training took is
            told there alone.
        hardware: device in words.
        answer_seconds: wall time of the models for an item of the evaluation.
        training_flops, answer_flops: operations of one typical row, see `planning.operations`.
    """

    trainable_parameters: int | None = None
    steps: int | None = None
    skipped_steps: int | None = None
    train_seconds: float | None = None
    peak_memory_mib: float | None = None
    energy_joules: float | None = None
    gpu_hours: float | None = None
    adapter_of: str = ""
    hardware: str = ""
    answer_seconds: float | None = None
    training_flops: int | None = None
    answer_flops: int | None = None


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """One training of a run.

    Attributes:
        settings: as the study resolves them.
        run_dir: folder of this run and seed.
        state: `failed` when the last step ended with an error; `stale` when the folder was made
            with other settings than the study has now, by another version of the verbs, or scored
            on other data than other seeds; `unfinished` when the present adapter is not trained or
            not evaluated yet.
        scores: by column or metric; empty unless finished. A column without items is absent.
        ceiling: captions only: scores of one reference against the others.
        cost: what it took.
        provenance: content of provenance.json; empty where there is none.
        failure: what failed; None unless failed.
        reason: why it is stale, where other settings or another version are not why.
        adapter_sha256: of the adapter that was scored; empty where it is not known.
        scored_on_other: whether it is stale for its data: what it was asked is not asked now.
        doubts: why its scores cannot be, or are not of its predictions; then there are no scores.
        trained_on_other: whether a file of the data set has changed since it was trained on.
        data: checksums of what was asked, by `texts`, `answers` and, where shown, `images`.
    """

    settings: RunSettings
    run_dir: Path
    state: State
    scores: Mapping[str, Estimate]
    ceiling: Mapping[str, Estimate]
    cost: Cost
    provenance: Mapping[str, Any]
    failure: Failure | None = None
    reason: str = ""
    adapter_sha256: str = ""
    scored_on_other: bool = False
    doubts: tuple[str, ...] = ()
    trained_on_other: bool = False
    data: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> RunFiles:
        """Files of its folder."""
        return RunFiles(self.run_dir)

    @property
    def scores_path(self) -> Path:
        """File of the scores."""
        return self.files.scores(self.settings.evaluation_task)

    @property
    def predictions_path(self) -> Path:
        """File of the predictions."""
        return self.files.predictions(self.settings.evaluation_task)

    def left_out(self, reason: str) -> "SeedResult":
        """Return it as stale, without scores."""
        return replace(self, state="stale", reason=reason, scores={}, ceiling={})

    def learning_curve(self) -> list[MetricsRow]:
        """Read metrics.csv; empty where training has not started."""
        path = self.files.metrics
        return read_metrics(path) if path.is_file() else []

    def kept_shares(self) -> list[KeptRow]:
        """Read kept.csv; empty where nothing is learned about it, or not yet."""
        path = self.files.kept
        return read_kept(path) if path.is_file() else []
