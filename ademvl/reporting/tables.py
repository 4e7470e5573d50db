"""The study's tables: accuracy by category, captions, and cost; measured beside reported numbers.

Cost stands in a table of its own, because it differs from run to run, while the others are the same
bytes whenever the scores are the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ademvl.config.study import Study
from ademvl.evaluation.statistics import ONE_SEED, SEEDS_AND_ITEMS
from ademvl.files import write_text
from ademvl.reporting.layout import Block, Cell, Column, Row, Section, Table
from ademvl.reporting.reported import REPORTED_DIR, ReportedNumbers, load_reported
from ademvl.reporting.results import RunResult, StudyResults, read_results
from ademvl.reporting.rows import (
    ceiling_rows,
    measured_row,
    reported_sections,
    trainable_text,
)
from ademvl.reporting.table_csv import to_csv
from ademvl.reporting.table_latex import to_latex
from ademvl.reporting.table_markdown import to_markdown

# Headers are the names in score files, keys those of the reported numbers.
SCIENCEQA_COLUMNS = tuple(
    Column(key=key, header=header, decimals=2, group=group)
    for key, header, group in (
        ("nat", "NAT", "subject"),
        ("soc", "SOC", "subject"),
        ("lan", "LAN", "subject"),
        ("txt", "TXT", "context"),
        ("img", "IMG", "context"),
        ("no", "NO", "context"),
        ("g1_6", "G1-6", "grade"),
        ("g7_12", "G7-12", "grade"),
        ("avg", "AVG", ""),
    )
)
CAPTION_COLUMNS = (
    Column(key="bleu4", header="BLEU-4", decimals=1),
    Column(key="cider", header="CIDEr", decimals=1),
    Column(key="rouge_l", header="ROUGE-L", decimals=1),
)
_CEILING_NOTE = (
    "The ceiling scores one reference of each image, drawn at random, against its others; captions "
    "that always take the commonest wording can pass it."
)
_OTHER_SCALE = "Paper scale: another scale than this study's, not comparable in size."


def write_tables(study: Study, output_dir: Path, *, reported_dir: Path = REPORTED_DIR) -> None:
    """Write every table as CSV, Markdown and LaTeX from whatever has been run.

    Args:
        study: whose runs are looked for.
        output_dir: gets accuracy, captions and cost, each as .csv, .md and .tex.
        reported_dir: numbers of others.

    Raises:
        DataError: a score file, or the reported numbers, are malformed.
    """
    for table in build_tables(read_results(study), load_reported(reported_dir)):
        write_text(output_dir / f"{table.key}.csv", to_csv(table))
        write_text(output_dir / f"{table.key}.md", to_markdown(table))
        write_text(output_dir / f"{table.key}.tex", to_latex(table))


def build_tables(results: StudyResults, reported: ReportedNumbers) -> tuple[Table, ...]:
    """Build all tables of a study."""
    return (
        accuracy_table(results, reported),
        captions_table(results, reported),
        cost_table(results),
    )


def accuracy_table(results: StudyResults, reported: ReportedNumbers) -> Table:
    """Build the accuracy by category of all ScienceQA runs."""
    runs = results.of_task("scienceqa")
    return Table(
        key="accuracy",
        short_title="Accuracy by category",
        title=f"Accuracy by category, study {results.study.name}",
        unit="accuracy in percent",
        blocks=_blocks(
            results.study,
            [measured_row(run, SCIENCEQA_COLUMNS) for run in runs],
            reported_sections(reported, "scienceqa_test", SCIENCEQA_COLUMNS),
            columns=SCIENCEQA_COLUMNS,
            title=reported.tables["scienceqa_test"].title,
        ),
        notes=(
            *_interval_notes(runs),
            "Intervals of reported averages: binomial (Wilson), derived here from n.",
            *_source_notes(reported, "scienceqa_test"),
        ),
    )


def captions_table(results: StudyResults, reported: ReportedNumbers) -> Table:
    """Build the caption scores, with the ceiling: one reference scored against the others."""
    runs = results.of_task("coco_caption")
    ceilings = ceiling_rows(runs, CAPTION_COLUMNS)
    measured = [measured_row(run, CAPTION_COLUMNS) for run in runs] + ceilings
    return Table(
        key="captions",
        short_title="Captions",
        title=f"Captions, study {results.study.name}",
        unit="score times 100",
        blocks=_blocks(
            results.study,
            measured,
            reported_sections(reported, "coco_caption_karpathy_test", CAPTION_COLUMNS),
            columns=CAPTION_COLUMNS,
            title=reported.tables["coco_caption_karpathy_test"].title,
        ),
        notes=(
            *_interval_notes(runs),
            "CIDEr is CIDEr-D with document frequencies of the scored images' references: it "
            "compares on the same images only.",
            *([_CEILING_NOTE] if ceilings else []),
            *_source_notes(reported, "coco_caption_karpathy_test"),
        ),
    )


def _blocks(
    study: Study,
    measured: Sequence[Row],
    reported: Sequence[Section],
    *,
    columns: tuple[Column, ...],
    title: str,
) -> tuple[Block, ...]:
    """Put measured and reported rows into one block where they are of one scale, else into two."""
    if study.scale == "paper":
        ours = [Section(title="Measured here", rows=tuple(measured))] if measured else []
        sections = (*ours, *reported)
        return (Block(title=title, scale="paper", columns=columns, sections=sections),)
    theirs = Block(
        title=f"Reported: {title}",
        scale="paper",
        columns=columns,
        sections=tuple(reported),
        remark=_OTHER_SCALE,
    )
    if not measured:
        return (theirs,)
    mine = Block(
        title=f"Measured: {study.scale} scale",
        scale=study.scale,
        columns=tuple(_with_note(column, study.column_notes) for column in columns),
        sections=(Section(title="", rows=tuple(measured)),),
    )
    return (mine, theirs)


def _interval_notes(runs: Sequence[RunResult]) -> tuple[str, ...]:
    """Name the methods of the 95 % intervals of runs."""
    estimates = [value for run in runs for seed in run.finished for value in seed.scores.values()]
    if not estimates:
        return ()
    methods = sorted({estimate.method for estimate in estimates})
    combined = [SEEDS_AND_ITEMS] if any(len(run.finished) > 1 for run in runs) else []
    single = [ONE_SEED] if any(len(run.finished) == 1 for run in runs) else []
    parts = "; ".join([*methods, *combined, *single])
    return (f"95 % intervals of measured numbers: {parts}.",)


def _source_notes(reported: ReportedNumbers, key: str) -> tuple[str, ...]:
    cited = dict.fromkeys(row.source for row in reported.tables[key].rows)
    return tuple(f"Source {name}: {reported.sources[name].citation}." for name in cited)


def _with_note(column: Column, notes: Mapping[str, str]) -> Column:
    note = notes.get(column.key)
    return (
        replace(column, note=f"{column.header} in this study's data: {note}.") if note else column
    )


def cost_table(results: StudyResults) -> Table:
    """Build what each seed's training took."""
    columns = (
        Column(key="train_seconds", header="training (s)", decimals=1),
        Column(key="peak_memory_mib", header="peak memory (MiB)", decimals=0),
        Column(key="energy_joules", header="energy of GPUs (J)", decimals=0),
    )
    rows = tuple(
        Row(
            key=run.name,
            kind="measured",
            texts={
                "name": f"{run.label} ({run.settings.task})",
                "trainable": trainable_text(run),
                "seeds": str(seed.settings.seed),
            },
            cells={column.key: Cell(value=getattr(seed.cost, column.key)) for column in columns},
            state=seed.state,
        )
        for run in results.runs
        for seed in run.seeds
    )
    sections = (Section(title="", rows=rows),)
    hardware = dict.fromkeys(seed.cost.hardware for run in results.runs for seed in run.seeds)
    known = " and ".join(name for name in hardware if name)
    return Table(
        key="cost",
        short_title="Cost",
        title=f"Cost of training, study {results.study.name}",
        unit="",
        blocks=(
            Block(title="Training", scale=results.study.scale, columns=columns, sections=sections),
        ),
        notes=(f"Measured on {known}.",) if known else (),
    )
