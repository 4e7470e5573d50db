"""All tables of a study, from whatever has been run: measured beside reported numbers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ademvl.config.study import Study
from ademvl.config.tasks import all_facts
from ademvl.reporting.headlines import Headline, find_headlines
from ademvl.reporting.method_comparison import MethodComparison, compare_methods
from ademvl.reporting.references import check_references
from ademvl.reporting.reported import (
    ReportedNumbers,
    load_reported,
)
from ademvl.reporting.results import StudyResults, read_results
from ademvl.reporting.tables.comparison import comparison_table
from ademvl.reporting.tables.cost import cost_table, efficiency_table
from ademvl.reporting.tables.html import to_html_page
from ademvl.reporting.tables.keys import ABLATIONS, table_keys
from ademvl.reporting.tables.latex import to_latex
from ademvl.reporting.tables.layout import Table
from ademvl.reporting.tables.markdown import to_markdown
from ademvl.reporting.tables.paired import paired_table
from ademvl.reporting.tables.replication import replication_table
from ademvl.reporting.tables.scores import (
    image_understanding_table,
    score_table,
    with_cell_notes,
)
from ademvl.reporting.tables.tidy_csv import to_csv
from ademvl.storage.files import write_text


def write_tables(study: Study, output_dir: Path) -> None:
    """Write every table as CSV, Markdown, LaTeX and HTML from whatever has been run.

    Args:
        study: whose runs are looked for.
        output_dir: gets `<key>.csv`, `.md`, `.tex` and `.html` of every table.

    Raises:
        DataError: a score file, or the reported numbers, are malformed.
        SettingsError: a run refers to a row that nobody reported.
    """
    for name, text in render_tables(read_results(study), load_reported()).items():
        write_text(output_dir / name, text)


def render_tables(results: StudyResults, reported: ReportedNumbers) -> dict[str, str]:
    """Render every table in each format, by file name.

    Raises:
        SettingsError: a run refers to a row that nobody reported.
    """
    check_references(results.study, reported)
    files = {}
    comparisons = compare_methods(results, reported)
    for table in build_tables(results, reported, find_headlines(results), comparisons):
        files[f"{table.key}.csv"] = to_csv(table)
        files[f"{table.key}.md"] = to_markdown(table)
        files[f"{table.key}.tex"] = to_latex(table)
        files[f"{table.key}.html"] = to_html_page(table)
    return files


def build_tables(
    results: StudyResults,
    reported: ReportedNumbers,
    headlines: Sequence[Headline] = (),
    comparisons: Sequence[MethodComparison] = (),
) -> tuple[Table, ...]:
    """Build all tables: those that a run of the study has a place in, then reported ones.

    Args:
        results: what has been run so far; gaps become dashes with a note.
        reported: where rows to stand beside are looked up.
        headlines: effects, which stand below the accuracies.
        comparisons: of the study's methods.
    """
    builders = {
        "replication": replication_table,
        "efficiency": efficiency_table,
        "image_understanding": image_understanding_table,
    }
    tables = {key: build(results, reported) for key, build in builders.items()}
    for task, facts in all_facts().items():
        tables[facts.table.key] = score_table(results, reported, task)
    for key in ("replication_experiments", *ABLATIONS):
        tables[key] = paired_table(results, reported, key)
    tables["cost"] = cost_table(results)
    tables["comparison"] = comparison_table(results, reported, comparisons)
    effects = tuple(f"{headline.sentence}." for headline in headlines)
    tables["accuracy"] = replace(tables["accuracy"], effects=effects)
    ordered = [
        _of_study(_without_empty_columns(with_cell_notes(tables[key])), results)
        for key in table_keys(results.study)
    ]
    return tuple(sorted(ordered, key=lambda table: table.is_reported_only))


def _without_empty_columns(table: Table) -> Table:
    """Leave out columns in which no row has a number, or says why it has none."""
    blocks = []
    for block in table.blocks:
        cells = {column: [row.cell(column) for row in block.rows] for column in block.columns}
        filled = [
            column
            for column, each in cells.items()
            if any(cell.value is not None or cell.missing for cell in each)
        ]
        blocks.append(replace(block, columns=tuple(filled)) if filled else block)
    return replace(table, blocks=tuple(blocks))


def _of_study(table: Table, results: StudyResults) -> Table:
    """Say which study file a table belongs to."""
    note = f"Of {results.study_text} (what its runs' results depend on)."
    return replace(table, notes=(*table.notes, note), study=results.study_text)
