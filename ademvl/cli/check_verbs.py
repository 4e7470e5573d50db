"""Verbs that check and count: parameters, golden tensors, the feature cache."""

import argparse
from pathlib import Path

from ademvl.cli.verb import Verbs, add_verb, number
from ademvl.errors import SettingsError

_MAX_DAYS = 36_500


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs that check and count."""
    params = add_verb(
        verbs, "params", _params, "Count trained parameters exactly, without weights."
    )
    params.add_argument("--study", type=Path, help="count a study's runs, not the paper's models")
    verify = add_verb(verbs, "verify", _verify, "Recompute golden tensors of the reference.")
    verify.add_argument("what", choices=["golden"], help="what is recomputed")
    verify.add_argument(
        "folder",
        type=Path,
        nargs="?",
        help="of the golden files of one method, or of several such folders (default: the cases "
        "that come with ademvl)",
    )
    verify.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="folder of the reference's golden files, where other methods' cases find the frozen "
        "models (default: `golden`, two folders up from theirs)",
    )
    cache = add_verb(verbs, "cache", _cache, "List, verify or clean the feature cache.")
    cache.add_argument(
        "action",
        choices=["ls", "verify", "gc"],
        help="ls: what is kept, and its size; verify: compare checksums, exit code 1 for damage; "
        "gc: remove leftovers of killed jobs and damaged shards",
    )
    cache.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("results/shared/features"),
        help="of the cache (default: %(default)s)",
    )
    cache.add_argument(
        "--unused-days",
        type=number(_MAX_DAYS),
        help="gc: also remove what was not used so long",
    )
    cache.add_argument("--dry-run", action="store_true", help="gc: only say what would be removed")


def _params(options: argparse.Namespace) -> int:
    if options.study:
        from ademvl.planning.parameter_counts import print_study_counts

        print_study_counts(options.study)
    else:
        from ademvl.planning.paper_counts import print_paper_counts

        print_paper_counts()
    return 0


def _verify(options: argparse.Namespace) -> int:
    from ademvl.golden.verify import verify_golden, verify_recorded

    if options.folder is None:
        if options.models is not None:
            raise SettingsError("verify golden: --models goes with a folder of another method")
        return verify_recorded()
    return verify_golden(options.folder, models=options.models)


def _cache(options: argparse.Namespace) -> int:
    from ademvl.vision.features.upkeep import print_findings, print_garbage, print_namespaces

    if options.action == "ls":
        return print_namespaces(options.folder)
    if options.action == "verify":
        return print_findings(options.folder)
    return print_garbage(options.folder, unused_days=options.unused_days, dry_run=options.dry_run)
