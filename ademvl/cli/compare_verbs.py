"""Verbs that compare runs: two of them, or all that differ from a base run in one setting."""

import argparse
import sys
from pathlib import Path

from ademvl.cli.verb import (
    Verbs,
    add_allow_unread,
    add_output,
    add_seed,
    add_verb,
    beside,
    number,
    refuse_to_replace,
    unread_code,
)
from ademvl.errors import SettingsError


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs `compare`, `effects` and `ranking`."""
    summary = "Compare two runs on the same questions: difference, interval, test, power."
    verb = add_verb(verbs, "compare", _compare, summary)
    what = "run directory, folder of a run's seeds, or file of predictions"
    verb.add_argument("first", type=Path, metavar="A", help=what)
    verb.add_argument("second", type=Path, metavar="B", help=what)
    verb.add_argument("--data", type=Path, help="folder of the data set (default: the runs' own)")
    verb.add_argument("--split", choices=["val", "test"], help="of the data (default: the runs')")
    verb.add_argument(
        "--difference",
        type=number(100, positive=True),
        help="points that the needed numbers are for (default: the observed difference)",
    )
    verb.add_argument(
        "--seed-spread",
        type=number(100),
        help="standard deviation between seeds, in points, to assume of a run that has one seed",
    )
    add_seed(verb, of="the resamples")
    add_allow_unread(verb)
    add_output(verb, "also write everything there (JSON)")

    summary = "Print the effect of each setting in which a run differs from a base run."
    effects = add_verb(verbs, "effects", _effects, summary)
    effects.add_argument("study", type=Path, help="study file with base_runs")
    add_seed(effects, of="the resamples")
    effects.add_argument(
        "--combine",
        type=Path,
        metavar="FILE",
        help="study file to write: this one, with all settings that are higher than the first base "
        "run in one run, and both asked the test split",
    )

    summary = "Print how a study's methods compare, in Markdown: accuracy, difference, ranking."
    ranking = add_verb(verbs, "ranking", _ranking, summary)
    ranking.add_argument("study", type=Path, help="study file with several methods")


def _ranking(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.reporting.method_comparison import compare_methods
    from ademvl.reporting.reported import load_reported
    from ademvl.reporting.results import read_results
    from ademvl.reporting.tables.comparison import short_text

    comparisons = compare_methods(read_results(load_study(options.study)), load_reported())
    if not comparisons:
        raise SettingsError(
            f"{options.study}: no two methods are asked the same of the same frozen models, one "
            "of them ADEM-VL; so nothing can be ranked"
        )
    print(short_text(comparisons), end="")
    return 0


def _effects(options: argparse.Namespace) -> int:
    from ademvl.config.factors import one_factor_runs
    from ademvl.config.study import load_study
    from ademvl.reporting.effects import effects_table, measure_effects
    from ademvl.reporting.improvements import COMBINED, combine, conclusion
    from ademvl.reporting.results import read_results
    from ademvl.statistics.intervals import ITEMS_NOTE

    study = load_study(options.study)
    if not study.settings.base_runs:
        raise SettingsError(f"{options.study}: names no base_runs, so there are no effects")
    effects = measure_effects(read_results(study), one_factor_runs(study), seed=options.seed)
    print(f"{effects_table(effects)}\n{conclusion(effects)}", end="")
    measured = [effect.difference for effect in effects if effect.difference]
    if not all(found.covers_seeds for found in measured):
        print(ITEMS_NOTE, file=sys.stderr)
    for effect in effects:
        if effect.state:
            print(f"{effect.factor.run}: {effect.state}", file=sys.stderr)
    if options.combine:
        refuse_to_replace(options.combine, options.study)
        combine(study, options.study, effects, options.combine)
        print(f"{options.combine}: written, with run {COMBINED}", file=sys.stderr)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from ademvl.evaluation.comparison.compare import compare, write_comparison
    from ademvl.evaluation.comparison.text import render

    refuse_to_replace(options.output, options.first, options.second)
    found = compare(
        options.first,
        options.second,
        data_dir=options.data,
        split=options.split,
        to_see=None if options.difference is None else options.difference / 100,
        assumed_spread=None if options.seed_spread is None else options.seed_spread / 100,
        seed=options.seed,
    )
    sides = (found.first, found.second)
    code = unread_code(options, [(s.sources[0], s.num_unread, len(s.item_ids)) for s in sides])
    if options.output:
        write_comparison(options.output, found)
    print(render(found), end="", file=beside(options.output))
    return code
