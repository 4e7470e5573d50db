"""Everything that would stop a job later, found before the first job or download, in one list.

Paths, layouts, names of models, room on the disk, memory and GPUs. Only what is about to be done is
looked at: tables of finished runs need neither data nor weights.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import GIVEN_ADAPTERS, TRAINED, TRANSFORMERS_TOWER, RunSettings
from ademvl.config.study import Study
from ademvl.data.acquisition.existing import fault_of_copy
from ademvl.data.acquisition.fetch import refuse_unaccepted
from ademvl.data.acquisition.plan import free_bytes
from ademvl.errors import AdemvlError, SettingsError, collect, list_findings
from ademvl.planning.possible import refuse_impossible
from ademvl.planning.shapes import vision_shape
from ademvl.reporting.references import check_reported
from ademvl.runs.adapter_folder import DESCRIPTION_FILE, adapter_checksum
from ademvl.runs.run_files import RunFiles
from ademvl.storage.stand_ins import describe_stand_in_at
from ademvl.tasks.layout import copies_of
from ademvl.tasks.registry import layout_of
from ademvl.workflow.machine_checks import device_problems, disk_problems
from ademvl.workflow.sources import StudySources
from ademvl.workflow.work import Work, pending_work

_REMEDY = "Nothing was started. Mend these; the same command then goes on."


def refuse_all(name: str, findings: Sequence[str]) -> None:
    """Refuse to start with everything that was found; one finding stands as it is.

    Raises:
        SettingsError: if there is any.
    """
    if len(findings) == 1:
        raise SettingsError(findings[0])
    if findings:
        indented = [finding.replace("\n", "\n    ") for finding in findings]
        raise SettingsError(list_findings(f"{name}: cannot be started", indented, _REMEDY))


def wrong_settings(study: Study, sources: StudySources) -> list[str]:
    """Return what no machine and no data could make right."""
    return collect(
        sources.downloads,  # names of sources and copies of weights are checked here
        lambda: check_reported(study),
        lambda: refuse_impossible(study),
        lambda: refuse_missing_starts(study),
    )


def refuse_missing_starts(study: Study) -> None:
    """Refuse runs that start from an adapter which neither is there nor is made by the study.

    Raises:
        SettingsError: lists them.
    """
    made = {str(RunFiles(study.run_dir(run)).adapter) for run in study.runs}
    findings = {
        f"runs.{run.name}.start_from: {run.start_from}: no {DESCRIPTION_FILE} there"
        for run in study.runs
        if run.start_from
        and run.start_from not in made
        and not (Path(run.start_from) / DESCRIPTION_FILE).is_file()
    }
    if findings:
        remedy = "Name a run of the study, or the folder of a trained adapter."
        headline = f"{study.name}: adapters to start from are missing"
        raise SettingsError(list_findings(headline, sorted(findings), remedy))


def problems_at_start(study: Study, sources: StudySources, *, is_local: bool = True) -> list[str]:
    """Return everything that would stop a job of what is not done yet, licences too."""
    wrong = wrong_settings(study, sources)
    return wrong or missing_at_start(study, sources, is_local=is_local)


def missing_at_start(study: Study, sources: StudySources, *, is_local: bool = True) -> list[str]:
    """Return the same of a study whose settings are known to be right."""
    work = pending_work(study, sources.plans(), is_local=is_local)
    unaccepted = collect(lambda: refuse_unaccepted(study, work.sources))
    return [*unaccepted, *study_problems(study, work)]


def study_problems(
    study: Study, work: Work, *, free: Callable[[Path], int] = free_bytes
) -> list[str]:
    """Say what would stop this work.

    Args:
        study: with all runs; which of them have work to do, `work` says.
        work: what is about to be done.
        free: returns the bytes that are free where a folder is, or will be.
    """
    found = [
        *_dataset_problems(study, work),
        *_model_problems(study, work),
        *_adapter_problems(study, work),
        *disk_problems(study, work, free),
    ]
    return found + (list(device_problems(study, work)) if work.is_local else [])


def _dataset_problems(study: Study, work: Work) -> Iterator[str]:
    for name in work.datasets:
        dataset = study.settings.datasets[name]
        if dataset.existing or dataset.coco:
            for text in collect(partial(_find_layout, dataset, study.settings.shared_dir)):
                yield f"datasets.{name}: {text}"


def _find_layout(dataset: DatasetSettings, shared_dir: str) -> None:
    """Look for the parts of a data set that is not downloaded.

    Raises:
        DataError: its folder is missing, or in no known layout.
    """
    layout_of(dataset.tasks[0]).find(copies_of(dataset, Path(shared_dir)))


def _model_problems(study: Study, work: Work) -> Iterator[str]:
    shared = Path(study.settings.shared_dir)
    said: set[str] = set()
    for run in work.runs:
        for key, text in _model_findings(run, shared):
            if text not in said:
                said.add(text)
                yield f"runs.{run.name}.backbones.{key}: {text}"


def _model_findings(run: RunSettings, shared: Path) -> Iterator[tuple[str, str]]:
    for key in ("llm", "tower_weights"):
        named = getattr(run.backbones, key)
        path = Path(named).expanduser()
        is_path = bool(named) and (
            path.is_absolute() or named.startswith((".", "~")) or path.exists()
        )
        if is_path and not path.is_relative_to(shared) and (fault := fault_of_copy(path)):
            yield key, fault
    if not run.backbones.tower:
        return  # the system has its own
    if run.backbones.tower == TRANSFORMERS_TOWER and not Path(run.backbones.tower_weights).is_dir():
        return  # downloaded later; its configuration tells all
    try:
        vision_shape(run.backbones)
    except AdemvlError as error:
        yield "tower", str(error).removeprefix("backbones.tower: ")


def _adapter_problems(study: Study, work: Work) -> Iterator[str]:
    trained = {(run.name, run.seed) for run in work.trainings}
    for run in work.evaluations:
        if run.adapter in GIVEN_ADAPTERS:
            if Path(run.released_from).is_file() and (
                what := describe_stand_in_at(Path(run.released_from))
            ):
                yield f"runs.{run.name}.released_from: {run.released_from}: {what}"
            continue
        owner = run.name if run.adapter == TRAINED else run.adapter
        files = RunFiles(study.run_dir(run)).of_run(owner)
        if (owner, run.seed) not in trained and files.adapter_json.is_file():
            yield from collect(partial(adapter_checksum, files.adapter))
