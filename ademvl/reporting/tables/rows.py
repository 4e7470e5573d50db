"""Rows of tables: one from each run of the study, and one from each reported row."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ademvl.config.study_settings import ReportedReference
from ademvl.config.tasks import facts_of
from ademvl.reporting.reported import Discrepancy, ReportedNumbers, ReportedRow, ReportedTable
from ademvl.reporting.results import GAPS, RunResult, StudyResults
from ademvl.reporting.seed_result import SeedResult
from ademvl.reporting.tables.judging import estimate_cell, judge, other_items_note
from ademvl.reporting.tables.layout import Cell, Column, Row, Section
from ademvl.statistics.intervals import wilson_interval
from ademvl.systems.elsewhere.settings import ElsewhereSettings

DERIVED = "binomial (Wilson), derived from n"
_SECTION_TITLES = {
    "zero_few_shot": "Zero- and few-shot",
    "full": "Fully trained",
    "peft_llama": "Parameter-efficient, LLaMA",
    "peft_llama2": "Parameter-efficient, LLaMA 2",
    "released": "Released checkpoint",
    "replication": "Replication report",
}
ONE_REFERENCE = "one reference against the others"
_ONE_REFERENCE_NOTE = (
    "One reference of each image, drawn at random, scored against its others. It is no upper "
    "bound: captions that always take the commonest wording pass it."
)
OTHER_SETTINGS = "made with other settings or another version than the study has now"
_MAX_MESSAGE = 200


@dataclass(frozen=True)
class Target:
    """A reported row that a run sets out to reproduce, and its table."""

    table: ReportedTable
    row: ReportedRow

    def cell(self, column: str) -> Cell:
        """Return the reported number."""
        return reported_cell(self.table, self.row, column)


def runs_by_row(
    results: StudyResults, reported: ReportedNumbers, key: str
) -> dict[str, list[RunResult]]:
    """Return the runs that set out to reproduce each row of a reported table, by row name."""
    found: dict[str, list[RunResult]] = {row.name: [] for row in reported.tables[key].rows}
    for run in results.runs:
        for reference in results.study.reported(run.name):
            if reference.table == key:
                found[reported.find(reference).name].append(run)
    return found


def refers_to(results: StudyResults, run: RunResult, *keys: str) -> bool:
    """Tell whether a run sets out to reproduce a row of one of these tables."""
    references: Iterable[ReportedReference] = results.study.reported(run.name)
    return any(reference.table in keys for reference in references)


def measured_row(run: RunResult, columns: Sequence[Column], target: Target | None = None) -> Row:
    """Build the row of a run: mean over its finished seeds, or what keeps it from having one.

    Args:
        run: with or without finished seeds; without, the row says what is missing.
        columns: of scores; the run may lack some, whose cells stay empty.
        target: reported numbers of the same scale, on which verdicts are given.
    """
    notes = [*gap_notes(run), *origin_notes(run)]
    other_items = other_items_note(run, target.table, target.row) if target else ""
    if other_items:
        notes.append(other_items)
        target = None
    cells = {column.key: measured_cell(run, column, target) for column in columns}
    return Row(
        key=run.name,
        kind="measured",
        texts={
            "name": run.label,
            "trainable": trainable_text(run),
            "seeds": seeds_text(run),
        },
        cells={key: cell for key, cell in cells.items() if cell.value is not None},
        notes=tuple(notes),
        state=run.state,
    )


def measured_cell(run: RunResult, column: Column, target: Target | None = None) -> Cell:
    """Build one number of a run, with the verdict where a reported one stands beside it."""
    estimate = run.estimate(column.header)
    if estimate is None:
        return Cell(missing="" if run.finished else run.state)
    cell = replace(estimate_cell(estimate, num_seeds=len(run.finished)), split=scored_split(run))
    if target is None:
        return cell
    return replace(cell, judgement=judge(run, column, target.cell(column.key)))


def scored_split(run: RunResult) -> str:
    """Return the split that a run is scored on; none for MME, which has no splits."""
    has_splits = not facts_of(run.settings.task).benchmark
    return run.settings.evaluation.split if has_splits else ""


def gap_notes(run: RunResult) -> Iterable[str]:
    """Say which seeds a run lacks, and why; and which have left out steps of their training."""
    by_state = {state: [seed for seed in run.seeds if seed.state == state] for state in GAPS}
    for seed in by_state["failed"]:
        if seed.failure:
            message = seed.failure.message.rstrip(".:")
            shown = message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}…"
            number, step = seed.settings.seed, seed.failure.step
            yield f"{run.label}, seed {number}, failed (ademvl {step}): {shown}."
    yield from stale_notes(run)
    if by_state["unfinished"]:
        yield f"Begun and not finished: {_numbered_seeds(by_state['unfinished'])}."
    if run.finished and by_state["not run"]:
        yield f"Not run yet: {_numbered_seeds(by_state['not run'])}."
    yield from (note for seed in run.finished if (note := skipped_note(seed)))
    if others := [seed for seed in run.finished if seed.trained_on_other]:
        yield f"Trained before files of the data set changed: {_numbered_seeds(others)}."


def origin_notes(run: RunResult) -> Iterable[str]:
    """Say where the answers of a run come from that were measured elsewhere."""
    if isinstance(run.settings.method, ElsewhereSettings):
        yield f"{run.label}: measured elsewhere. {run.settings.method.source}"


def stale_notes(run: RunResult) -> Iterable[str]:
    """Say which of a run's seeds have scores that do not count, and why."""
    by_reason: dict[str, list[SeedResult]] = {}
    for seed in run.seeds:
        if seed.state == "stale":
            by_reason.setdefault(seed.reason or OTHER_SETTINGS, []).append(seed)
    for reason, seeds in by_reason.items():
        yield f"Left out, {reason}: {_numbered_seeds(seeds)}."


def skipped_note(seed: SeedResult) -> str:
    """Say how many steps of a training were left out; empty where none was."""
    cost = seed.cost
    if not cost.skipped_steps:
        return ""
    return (
        f"The training of seed {seed.settings.seed} left out {cost.skipped_steps} of {cost.steps} "
        "steps, as loss or gradient was not finite."
    )


def seeds_text(run: RunResult) -> str:
    """Return the finished seeds, or the state of a run that has none."""
    return _seed_list(run.finished) or run.state


def _numbered_seeds(seeds: Sequence[SeedResult]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {_seed_list(seeds)}"


def _seed_list(seeds: Iterable[SeedResult]) -> str:
    return ", ".join(str(seed.settings.seed) for seed in seeds)


def trainable_text(run: RunResult) -> str:
    """Return the number of trained parameters with thousands separated, or nothing."""
    counts = [seed.cost.trainable_parameters for seed in run.finished]
    known = [count for count in counts if count is not None]
    return f"{known[0]:,}" if known else ""


def ceiling_rows(runs: Sequence[RunResult], columns: Sequence[Column]) -> list[Row]:
    """Build what one reference scores against the others: a row for each data set and split.

    It is that of the first run that has been scored there.
    """
    rows: dict[tuple[str, str], Row] = {}
    for run in runs:
        found = {column.key: run.ceiling(column.header) for column in columns}
        cells = {
            key: replace(estimate_cell(value), split=scored_split(run))
            for key, value in found.items()
            if value
        }
        place = (run.settings.data_dir, scored_split(run))
        if cells and place not in rows:
            split = "" if scored_split(run) == "test" else f" ({scored_split(run)})"
            rows[place] = Row(
                key=f"ceiling_{run.name}",
                kind="ceiling",
                texts={"name": f"{ONE_REFERENCE}{split}"},
                cells=cells,
                notes=(_ONE_REFERENCE_NOTE,),
                state="finished",
            )
    return list(rows.values())


def reported_sections(
    reported: ReportedNumbers,
    key: str,
    columns: Sequence[Column],
    measured: Mapping[str, Sequence[RunResult]] | None = None,
) -> tuple[Section, ...]:
    """Build the rows of a reported table, in its printed groups, for the columns it has.

    Args:
        reported: all reported tables, as footnotes may refer to other ones.
        key: of the reported table whose rows are built.
        columns: that the table here prints; reported ones beside them are left out.
        measured: runs of the same scale by the row that they reproduce, which stand below it.
    """
    table = reported.tables[key]
    groups: dict[str, list[Row]] = {}
    for row in table.rows:
        rows = groups.setdefault(_section_title(table, row), [])
        rows.append(reported_row(reported, key, row, columns))
        for run in (measured or {}).get(row.name, ()):
            below = measured_row(run, columns, Target(table, row))
            name = f"measured: {below.texts['name']}"
            rows.append(replace(below, texts={**below.texts, "name": name}))
    return tuple(Section(title=title, rows=tuple(rows)) for title, rows in groups.items())


def _section_title(table: ReportedTable, row: ReportedRow) -> str:
    if row.group:
        return _SECTION_TITLES.get(row.group, row.group)
    if any(other.peft for other in table.rows):
        return "Parameter-efficient" if row.peft else "Others"
    return ""


def reported_row(
    reported: ReportedNumbers, key: str, row: ReportedRow, columns: Sequence[Column]
) -> Row:
    """Build the row of a reported one, with its remarks and discrepancies as footnotes."""
    table = reported.tables[key]
    return Row(
        key=row.name,
        kind="reported",
        texts={
            "name": row.method,
            **{name: setting_text(value) for name, value in row.settings.items()},
            "llm": row.llm,
            "trainable": row.trainable,
            "source": row.source,
        },
        cells={
            column.key: reported_cell(table, row, column.key)
            for column in columns
            if table.value(row, column.key) is not None
        },
        notes=reported_notes(reported, key, row),
    )


def setting_text(value: object) -> str:
    """Print a setting as YAML would: lists without brackets, a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " + ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def reported_cell(table: ReportedTable, row: ReportedRow, column: str) -> Cell:
    """Build a reported number; that of all questions gets the binomial interval."""
    value, n = table.value(row, column), table.n
    if value is None:
        return Cell()
    decimals, split = table.decimals_of(row, column), row.split or table.split
    if n is None or column != "avg":
        return Cell(value=value, decimals=decimals, split=split)
    return replace(derived_cell(value, n), decimals=decimals, split=split)


def derived_cell(value: float | None, n: int) -> Cell:
    """Give a reported accuracy, in percent, the binomial interval of so many questions."""
    if value is None:
        return Cell()
    interval = wilson_interval(round(value * n / 100), n)
    return replace(estimate_cell(interval), value=value, method=DERIVED)


def reported_notes(reported: ReportedNumbers, key: str, row: ReportedRow) -> tuple[str, ...]:
    """Return a reported row's remark and its discrepancies."""
    notes = [row.note[0].upper() + row.note[1:] + "."] if row.note else []
    notes += [discrepancy_text(found) for found in reported.discrepancies_at(key, row)]
    return tuple(notes)


def discrepancy_text(found: Discrepancy) -> str:
    """Say what a text says, and what its source says."""
    return (
        f"{found.where[0].upper()}{found.where[1:]}: {found.says}; "
        f"according to the source ({found.source}): {found.source_says}."
    )
