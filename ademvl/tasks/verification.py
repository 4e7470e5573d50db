"""Verifies a laid-out data set: everything that is wrong, in one report, and what follows from it.

`verification.json` has all findings whatever comes of them; `verified.json` is written only when
nothing stops; with `damaged: leave_out`, damaged training items go into each task's quarantine. A
sample (`--quick`) only reports: it can withdraw `verified.json`, and changes nothing else.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ademvl.config.dataset import Damaged, DatasetSettings
from ademvl.config.reading import read
from ademvl.data.findings import PASSED_FILE, REPORT_FILE, DataFinding, Level
from ademvl.data.image_checks import check_image_files
from ademvl.data.quarantine import write_quarantine
from ademvl.errors import MAX_LISTED, DataError
from ademvl.storage.files import read_json, sha256_file, write_json
from ademvl.tasks.data_layout import Inspection
from ademvl.tasks.layout import MANIFEST_FILE
from ademvl.tasks.registry import inspect_folder

SAMPLE_SEED = 0

_REMEDY = "Make the data set anew (`snakemake data`)."
_ITEM_KINDS = ("record", "missing_image", "damaged_image")
_HEADLINES: Mapping[Level, str] = {
    "stops": "Damage that stops",
    "left_out": "Training items left out",
    "unused": "Damage in a split that is not trained on; evaluating on it would stop",
    "note": "Notes",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VerificationChoices:
    """How to verify.

    Attributes:
        quick: decode only so many images of each task, drawn by a fixed seed; all must be there.
        damaged: what to do about damaged training items; the data set's own setting by default.
        threads: images decoded at once; as many as there are CPU cores by default.
        progress: show bars on a terminal.
    """

    quick: int | None = None
    damaged: Damaged | None = None
    threads: int | None = None
    progress: bool = True


@dataclass(frozen=True)
class Verification:
    """The outcome for one data set.

    Attributes:
        dataset_dir: its folder.
        findings: by task, with what follows from each.
        counts: sizes by task and name.
        num_decoded: images that were decoded.
        num_images: uses of images by items.
    """

    dataset_dir: Path
    findings: Mapping[str, Sequence[tuple[Level, DataFinding]]]
    counts: Mapping[str, Mapping[str, int]]
    num_decoded: int
    num_images: int

    def of_level(self, level: Level) -> list[tuple[str, DataFinding]]:
        """Return the findings of a level, with their tasks."""
        return [
            (task, finding)
            for task, findings in self.findings.items()
            for found, finding in findings
            if found == level
        ]

    @property
    def has_passed(self) -> bool:
        """Whether nothing stops."""
        return not self.of_level("stops")

    def to_json(self) -> dict[str, Any]:
        """Return everything, machine-readable."""
        kinds = Counter(
            finding.kind for findings in self.findings.values() for _, finding in findings
        )
        return {
            "passed": self.has_passed,
            "counts": self.counts,
            "num_findings": dict(kinds),
            "images": {"uses": self.num_images, "decoded": self.num_decoded},
            "findings": [
                {"task": task, "level": level, **asdict(finding)}
                for task, findings in self.findings.items()
                for level, finding in findings
            ],
        }

    def to_text(self) -> str:
        """Return the report for people: the first findings of each level and how many there are."""
        lines = [f"{self.dataset_dir}: {'verified' if self.has_passed else 'damaged'}"]
        for task, counts in self.counts.items():
            sizes = ", ".join(f"{size} {name}" for name, size in counts.items())
            lines.append(f"  {task}: {sizes}")
        lines.append(f"  {self.num_decoded} image files decoded")
        for level, headline in _HEADLINES.items():
            if found := self.of_level(level):
                lines.append(f"{headline} ({len(found)} found):")
                lines += [f"  - {finding.text}" for _, finding in found[:MAX_LISTED]]
                if len(found) > MAX_LISTED:
                    lines.append(f"  ... and {len(found) - MAX_LISTED} more in {REPORT_FILE}")
        return "\n".join(lines)


def verify_dataset(
    dataset_dir: Path, choices: VerificationChoices = VerificationChoices()
) -> Verification:
    """Verify a laid-out data set and write its reports and quarantine.

    Args:
        dataset_dir: folder with `manifest.json`.
        choices: how to verify.

    Raises:
        DataError: there is no manifest, or it is malformed.
    """
    settings, checksums = _read_manifest(dataset_dir)
    rule = choices.damaged or settings.damaged
    findings: dict[str, list[tuple[Level, DataFinding]]] = {}
    counts: dict[str, Mapping[str, int]] = {}
    num_decoded = num_images = 0
    for task in settings.tasks:
        root = dataset_dir / task
        inspection = inspect_folder(root, task)
        about_images, decoded = check_image_files(
            inspection.images,
            sample=choices.quick,
            seed=SAMPLE_SEED,
            threads=choices.threads,
            progress=choices.progress,
        )
        found = [
            *_checksum_findings(dataset_dir, task, checksums),
            *_count_findings(inspection, settings),
            *inspection.findings,
            *about_images,
        ]
        findings[task] = [(_level(item, rule, inspection.has_test), item) for item in found]
        counts[task] = inspection.counts
        num_decoded += decoded
        num_images += len(inspection.images)
        if not choices.quick:
            _quarantine(root, findings[task])
    verification = Verification(dataset_dir, findings, counts, num_decoded, num_images)
    _write_reports(verification, choices.quick)
    return verification


def _read_manifest(dataset_dir: Path) -> tuple[DatasetSettings, Mapping[str, str]]:
    path = dataset_dir / MANIFEST_FILE
    manifest = read_json(path, remedy=_REMEDY)
    try:
        raw, checksums = manifest["settings"], manifest["sha256"]
        settings = read(DatasetSettings, raw, source=str(path))
        return settings, dict(checksums)
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f"{path}: no manifest of a data set ({error!r}). {_REMEDY}") from error


def _checksum_findings(
    dataset_dir: Path, task: str, checksums: Mapping[str, str]
) -> Iterator[DataFinding]:
    for name, expected in checksums.items():
        path = dataset_dir / name
        if name.partition("/")[0] != task:
            continue
        if not path.is_file():
            yield DataFinding("file", f"{path}: missing; it was there when the data set was made")
        elif sha256_file(path) != expected:
            yield DataFinding("checksum", f"{path}: has changed since the data set was made")


def _count_findings(inspection: Inspection, settings: DatasetSettings) -> Iterator[DataFinding]:
    """Compare sizes with the published ones, where the data is meant to be whole."""
    official_splits = settings.caption_splits == "official"
    if settings.is_mini or settings.subset or settings.take:
        return
    for name, expected in inspection.expected.items():
        if official_splits and not name.startswith("files"):
            continue
        size = inspection.counts.get(name, 0)
        if size != expected:
            yield DataFinding(
                "count",
                f"{name}: {size}, expected {expected} (`subset: true` where that is meant)",
            )


def _level(finding: DataFinding, rule: Damaged, has_test: bool) -> Level:
    """Decide what follows from a finding; a damaged test item always stops.

    Where a data set has no test split, its val split counts as one.
    """
    if finding.kind == "duplicate_image":
        return "note"
    if rule == "leave_out" and finding.kind in _ITEM_KINDS and finding.item_ids:
        if finding.split == "train":
            return "left_out"
        if finding.split == "val" and has_test and finding.kind != "record":
            return "unused"
    return "stops"


def _quarantine(root: Path, findings: Sequence[tuple[Level, DataFinding]]) -> None:
    reasons: dict[str, str] = {}
    for level, finding in findings:
        if level == "left_out":
            # Not the text: it names places, and the file is part of a training's identity.
            for item_id in finding.item_ids:
                reasons.setdefault(item_id, finding.kind)
    if root.is_dir():
        write_quarantine(root, reasons)
    if reasons:
        _log.warning("%s: %d training items are left out", root, len(reasons))


def _write_reports(verification: Verification, quick: int | None) -> None:
    folder = verification.dataset_dir
    if not (quick and verification.has_passed):
        (folder / PASSED_FILE).unlink(missing_ok=True)
    report = {**verification.to_json(), "quick": quick}
    write_json(folder / REPORT_FILE, report)
    if verification.has_passed and not quick:
        left_out = {
            task: len({i for level, item in found if level == "left_out" for i in item.item_ids})
            for task, found in verification.findings.items()
        }
        summary = {
            "counts": verification.counts,
            "left_out": left_out,
            "manifest_sha256": sha256_file(folder / MANIFEST_FILE),
        }
        write_json(folder / PASSED_FILE, summary)
