"""What a plan says: of a run, and of a whole study, for a kind of GPU."""

from collections.abc import Mapping
from dataclasses import dataclass

from ademvl.errors import SettingsError
from ademvl.planning.devices import Gpu
from ademvl.planning.disk import DiskUse
from ademvl.planning.memory import Memory
from ademvl.planning.schedule import UTILIZATION, Rate, RunFlops, Seconds
from ademvl.planning.sizes import MicroBatch


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a study is planned for.

    Attributes:
        gpu: kind of GPU; None where none is present or named.
        count: GPUs that share each training.
        utilization: part of the GPU's matrix rate that is reached.
    """

    gpu: Gpu | None = None
    count: int = 1
    utilization: float = UTILIZATION

    def __post_init__(self) -> None:
        if not 0 < self.utilization <= 1:
            raise SettingsError(f"--utilization: {self.utilization}, expected 0 < part <= 1")
        if self.count < 1:
            raise SettingsError(f"--gpus: {self.count}, expected >= 1")


@dataclass(frozen=True)
class RunSeconds:
    """Time of one run with one seed.

    Attributes:
        training: on all GPUs together.
        evaluation: on one GPU.
        count: GPUs that share the training.
    """

    training: Seconds
    evaluation: Seconds
    count: int

    @property
    def wall(self) -> Seconds:
        """From the first step to the last answer."""
        return self.training + self.evaluation

    @property
    def gpu_seconds(self) -> Seconds:
        """Seconds of all GPUs added up."""
        return self.training.times(self.count) + self.evaluation


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What one run takes, for one seed unless said otherwise.

    Attributes:
        name: of the run.
        seeds: how many trainings or evaluations of it there are.
        trains: false where another run's adapter is evaluated.
        trained: parameters by part.
        frozen: parameters of the frozen models in memory.
        device: `cuda` or `cpu`.
        batch: the largest that goes through the models at once.
        memory: of one training process at its peak.
        is_checkpointed: whether the run uses gradient checkpointing.
        other_checkpointing: bytes of the peak with gradient checkpointing the other way round.
        evaluation_memory: bytes of the peak of evaluation.
        evaluation_rows: items that evaluation answers at once.
        flops: operations.
        seconds: of training and evaluation; None where unknown.
        rate: from which they follow, if it was measured.
        alternatives: settings that would fit, where the run does not fit the GPU.
    """

    name: str
    seeds: int
    trains: bool
    trained: Mapping[str, int]
    frozen: int
    device: str
    batch: MicroBatch
    memory: Memory
    is_checkpointed: bool
    other_checkpointing: int
    evaluation_memory: int
    evaluation_rows: int
    flops: RunFlops
    seconds: RunSeconds | None
    rate: Rate | None
    alternatives: tuple[str, ...] = ()

    @property
    def num_trained(self) -> int:
        """All trained parameters."""
        return sum(self.trained.values())

    @property
    def gpu_hours(self) -> Seconds | None:
        """Hours of GPUs for all seeds; None where the time is unknown."""
        if self.seconds is None or self.device == "cpu":
            return None
        return self.seconds.gpu_seconds.times(self.seeds / 3600)


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What a study takes.

    Attributes:
        study: its name.
        target: what it is planned for.
        runs: by run.
        choices: of the runs whose rates are chosen, the trainings of their grids, each scored on
            the val split; `seeds` is the number of rates.
        unknown: runs that cannot be planned, with the reason.
        feature_flops: operations of filling the feature caches.
        disk: what it takes on disk, by part.
        assumptions: what was not read from data.
    """

    study: str
    target: Target
    runs: tuple[RunPlan, ...]
    choices: tuple[RunPlan, ...]
    unknown: Mapping[str, str]
    feature_flops: int
    disk: tuple[DiskUse, ...]
    assumptions: tuple[str, ...]

    @property
    def jobs(self) -> tuple[RunPlan, ...]:
        """All that is trained or evaluated: runs, and the grids of those whose rate is chosen."""
        return (*self.runs, *self.choices)

    @property
    def flops(self) -> float:
        """Operations of all jobs, and of the feature caches."""
        return self.feature_flops + sum(job.flops.total * job.seeds for job in self.jobs)

    @property
    def gpu_hours(self) -> Seconds | None:
        """Of all jobs on the GPU; None without any."""
        known = [job.gpu_hours for job in self.jobs if job.gpu_hours is not None]
        return sum(known[1:], known[0]) if known else None

    @property
    def wall(self) -> Seconds | None:
        """Time of all jobs one after the other; None where any is unknown."""
        walls = [job.seconds.wall.times(job.seeds) for job in self.jobs if job.seconds]
        return sum(walls[1:], walls[0]) if walls and len(walls) == len(self.jobs) else None

    @property
    def disk_bytes(self) -> int:
        """All parts together."""
        return sum(part.bytes for part in self.disk)
