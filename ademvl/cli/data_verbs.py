"""Verbs about data sets: fetching them, making them in the project's layout, verifying them."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.cli.verb import MAX_THREADS, Verbs, add_parent, add_verb, whole
from ademvl.errors import SettingsError

if TYPE_CHECKING:
    from ademvl.config.dataset import DatasetSettings


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `data` with its actions."""
    data = add_parent(verbs, "data", "Fetch, make and verify data sets.")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    plan = add_verb(
        actions, "plan", _plan, "Print files, sizes, licences and places; uses no network."
    )
    fetch = add_verb(
        actions, "fetch", _fetch, "Fetch, check and unpack; goes on after any interruption."
    )
    for action in (plan, fetch):
        action.add_argument(
            "--study", type=Path, default=Path("config.yaml"), help="study file (%(default)s)"
        )
    fetch.add_argument("--source", help="one source only (default: all that the study needs)")
    fetch.add_argument("--download-only", action="store_true", help="leave archives packed")
    convert = add_verb(actions, "convert", _convert, "Bring a data set into the project's layout.")
    convert.add_argument(
        "dataset",
        nargs="?",
        help="data set of the study (default: all of them); without --study, settings as JSON",
    )
    convert.add_argument("--study", type=Path, help="study file")
    convert.add_argument(
        "--output",
        type=Path,
        help="without --study, manifest to write: <shared_dir>/data/<dataset>/manifest.json",
    )
    convert.add_argument(
        "--started",
        type=Path,
        help="file touched when this workflow began: what others have made since then is kept",
    )
    verify = add_verb(
        actions, "verify", _verify, "Verify data sets completely; exit code 1 where damage stops."
    )
    verify.add_argument(
        "folder", type=Path, nargs="?", help="<shared_dir>/data/<dataset>, or the manifest in it"
    )
    verify.add_argument("--study", type=Path, help="verify all data sets of a study instead")
    verify.add_argument(
        "--quick",
        type=whole(1),
        metavar="N",
        help="decode only N images of each task, by sample",
    )
    verify.add_argument(
        "--damaged",
        choices=["stop", "leave_out"],
        help="what to do about damaged training items (default: the data set's setting)",
    )
    verify.add_argument(
        "--threads", type=whole(1, MAX_THREADS), help="images decoded at once (default: CPU cores)"
    )
    verify.add_argument("--json", action="store_true", help="print the report as JSON")


def _plan(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.data.acquisition.plan import plan_sources, render_plan

    study = load_study(options.study)
    print(render_plan(study, plan_sources(study)), end="")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.data.acquisition.fetch import fetch_study

    fetch_study(load_study(options.study), only=options.source, download_only=options.download_only)
    return 0


def _convert(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.tasks.layout import MANIFEST_FILE, make_dataset

    if (options.study is None) == (options.output is None):
        raise SettingsError("name either --study FILE, or --output with settings as JSON")
    if options.output:
        make_dataset(options.output, _dataset_of(options.dataset), started=options.started)
        return 0
    settings = load_study(options.study).settings
    chosen = [options.dataset] if options.dataset else list(settings.datasets)
    if unknown := [name for name in chosen if name not in settings.datasets]:
        known = ", ".join(settings.datasets)
        raise SettingsError(f"{options.study}: no data set {unknown[0]!r}; it has {known}")
    for name in chosen:
        manifest = Path(settings.shared_dir) / "data" / name / MANIFEST_FILE
        make_dataset(manifest, settings.datasets[name], started=options.started)
    return 0


def _dataset_of(text: str | None) -> "DatasetSettings":
    from ademvl.config.dataset import DatasetSettings
    from ademvl.config.reading import read
    from ademvl.storage.files import parse_json

    source = "settings of the data set"
    given = parse_json(text or "", place=source, remedy="'{}' takes the defaults.")
    return read(DatasetSettings, given, source=source)


def _verify(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.storage.files import dump_json
    from ademvl.tasks.layout import MANIFEST_FILE
    from ademvl.tasks.verification import VerificationChoices, verify_dataset

    if (options.folder is None) == (options.study is None):
        raise SettingsError("name either the folder of a data set or --study FILE")
    if options.folder:
        is_manifest = options.folder.name == MANIFEST_FILE
        folders = [options.folder.parent if is_manifest else options.folder]
    else:
        settings = load_study(options.study).settings
        folders = [Path(settings.shared_dir) / "data" / name for name in settings.datasets]
    choices = VerificationChoices(
        quick=options.quick, damaged=options.damaged, threads=options.threads
    )
    results = [verify_dataset(folder, choices) for folder in folders]
    if options.json:
        print(dump_json({str(item.dataset_dir): item.to_json() for item in results}), end="")
    else:
        print("\n".join(item.to_text() for item in results))
    sys.stdout.flush()
    return 0 if all(item.has_passed for item in results) else 1
