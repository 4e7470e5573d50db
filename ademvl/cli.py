"""The command line: `ademvl <verb>`, the same verbs that the workflow's rules call.

Parsing lives here; work lives in the packages, imported only by the verb that needs it.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ademvl import __version__
from ademvl.errors import AdemvlError

_EPILOG = """\
examples:
  ademvl plan config.yaml                        write every run's settings, list the runs
  ademvl train results/mini/runs/adem/seed0      train one run
  ademvl evaluate results/mini/runs/adem/seed0   predict and score it
  ademvl tables results/mini/study.yaml          tables from whatever has been run
  ademvl params --study config.yaml              exact counts of trained parameters
"""

Handler = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return 0, 1 (a check failed, or a bug's traceback), or 2 (user's error)."""
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
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ademvl",
        description="ADEM-VL reproduced: data, features, training, evaluation, tables.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ademvl {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_study_verbs(verbs)
    _add_run_verbs(verbs)
    _add_check_verbs(verbs)
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    handler: Handler,
    summary: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=summary, description=summary)
    parser.set_defaults(handler=handler)
    return parser


def _add_study_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for name, handler, summary in (
        ("plan", _plan, "Check a study, write the settings of every run, list the runs."),
        ("tables", _tables, "Write the tables from whatever has been run; the rest is 'not run'."),
        ("figures", _figures, "Draw learning curves and accuracy by category."),
        ("report", _report, "Write the page with tables, figures, costs and provenance."),
    ):
        verb = _verb(verbs, name, handler, summary)
        verb.add_argument("study", type=Path, help="study file, such as config.yaml")
    verb = _verb(verbs, "summary", _summary, "Print the main table and where to look.")
    verb.add_argument("study", type=Path, help="study file, such as config.yaml")
    verb.add_argument("--if-complete", action="store_true", help="say nothing before tables exist")
    verb = _verb(verbs, "settings", _settings, "Write checked settings of a study or run as YAML.")
    verb.add_argument("json", help="settings as JSON, as the workflow passes them")
    verb.add_argument("--output", type=Path, required=True, help="file to write")
    verb = _verb(verbs, "schema", _schema, "Print the schema of a study file, or its page.")
    verb.add_argument("--format", choices=["yaml", "markdown"], default="yaml")


def _add_run_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    data = _verb(verbs, "data", _data, "Convert a data set into the project's layout.")
    data.add_argument("action", choices=["convert"])
    data.add_argument("json", help="settings of the data set as JSON ('{}' for the defaults)")
    data.add_argument("--output", type=Path, required=True, help="manifest.json to write")
    features = _verb(verbs, "features", _features, "Encode a run's images into the feature cache.")
    features.add_argument("--output", type=Path, required=True, help="report to write (JSON)")
    train = _verb(verbs, "train", _train, "Train a run's adapter; resumes after any interruption.")
    evaluate = _verb(verbs, "evaluate", _evaluate, "Predict with a trained run and score it.")
    maps = _verb(verbs, "fusion-maps", _fusion_maps, "Draw which patches each word kept.")
    maps.add_argument("--items", type=int, default=6, help="number of test images (%(default)s)")
    for verb in (features, train, evaluate, maps):
        verb.add_argument("run", type=Path, help="run directory, or the run.yaml in it")
        verb.add_argument("--threads", type=int, default=None, help="CPU threads (default: all)")
    backbones = _verb(verbs, "backbones", _backbones, "Train the mini backbones anew.")
    backbones.add_argument("which", choices=["mini"])
    backbones.add_argument("--data", type=Path, required=True, help="manifest of converted data")
    backbones.add_argument("--llm", type=Path, required=True, help="RECIPE.json to write")
    backbones.add_argument("--clip", type=Path, required=True, help="RECIPE.json to write")
    backbones.add_argument("--threads", type=int, default=None, help="CPU threads (default: all)")


def _add_check_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    params = _verb(verbs, "params", _params, "Count trained parameters exactly, without weights.")
    params.add_argument("--study", type=Path, help="count a study's runs, not the paper's models")
    verify = _verb(verbs, "verify", _verify, "Recompute golden tensors of the reference.")
    verify.add_argument("what", choices=["golden"])
    verify.add_argument("folder", type=Path, nargs="?", default=Path("../shared/golden"))
    cache = _verb(verbs, "cache", _cache, "List, verify or clean the feature cache.")
    cache.add_argument("action", choices=["ls", "verify", "gc"])
    cache.add_argument("folder", type=Path, nargs="?", default=Path("results/shared/features"))
    cache.add_argument(
        "--unused-days", type=float, help="gc: also remove what was not used so long"
    )
    cache.add_argument("--dry-run", action="store_true", help="gc: only say what would be removed")


def _run_dir(path: Path) -> Path:
    return path.parent if path.name == "run.yaml" else path


def _set_threads(threads: int | None) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


def _plan(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study, run_to_json, study_to_json, write_settings

    study = load_study(options.study)
    write_settings(study.results_dir / "study.yaml", study_to_json(study))
    for run in study.runs:
        write_settings(study.run_dir(run) / "run.yaml", run_to_json(run))
        print(f"{study.run_dir(run)}  {run.task}  {run.features.mode}  images {run.images}")
    return 0


def _settings(options: argparse.Namespace) -> int:
    from ademvl.config.study import write_settings

    write_settings(options.output, options.json)
    return 0


def _schema(options: argparse.Namespace) -> int:
    from ademvl.config.settings_page import schema_yaml, settings_page

    print(settings_page() if options.format == "markdown" else schema_yaml(), end="")
    return 0


def _data(options: argparse.Namespace) -> int:
    from ademvl.config.dataset import DatasetSettings
    from ademvl.config.schema import build, check, schema_of
    from ademvl.data.mini import convert_easy_vqa

    raw = check(json.loads(options.json), schema_of(DatasetSettings), source="data settings")
    convert_easy_vqa(options.output.parent, build(DatasetSettings, raw))
    return 0


def _features(options: argparse.Namespace) -> int:
    _set_threads(options.threads)
    from ademvl.visual_source import build_feature_cache

    build_feature_cache(_run_dir(options.run), options.output)
    return 0


def _train(options: argparse.Namespace) -> int:
    _set_threads(options.threads)
    from ademvl.training.run import train_run

    return train_run(_run_dir(options.run))


def _evaluate(options: argparse.Namespace) -> int:
    _set_threads(options.threads)
    from ademvl.evaluation.run import evaluate_run

    evaluate_run(_run_dir(options.run))
    return 0


def _fusion_maps(options: argparse.Namespace) -> int:
    _set_threads(options.threads)
    from ademvl.reporting.fusion_maps import write_fusion_maps

    run_dir = _run_dir(options.run)
    write_fusion_maps(run_dir, run_dir / "fusion_maps", num_items=options.items, seed=0)
    return 0


def _tables(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.reporting.tables import write_tables

    study = load_study(options.study)
    write_tables(study, study.results_dir / "tables")
    return 0


def _figures(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.reporting.figures import write_figures

    study = load_study(options.study)
    write_figures(study, study.results_dir / "figures")
    return 0


def _report(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.reporting.page import write_page

    study = load_study(options.study)
    write_page(study, study.results_dir / "report")
    return 0


def _summary(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.reporting.summary import print_main_table

    if options.if_complete and not options.study.is_file():
        return 0
    study = load_study(options.study)
    if options.if_complete and not (study.results_dir / "tables").is_dir():
        return 0
    print_main_table(study)
    return 0


def _backbones(options: argparse.Namespace) -> int:
    _set_threads(options.threads)
    from ademvl.backbones.mini_clip import train_mini_clip
    from ademvl.backbones.mini_llm import train_mini_llm

    train_mini_clip(options.clip.parent, options.data.parent)
    train_mini_llm(options.llm.parent, options.data.parent / "scienceqa")
    return 0


def _params(options: argparse.Namespace) -> int:
    from ademvl.parameter_counts import print_paper_counts, print_study_counts

    if options.study:
        print_study_counts(options.study)
    else:
        print_paper_counts()
    return 0


def _verify(options: argparse.Namespace) -> int:
    from ademvl.golden.verify import verify_golden

    return verify_golden(options.folder)


def _cache(options: argparse.Namespace) -> int:
    from ademvl.vision import feature_cache

    if options.action == "ls":
        return feature_cache.print_namespaces(options.folder)
    if options.action == "verify":
        return feature_cache.print_findings(options.folder)
    return feature_cache.print_garbage(
        options.folder, unused_days=options.unused_days, dry_run=options.dry_run
    )


if __name__ == "__main__":
    sys.exit(main())
