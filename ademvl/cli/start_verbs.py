"""Verbs to begin with: start a study, see how far it is, and whether this machine is ready."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.cli.verb import Verbs, add_verb

if TYPE_CHECKING:
    from ademvl.config.study import Study

_STUDY = "name, such as mini or paper-7b, or file of a study (default: mini, or config.yaml here)"


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs to begin with."""
    run = add_verb(
        verbs, "run", _run, "Check everything, then run a study; goes on after any interruption."
    )
    run.add_argument("study", nargs="?", help=_STUDY)
    run.add_argument(
        "targets",
        nargs="*",
        metavar="target",
        help="what to make, such as data, train or tables (default: everything); what follows -- "
        "is passed on to Snakemake as it is",
    )
    run.add_argument("--cores", default="all", help="CPU cores to use (%(default)s)")
    run.add_argument("--profile", help="Snakemake profile, such as workflow/profiles/slurm")
    run.add_argument("--dry-run", action="store_true", help="check, and list the jobs")
    run.add_argument("--verbose", action="store_true", help="print Snakemake's own lines")
    run.add_argument(
        "--accept-license",
        action="append",
        default=[],
        metavar="NAME",
        help="accept a licence that `ademvl data plan` shows; may be repeated",
    )
    status = add_verb(verbs, "status", _status, "Say how far a study is.")
    status.add_argument("study", nargs="?", help=_STUDY)
    add_verb(
        verbs,
        "doctor",
        _doctor,
        "Look at this installation and machine; exit code 1 where something has to be mended.",
    )


def _run(options: argparse.Namespace) -> int:
    from ademvl.storage.project import SNAKEFILE
    from ademvl.workflow.profile import find_profile
    from ademvl.workflow.studies import find_study

    path = find_study(options.study)
    study = _checked(path, options)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    command += ["--cores", options.cores, "--configfile", str(path)]
    if options.accept_license:
        names = ", ".join(study.settings.downloads.accepted_licenses)
        command += ["--config", f"downloads={{accepted_licenses: [{names}]}}"]
    if options.profile:
        command += ["--workflow-profile", str(find_profile(options.profile).parent)]
    command += ["--dry-run"] if options.dry_run else []
    command += ["--verbose"] if options.verbose else []
    # The rules call `ademvl`, which stands beside this interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *_passed_on(options.targets)])


def _passed_on(words: list[str]) -> list[str]:
    """Return targets behind --, so that no option takes them for its own; options as they are."""
    return words if any(word.startswith("-") for word in words) else ["--", *words]


def _checked(path: Path, options: argparse.Namespace) -> "Study":
    """Read a study and refuse to start it with all that is wrong, before Snakemake loads.

    Raises:
        SettingsError: lists it.
    """
    from ademvl.config.study import load_study
    from ademvl.workflow.profile import read_profile
    from ademvl.workflow.sources import StudySources
    from ademvl.workflow.study_checks import problems_at_start, refuse_all

    study = _accepting(load_study(path), options.accept_license)
    is_local = not options.profile or read_profile(options.profile).executor == "local"
    problems = problems_at_start(study, StudySources(study), is_local=is_local)
    refuse_all(study.name, problems)
    return study


def _accepting(study: "Study", licenses: list[str]) -> "Study":
    settings = study.settings
    accepted = (*settings.downloads.accepted_licenses, *licenses)
    downloads = dataclasses.replace(settings.downloads, accepted_licenses=accepted)
    return dataclasses.replace(study, settings=dataclasses.replace(settings, downloads=downloads))


def _status(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.workflow.status import describe_status
    from ademvl.workflow.studies import find_study

    print(describe_status(load_study(find_study(options.study))), end="")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from ademvl.workflow.doctor import examine

    findings = examine()
    print("\n".join(map(str, findings)))
    return 1 if any(finding.level == "wrong" for finding in findings) else 0
