"""Methods under equal conditions: accuracy, difference to ADEM-VL, ranking and cost."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ademvl.config.optimization import CHOICE_SEED
from ademvl.reporting.effects import direction
from ademvl.reporting.method_comparison import (
    REPORTED_TABLE,
    MethodComparison,
    MethodRow,
    reported_average,
    share,
)
from ademvl.reporting.reported import ReportedNumbers, ReportedTable
from ademvl.reporting.results import StudyResults
from ademvl.reporting.tables.columns import SCIENCEQA_COLUMNS, columns_of
from ademvl.reporting.tables.cost import hardware_notes
from ademvl.reporting.tables.judging import difference_cell
from ademvl.reporting.tables.layout import Block, Cell, Column, Row, Section, Table
from ademvl.reporting.tables.rows import (
    gap_notes,
    measured_cell,
    reported_row,
    seeds_text,
    trainable_text,
)
from ademvl.reporting.tables.scores import OTHER_SCALE, run_notes, source_notes
from ademvl.runs.chosen_rate import RateChoice
from ademvl.statistics.ranking import METHOD

_AVERAGE = replace(SCIENCEQA_COLUMNS[-1], header="accuracy", group="all questions")
_GROUP = "reported (paper scale)"
_DIFFERENCE = replace(_AVERAGE, key="difference", header="minus ADEM-VL", is_change=True)
_SCORES = (
    _AVERAGE,
    _DIFFERENCE,
    Column(key="first", header="first (% of draws)", decimals=1, group="ranking"),
    Column(key="place", header="place", decimals=0, group="ranking"),
)
_REPORTED = (
    replace(_AVERAGE, key="reported", group=_GROUP, kind="reported", scale="paper"),
    Column(
        key="reported_place", header="place", decimals=0, group=_GROUP, kind="reported",
        scale="paper",
    ),
)  # fmt: skip
_COSTS = (
    Column(key="step_seconds", header="training (s/step)", decimals=3),
    Column(key="answer_ms", header="inference (ms/item)", decimals=2),
    Column(key="peak_memory_mib", header="peak memory (MiB)", decimals=0),
    Column(key="training_gflop", header="training (GFLOP/item)", decimals=2),
    Column(key="answer_gflop", header="inference (GFLOP/item)", decimals=2),
)
_LLAMA_7B = "LLaMA-7B"
_NOTES = (
    "Minus ADEM-VL: on the same questions, paired; methods with adapters in the tower against "
    "ADEM-VL with its own there, the others against ADEM-VL with a frozen tower. A direction "
    "is named where the interval leaves out 0 and the spread between seeds is known.",
    f"Ranking, in each part by itself: {METHOD}. Place: by the measured means, and between which "
    "places 95 % of the draws lie.",
    "Costs are those of the study's own jobs, which ran beside each other; "
    "benchmarks/methods.py measures methods in turn. Operations: one row with an image, of the "
    "mean length of the run's training rows.",
)


def comparison_table(
    results: StudyResults, reported: ReportedNumbers, comparisons: Sequence[MethodComparison]
) -> Table:
    """Build the table of a study's methods, and below it what others reported of theirs.

    Args:
        comparisons: of the study's methods; without any, the reported block stands alone.
    """
    runs = [row.run for found in comparisons for row in found.rows]
    notes = (*run_notes(runs), *_NOTES, *hardware_notes(results)) if comparisons else ()
    return Table(
        key="comparison",
        title=f"Methods under equal conditions, study {results.study.name}",
        short_title="Methods compared",
        unit="",
        blocks=(
            *(block for found in comparisons for block in _blocks(results, reported, found)),
            _reported_block(reported),
        ),
        effects=tuple(f"{text}." for found in comparisons for text in found.sentences),
        notes=notes,
        reported_notes=source_notes(reported, REPORTED_TABLE, "efficiency"),
    )


def _blocks(
    results: StudyResults, reported: ReportedNumbers, comparison: MethodComparison
) -> Iterator[Block]:
    """Yield scores with ranking, costs, and from what learning rates were chosen."""
    places = _reported_places(reported, comparison.rows)
    scale = results.study.scale
    title = f"Measured: {scale} scale, language model {comparison.llm}"
    other = f" {OTHER_SCALE}" if places and scale != "paper" else ""
    parts = comparison.parts.items()
    scores = Block(
        title=title,
        scale=scale,
        columns=(*_SCORES, *(_REPORTED if places else ())),
        sections=tuple(
            Section(title=part, rows=tuple(_row(reported, row, places) for row in rows))
            for part, rows in parts
        ),
        remark=f"Accuracies in percent, 95 % intervals.{other}",
    )
    yield scores
    yield replace(
        scores,
        title=f"{title}, cost",
        columns=_COSTS,
        sections=tuple(
            Section(title=part, rows=tuple(_costs_row(row) for row in rows)) for part, rows in parts
        ),
        remark="Means over seeds.",
    )
    chosen = [row for row in comparison.rows if row.choice]
    if chosen:
        yield _choices_block(title, results, chosen)


def _costs_row(row: MethodRow) -> Row:
    return Row(
        key=row.run.name,
        kind="measured",
        texts={"name": row.run.label, "trainable": trainable_text(row.run)},
        cells=_costs(row),
        state=row.run.state,
    )


def _choices_block(title: str, results: StudyResults, rows: Sequence[MethodRow]) -> Block:
    """Build what each rate of the grid scored on val, and what the choice took."""
    choices = [(row, row.choice) for row in rows if row.choice]
    rates = sorted({rate for _, choice in choices for rate in choice.grid})
    columns = [
        Column(key=f"base_lr_{rate:g}", header=f"{rate:g}", decimals=2, group="base lr")
        for rate in rates
    ]
    return Block(
        title=f"{title}, choice of learning rates",
        scale=results.study.scale,
        columns=(*columns, Column(key="seconds", header="training in all (s)", decimals=0)),
        sections=(Section(title="", rows=tuple(_choice_row(*pair) for pair in choices)),),
        remark=f"Accuracy on the val split in percent, one training of each rate with seed "
        f"{CHOICE_SEED}; the test split has no part in it.",
    )


def _choice_row(row: MethodRow, choice: RateChoice) -> Row:
    cells = {
        f"base_lr_{found.base_lr:g}": Cell(
            value=found.score,
            n=found.n if found.score is not None else None,
            split=choice.split,
            missing="diverged",
        )
        for found in choice.candidates
    }
    edge = f"{row.run.label}: the chosen rate is at an end of the grid."
    return Row(
        key=row.run.name,
        kind="measured",
        texts={"name": row.run.label, "chosen": f"{choice.base_lr:g}"},
        cells={**cells, "seconds": Cell(value=choice.seconds)},
        notes=(edge,) if choice.is_at_edge else (),
        state=row.run.state,
    )


def _row(reported: ReportedNumbers, row: MethodRow, places: dict[str, int]) -> Row:
    run, found, ranked = row.run, row.difference, row.rank
    cells = {"avg": measured_cell(run, SCIENCEQA_COLUMNS[-1])}
    if found:
        cells["difference"] = difference_cell(found)
    if ranked:
        cells["first"] = Cell(value=100 * ranked.first)
        cells["place"] = Cell(
            value=ranked.place,
            ci_low=ranked.low,
            ci_high=ranked.high,
            method=METHOD,
            covers="seeds and items",
        )
    if row.reported and (average := reported_average(reported, row)) is not None:
        cells["reported"] = Cell(value=average)
        cells["reported_place"] = Cell(value=places[row.reported.name])
    return Row(
        key=run.name,
        kind="measured",
        texts={
            "name": run.label,
            "base_lr": f"{run.settings.optimization.base_lr:g}",
            "than_adem_vl": _verdict(row),
            "trainable": trainable_text(run),
            "seeds": seeds_text(run),
        },
        cells=cells,
        notes=tuple(gap_notes(run)),
        state=run.state,
    )


def _verdict(row: MethodRow) -> str:
    if row.is_base:
        return "(base)"
    return direction(row.difference) if row.difference else ""


def _costs(row: MethodRow) -> dict[str, Cell]:
    numbers = {
        "step_seconds": (row.step_seconds, 1.0),
        "answer_ms": (row.cost("answer_seconds"), 1e3),
        "peak_memory_mib": (row.cost("peak_memory_mib"), 1.0),
        "training_gflop": (row.cost("training_flops"), 1e-9),
        "answer_gflop": (row.cost("answer_flops"), 1e-9),
    }
    return {
        key: Cell(value=number * factor)
        for key, (number, factor) in numbers.items()
        if number is not None
    }


def _reported_places(reported: ReportedNumbers, rows: Sequence[MethodRow]) -> dict[str, int]:
    """Return the places, among these rows alone, that reported numbers give; from 1."""
    values = {
        row.reported.name: average
        for row in rows
        if row.reported and (average := reported_average(reported, row)) is not None
    }
    return _places(values)


def _places(values: dict[str, float]) -> dict[str, int]:
    return {
        name: 1 + sum(other > value for other in values.values()) for name, value in values.items()
    }


def _reported_block(reported: ReportedNumbers) -> Block:
    """Build the paper's own comparison of methods with LLaMA-7B: accuracy, place, efficiency."""
    table, efficiency = reported.tables[REPORTED_TABLE], reported.tables["efficiency"]
    costs = columns_of(efficiency)[:3]
    rows = [row for row in table.rows if row.group == "peft_llama" and row.llm == _LLAMA_7B]
    averages = {row.name: table.value(row, "avg") or 0.0 for row in rows}
    places = _places(averages)
    shown = []
    for row in sorted(rows, key=lambda row: places[row.name]):
        cells = {"avg": Cell(value=averages[row.name]), "place": Cell(value=places[row.name])}
        cells |= dict(_reported_costs(efficiency, row.method, costs))
        shown.append(replace(reported_row(reported, REPORTED_TABLE, row, ()), cells=cells))
    return Block(
        title=f"Reported: the paper's comparison, {_LLAMA_7B}",
        scale="paper",
        columns=(replace(_AVERAGE, group=""), replace(_SCORES[-1], group=""), *costs),
        sections=(Section(title="", rows=tuple(shown)),),
        remark="Methods that the paper lists with other recipes and other prompts each.",
    )


def _reported_costs(
    table: ReportedTable, method: str, columns: Sequence[Column]
) -> Iterator[tuple[str, Cell]]:
    for row in table.rows:
        if (row.method, row.llm) == (method, "7B"):
            for column in columns:
                yield column.key, Cell(value=table.value(row, column.key))


def short_text(comparisons: Sequence[MethodComparison]) -> str:
    """Render the main numbers of comparisons in Markdown, for README: what table and page say."""
    lines: list[str] = []
    for found in comparisons:
        for tower, rows in found.parts.items():
            lines += [
                f"{tower}, language model {found.llm}:",
                "",
                "| method | seeds | trained | accuracy | minus ADEM-VL | first, of all draws |",
                "|---|---|---:|---:|---:|---:|",
                *(f"| {' | '.join(_short_cells(row))} |" for row in rows),
                "",
            ]
        lines += [f"- {text}" for text in found.sentences]
        lines += [""] if found.sentences else []
    return "\n".join(lines)


def _short_cells(row: MethodRow) -> list[str]:
    accuracy = measured_cell(row.run, SCIENCEQA_COLUMNS[-1])
    gained = difference_cell(row.difference) if row.difference else Cell()
    return [
        row.run.label,
        seeds_text(row.run),
        trainable_text(row.run),
        f"{_AVERAGE.format_cell(accuracy)} {_AVERAGE.format_interval(accuracy)}".strip(),
        f"{_DIFFERENCE.format_cell(gained)} {_DIFFERENCE.format_interval(gained)}".strip(),
        share(row.rank) if row.rank else "",
    ]
