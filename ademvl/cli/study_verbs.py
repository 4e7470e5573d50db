"""Verbs that work on a whole study: settings, tables, figures, page, summary."""

import argparse
from pathlib import Path

from ademvl.cli.verb import Verbs, add_output, add_verb


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of studies."""
    for name, handler, summary in (
        ("tables", _tables, "Write the tables from whatever has been run; the rest is 'not run'."),
        ("figures", _figures, "Draw the figures of whatever has been run."),
        ("report", _report, "Write the page with tables, figures, costs and provenance."),
    ):
        verb = add_verb(verbs, name, handler, summary)
        verb.add_argument("study", type=Path, help="study file, such as config.yaml")
    verb = add_verb(verbs, "summary", _summary, "Print the main table and where to look.")
    verb.add_argument("study", type=Path, help="study file, such as config.yaml")
    verb.add_argument("--if-complete", action="store_true", help="say nothing before tables exist")
    verb = add_verb(
        verbs, "settings", _settings, "Write checked settings of a study or run as YAML."
    )
    verb.add_argument("json", help="settings as JSON, as the workflow passes them")
    verb.add_argument(
        "choice", nargs="?", type=Path, help="record of the choice of a run's learning rate"
    )
    add_output(verb, "file to write", required=True)
    verb = add_verb(verbs, "schema", _schema, "Print the schema of a study file, or its page.")
    verb.add_argument("--format", choices=["yaml", "markdown"], default="yaml")


def _settings(options: argparse.Namespace) -> int:
    from ademvl.config.settings_files import write_settings
    from ademvl.runs.chosen_rate import resolved

    write_settings(options.output, resolved(options.json, options.choice))
    return 0


def _schema(options: argparse.Namespace) -> int:
    from ademvl.config.settings_page import schema_yaml, settings_page

    print(settings_page() if options.format == "markdown" else schema_yaml(), end="")
    return 0


def _tables(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.reporting.tables.build import write_tables

    study = load_study(options.study)
    write_tables(study, study.results_dir / "tables")
    return 0


def _figures(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.reporting.figures.build import write_figures

    study = load_study(options.study)
    write_figures(study, study.results_dir / "figures")
    return 0


def _report(options: argparse.Namespace) -> int:
    from ademvl.config.study import load_study
    from ademvl.reporting.page.write import write_page

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
