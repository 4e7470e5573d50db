"""What a study needs of data and weights, what is there already, and what is to be fetched.

Reads nothing but the registry, the study, and the state of the folders: no network.
"""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ademvl.config.released import is_source_name
from ademvl.config.run import RELEASED
from ademvl.config.study import Study
from ademvl.data.acquisition.download import FileTarget
from ademvl.data.acquisition.existing import missing_copies
from ademvl.data.acquisition.hub import fetched_bytes, is_fetched
from ademvl.data.acquisition.records import Records
from ademvl.data.acquisition.registry import License, Registry, Source, SourceFile, load_registry
from ademvl.data.acquisition.unpack import MARKER, is_unpacked
from ademvl.errors import SettingsError, list_findings
from ademvl.storage.byte_sizes import format_bytes

State = Literal["there", "to be verified", "in part", "missing", "unpacked"]
DOWNLOAD_MARKER = "complete.json"


@dataclass(frozen=True)
class FilePlan:
    """A file, or a whole repository, and its state.

    Attributes:
        name: file name, or the repository.
        origin: where it comes from first.
        path: where it stands, or will.
        total_bytes: its size, 0 where unknown.
        is_exact: whether that size is known exactly.
        state: of what is there.
        missing_bytes: still to be fetched, as far as sizes are known.
        unpacked_bytes: still to be written by unpacking, as far as known.
        target: how it is fetched; None for a repository.
    """

    name: str
    origin: str
    path: Path
    total_bytes: int
    is_exact: bool
    state: State
    missing_bytes: int
    unpacked_bytes: int
    target: FileTarget | None = None

    @property
    def is_missing(self) -> bool:
        """Whether the network is needed for it."""
        return self.state in ("missing", "in part")


@dataclass(frozen=True)
class SourcePlan:
    """A source that a study needs.

    Attributes:
        name: of the source.
        source: what the registry says, with the study's own repository where it names one.
        license: its terms.
        downloads_dir: <shared_dir>/downloads/<name>.
        unpacked_dir: <shared_dir>/unpacked/<name>.
        archives: folder inside `unpacked_dir` of each archive that is to be unpacked.
        files: its files or its repository.
    """

    name: str
    source: Source
    license: License
    downloads_dir: Path
    unpacked_dir: Path
    archives: Mapping[str, str]
    files: tuple[FilePlan, ...]

    @property
    def is_missing(self) -> bool:
        """Whether the network is needed for it."""
        return any(file.is_missing for file in self.files)

    @property
    def missing_bytes(self) -> int:
        """Bytes to be fetched, as far as sizes are known."""
        return sum(file.missing_bytes for file in self.files)

    @property
    def unpacked_bytes(self) -> int:
        """Bytes to be written by unpacking, as far as sizes are known."""
        return sum(file.unpacked_bytes for file in self.files)

    @property
    def marker(self) -> Path:
        """File that says that all files are there and verified."""
        return self.downloads_dir / DOWNLOAD_MARKER

    @property
    def unpacked_marker(self) -> Path:
        """File that says that all archives are unpacked."""
        return self.unpacked_dir / MARKER


def needed_sources(study: Study, registry: Registry) -> tuple[str, ...]:
    """Return the names of the sources that a study fetches, in the order of the registry.

    Data sets and weights with an `existing` copy are not among them, nor adapters in local files.

    Raises:
        SettingsError: lists names that no source or licence has, weights that a run names though
            they are not under `backbones`, and copies of weights that are not there.
    """
    settings = study.settings
    findings = [*_findings(study, registry), *missing_copies(study)]
    if findings:
        remedy = f"Sources: {', '.join(registry.sources)}."
        raise SettingsError(list_findings(f"{study.name}: wrong names", findings, remedy))
    datasets = settings.datasets.values()
    wanted = {
        *(d.source for d in datasets if d.source in registry.sources and not d.existing),
        *(name for name, weights in settings.backbones.items() if not weights.existing),
        *settings.downloads.extra_sources,
        *(run.released_from for run in settings.runs.values() if run.adapter == RELEASED),
    } & registry.sources.keys()
    own: set[str] = {dataset.source for dataset in datasets if dataset.existing}
    own |= {"coco_caption" for dataset in datasets if dataset.coco}
    wanted |= {n for name in wanted for n in registry.sources[name].needs if n not in own}
    return tuple(name for name in registry.sources if name in wanted)


def _findings(study: Study, registry: Registry) -> Iterator[str]:
    settings = study.settings
    for name in settings.downloads.extra_sources:
        if name not in registry.sources:
            yield f"downloads.extra_sources: {name!r} is no source"
    for name in settings.downloads.accepted_licenses:
        if name not in registry.licenses:
            yield f"downloads.accepted_licenses: {name!r} is none of {', '.join(registry.licenses)}"
    for name, weights in settings.backbones.items():
        if name not in registry.sources:
            yield f"backbones.{name}: no source of this name"
            continue
        files = [file.name for file in registry.sources[name].files]
        if weights.repository and files:
            yield f"backbones.{name}.repository: this source is made of the files {files}"
        if not weights.existing and (weights.file in files) != bool(files):
            yield f"backbones.{name}.file: {weights.file!r}, expected one of {files or ['']}"
        archives = [file.name for file in registry.sources[name].files if file.is_archive]
        if not weights.existing and bool(weights.member) != (weights.file in archives):
            what = "is empty" if weights.file in archives else f"is {weights.member!r}"
            yield f"backbones.{name}.member: {what}, but archives here are {archives}"
    for run_name, template in settings.runs.items():
        checkpoint = template.released_from
        if is_source_name(checkpoint) and checkpoint not in registry.sources:
            yield f"runs.{run_name}.released_from: {checkpoint!r} is no source"
        elif checkpoint and not is_source_name(checkpoint) and not Path(checkpoint).exists():
            yield f"runs.{run_name}.released_from: {checkpoint}: no such file"
    for run in study.runs:
        for key in ("llm", "tower_weights"):
            name = getattr(run.backbones, key)
            if name in registry.sources:
                yield (
                    f"runs.{run.name}.backbones.{key}: {name} is a source, but not under the "
                    f"study's key backbones; add `backbones: {{{name}: {{}}}}`"
                )


def plan_sources(study: Study, registry: Registry | None = None) -> tuple[SourcePlan, ...]:
    """Look at what a study needs and at what is there.

    Raises:
        SettingsError: as `needed_sources`.
        DataError: the records of earlier downloads are malformed.
    """
    registry = registry or load_registry()
    return tuple(plan_source(study, name, registry) for name in needed_sources(study, registry))


def plan_source(study: Study, name: str, registry: Registry) -> SourcePlan:
    """Look at one source of a study."""
    settings = study.settings
    shared_dir = Path(settings.shared_dir)
    source = _with_own_repository(study, name, registry.source(name))
    downloads_dir, unpacked_dir = shared_dir / "downloads" / name, shared_dir / "unpacked" / name
    archives = {
        file.name: file.unpack_to
        for file in source.files
        if file.is_archive and (settings.downloads.unpack or not file.images)
    }
    if source.files:
        records = Records(downloads_dir)
        files = tuple(
            _plan_file(
                file, downloads_dir, records, unpacked_dir, is_packed=file.name not in archives
            )
            for file in source.files
        )
    else:
        files = (_plan_hub(source, downloads_dir),)
    return SourcePlan(
        name, source, registry.license_of(name), downloads_dir, unpacked_dir, archives, files
    )


def _with_own_repository(study: Study, name: str, source: Source) -> Source:
    weights = study.settings.backbones.get(name)
    if weights is None or not weights.repository:
        return source
    hub = dataclasses.replace(
        source.hub, repository=weights.repository, revision=weights.revision, sha256={}
    )
    return dataclasses.replace(source, hub=hub)


def _plan_file(
    file: SourceFile, folder: Path, records: Records, unpacked_dir: Path, *, is_packed: bool
) -> FilePlan:
    target = FileTarget(file, folder)
    total = file.bytes or file.approximate_bytes
    state: State = "missing"
    record = records.of(file.name)
    is_done = not is_packed and record and is_unpacked(unpacked_dir, {file.name: record.sha256})
    arrived = 0
    if records.is_verified(file.name):
        state, total = "there", record.bytes if record else total
    elif target.path.is_file():
        state, total = "to be verified", target.path.stat().st_size
    elif is_done:
        state = "unpacked"
    elif target.part_path.is_file():
        arrived = target.part_path.stat().st_size
        state = "in part" if arrived else state
    return FilePlan(
        name=file.name,
        origin=file.urls[0],
        path=target.path,
        total_bytes=total,
        is_exact=bool(file.bytes) or state in ("there", "to be verified"),
        state=state,
        missing_bytes=max(total - arrived, 0) if state in ("missing", "in part") else 0,
        unpacked_bytes=0 if is_packed or is_done else file.unpacked_bytes,
        target=target,
    )


def _plan_hub(source: Source, folder: Path) -> FilePlan:
    total = source.hub.approximate_bytes
    arrived = fetched_bytes(folder)
    is_there = is_fetched(folder, source.hub)
    state: State = "there" if is_there else "in part" if arrived else "missing"
    return FilePlan(
        name=f"{source.hub.repository} ({source.hub.revision})",
        origin=f"the Hugging Face hub, {source.hub.repository}",
        path=folder,
        total_bytes=arrived if is_there else total,
        is_exact=is_there,
        state=state,
        missing_bytes=0 if is_there else max(total - arrived, 0),
        unpacked_bytes=0,
    )


def free_bytes(folder: Path) -> int:
    """Return the bytes free where a folder is, or will be made."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def render_plan(study: Study, plans: tuple[SourcePlan, ...]) -> str:
    """Render what would be fetched as text: files, sizes, licences, places, room on the disk."""
    if not plans:
        return f"{study.name}: nothing to fetch\n"
    lines: list[str] = []
    for plan in plans:
        lines += _source_lines(study, plan)
    missing = sum(plan.missing_bytes for plan in plans)
    unpacked = sum(plan.unpacked_bytes for plan in plans)
    folder = Path(study.settings.shared_dir)
    unknown = sum(file.is_missing and not file.total_bytes for p in plans for file in p.files)
    sizes = f", and {unknown} files of unknown size" if unknown else ""
    lines += [
        f"to fetch   {format_bytes(missing)}{sizes}",
        f"to unpack  {format_bytes(unpacked)}",
        f"free       {format_bytes(free_bytes(folder))} at {folder}"
        + ("" if missing + unpacked < free_bytes(folder) else "  NOT ENOUGH"),
    ]
    if study.settings.downloads.offline:
        lines.append("downloads.offline is true: nothing will be fetched")
    return "\n".join(lines) + "\n"


def _source_lines(study: Study, plan: SourcePlan) -> Iterator[str]:
    yield f"{plan.name}: {plan.source.title}"
    yield f"  licence  {plan.license.name}  {plan.license.url}".rstrip()
    if needs_acceptance(study, plan):
        yield (
            f"           NOT ACCEPTED: read it, then add {plan.source.license} to "
            "downloads.accepted_licenses"
        )
    yield f"  goes to  {plan.downloads_dir}"
    if plan.archives:
        yield f"           {plan.unpacked_dir} (unpacked: {', '.join(plan.archives)})"
    width = max(len(file.name) for file in plan.files)
    for file in plan.files:
        size = format_bytes(file.total_bytes) if file.total_bytes else "unknown"
        about = "" if file.is_exact or not file.total_bytes else "about "
        yield f"  {file.name:{width}}  {about + size:>14}  {file.state}"
    yield ""


def needs_acceptance(study: Study, plan: SourcePlan) -> bool:
    """Say whether a source's licence has to be accepted first, and was not."""
    accepted = study.settings.downloads.accepted_licenses
    return plan.is_missing and plan.license.must_accept and plan.source.license not in accepted
