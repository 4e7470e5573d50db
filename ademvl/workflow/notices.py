"""Says at the start of a workflow which results are not of the study or data that are there now.

Snakemake itself looks at times of files and at its own record of settings, which `--touch` and
copying folders get around; here results are compared with what they say that they were made from.
"""

from pathlib import Path

from ademvl.config.settings_files import STUDY_FILE
from ademvl.config.study import Study, load_study
from ademvl.errors import MAX_LISTED, AdemvlError
from ademvl.reporting.results import StudyResults, read_results
from ademvl.reporting.seed_result import SeedResult
from ademvl.runs.identity import study_checksum
from ademvl.runs.run_files import RunFiles
from ademvl.runs.run_state import REMEDY
from ademvl.storage.files import read_json, sha256_file, write_json

_REFUSED = "does_not_count_sha256"


def notice_changes(study: Study) -> list[str]:
    """Return what to say, and see to it that what is of other data is made again.

    What reruns a job is settings/<verb>.json: where the job's result is of other data than there is
    now, or was changed by hand, the file names that result as one that does not count.
    """
    try:
        results = read_results(study, refuse_doubtful=False)
        return [*_of_other_settings(study, results), *_of_other_data(results)]
    except AdemvlError as error:
        return [str(error)]


def stale_runs(study: Study) -> list[str]:
    """Name the trainings whose results are not of the present study and data.

    Raises:
        AdemvlError: a file of results is damaged.
    """
    seeds = _seeds(read_results(study, refuse_doubtful=False))
    return [_name(seed) for seed in seeds if seed.state == "stale" or seed.doubts]


def _of_other_settings(study: Study, results: StudyResults) -> list[str]:
    others = [_name(seed) for seed in _seeds(results) if seed.state == "stale" and not seed.reason]
    here = study_checksum(study.runs)
    there = _checksum_there(study)
    if not others and there in ("", here):
        return []
    text = f"{study.results_dir}: results there are "
    if there != here:
        text += f"of another study file (settings {there or 'unknown'}; of this one {here}); "
    if not others:
        return [f"{text}those of the runs that this one has are of its settings"]
    return [
        f"{text}made with other settings or by another version: {_listed(others)}. They do not "
        "count in tables until they are made again. Where Snakemake finds nothing to do for them, "
        "`snakemake --forcerun study_settings run_settings relevant_settings` makes them"
    ]


def _checksum_there(study: Study) -> str:
    """Return the checksum of the study whose results are there; empty where none is known."""
    path = study.results_dir / STUDY_FILE
    try:
        return study_checksum(load_study(path).runs) if path.is_file() else ""
    except AdemvlError:
        return ""


def _of_other_data(results: StudyResults) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for seed in _seeds(results):
        if seed.scored_on_other or seed.doubts:
            reason = seed.reason or "; ".join(seed.doubts)
            _refuse_result(seed, "evaluate", seed.scores_path)
            by_reason.setdefault(f"{reason}, evaluated again", []).append(_name(seed))
        elif seed.reason:
            by_reason.setdefault(seed.reason, []).append(_name(seed))
        if seed.trained_on_other:
            _refuse_result(seed, "train", RunFiles(seed.run_dir).provenance)
            reason = "trained before files of the data set changed, trained again"
            by_reason.setdefault(reason, []).append(_name(seed))
    return [f"{_listed(names)}: {reason}" for reason, names in by_reason.items()]


def _refuse_result(seed: SeedResult, verb: str, result: Path) -> None:
    """Make the content of settings/<verb>.json another one: times alone rerun no job."""
    path = seed.run_dir / "settings" / f"{verb}.json"
    if not path.is_file():
        return
    settings = read_json(path, remedy=REMEDY)
    refused = {**settings, _REFUSED: sha256_file(result)}
    if settings != refused:
        write_json(path, refused)


def _seeds(results: StudyResults) -> list[SeedResult]:
    return [seed for run in results.runs for seed in run.seeds]


def _name(seed: SeedResult) -> str:
    return f"{seed.settings.name}/seed{seed.settings.seed}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
