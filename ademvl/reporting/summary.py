"""The main table for a terminal, and below it the effects that matter."""

import textwrap
from collections.abc import Sequence

from ademvl.config.study import Study
from ademvl.config.tasks import all_facts
from ademvl.reporting.headlines import find_headlines
from ademvl.reporting.method_comparison import compare_methods
from ademvl.reporting.printable import printable
from ademvl.reporting.reported import ReportedNumbers, load_reported
from ademvl.reporting.results import RunResult, StudyResults, read_results
from ademvl.reporting.tables.columns import task_columns
from ademvl.reporting.tables.judging import estimate_cell
from ademvl.reporting.tables.layout import DASH, Column
from ademvl.reporting.tables.rows import ONE_REFERENCE, scored_split, stale_notes, trainable_text
from ademvl.statistics.intervals import ITEMS_MARK, ITEMS_NOTE, Estimate
from ademvl.text_table import aligned

MAX_WIDTH = 100
_MIN_NAME = 16
_TABLES = (f"tables/{facts.table.key}.md" for facts in all_facts().values() if facts.summarized)
_PLACES = ("report/index.html", *_TABLES, "figures")


def print_main_table(study: Study) -> None:
    """Print the study's main numbers, at most 100 characters wide, and where to look further."""
    print(main_table(read_results(study), load_reported()), end="")


def main_table(results: StudyResults, reported: ReportedNumbers) -> str:
    """Render the main numbers of all runs as plain text, with effects and places to look."""
    study = results.study
    lines = ["", f"S{results.study_text[1:]} ({study.scale} scale), with 95 % intervals"]
    for task, facts in all_facts().items():
        runs = results.of_task(task)
        shown = [column for column in task_columns(task) if column.key in facts.summarized]
        if runs and shown:
            known = facts.table.reported
            said = _reported_lines(reported, known, shown[-1], study) if known else []
            lines += ["", *_grid(runs, shown), *said]
    told = [f"{run.label}: {note}" for run in results.runs for note in stale_notes(run)]
    told += [headline.sentence for headline in find_headlines(results)]
    told += [text for found in compare_methods(results, reported) for text in found.sentences]
    if told:
        lines += ["", *map(_wrap, told)]
    if any(ITEMS_MARK in line for line in lines):
        lines += ["", _wrap(ITEMS_NOTE)]
    places = [study.results_dir / place for place in _PLACES]
    existing = [str(place) for place in places if place.exists()]
    if existing:
        lines += ["", "Look further:", *(f"  {place}" for place in existing)]
    return "\n".join(lines) + "\n"


def _wrap(text: str) -> str:
    return textwrap.fill(
        printable(text),
        MAX_WIDTH,
        initial_indent="* ",
        subsequent_indent="  ",
        break_on_hyphens=False,
    )


def _grid(runs: Sequence[RunResult], columns: Sequence[Column]) -> list[str]:
    """Lay out one line a run: name, parameters, seeds, columns, seconds of training.

    Numbers of items stand in the header, or in a column where the runs' differ.
    """
    headers = [f"{column.header}{_common_n(runs, column)}" for column in columns]
    differs = any(len(_numbers_of_items(runs, column)) > 1 for column in columns)
    n = ["n"] if differs else []
    grid = [["run", "trainable", "seeds", *n, *headers, "train s"]]
    for run in runs:
        seeds = ", ".join(str(seed.settings.seed) for seed in run.finished) or run.state
        estimates = [run.estimate(column.header) for column in columns]
        cells = [_text(value, column) for value, column in zip(estimates, columns, strict=True)]
        n = [", ".join(str(value.n) if value else DASH for value in estimates)] if differs else []
        name = printable(run.label)
        grid.append([name, trainable_text(run), seeds, *n, *cells, _seconds(run)])
    with_ceiling = [run for run in runs if run.ceiling(columns[0].header)]
    for split, run in {scored_split(run): run for run in reversed(with_ceiling)}.items():
        cells = [_text(run.ceiling(column.header), column) for column in columns]
        name = ONE_REFERENCE + ("" if split == "test" else f" ({split})")
        grid.append([name, "", "", *([""] if differs else []), *cells, ""])
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    room = MAX_WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(room, _MIN_NAME))
    lines = aligned([[_shortened(name, widths[0]), *texts] for name, *texts in grid])
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _shortened(name: str, width: int) -> str:
    """Leave out what is in the middle: what tells runs apart often stands at the end."""
    if len(name) <= width:
        return name
    end = width // 2
    return f"{name[: width - end - 1]}…{name[-end:]}"


def _numbers_of_items(runs: Sequence[RunResult], column: Column) -> set[int]:
    return {estimate.n for run in runs if (estimate := run.estimate(column.header))}


def _common_n(runs: Sequence[RunResult], column: Column) -> str:
    found = _numbers_of_items(runs, column)
    return f" (n = {found.pop()})" if len(found) == 1 else ""


def _text(estimate: Estimate | None, column: Column) -> str:
    if estimate is None:
        return DASH
    cell = estimate_cell(estimate)
    return f"{column.format(cell.value)} {column.format_interval(cell)}"


def _seconds(run: RunResult) -> str:
    known = [seed.cost.train_seconds for seed in run.finished if seed.cost.train_seconds]
    return f"{sum(known) / len(known):.0f}" if known else DASH


def _reported_lines(reported: ReportedNumbers, key: str, column: Column, study: Study) -> list[str]:
    """Give the paper's own numbers for orientation."""
    table = reported.tables[key]
    index = table.columns.index(column.key)
    found = [
        f"{column.format(row.values[index])} ({row.llm})"
        for row in table.rows
        if (row.method, row.source) == ("ADEM-VL", "paper")
    ]
    scale = "" if study.scale == "paper" else " (another scale, not comparable in size)"
    return [_wrap(f"Reported by the paper{scale}: {column.header} {', '.join(found)}")]
