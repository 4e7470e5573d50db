"""Verbs that pass results on: a bundle, what differs between two, and predictions for others."""

import argparse
import sys
from pathlib import Path

from ademvl.cli.verb import (
    Verbs,
    add_output,
    add_seed,
    add_verb,
    beside,
    refuse_to_replace,
    run_dir_of,
)
from ademvl.runs.run_files import RunFiles

_DIFF_EPILOG = """\
exit code:
  0  the same, or no difference that matters
  1  a run differs significantly, cannot be compared, or is finished on one side only
     (with --strict: anything is not the same)
  2  an error, such as a damaged bundle
"""


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of bundles."""
    summary = "Write a study's results as one zip file, to be passed on."
    bundle = add_verb(verbs, "bundle", _bundle, summary)
    bundle.add_argument("results", type=Path, help="<results>/<study>, or the study.yaml in it")
    add_output(bundle, "zip file to write", required=True)
    bundle.add_argument("--with-figures", action="store_true", help="add the study's figures")
    bundle.add_argument("--with-adapters", action="store_true", help="add the trained adapters")
    bundle.add_argument("--license", default="", help="licence of the results, a URL or words")

    summary = "Write a run's predictions as lmms-eval, the COCO server or others take them."
    written = add_verb(verbs, "samples", _samples, summary)
    written.add_argument("run", type=Path, help="run directory, or the run.yaml in it")
    add_output(
        written, "file to write: lines of samples, or JSON for other programs", required=True
    )

    summary = "Say what differs between two bundles or results folders, and whether it matters."
    diff = add_verb(verbs, "diff", _diff, summary)
    diff.epilog, diff.formatter_class = _DIFF_EPILOG, argparse.RawDescriptionHelpFormatter
    for name, metavar in (("first", "A"), ("second", "B")):
        diff.add_argument(name, type=Path, metavar=metavar, help="bundle, or <results>/<study>")
    diff.add_argument("--strict", action="store_true", help="exit with 1 unless all is the same")
    diff.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_seed(diff, of="the resamples")


def _bundle(options: argparse.Namespace) -> int:
    from ademvl.bundle.archive import write_bundle
    from ademvl.bundle.collection import Extras

    refuse_to_replace(options.output, options.results)
    extras = Extras(figures=options.with_figures, adapters=options.with_adapters)
    made = write_bundle(options.results, options.output, extras, license_text=options.license)
    finished = sum(state == "finished" for state in made.states.values())
    if not options.license:
        print("no licence was given (--license), and the bundle says so", file=sys.stderr)
    print(
        f"{options.output}: {finished} of {len(made.states)} trainings, {len(made.files)} files",
        file=beside(options.output),
    )
    return 0


def _samples(options: argparse.Namespace) -> int:
    from ademvl.evaluation.others_formats import write_predictions

    run_dir = run_dir_of(options.run)
    refuse_to_replace(options.output, *RunFiles(run_dir).predictions_dir.glob("*.jsonl"))
    count = write_predictions(run_dir, options.output)
    print(f"{options.output}: {count} predictions", file=beside(options.output))
    return 0


def _diff(options: argparse.Namespace) -> int:
    from ademvl.bundle.archive import open_results
    from ademvl.bundle.difference import compare_results
    from ademvl.bundle.difference_text import render, to_json
    from ademvl.bundle.records import Results
    from ademvl.storage.files import dump_json

    first, second = (
        Results(str(path), open_results(path)) for path in (options.first, options.second)
    )
    found = compare_results(first, second, seed=options.seed)
    print(dump_json(to_json(found)) if options.json else render(found), end="")
    return int(not found.is_same if options.strict else found.matters)
