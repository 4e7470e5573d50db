"""What is looked at before a workflow's first job: licences, and shared files of other settings.

Snakemake keeps its record of settings in the folder where it was started, so that it cannot tell
that what lies in `shared_dir` was made with others elsewhere.
"""

import shlex
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.study import Study
from ademvl.errors import SettingsError, list_findings
from ademvl.evaluation.asked import KNOWN_FILE
from ademvl.storage.files import read_json, sha256_file
from ademvl.storage.known_checksums import KnownChecksums, file_stamp
from ademvl.workflow.notices import stale_runs

if TYPE_CHECKING:
    from ademvl.data.acquisition.plan import SourcePlan

_REMEDY = "Make it anew: `snakemake --forcerun {path}`."
_CLOCK_JITTER_SECONDS = 5.0
"""That clocks of machines differ by anyway; a job takes longer."""


def check_start(
    study: Study, sources: Sequence["SourcePlan"], *, read: Collection[str], made: Collection[str]
) -> None:
    """Refuse what jobs would stop at, or use though it was made with other settings.

    Args:
        read: files that jobs are about to read, and that are there.
        made: files that jobs are about to make.

    Raises:
        SettingsError: a licence is not accepted, or shared files have other settings; lists them.
        DataError: a file that says what was made is damaged.
    """
    if to_fetch := [source for source in sources if str(source.marker) in made]:
        from ademvl.data.acquisition.fetch import refuse_unaccepted

        refuse_unaccepted(study, to_fetch)
    others = {
        path: difference
        for path, difference in (*_datasets(study, read), *_weights(study, sources, read))
        if difference
    }
    if others:
        raise SettingsError(
            list_findings(
                f"{study.settings.shared_dir}: made with other settings than those of this study",
                [f"{path}: {difference}" for path, difference in others.items()],
                "Give the data set another name in this study, or make it anew for all studies "
                f"that use it: `snakemake --forcerun {' '.join(others)}`.",
            )
        )


def refuse_changed_data(study: Study, read: Collection[str]) -> None:
    """Refuse data sets of which a file has changed since they were made.

    Args:
        read: files that jobs are about to read, and that no job makes.

    Raises:
        SettingsError: lists the files.
        DataError: a manifest is damaged.
    """
    findings, manifests = [], []
    for name in study.settings.datasets:
        folder = Path(study.settings.shared_dir) / "data" / name
        manifest = folder / "manifest.json"
        if {str(manifest), str(folder / "verified.json")} & {*read}:
            made = read_json(manifest, remedy=_REMEDY.format(path=manifest)).get("sha256", {})
            found = [str(folder / file) for file in made if not _is_as_made(folder, file, made)]
            findings += found
            manifests += [str(manifest)] if found else []
    if findings:
        raise SettingsError(
            list_findings(
                "files that have changed since their data set was made",
                findings,
                "Put them back, or make the data set anew from its source: "
                f"`snakemake --forcerun {shlex.join(manifests)}`.",
            )
        )


def _is_as_made(folder: Path, file: str, made: Mapping[str, str]) -> bool:
    path = folder / file
    if not path.is_file():
        return False
    known = KnownChecksums(folder / file.partition("/")[0] / KNOWN_FILE)
    stamp = file_stamp(path)
    checksum = known.find(path, stamp)
    if checksum is None:
        checksum = sha256_file(path)
        known.add(path, stamp, checksum)
        known.save()
    return checksum == made[file]


def refuse_future_times(read: Collection[str]) -> None:
    """Refuse files whose time lies ahead: Snakemake calls every job that reads one failed.

    Args:
        read: files that jobs are about to read, and that no job makes.

    Raises:
        SettingsError: lists the files, and how to set their times.
    """
    now = time.time()
    ahead = {}
    for path in sorted(read):
        if Path(path).exists():
            modified = max(Path(path).stat().st_mtime, Path(path).lstat().st_mtime)
            if modified > now + _CLOCK_JITTER_SECONDS:
                ahead[path] = datetime.fromtimestamp(modified).isoformat(" ", "seconds")
    if ahead:
        raise SettingsError(
            list_findings(
                "files whose time lies ahead of this machine's clock, "
                f"{datetime.fromtimestamp(now).isoformat(' ', 'seconds')}",
                [f"{path}: {modified}" for path, modified in ahead.items()],
                "Jobs that read them would count as failed. Where the clock is right, set their "
                f"times to now: `touch {shlex.join(ahead)}`.",
            )
        )


def refuse_touch(study: Study) -> None:
    """Refuse `--touch` where it would pass old results off as those of the present study.

    Raises:
        SettingsError: names them.
    """
    if stale := stale_runs(study):
        raise SettingsError(
            list_findings(
                f"{study.results_dir}: --touch would hide that these are of other settings or data",
                stale,
                "Run `snakemake` without --touch, which makes them again, or give the study file "
                "back its settings.",
            )
        )


def _datasets(study: Study, read: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the manifests of the data sets that are read, and how their settings differ."""
    for name, dataset in study.settings.datasets.items():
        folder = f"{study.settings.shared_dir}/data/{name}"
        path = f"{folder}/manifest.json"
        if {path, f"{folder}/verified.json"} & {*read}:
            manifest = read_json(Path(path), remedy=_REMEDY.format(path=path))
            there, here = manifest.get("settings", {}), dataset.to_plain()
            differences = [
                f"{key} is {there.get(key)!r}, here {here.get(key)!r}"
                for key in sorted(there.keys() | here.keys())
                if there.get(key) != here.get(key)
            ]
            yield path, ", ".join(differences)


def _weights(
    study: Study, sources: Sequence["SourcePlan"], read: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield the markers of converted and fetched weights that are read, and how they differ."""
    for name, weights in study.settings.backbones.items():
        path = f"{study.settings.shared_dir}/converted/{name}/conversion.json"
        if path in read:
            there = read_json(Path(path), remedy=_REMEDY.format(path=path))["source"]["folder"]
            here = str(Path(weights.existing).resolve())
            yield path, f"converted from {there}, here {here}" if there != here else ""
    for source in sources:
        hub = source.source.hub
        if str(source.marker) in read and hub.repository and source.is_missing:
            yield (
                str(source.marker),
                f"not of {hub.repository}, revision {hub.revision}, or damaged",
            )
