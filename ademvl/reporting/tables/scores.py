"""Tables of scores by run: ScienceQA by category, COCO captions, MME, and image understanding.

Runs of the paper's scale stand among the reported rows, below those that they reproduce; runs of
another scale have a block, and columns, of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ademvl.config.tasks import facts_of
from ademvl.reporting.benchmarks import BenchmarkedRun, benchmarked_runs
from ademvl.reporting.reported import ReportedNumbers
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.seed_result import SeedResult
from ademvl.reporting.tables.columns import columns_of, task_columns
from ademvl.reporting.tables.judging import VERDICT_NOTE
from ademvl.reporting.tables.layout import Block, Column, Row, Section, Table
from ademvl.reporting.tables.rows import (
    ceiling_rows,
    discrepancy_text,
    measured_row,
    reported_sections,
    runs_by_row,
)
from ademvl.statistics.intervals import ITEMS_NOTE

_OTHER_ITEMS = "No verdicts: lmms-eval's items need not be those of the reported numbers."
OTHER_SCALE = "Paper scale: another scale than this study's, not comparable in size."


def score_table(results: StudyResults, reported: ReportedNumbers, task: str) -> Table:
    """Build the scores of all runs of a task, and what one reference scores where it has any."""
    about, columns, runs = facts_of(task).table, task_columns(task), results.of_task(task)
    more = ceiling_rows(runs, columns)
    sources = source_notes(reported, about.reported) if about.reported else ()
    return Table(
        key=about.key,
        title=f"{about.title}, study {results.study.name}",
        short_title=about.title,
        unit=about.unit,
        blocks=score_blocks(results, reported, about.reported, runs, columns, more=more),
        notes=(*run_notes(runs), *about.notes),
        reported_notes=(*about.reported_notes, *sources),
    )


def image_understanding_table(results: StudyResults, reported: ReportedNumbers) -> Table:
    """Build the accuracies on four benchmarks, which lmms-eval measures of trained adapters.

    No verdict is given: papers seldom say which split they mean, and its tasks have their own.
    """
    key = "image_understanding"
    table, asked = reported.tables[key], benchmarked_runs(results)
    columns, scale = columns_of(table), results.study.scale
    rows = [_benchmarked_row(found, columns) for found in asked]
    theirs = Block(
        title=table.title,
        scale="paper",
        columns=columns,
        sections=reported_sections(reported, key, columns),
        remark="" if rows else "Reported only: lmms-eval has asked no run of this study.",
    )
    blocks: tuple[Block, ...]
    if not rows:
        blocks = (theirs,)
    elif scale == "paper":
        mine = Section(title="Measured here", rows=tuple(rows))
        blocks = (replace(theirs, sections=(mine, *theirs.sections), remark=_OTHER_ITEMS),)
    else:
        title = f"Measured: {scale} scale"
        mine = Section(title="", rows=tuple(rows))
        ours = Block(title=title, scale=scale, columns=columns, sections=(mine,))
        blocks = (ours, replace(theirs, title=f"Reported: {table.title}", remark=OTHER_SCALE))
    return Table(
        key=key,
        title=f"{table.title}, study {results.study.name}"
        if rows
        else f"{table.title}, as reported",
        short_title="Image understanding",
        unit="accuracy in percent",
        blocks=blocks,
        notes=run_notes([found.run for found in asked]),
        reported_notes=source_notes(reported, key),
    )


def _benchmarked_row(found: BenchmarkedRun, columns: Sequence[Column]) -> Row:
    row = measured_row(found.run, columns)
    cells = {key: replace(cell, split="") for key, cell in row.cells.items()}  # the tasks' own
    return replace(row, cells=cells, notes=(*row.notes, *found.notes))


def seed_table(results: StudyResults, run: RunResult, seed: SeedResult) -> Table:
    """Build the table of one training: its scores, and those of its run over all seeds.

    Args:
        seed: one of the run's, finished.
    """
    unit, columns = facts_of(run.settings.task).table.unit, task_columns(run.settings.task)
    alone = replace(run, label=f"this adapter, seed {seed.settings.seed}", seeds=(seed,))
    rows = [measured_row(alone, columns)]
    rows += [measured_row(run, columns)] if len(run.finished) > 1 else []
    block = Block(
        title=f"Measured: {results.study.scale} scale",
        scale=results.study.scale,
        columns=tuple(_with_note(column, results.study.column_notes) for column in columns),
        sections=(Section(title="", rows=tuple(rows)),),
    )
    title = f"{run.label}, {results.study_text}"
    notes = run_notes([run])
    return with_cell_notes(
        Table(key="seed", title=title, short_title=title, unit=unit, blocks=(block,), notes=notes)
    )


def score_blocks(
    results: StudyResults,
    reported: ReportedNumbers,
    key: str,
    runs: Sequence[RunResult],
    columns: tuple[Column, ...],
    *,
    more: Sequence[Row] = (),
) -> tuple[Block, ...]:
    """Put runs among the reported rows where they are of one scale, else into a block of their own.

    Args:
        key: of a reported table; empty where there is none.
        runs: that have scores in these columns.
        columns: of scores.
        more: rows that stand below the runs'.
    """
    if not key:
        return (_measured_block(results, runs, columns, more),) if runs else ()
    title = reported.tables[key].title
    if results.study.scale == "paper":
        by_row = runs_by_row(results, reported, key)
        placed = {run.name for placed in by_row.values() for run in placed}
        free = [measured_row(run, columns) for run in runs if run.name not in placed]
        ours = [Section(title="Measured here", rows=(*free, *more))] if free or more else []
        sections = (*ours, *reported_sections(reported, key, columns, by_row))
        return (Block(title=title, scale="paper", columns=columns, sections=sections),)
    theirs = Block(
        title=f"Reported: {title}",
        scale="paper",
        columns=columns,
        sections=reported_sections(reported, key, columns),
        remark=OTHER_SCALE,
    )
    if not runs:
        return (replace(theirs, title=title, remark=""),)
    mine = _measured_block(results, runs, columns, more)
    return (mine, theirs)


def _measured_block(
    results: StudyResults,
    runs: Sequence[RunResult],
    columns: tuple[Column, ...],
    more: Sequence[Row],
) -> Block:
    return Block(
        title=f"Measured: {results.study.scale} scale",
        scale=results.study.scale,
        columns=tuple(_with_note(column, results.study.column_notes) for column in columns),
        sections=(Section(title="", rows=(*(measured_row(run, columns) for run in runs), *more)),),
    )


def run_notes(runs: Sequence[RunResult]) -> tuple[str, ...]:
    """Name the methods of the 95 % intervals of runs, and of verdicts where they are given."""
    estimates = [value for run in runs for seed in run.finished for value in seed.scores.values()]
    if not estimates:
        return ()
    methods = sorted({estimate.method for estimate in estimates})
    over_seeds = [run.estimate(column) for run in runs for column in run.seed_row.scores]
    combined = sorted({estimate.method for estimate in over_seeds if estimate}, reverse=True)
    parts = "; ".join([*methods, *combined])
    return (f"95 % intervals of measured numbers: {parts}.",)


def with_cell_notes(table: Table) -> Table:
    """Add how verdicts are made, and what intervals of items only are, where the table has any."""
    cells = [
        row.cell(column) for block in table.blocks for row in block.rows for column in block.columns
    ]
    notes = []
    if any(cell.covers == "items" for cell in cells):
        notes.append(ITEMS_NOTE)
    if any(cell.judgement and cell.judgement.difference is not None for cell in cells):
        notes.append(VERDICT_NOTE)
    return replace(table, notes=(*notes, *table.notes))


def source_notes(reported: ReportedNumbers, *keys: str) -> tuple[str, ...]:
    """Cite the sources of reported tables, and say what disagrees with one as a whole."""
    cited = dict.fromkeys(row.source for key in keys for row in reported.tables[key].rows)
    sources = [f"Source {name}: {reported.sources[name].citation}." for name in cited]
    disagreements = [
        discrepancy_text(found)
        for found in reported.discrepancies
        if found.table in keys and not found.rows
    ]
    return (*disagreements, *sources)


def _with_note(column: Column, notes: Mapping[str, str]) -> Column:
    note = notes.get(column.key)
    return (
        replace(column, note=f"{column.header} in this study's data: {note}.") if note else column
    )
