"""The verb that compares two runs."""

import argparse
from pathlib import Path

from ademvl.cli.verb import Verbs, add_verb
from ademvl.errors import SettingsError


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `compare`."""
    summary = "Compare two runs on the same questions: difference, interval, test, power."
    verb = add_verb(verbs, "compare", _compare, summary)
    what = "run directory, folder of a run's seeds, or JSON file of predictions"
    verb.add_argument("first", type=Path, metavar="A", help=what)
    verb.add_argument("second", type=Path, metavar="B", help=what)
    verb.add_argument("--data", type=Path, help="folder of the data set (default: the runs' own)")
    verb.add_argument("--split", choices=["val", "test"], help="of the data (default: the runs')")
    verb.add_argument(
        "--difference",
        type=float,
        help="points that the needed numbers are for (default: the observed difference)",
    )
    verb.add_argument(
        "--seed-spread",
        type=float,
        help="standard deviation between seeds, in points, to assume of a run that has one seed",
    )
    verb.add_argument("--seed", type=int, default=0, help="of the resamples (%(default)s)")
    verb.add_argument("--output", type=Path, help="also write everything there (JSON)")


def _compare(options: argparse.Namespace) -> int:
    from ademvl.evaluation.comparison import compare, write_comparison
    from ademvl.evaluation.comparison_text import render

    if options.difference is not None and options.difference == 0:
        raise SettingsError("--difference: 0 points can never be seen; name another number")
    if options.seed_spread is not None and options.seed_spread < 0:
        raise SettingsError(f"--seed-spread: {options.seed_spread}, expected >= 0")
    found = compare(
        options.first,
        options.second,
        data_dir=options.data,
        split=options.split,
        to_see=None if options.difference is None else options.difference / 100,
        assumed_spread=None if options.seed_spread is None else options.seed_spread / 100,
        seed=options.seed,
    )
    if options.output:
        write_comparison(options.output, found)
    print(render(found), end="")
    return 0
