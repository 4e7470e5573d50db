"""Verbs that make features, adapters and scores: one step of the workflow each."""

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.cli.verb import (
    MAX_GPUS,
    Verbs,
    add_gpu_options,
    add_output,
    add_seed,
    add_threads,
    add_verb,
    gpus_of,
    run_dir_of,
    whole,
)
from ademvl.errors import AdemvlError
from ademvl.runs.failures import noted_failure

if TYPE_CHECKING:
    from ademvl.config.run import RunSettings
    from ademvl.systems.trained import TrainableModel

_log = logging.getLogger(__name__)


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of runs."""
    features = add_verb(
        verbs, "features", _features, "Encode a run's images into the feature cache."
    )
    add_output(features, "report to write (JSON)", required=True)
    train = add_verb(
        verbs, "train", _train, "Train a run's adapter; resumes after any interruption."
    )
    train.add_argument(
        "--processes",
        type=whole(1, MAX_GPUS),
        help="that train together (default: one on each GPU that is taken, or one on the CPU)",
    )
    train.add_argument(
        "--ignore-memory",
        action="store_true",
        help="start though the run is predicted not to fit into memory",
    )
    evaluate = add_verb(verbs, "evaluate", _evaluate, "Predict with a trained run and score it.")
    maps = add_verb(verbs, "fusion-maps", _fusion_maps, "Draw which patches each word kept.")
    maps.add_argument("--items", type=whole(0), default=6, help="random test images (%(default)s)")
    add_seed(maps, of="the random choice")
    maps.add_argument(
        "--id",
        action="append",
        default=[],
        dest="ids",
        metavar="ID",
        help="question or image to draw beside the random ones; may be repeated",
    )
    choose = add_verb(verbs, "choose-rate", _choose_rate, "Choose a run's rate by the val split.")
    choose.add_argument("json", help="settings of the run as JSON, as the workflow passes them")
    choose.add_argument(
        "--folder", type=Path, required=True, help="where the rates of the grid are trained"
    )
    add_output(choose, "record of the choice to write (JSON)", required=True)
    add_threads(choose)
    add_gpu_options(choose)
    for verb in (features, train, evaluate, maps):
        verb.add_argument("run", type=Path, help="run directory, or the run.yaml in it")
        add_threads(verb)
        add_gpu_options(verb)


def _features(options: argparse.Namespace) -> int:
    from ademvl.vision.features.whole import build_feature_cache

    with gpus_of(options):
        build_feature_cache(run_dir_of(options.run), options.output, threads=options.threads)
    return 0


def _train(options: argparse.Namespace) -> int:
    from ademvl.config.settings_files import read_run
    from ademvl.planning.cpu_time import warn_of_cpu
    from ademvl.training.launch import train
    from ademvl.training.membership import find_membership

    run_dir = run_dir_of(options.run)
    with noted_failure(run_dir, "train"), gpus_of(options):
        if find_membership(os.environ) is None:
            warn_of_cpu(read_run(run_dir))
        return train(
            run_dir,
            processes=options.processes,
            threads=options.threads,
            ignore_memory=options.ignore_memory,
            on_trained=_use_trained,
        )


def _choose_rate(options: argparse.Namespace) -> int:
    from ademvl.config.reading import read
    from ademvl.config.run import RunSettings
    from ademvl.evaluation.rate_choice import choose_rate_of
    from ademvl.machine.devices import set_threads
    from ademvl.storage.files import parse_json

    remedy = "The workflow passes them as JSON."
    raw = parse_json(options.json, place="settings", remedy=remedy)
    run = read(RunSettings, raw, source="settings")
    set_threads(options.threads)
    with gpus_of(options, job=options.folder):
        return choose_rate_of(run, options.folder, options.output)


def _use_trained(run: "RunSettings", run_dir: Path, model: "TrainableModel") -> None:
    """Do what other verbs would load the model for again; what fails is left to them."""
    from ademvl.evaluation.run import predict_ahead

    _log.info("%s: trained; answering what evaluation asks", run_dir)
    try:
        predict_ahead(run, run_dir, model)
    except (AdemvlError, OSError) as error:
        _log.warning("%s: left to `ademvl evaluate`, as it fails here: %s", run_dir, error)


def _evaluate(options: argparse.Namespace) -> int:
    from ademvl.evaluation.run import evaluate_run

    run_dir = run_dir_of(options.run)
    with noted_failure(run_dir, "evaluate"), gpus_of(options):
        evaluate_run(run_dir, threads=options.threads)
    return 0


def _fusion_maps(options: argparse.Namespace) -> int:
    from ademvl.machine.devices import set_threads

    set_threads(options.threads)
    from ademvl.reporting.fusion_maps.items import Choice
    from ademvl.reporting.fusion_maps.write import write_fusion_maps

    run_dir = run_dir_of(options.run)
    choice = Choice(ids=options.ids, num_random=options.items, seed=options.seed)
    with gpus_of(options):
        write_fusion_maps(run_dir, run_dir / "fusion_maps", choice)
    return 0
