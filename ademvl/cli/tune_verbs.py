"""The verb that searches good settings of a run."""

import argparse
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from ademvl.cli.verb import Verbs, add_gpu_options, add_threads, add_verb, gpus_of, number

if TYPE_CHECKING:
    from ademvl.config.study import Study

_log = logging.getLogger(__name__)

_MAX_MINUTES = 60 * 24 * 365
_EXPLAINED = """\
The study says what is searched, under `tune`:

  tune:
    run: adem       # has all other settings as they stand
    trials: 20      # combinations of values that are tried
    rungs: 3        # lengths of training: 1/9, 1/3 and all of the run's epochs
    space:
      optimization.base_lr: {low: 0.01, high: 0.3, log: true}
      method.gamma: {low: 0.0, high: 0.6, step: 0.1}
      method.phi: {choices: [silu, relu]}

Each trial is trained for the shortest length and scored on the val split. The best third of them
by then goes on to the next length (successive halving), and what is tried next follows from the
scores so far (optuna). The first trial is the run as it is, where the space has its values. The
test split has no part in it. Each training is a run as any other, in a folder below
<results>/<study>/tune/. Data that are missing are made first.

Ctrl-C, a kill or a used-up budget lose nothing: the same command goes on, also with more trials.
Another space, or other settings of the run, begin a search of their own.

examples:
  ademvl tune mine.yaml                until all trials are made
  ademvl tune mine.yaml --minutes 60   an hour of it; again for another hour
  ademvl tune mine.yaml --minutes 0    only print the table and the best one's lines
"""


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `tune`."""
    summary = "Search good settings of a run on the val split; goes on after any interruption."
    verb = add_verb(verbs, "tune", _tune, summary)
    verb.formatter_class = argparse.RawDescriptionHelpFormatter
    verb.epilog = _EXPLAINED
    verb.add_argument("study", help="name or file of a study with `tune`")
    verb.add_argument(
        "--minutes",
        type=number(_MAX_MINUTES),
        help="budget of this call, after which the same command goes on (default: none)",
    )
    add_threads(verb)
    add_gpu_options(verb)


def _tune(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.tuning.search import refuse_missing_optuna
    from ademvl.tuning.table import search_text
    from ademvl.tuning.tune import search_folder, tune
    from ademvl.workflow.studies import find_study

    path = find_study(options.study)
    study = load_study(path)
    refuse_missing_optuna()
    folder = search_folder(study)
    if options.minutes != 0 and (code := _make_data(study, path)):
        return code
    with gpus_of(options, job=folder):
        found = tune(study, minutes=options.minutes, threads=options.threads)
    print(search_text(study, found.trials), end="")
    if found.is_used_up and options.minutes:
        _log.info("the budget is used up; the same command goes on")
    return found.exit_code


def _make_data(study: "Study", path: Path) -> int:
    """Make what the searched run reads and is not there, by the workflow; return its exit code."""
    from ademvl.workflow.plan import WorkflowPlan

    plan, run = WorkflowPlan(study), SimpleNamespace(run=study.settings.tune.run)
    needed = [*plan.run_data(run), *plan.run_backbones(run), *plan.run_start(run)]
    missing = [name for name in needed if not Path(name).is_file()]
    if not missing:
        return 0
    command = [sys.executable, "-m", "ademvl", "run", str(path), *missing]
    return subprocess.run(command, check=False).returncode
