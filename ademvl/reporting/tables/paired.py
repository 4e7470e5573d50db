"""Tables that show measured beside reported row by row: ablations, and the report's experiments.

Measured numbers have columns of their own, whatever their scale. Those of the paper's scale get a
verdict; those of another scale do not, but the direction of each change from the table's base row
and the order of the rows can be compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ademvl.randomness import derive_seed
from ademvl.reporting.reported import ReportedNumbers, ReportedRow, ReportedTable
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.tables.columns import SCIENCEQA_COLUMNS
from ademvl.reporting.tables.judging import (
    CHANGE_NOTE,
    change,
    judge_direction,
    needed_seeds,
    other_items_note,
)
from ademvl.reporting.tables.layout import EMPTY, MINUS, Block, Cell, Column, Row, Section, Table
from ademvl.reporting.tables.rows import (
    Target,
    gap_notes,
    measured_cell,
    reported_cell,
    reported_row,
    reported_sections,
    runs_by_row,
    scored_split,
    seeds_text,
)
from ademvl.reporting.tables.scores import OTHER_SCALE, run_notes, score_blocks, source_notes
from ademvl.statistics.rank_order import kendall_interval, kendall_tau

_AVERAGE = SCIENCEQA_COLUMNS[-1]
_MIN_RANKED = 3


def paired_table(results: StudyResults, reported: ReportedNumbers, key: str) -> Table:
    """Build the table of one ablation, or of the report's experiments.

    Args:
        key: of a reported table of accuracies on ScienceQA.
    """
    table = reported.tables[key]
    measured = _Measured(results, table, runs_by_row(results, reported, key))
    blocks = [_paired_block(reported, key, measured)]
    if len(table.columns) > 1:
        blocks += _category_blocks(reported, key, measured)
    return Table(
        key=key,
        title=f"{table.title}, study {results.study.name}",
        short_title=table.title,
        unit="accuracy in percent",
        blocks=tuple(blocks),
        notes=(
            *run_notes(measured.runs),
            *((CHANGE_NOTE,) if measured.runs and table.base else ()),
            *measured.order_notes(),
        ),
        reported_notes=source_notes(reported, key),
    )


@dataclass(frozen=True)
class _Measured:
    """The runs of a study that reproduce rows of one reported table."""

    results: StudyResults
    table: ReportedTable
    by_row: Mapping[str, Sequence[RunResult]]

    @property
    def runs(self) -> tuple[RunResult, ...]:
        """All of them, each once."""
        found = {run.name: run for runs in self.by_row.values() for run in runs}
        return tuple(found.values())

    @property
    def is_paper_scale(self) -> bool:
        """Whether verdicts may be given."""
        return self.results.study.scale == "paper"

    def cell(self, row: ReportedRow, run: RunResult | None) -> Cell:
        """Build the number of a row's run."""
        if run is None:
            return Cell(missing="not run")
        judged = self.is_paper_scale and not other_items_note(run, self.table, row)
        return measured_cell(run, _AVERAGE, Target(self.table, row) if judged else None)

    @property
    def base(self) -> Cell:
        """The number of the row that changes are measured from."""
        row = next((row for row in self.table.rows if row.name == self.table.base), None)
        runs = self.by_row.get(self.table.base, ())
        return self.cell(row, runs[0]) if row and runs else EMPTY

    def is_of_another_data_set(self, run: RunResult) -> bool:
        """Tell whether a run and the row that changes are measured from share no data set."""
        runs = self.by_row.get(self.table.base, ())
        return bool(runs) and run.settings.data_dir != runs[0].settings.data_dir

    def order_notes(self) -> tuple[str, ...]:
        """Compare the order of the rows by Kendall's tau."""
        known = [
            (cell.value, (cell.ci_low or 0.0, cell.ci_high or 0.0), theirs, cell.covers)
            for row in self.table.rows
            if (runs := self.by_row[row.name])
            and (theirs := _average(self.table, row)) is not None
            and (cell := self.cell(row, runs[0])).value is not None
        ]
        splits = {scored_split(run) for run in self.runs}
        if len(known) < _MIN_RANKED or len(splits) > 1:
            return ()
        values, intervals, printed, covers = zip(*known, strict=True)
        tau = f"{kendall_tau(values, printed):.2f}"
        how = "no interval, as the spread between seeds is not known for all rows"
        if set(covers) == {"seeds and items"}:
            found = kendall_interval(values, intervals, printed, seed=derive_seed(0, "kendall"))
            tau += f" [{found.low:.2f}, {found.high:.2f}]"
            how = f"{found.method}, the reported numbers as printed"
        return (
            "Order of the rows, measured against reported: Kendall's tau-b = "
            f"{tau.replace('-', MINUS)} over {len(known)} rows ({how}).",
        )


def _average(table: ReportedTable, row: ReportedRow) -> float | None:
    return table.value(row, "avg")


def _paired_block(reported: ReportedNumbers, key: str, measured: _Measured) -> Block:
    table = reported.tables[key]
    base = next((row for row in table.rows if row.name == table.base), None)
    base_cell = _reported_average(table, base) if base else EMPTY
    rows = []
    for row in table.rows:
        for run in measured.by_row[row.name] or (None,):
            rows.append(_paired_row(reported, key, row, run, measured, base_cell))
    has_base = measured.base.value is not None
    remark = f"Changes are from the row {table.base}." if table.base else ""
    if measured.runs and not measured.is_paper_scale:
        remark += f" {OTHER_SCALE} Only directions and the order of rows can be compared."
    return Block(
        title="Average accuracy",
        scale="paper",
        columns=_paired_columns(measured, has_base=has_base),
        sections=(Section(title="", rows=tuple(rows)),),
        remark=remark.strip(),
    )


def _paired_columns(measured: _Measured, *, has_base: bool) -> tuple[Column, ...]:
    table, scale = measured.table, measured.results.study.scale
    average = replace(_AVERAGE, key="reported", group="reported (paper scale)", kind="reported")
    columns = [average]
    change_column = replace(average, key="reported_change", header="change", is_change=True)
    if table.base:
        columns.append(change_column)
    if measured.runs:
        group = f"measured ({scale} scale)"
        columns.append(replace(_AVERAGE, key="measured", group=group, kind="measured", scale=scale))
        if has_base:
            columns.append(
                replace(columns[-1], key="measured_change", header="change", is_change=True)
            )
    return tuple(columns)


def _paired_row(
    reported: ReportedNumbers,
    key: str,
    row: ReportedRow,
    run: RunResult | None,
    measured: _Measured,
    base: Cell,
) -> Row:
    table = reported.tables[key]
    plain = reported_row(reported, key, row, ())
    theirs, ours = _reported_average(table, row), measured.cell(row, run)
    cells = {"reported": theirs, "measured": ours}
    if row.name != table.base:
        cells["reported_change"] = change(theirs, base)
        is_elsewhere = run is not None and measured.is_of_another_data_set(run)
        from_base = EMPTY if is_elsewhere else measured.base
        moved = change(replace(ours, judgement=None), from_base)
        base_run = next(iter(measured.by_row.get(table.base, ())), None)
        needed = needed_seeds(run, base_run, _AVERAGE, moved) if run and base_run else None
        direction = judge_direction(moved, cells["reported_change"], needed_seeds=needed)
        cells["measured_change"] = replace(moved, judgement=direction)
    notes = plain.notes
    if run:
        other_items = other_items_note(run, table, row) if measured.is_paper_scale else ""
        notes = (*notes, *gap_notes(run), *((other_items,) if other_items else ()))
        if ours.value is not None and ours.split != measured.base.split and measured.base.split:
            notes += (f"No change: scored on another split than the row {table.base}.",)
        elif ours.value is not None and measured.is_of_another_data_set(run):
            notes += (f"No change: scored on another data set than the row {table.base}.",)
    texts = {"run": run.label, "seeds": seeds_text(run)} if run else {}
    return replace(
        plain,
        texts={**plain.texts, **texts},
        cells=cells,
        notes=notes,
        state=run.state if run else "",
    )


def _reported_average(table: ReportedTable, row: ReportedRow) -> Cell:
    return reported_cell(table, row, "avg")


def _category_blocks(reported: ReportedNumbers, key: str, measured: _Measured) -> tuple[Block, ...]:
    """Show all nine columns: reported rows, and runs among or beside them by their scale."""
    if measured.is_paper_scale or not measured.runs:
        sections = reported_sections(reported, key, SCIENCEQA_COLUMNS, measured.by_row)
        title = "Accuracy by category"
        return (Block(title=title, scale="paper", columns=SCIENCEQA_COLUMNS, sections=sections),)
    return score_blocks(measured.results, reported, key, measured.runs, SCIENCEQA_COLUMNS)
