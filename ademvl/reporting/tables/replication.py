"""The replication report's first table: the paper, the released weights, and a retraining.

One line a ScienceQA category; under each of the three heads the reported numbers with their source,
and beside them every run of the study that reproduces one of them. Mini runs are no retraining of
ADEM-VL with LLaMA-7B: they never stand here, whichever row they are compared with elsewhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ademvl.reporting.reported import ReportedNumbers, ReportedRow
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.tables.columns import SCIENCEQA_COLUMNS
from ademvl.reporting.tables.judging import other_items_note
from ademvl.reporting.tables.layout import Block, Cell, Column, Row, Section, Table
from ademvl.reporting.tables.rows import (
    Target,
    gap_notes,
    measured_cell,
    reported_cell,
    reported_notes,
    runs_by_row,
    scored_split,
    seeds_text,
)
from ademvl.reporting.tables.scores import run_notes, source_notes

_KEY = "scienceqa_test"
_PAPER = "ADEM-VL, LLaMA-7B"
_RELEASED = {
    "ADEM-VL (released checkpoint, as printed by its authors), LLaMA-7B": "by its authors",
    "ADEM-VL (released checkpoint, evaluated by the report), LLaMA-7B": "by the report",
}
_RETRAINED = {"ADEM-VL (retrained by the report, 5 epochs on 1 GPU), LLaMA-7B": "by the report"}


@dataclass(frozen=True)
class _Source:
    """A column with the numbers that fill it."""

    column: Column
    cells: Mapping[str, Cell]


def replication_table(results: StudyResults, reported: ReportedNumbers) -> Table:
    """Build the three-column table, ADEM-VL with LLaMA-7B on the test split of ScienceQA."""
    found = list(_sources(results, reported))
    rows = tuple(
        Row(
            key=category.key,
            kind="reported",
            texts={"name": category.header, "n": _num_items(found, category.key)},
            cells={source.column.key: source.cells[category.key] for source in found},
        )
        for category in SCIENCEQA_COLUMNS
    )
    by_row = _runs_by_row(results, reported)
    runs = {run.name: run for name in (_PAPER, *_RELEASED, *_RETRAINED) for run in by_row[name]}
    block = Block(
        title="The paper, its released weights, and retraining",
        scale="paper",
        columns=tuple(source.column for source in found),
        sections=(Section(title="", rows=rows),),
        row_header="category",
        has_items_by_row=True,
    )
    return Table(
        key="replication",
        title=f"ScienceQA, ADEM-VL with LLaMA-7B, study {results.study.name}",
        short_title="Paper, released weights, retrained",
        unit="accuracy in percent",
        blocks=(block,),
        notes=run_notes(tuple(runs.values())),
        reported_notes=source_notes(reported, _KEY),
    )


def _num_items(sources: Sequence[_Source], category: str) -> str:
    """Return the number of questions of a category, as far as numbers of the paper's scale tell."""
    known = [source.cells[category].n for source in sources]
    return next((str(n) for n in known if n), "")


def _rows_of(reported: ReportedNumbers) -> dict[str, ReportedRow]:
    return {row.name: row for row in reported.tables[_KEY].rows}


def _runs_by_row(
    results: StudyResults, reported: ReportedNumbers
) -> Mapping[str, Sequence[RunResult]]:
    """Return the runs that retrain or evaluate what a row is about, by its name."""
    found = runs_by_row(results, reported, _KEY)
    return found if results.study.scale == "paper" else dict.fromkeys(found, ())


def _sources(results: StudyResults, reported: ReportedNumbers) -> Iterator[_Source]:
    """Yield the columns of the three heads from left to right."""
    heads: Mapping[str, Mapping[str, str]] = {
        "paper": {_PAPER: "by its authors"},
        "released weights": _RELEASED,
        "retrained": _RETRAINED,
    }
    for head, members in heads.items():
        for name, header in members.items():
            yield _reported_source(reported, name, head=head, header=header)
        if head != "paper":
            yield from _measured_sources(results, reported, members, head=head)
        if head == "retrained":  # the paper's number is that of a training as well
            paper = {_PAPER: "of the paper"}
            yield from _measured_sources(results, reported, paper, head=head)


def _reported_source(reported: ReportedNumbers, name: str, *, head: str, header: str) -> _Source:
    table, row = reported.tables[_KEY], _rows_of(reported)[name]
    notes = [f"Source {row.source}.", *reported_notes(reported, _KEY, row)]
    return _Source(
        Column(
            key=f"reported_{head}_{row.source}".replace(" ", "_"),
            header=header,
            decimals=2,
            group=head,
            note=" ".join(notes),
        ),
        {key: reported_cell(table, row, key) for key in table.columns},
    )


def _measured_sources(
    results: StudyResults, reported: ReportedNumbers, members: Mapping[str, str], *, head: str
) -> Iterator[_Source]:
    table, by_row = reported.tables[_KEY], _runs_by_row(results, reported)
    for name, against in members.items():
        for run in by_row[name]:
            row = _rows_of(reported)[name]
            other_items = other_items_note(run, table, row)
            target = None if other_items else Target(table, row)
            plural = "s" if len(run.finished) > 1 else ""
            state = f"seed{plural} {seeds_text(run)}" if run.finished else run.state
            about = f"Run {run.label}, {state}"
            about += f"; verdict on the number {against}." if target else "."
            notes = [about, *gap_notes(run), other_items]
            split = scored_split(run)
            yield _Source(
                Column(
                    key=f"measured_{run.name}_{row.source}",
                    header="here" if split == "test" else f"here ({split})",
                    decimals=2,
                    group=head,
                    kind="measured",
                    scale="paper",
                    note=" ".join(note for note in notes if note),
                ),
                {column.key: measured_cell(run, column, target) for column in SCIENCEQA_COLUMNS},
            )
