"""The command line: `ademvl <verb>`, the same verbs that the workflow's rules call.

Parsing lives here, one module for each group of verbs; work lives in the packages, imported only by
the verb that needs it.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ademvl import __version__
from ademvl.cli import (
    adapter_verbs,
    backbone_verbs,
    bundle_verbs,
    check_verbs,
    cluster_verbs,
    compare_verbs,
    data_verbs,
    plan_verbs,
    predict_verbs,
    run_verbs,
    score_verbs,
    start_verbs,
    study_verbs,
    tune_verbs,
)
from ademvl.cli.verb import Handler
from ademvl.errors import AdemvlError, shortened
from ademvl.storage.files import DISK_FULL, disk_full_text

_MODULES = (  # in the order of work
    start_verbs,
    plan_verbs,
    data_verbs,
    backbone_verbs,
    adapter_verbs,
    run_verbs,
    predict_verbs,
    score_verbs,
    study_verbs,
    compare_verbs,
    tune_verbs,
    bundle_verbs,
    check_verbs,
    cluster_verbs,
)
_GROUPS: Mapping[str, Sequence[str]] = {
    "start and watch": ("run", "status", "doctor"),
    "know before": ("plan", "params", "preflight", "schema"),
    "data and models": ("data", "backbones", "adapter", "cache"),
    "one step of a run": ("features", "train", "evaluate", "evaluate-mme", "fusion-maps"),
    "results": ("summary", "tables", "figures", "report", "compare", "effects", "ranking"),
    "search settings": ("tune",),
    "ask, score, check": ("predict", "demo", "score", "verify"),
    "pass on": ("bundle", "diff", "samples"),
    "for the workflow": ("settings", "choose-rate"),
}
"""Verbs by what people want to do; `ademvl --help` lists all of them so."""
_NO_ROOM = (
    "no room for what was being written, the output of this command perhaps (`df` says which "
    "disk is full). Free some space and run the same command again: it goes on from there."
)
_EXAMPLES = """\
examples:
  ademvl run                                     the mini study: check everything, then run it
  ademvl status                                  how far it is
  ademvl plan --study config.yaml                predict memory, disk and time of a study
  ademvl plan --study config.yaml --write        also write every run's settings
  ademvl data plan --study FILE                  what a study would download
  ademvl train results/mini/runs/adem/seed0      train one run
  ademvl evaluate results/mini/runs/adem/seed0   predict and score it
  ademvl tables results/mini/study.yaml          tables from whatever has been run
  ademvl compare results/mini/runs/adem results/mini/runs/text_only
  ademvl diff results/mini mini.zip              what differs from a bundle, and whether it matters
  ademvl predict results/mini/runs/captions/seed0 --image sample:red_circle.png --caption
  ademvl backbones convert FOLDER --output DIR   a LLaMA release of Meta, once
  ademvl adapter import FILE --output DIR --llm DIR   an adapter of the authors
  ademvl params --study config.yaml              exact counts of trained parameters
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code.

    0 for done; 1 where a check failed, a score that was asked for could not be computed, a question
    got no answer, or for a bug, with its traceback; 2 for an error that a user can act on.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    handler: Handler = options.handler
    try:
        return handler(options)
    except AdemvlError as error:
        print(f"ademvl {options.verb}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        path = error.filename2 or error.filename  # what was to be written, not its temporary name
        if error.errno in DISK_FULL:
            text = disk_full_text(Path(path)) if path else _NO_ROOM
        elif path is None:
            raise
        else:
            text = shortened(f"{path}: {error.strerror}")
        print(f"ademvl {options.verb}: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ademvl",
        usage="ademvl [-h] [--version] VERB ...",
        description="ADEM-VL reproduced: data, features, training, evaluation, tables.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ademvl {__version__}")
    verbs = parser.add_subparsers(
        dest="verb", required=True, prog="ademvl", metavar="VERB", help=argparse.SUPPRESS
    )
    for module in _MODULES:
        module.add_verbs(verbs)
    summaries = {name: _first_sentence(verb) for name, verb in verbs.choices.items()}
    parser.epilog = f"{_grouped(summaries)}\n{_EXAMPLES}"
    return parser


def _first_sentence(verb: argparse.ArgumentParser) -> str:
    return f"{(verb.description or '').partition('. ')[0].rstrip('.')}."


def _grouped(summaries: Mapping[str, str]) -> str:
    lines = ["`ademvl VERB --help` says more of each:"]
    for group, names in _GROUPS.items():
        lines += ["", f"{group}:"]
        lines += [f"  {name:13} {summaries[name]}" for name in names]
    return "\n".join(lines) + "\n"
