"""What is about to be done of a study: trainings, evaluations, data sets and downloads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.run import TRAINED, RunSettings
from ademvl.config.study import Study

if TYPE_CHECKING:
    from ademvl.data.acquisition.plan import SourcePlan


@dataclass(frozen=True)
class Work:
    """What is about to be done of a study.

    Attributes:
        trainings: runs and seeds that are trained.
        evaluations: runs and seeds that are evaluated.
        datasets: names of data sets that are made.
        sources: that are fetched.
        is_local: whether jobs run on this machine.
    """

    trainings: Sequence[RunSettings]
    evaluations: Sequence[RunSettings]
    datasets: Sequence[str]
    sources: "Sequence[SourcePlan]"
    is_local: bool = True

    @property
    def runs(self) -> list[RunSettings]:
        """One seed of each run that is trained or evaluated."""
        return list({run.name: run for run in (*self.trainings, *self.evaluations)}.values())


def pending_work(study: Study, sources: "Sequence[SourcePlan]", *, is_local: bool = True) -> Work:
    """Return what has left no result yet; Snakemake may find more that is to be made again."""
    shared = Path(study.settings.shared_dir)
    folders = [(run, study.run_dir(run)) for run in study.runs]
    return Work(
        trainings=[
            run
            for run, folder in folders
            if run.adapter == TRAINED and not (folder / "adapter/adapter.json").is_file()
        ],
        evaluations=[
            run
            for run, folder in folders
            if not (folder / f"scores/{run.evaluation_task}.json").is_file()
        ],
        datasets=[
            name
            for name in study.settings.datasets
            if not (shared / "data" / name / "manifest.json").is_file()
        ],
        sources=[source for source in sources if source.is_missing],
        is_local=is_local,
    )


def work_of_jobs(
    study: Study, sources: "Sequence[SourcePlan]", made: set[str], *, is_local: bool
) -> Work:
    """Return what jobs that make these files do."""
    folders = [(run, study.run_dir(run)) for run in study.runs]
    data = f"{study.settings.shared_dir}/data"
    return Work(
        trainings=[
            run
            for run, folder in folders
            if run.adapter == TRAINED and f"{folder}/adapter/adapter.json" in made
        ],
        evaluations=[
            run for run, folder in folders if f"{folder}/scores/{run.evaluation_task}.json" in made
        ],
        datasets=[n for n in study.settings.datasets if f"{data}/{n}/manifest.json" in made],
        sources=[source for source in sources if str(source.marker) in made],
        is_local=is_local,
    )
