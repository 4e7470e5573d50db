"""What is looked at before a workflow's first job: licences, and shared files of other settings.

Snakemake keeps its record of settings in the folder where it was started, so that it cannot tell
that what lies in `shared_dir` was made with others elsewhere.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.study import Study
from ademvl.errors import SettingsError, list_findings
from ademvl.storage.files import read_json

if TYPE_CHECKING:
    from ademvl.data.acquisition.plan import SourcePlan

_REMEDY = "Make it anew: `snakemake --forcerun {path}`."


def check_start(
    study: Study, sources: Sequence["SourcePlan"], *, read: Collection[str], made: Collection[str]
) -> None:
    """Refuse what jobs would stop at, or use though it was made with other settings.

    Args:
        study: settings in force.
        sources: what the study fetches.
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


def _datasets(study: Study, read: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the manifests of the data sets that are read, and how their settings differ."""
    for name, dataset in study.settings.datasets.items():
        folder = f"{study.settings.shared_dir}/data/{name}"
        path = f"{folder}/manifest.json"
        if {path, f"{folder}/verified.json"} & {*read}:
            there = read_json(Path(path), remedy=_REMEDY.format(path=path)).get("settings", {})
            here = dataset.to_plain()
            yield (
                path,
                ", ".join(
                    f"{key} is {there.get(key)!r}, here {here.get(key)!r}"
                    for key in sorted(there.keys() | here.keys())
                    if there.get(key) != here.get(key)
                ),
            )


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
