"""Fetches, verifies and unpacks what a study needs of data and weights."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from ademvl.config.study import Study
from ademvl.data.acquisition.download import FileTarget, fetch_file, is_ready
from ademvl.data.acquisition.existing import verify_copies
from ademvl.data.acquisition.hub import fetch_repository
from ademvl.data.acquisition.plan import (
    FilePlan,
    SourcePlan,
    free_bytes,
    needs_acceptance,
    plan_source,
    plan_sources,
)
from ademvl.data.acquisition.progress import ByteProgress
from ademvl.data.acquisition.records import Records, marker_content
from ademvl.data.acquisition.registry import Registry, load_registry
from ademvl.data.acquisition.transfer import Stopped, Transfers
from ademvl.data.acquisition.unpack import unpack_archives
from ademvl.errors import AdemvlError, DataError, SettingsError, list_findings
from ademvl.storage.byte_sizes import format_bytes
from ademvl.storage.files import write_json

_POLL_SECONDS = 0.2


def fetch_study(
    study: Study,
    *,
    only: str | None = None,
    download_only: bool = False,
    registry: Registry | None = None,
    transfers: Transfers | None = None,
) -> None:
    """Make sure that the files of a study's sources are there, verified and unpacked.

    Args:
        study: says what is needed, whether the network may be used, which licences are accepted.
        only: name of one source, needed by the study or not; all that it needs by default.
        download_only: leave archives packed.
        registry: of sources; the package's by default.
        transfers: how transfers behave; from the study's settings by default.

    Raises:
        SettingsError: a licence is not accepted, or a name is unknown.
        DataError: files are missing and `offline` is set, the disk is too small, files could not
            be fetched, or copies that the study names differ from their release; lists all of them.
    """
    registry = registry or load_registry()
    settings = study.settings.downloads
    whole = plan_sources(study, registry)
    plans = (plan_source(study, only, registry),) if only else whole
    if not only:
        verify_copies(study, registry)
    _verify_placed_files(plans)
    refuse_unaccepted(study, plans)
    if settings.offline:
        _refuse_missing(plans)
    if any(plan.is_missing for plan in plans):
        _check_room(Path(study.settings.shared_dir), {plan.name: plan for plan in (*whole, *plans)})
    transfers = transfers or Transfers(
        retries=settings.retries, stall_seconds=settings.stall_seconds
    )
    _download(plans, transfers, connections=settings.connections)
    for plan in plans:
        write_json(plan.marker, marker_content(Records(plan.downloads_dir).read()))
    if not download_only:
        for plan in plans:
            _unpack(plan)


def _verify_placed_files(plans: Sequence[SourcePlan]) -> None:
    """Verify files that somebody put there, so that wrong ones are told before any download."""
    findings = []
    for target in _targets(plans, "to be verified"):
        try:
            is_ready(target)
        except DataError as error:
            findings.append(str(error))
    if findings:
        raise DataError("\n".join(findings))


def _targets(plans: Sequence[SourcePlan], *states: str) -> list[FileTarget]:
    files = (file for plan in plans for file in plan.files if file.state in states)
    return [file.target for file in files if file.target is not None]


def refuse_unaccepted(study: Study, plans: Sequence[SourcePlan]) -> None:
    """Refuse sources whose licence the study does not accept, unless they are there already.

    Raises:
        SettingsError: lists them.
    """
    refused = [plan for plan in plans if needs_acceptance(study, plan)]
    if not refused:
        return
    findings = [f"{p.name}: {p.license.name}, {p.license.url}" for p in refused]
    names = sorted({plan.source.license for plan in refused})
    raise SettingsError(
        list_findings(
            "Licences that this study does not accept",
            findings,
            "Read them. If you accept, add to the study:\n"
            f"  downloads:\n    accepted_licenses: [{', '.join(names)}]\n"
            "Or name a copy that you have: `backbones: {<source>: {existing: <folder>}}`.",
        )
    )


def _refuse_missing(plans: Sequence[SourcePlan]) -> None:
    findings = [
        f"{file.path}: {_size(file)}, from {file.origin}"
        for plan in plans
        for file in plan.files
        if file.is_missing
    ]
    if findings:
        raise DataError(
            list_findings(
                "downloads.offline is true, and these files are missing",
                findings,
                "Put them there, or name copies by the keys `existing` (docs/data.md), or set "
                "downloads.offline to false.",
            )
        )


def _size(file: FilePlan) -> str:
    if not file.total_bytes:
        return "size unknown"
    return ("" if file.is_exact else "about ") + format_bytes(file.total_bytes)


def _check_room(folder: Path, plans: Mapping[str, SourcePlan]) -> None:
    """Refuse to start what cannot end: all of the study counts, as its sources share the disk."""
    archives = sum(plan.missing_bytes for plan in plans.values())
    unpacked = sum(plan.unpacked_bytes for plan in plans.values())
    free = free_bytes(folder)
    if archives + unpacked > free:
        raise DataError(
            f"{folder}: {format_bytes(archives)} are to be fetched and {format_bytes(unpacked)} "
            f"to be unpacked, {format_bytes(free)} are free. Free some space, set shared_dir to a "
            "larger disk, or set downloads.unpack to false to read images straight from their "
            "archives."
        )


def _download(plans: Sequence[SourcePlan], transfers: Transfers, *, connections: int) -> None:
    targets = _targets(plans, "missing", "in part")
    repositories = [plan for plan in plans if plan.source.hub.repository and plan.is_missing]
    errors: list[str] = []
    if targets:
        errors += _download_files(plans, targets, transfers, connections=connections)
    for plan in repositories:
        try:
            fetch_repository(plan.downloads_dir, plan.source.hub, connections=connections)
        except AdemvlError as error:
            errors.append(str(error))
    if errors:
        raise DataError("\n".join(errors))


def _download_files(
    plans: Sequence[SourcePlan],
    targets: Sequence[FileTarget],
    transfers: Transfers,
    *,
    connections: int,
) -> list[str]:
    """Fetch files side by side; return what went wrong, after the others have ended."""
    files = [file for plan in plans for file in plan.files if file.target in targets]
    missing = sum(file.missing_bytes for file in files)
    total = sum(file.total_bytes for file in files)
    progress = ByteProgress("fetched", total_bytes=total, done_bytes=total - missing)
    with progress, ThreadPoolExecutor(connections) as pool:
        futures = [
            pool.submit(fetch_file, target, transfers, on_bytes=progress.advance)
            for target in targets
        ]
        try:
            _wait(futures)
        except BaseException:
            transfers.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [str(error) for future in futures if (error := _error_of(future))]


def _wait(futures: Sequence[Future[None]]) -> None:
    """Wait for all, waking up now and then so that Ctrl-C is heard."""
    pending = set(futures)
    while pending:
        _, pending = wait(pending, timeout=_POLL_SECONDS)


def _error_of(future: Future[None]) -> BaseException | None:
    error = future.exception()
    if error is not None and not isinstance(error, AdemvlError | Stopped):
        raise error
    return error


def _unpack(plan: SourcePlan) -> None:
    if not plan.archives:
        return
    records = Records(plan.downloads_dir).read()
    archives = {plan.downloads_dir / name: folder for name, folder in plan.archives.items()}
    sha256 = {name: records[name].sha256 for name in plan.archives}
    total = sum(file.unpacked_bytes for file in plan.files)
    with ByteProgress(f"unpacked {plan.name}", total_bytes=total) as progress:
        unpack_archives(plan.unpacked_dir, archives, sha256, on_bytes=progress.advance)
