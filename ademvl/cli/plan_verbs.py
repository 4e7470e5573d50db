"""The verb that predicts what a study takes before anything runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.cli.verb import MAX_GPUS, Verbs, add_verb, number, whole

if TYPE_CHECKING:
    from ademvl.config.study import Study


def add_verbs(verbs: Verbs) -> None:
    """Add the verb of plans."""
    verb = add_verb(
        verbs, "plan", _plan, "Predict parameters, memory, disk, operations and time of a study."
    )
    verb.add_argument("file", metavar="study", nargs="?", type=Path, help="such as config.yaml")
    verb.add_argument("--study", type=Path, help="the same")
    verb.add_argument("--gpu", default="", help="kind of GPU, such as A100-80GB (default: present)")
    verb.add_argument(
        "--gpus", type=whole(1, MAX_GPUS), default=1, help="GPUs a training (default: %(default)s)"
    )
    verb.add_argument(
        "--utilization", type=number(1, positive=True), help="part of the GPU's rate, 0 to 1"
    )
    verb.add_argument(
        "--probe", action="store_true", help="measure this machine's speed for about a minute"
    )
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.add_argument(
        "--write", action="store_true", help="also write run.yaml of every run, for other verbs"
    )


def _plan(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.errors import SettingsError
    from ademvl.planning.devices import gpu_by_name, present_gpu
    from ademvl.planning.plans import Target
    from ademvl.planning.render import render_plan
    from ademvl.planning.schedule import UTILIZATION
    from ademvl.planning.study_plan import plan_study, to_plain
    from ademvl.reporting.references import check_reported
    from ademvl.storage.files import dump_json

    if options.probe and options.gpu:
        raise SettingsError("--probe measures this machine, --gpu names another one; give one")
    if (options.file is None) == (options.study is None):
        raise SettingsError("name one study file, such as config.yaml")
    study = load_study(options.file or options.study)
    check_reported(study)
    target = Target(
        gpu=gpu_by_name(options.gpu) if options.gpu else present_gpu(),
        count=options.gpus,
        utilization=UTILIZATION if options.utilization is None else options.utilization,
    )
    rates = None
    if options.probe:
        from ademvl.probing.probe import probe_study

        rates = probe_study(study)
    plan = plan_study(study, target, rates)
    print(dump_json(to_plain(plan)) if options.json else render_plan(plan), end="")
    if options.write:
        _write_settings(study)
    return 0


def _write_settings(study: "Study") -> None:
    from ademvl.config.settings_files import STUDY_FILE, run_to_json, study_to_json, write_settings
    from ademvl.runs.run_files import RunFiles

    write_settings(study.results_dir / STUDY_FILE, study_to_json(study))
    for run in study.runs:
        write_settings(RunFiles(study.run_dir(run)).settings, run_to_json(run))
