"""What the page says first: verdicts, effects, and how far each run has come."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from ademvl.config.settings_files import read_copied_run, run_to_plain
from ademvl.config.tasks import all_facts, facts_of
from ademvl.errors import AdemvlError
from ademvl.reporting.headlines import QUESTIONS, Headline
from ademvl.reporting.page.settings_difference import flatten
from ademvl.reporting.reported import ReportedNumbers
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.seed_result import SeedResult
from ademvl.reporting.tables.columns import task_columns
from ademvl.reporting.tables.judging import other_items_note
from ademvl.reporting.tables.layout import DASH, Cell, Column, Judgement, Table
from ademvl.reporting.tables.rows import Target, measured_cell, skipped_note
from ademvl.statistics.intervals import Estimate
from ademvl.statistics.percent import printed

_COLUMNS = tuple(column for task in all_facts() for column in task_columns(task))
_TABLE_OF = {facts.table.reported: facts.table.key for facts in all_facts().values()}
"""Keys of the page's tables by those of reported ones, where they differ."""
_SIGNS = {"finished": "✓ ", "failed": "✗ ", "stale": "↻ ", "unfinished": "◐ ", "not run": "○ "}
_CLASSES = {"finished": "good", "failed": "bad", "not run": ""}
_MAX_CHANGES = 4


@dataclass(frozen=True)
class State:
    """How far a run or seed has come, as a badge: words, a sign that repeats them, a class."""

    words: str
    sign: str
    css_class: str

    @classmethod
    def of(cls, state: str) -> "State":
        """Return the badge of a seed's or run's state."""
        return cls(state, _SIGNS.get(state, "◐ "), _CLASSES.get(state, "open"))


@dataclass(frozen=True)
class Score:
    """A headline number of a run, as printed."""

    name: str
    value: str
    interval: str


@dataclass(frozen=True)
class Answer:
    """What the study says to one of its questions.

    Attributes:
        question: as printed.
        base: label of the run that all others are compared with; empty where they differ.
        headlines: pairs of runs, each with its verdict.
    """

    question: str
    base: str
    headlines: tuple[Headline, ...]

    @property
    def summary(self) -> str:
        """How many pairs have each verdict, where there are several."""
        counts = Counter(headline.verdict.outcome for headline in self.headlines)
        total = len(self.headlines)
        return ", ".join(f"{words} in {number} of {total}" for words, number in counts.items())


def answers(headlines: Sequence[Headline]) -> list[Answer]:
    """Group the effects by the question that they answer, in their order."""
    found = []
    for title, members in groupby(headlines, key=lambda headline: headline.title):
        group = tuple(members)
        bases = {headline.base.label for headline in group}
        base = bases.pop() if len(bases) == 1 else ""
        found.append(Answer(QUESTIONS[title], base, group))
    return found


@dataclass(frozen=True)
class TaskRuns:
    """The runs of one task in the overview; `are_told` whether any has more to say than scores."""

    title: str
    columns: tuple[str, ...]
    lines: tuple["RunLine", ...]

    @property
    def are_told(self) -> bool:
        """Whether any run is not finished, or has remarks."""
        return any(line.details or line.state.words != "finished" for line in self.lines)


@dataclass(frozen=True)
class RunLine:
    """A run in the overview.

    Attributes:
        label: as printed.
        state: badge.
        seeds: finished ones of all, as `2 of 3`.
        scores: headline numbers, dashes until there are any.
        details: what keeps seeds from having scores, and steps that trainings left out.
    """

    label: str
    state: State
    seeds: str
    scores: tuple[Score, ...]
    details: tuple[str, ...]


@dataclass(frozen=True)
class VerdictLine:
    """A verdict on one reported number or change, with the table where it stands."""

    run: str
    table: Table
    column: Column
    cell: Cell
    judgement: Judgement

    @property
    def words(self) -> str:
        """The verdict as printed in the table."""
        return self.column.format_judgement(self.cell)


def runs_by_task(results: StudyResults) -> list[TaskRuns]:
    """Describe every run of the study, task by task, each in its order."""
    found = []
    for task, facts in all_facts().items():
        lines = tuple(_run_line(run) for run in results.of_task(task))
        if lines:
            found.append(TaskRuns(facts.runs_title, facts.headlines, lines))
    return found


def _run_line(run: RunResult) -> RunLine:
    details = []
    for seed in run.seeds:
        if detail := seed_detail(seed):
            name = f"seed {seed.settings.seed}: " if len(run.seeds) > 1 else ""
            details.append(name + detail)
    details += [note for seed in run.finished if (note := skipped_note(seed))]
    columns = {column.header: column for column in task_columns(run.settings.task)}
    headlines = [columns[name] for name in facts_of(run.settings.task).headlines]
    return RunLine(
        label=run.label,
        state=State.of(run.state),
        seeds=f"{len(run.finished)} of {len(run.seeds)}"
        if len(run.finished) < len(run.seeds)
        else str(len(run.seeds)),
        scores=tuple(
            _score(run.estimate(column.header), column.header, column.decimals)
            for column in headlines
        ),
        details=tuple(details),
    )


def _score(estimate: Estimate | None, name: str, decimals: int) -> Score:
    if estimate is None:
        return Score(name, DASH, "")
    return Score(name, *printed(estimate, decimals=decimals))


def seed_detail(seed: SeedResult) -> str:
    """Say what keeps a seed from having scores, beyond its state; empty where nothing is known."""
    if seed.failure is not None:
        return f"ademvl {seed.failure.step} failed: {seed.failure.message}"
    if seed.reason:
        return seed.reason
    if seed.state == "stale":
        changes = _changes(seed)
        made = "other settings" if changes else "another version"
        return f"made with {made} than the study has now{changes}"
    if seed.state == "unfinished":
        return "training began and has not been evaluated yet"
    if seed.trained_on_other:
        return "trained before files of the data set changed"
    return ""


def _changes(seed: SeedResult) -> str:
    """Name the settings that a stale seed was made with."""
    try:
        made_with = dict(flatten(run_to_plain(read_copied_run(seed.run_dir))))
    except AdemvlError:
        return ""
    wanted = dict(flatten(run_to_plain(seed.settings)))
    names = [name for name in wanted | made_with if wanted.get(name) != made_with.get(name)]
    changes = [
        f"{name} {made_with.get(name, DASH)} instead of {wanted.get(name, DASH)}" for name in names
    ]
    more = f" and {len(changes) - _MAX_CHANGES} more" if len(changes) > _MAX_CHANGES else ""
    return f" ({'; '.join(changes[:_MAX_CHANGES])}{more})" if changes else ""


def verdict_lines(
    results: StudyResults, reported: ReportedNumbers, tables: Sequence[Table]
) -> list[VerdictLine]:
    """Collect the verdicts on reported numbers, then on directions of changes.

    A number that stands in several tables, such as the paper's result in each of its ablations, is
    judged once for each run.
    """
    return [*_on_numbers(results, reported, tables), *_on_directions(tables)]


def _on_numbers(
    results: StudyResults, reported: ReportedNumbers, tables: Sequence[Table]
) -> Iterator[VerdictLine]:
    if results.study.scale != "paper":
        return
    by_key = {table.key: table for table in tables}
    judged = set()
    for run in results.runs:
        for reference in results.study.reported(run.name):
            target = Target(reported.tables[reference.table], reported.find(reference))
            if other_items_note(run, target.table, target.row):
                continue
            table = by_key[_TABLE_OF.get(reference.table, reference.table)]
            for column in _COLUMNS:
                cell = measured_cell(run, column, target)
                number = (run.name, column.key, target.cell(column.key).value)
                if cell.judgement is not None and number not in judged:
                    judged.add(number)
                    yield VerdictLine(run.label, table, column, cell, cell.judgement)


def _on_directions(tables: Sequence[Table]) -> Iterator[VerdictLine]:
    for table in tables:
        for block in table.blocks:
            for row in block.rows:
                for column in block.columns:
                    cell = row.cell(column)
                    if column.is_change and cell.judgement is not None:
                        yield VerdictLine(row.texts["run"], table, column, cell, cell.judgement)


def count_verdicts(lines: Sequence[VerdictLine]) -> list[tuple[str, str, int]]:
    """Count verdicts by outcome: stable name, words, number; the commonest first."""
    counts = Counter((line.judgement.outcome, line.judgement.words) for line in lines)
    return [(outcome, words, number) for (outcome, words), number in counts.most_common()]
