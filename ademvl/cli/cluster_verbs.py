"""Verbs of clusters: checking a profile before its first job."""

import argparse

from ademvl.cli.verb import Verbs, add_verb


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of clusters."""
    preflight = add_verb(
        verbs,
        "preflight",
        _preflight,
        "Check a profile and this machine before anything is submitted.",
    )
    preflight.add_argument(
        "--profile",
        default="default",
        help="folder of a profile, or the name of one in workflow/profiles (%(default)s)",
    )


def _preflight(options: argparse.Namespace) -> int:
    from ademvl.workflow.preflight import describe_machine, find_problems
    from ademvl.workflow.profile import read_profile

    profile = read_profile(options.profile)
    print(f"profile {options.profile}: executor {profile.executor}")
    print(f"this machine: {describe_machine()}")
    problems = find_problems(profile)
    for problem in problems:
        print(f"- {problem}.")
    print(f"{len(problems)} problem(s) found" if problems else "nothing to complain about")
    return 1 if problems else 0
