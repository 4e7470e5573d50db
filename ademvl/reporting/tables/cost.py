"""Tables of what runs took: each training, and training speed beside reported efficiency.

They differ between repetitions of the same run, while all other tables are the same bytes whenever
the scores are the same.
"""

from collections.abc import Iterable
from statistics import mean

from ademvl.config.run import PREDICTIONS, PRETRAINED, RELEASED
from ademvl.reporting.method_comparison import training_speeds
from ademvl.reporting.reported import ReportedNumbers
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.seed_result import SeedResult
from ademvl.reporting.tables.columns import columns_of
from ademvl.reporting.tables.layout import Block, Cell, Column, Row, Section, Table
from ademvl.reporting.tables.rows import (
    gap_notes,
    reported_sections,
    seeds_text,
    skipped_note,
    trainable_text,
)
from ademvl.reporting.tables.scores import source_notes

_COST_COLUMNS = (
    Column(key="train_seconds", header="training (s)", decimals=1),
    Column(key="peak_memory_mib", header="peak memory (MiB)", decimals=0),
    Column(key="energy_joules", header="energy of GPUs (J)", decimals=0),
)
_SPEED_COLUMNS = (
    Column(key="step_seconds", header="training (s/step)", decimals=3),
    Column(key="items_per_second", header="items/s", decimals=1),
    Column(key="gpu_hours", header="training in all (GPU hours)", decimals=2),
)


def cost_table(results: StudyResults) -> Table:
    """Build what each seed's training took."""
    rows = tuple(
        Row(
            key=run.name,
            kind="measured",
            texts={
                "name": f"{run.label} ({run.settings.task})",
                "trainable": trainable_text(run),
                "seeds": str(seed.settings.seed),
            },
            cells={
                column.key: Cell(
                    value=getattr(seed.cost, column.key) if seed.state == "finished" else None,
                    missing="" if seed.state == "finished" or place else seed.state,
                )
                for place, column in enumerate(_COST_COLUMNS)
            },
            notes=tuple(_cost_notes(run, seed)),
            state=seed.state,
        )
        for run in results.runs
        for seed in run.seeds
    )
    block = Block(
        title="Training",
        scale=results.study.scale,
        columns=_COST_COLUMNS,
        sections=(Section(title="", rows=rows),),
    )
    return Table(
        key="cost",
        title=f"Cost of training, study {results.study.name}",
        short_title="Cost",
        unit="",
        blocks=(block,),
        notes=hardware_notes(results),
    )


def _cost_notes(run: RunResult, seed: SeedResult) -> Iterable[str]:
    if seed.state != "finished":
        yield from gap_notes(run)
    elif seed.cost.adapter_of:
        yield f"Evaluates the adapter of run {seed.cost.adapter_of}: training was spent once."
    elif run.settings.adapter == RELEASED:
        yield "Evaluates a released adapter: what its training took is not known."
    elif run.settings.adapter == PRETRAINED:
        yield "Evaluates a pretrained system: what its training took is not known."
    elif run.settings.adapter == PREDICTIONS:
        yield "Its answers were measured elsewhere."
    if seed.state == "finished" and (skipped := skipped_note(seed)):
        yield skipped


def efficiency_table(results: StudyResults, reported: ReportedNumbers) -> Table:
    """Build the reported efficiency, and the speed of this study's trainings apart from it."""
    table = reported.tables["efficiency"]
    columns = columns_of(table)
    theirs = Block(
        title=f"Reported: {table.title[0].lower()}{table.title[1:]}",
        scale="paper",
        columns=columns,
        sections=reported_sections(reported, "efficiency", columns),
        remark="One new token at a text length of 256; GPU hours are summed over 8 A800.",
    )
    rows = tuple(_speed_row(run) for run in results.runs if any(training_speeds(run)))
    mine = Block(
        title=f"Measured: {results.study.scale} scale",
        scale=results.study.scale,
        columns=_SPEED_COLUMNS,
        sections=(Section(title="", rows=rows),),
        remark="Other hardware than the reported numbers', and so no verdict. A step is one "
        "effective batch; times without loading and evaluation, GPU hours with loading.",
    )
    return Table(
        key="efficiency",
        title=f"Efficiency, study {results.study.name}",
        short_title="Efficiency",
        unit="",
        blocks=(mine, theirs) if rows else (theirs,),
        notes=hardware_notes(results) if rows else (),
        reported_notes=source_notes(reported, "efficiency"),
    )


def _speed_row(run: RunResult) -> Row:
    rates = training_speeds(run)
    rate = mean(rates)
    batch = run.settings.optimization.effective_batch_size
    hours = [seed.cost.gpu_hours for seed in run.finished if seed.cost.gpu_hours is not None]
    return Row(
        key=run.name,
        kind="measured",
        texts={
            "name": f"{run.label} ({run.settings.task})",
            "effective_batch": str(batch),
            "trainable": trainable_text(run),
            "seeds": seeds_text(run),
        },
        cells={
            "step_seconds": Cell(value=batch / rate),
            "items_per_second": Cell(value=rate),
            "gpu_hours": Cell(value=mean(hours) if hours else None),
        },
        state=run.state,
    )


def hardware_notes(results: StudyResults) -> tuple[str, ...]:
    """Say what a study's trainings ran on."""
    hardware = dict.fromkeys(seed.cost.hardware for run in results.runs for seed in run.seeds)
    known = " and ".join(name for name in hardware if name)
    return (f"Measured on {known}.",) if known else ()
