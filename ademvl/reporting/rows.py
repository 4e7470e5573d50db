"""Rows of tables: one from each run of the study, and one from each reported row."""

from collections.abc import Iterable, Sequence

from ademvl.evaluation.statistics import Estimate, wilson_interval
from ademvl.reporting.layout import Cell, Column, Row, Section
from ademvl.reporting.reported import ReportedNumbers, ReportedRow
from ademvl.reporting.results import RunResult, SeedResult

DERIVED = "binomial (Wilson), derived from n"
_SECTION_TITLES = {
    "zero_few_shot": "Zero- and few-shot",
    "full": "Fully trained",
    "peft_llama": "Parameter-efficient, LLaMA",
    "peft_llama2": "Parameter-efficient, LLaMA 2",
    "released": "Released checkpoint",
    "replication": "Replication report",
}


def measured_row(run: RunResult, columns: Sequence[Column]) -> Row:
    """Build the row of a run: mean over its finished seeds, or what keeps it from having one."""
    cells = {}
    for column in columns:
        estimate = run.estimate(column.header)
        if estimate is not None:
            cells[column.key] = estimate_cell(estimate)
    notes = []
    missing = [seed for seed in run.seeds if seed.state == "not run"]
    stale = [seed for seed in run.seeds if seed.state == "stale"]
    if run.finished and missing:
        notes.append(f"Not run yet: seeds {_seed_list(missing)}.")
    if stale:
        notes.append(
            f"Left out, made with other settings than the study has now: seeds {_seed_list(stale)}."
        )
    return Row(
        key=run.name,
        kind="measured",
        texts={
            "name": run.label,
            "trainable": trainable_text(run),
            "seeds": _seed_list(run.finished) or run.state,
        },
        cells=cells,
        notes=tuple(notes),
        state=run.state,
    )


def _seed_list(seeds: Iterable[SeedResult]) -> str:
    return ", ".join(str(seed.settings.seed) for seed in seeds)


def trainable_text(run: RunResult) -> str:
    """Return the number of trained parameters with thousands separated, or nothing."""
    counts = [seed.cost.trainable_parameters for seed in run.finished]
    known = [count for count in counts if count is not None]
    return f"{known[0]:,}" if known else ""


def estimate_cell(estimate: Estimate) -> Cell:
    """Turn fractions into percent, or scores times 100."""
    return Cell(
        value=100 * estimate.value,
        ci_low=100 * estimate.ci_low,
        ci_high=100 * estimate.ci_high,
        n=estimate.n,
        method=estimate.method,
    )


def ceiling_rows(runs: Sequence[RunResult], columns: Sequence[Column]) -> list[Row]:
    """Build one row for each data set, from the first run that has been scored on it."""
    rows: dict[str, Row] = {}
    for run in runs:
        found = {column.key: run.ceiling(column.header) for column in columns}
        cells = {key: estimate_cell(value) for key, value in found.items() if value}
        if cells and run.settings.data_dir not in rows:
            rows[run.settings.data_dir] = Row(
                key=f"ceiling_{run.name}",
                kind="ceiling",
                texts={"name": "ceiling: one reference against the others"},
                cells=cells,
                state="finished",
            )
    return list(rows.values())


def reported_sections(
    reported: ReportedNumbers, key: str, columns: Sequence[Column]
) -> tuple[Section, ...]:
    """Build the rows of a reported table, in its printed groups, for the columns it has."""
    table = reported.tables[key]
    groups: dict[str, list[Row]] = {}
    for row in table.rows:
        values = dict(zip(table.columns, row.values, strict=True))
        cells = {
            column.key: _reported_cell(values[column.key], column.key, n=table.n)
            for column in columns
            if values.get(column.key) is not None
        }
        groups.setdefault(row.group, []).append(
            Row(
                key=row.label,
                kind="reported",
                texts={
                    "name": row.label,
                    "llm": row.llm,
                    "trainable": row.trainable,
                    "source": row.source,
                },
                cells=cells,
                notes=_reported_notes(reported, key, row),
            )
        )
    return tuple(
        Section(title=_SECTION_TITLES.get(group, group), rows=tuple(rows))
        for group, rows in groups.items()
    )


def _reported_cell(value: float | None, column: str, *, n: int | None) -> Cell:
    if value is None or n is None or column != "avg":
        return Cell(value=value)
    interval = wilson_interval(round(value * n / 100), n)
    return Cell(
        value=value,
        ci_low=100 * interval.ci_low,
        ci_high=100 * interval.ci_high,
        n=n,
        method=DERIVED,
    )


def _reported_notes(reported: ReportedNumbers, key: str, row: ReportedRow) -> tuple[str, ...]:
    notes = [row.note[0].upper() + row.note[1:] + "."] if row.note else []
    for found in reported.discrepancies_at(key, row):
        notes.append(
            f"{found.where[0].upper()}{found.where[1:]}: {found.says}; "
            f"according to the source ({found.source}): {found.source_says}."
        )
    return tuple(notes)
