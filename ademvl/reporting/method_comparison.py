"""Methods under equal conditions: each against ADEM-VL on the same questions, and their ranking.

One place measures, so that table, figure, page, terminal and README say the same. Runs that train
inside the tower and those with a frozen one are ranked apart; the order that others reported is
compared with that of all. With too few seeds there are numbers, and neither verdict nor ranking.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

import numpy as np

from ademvl.config.method_groups import MethodGroup, method_groups
from ademvl.errors import AdemvlError
from ademvl.evaluation.comparison.item_scores import ItemScores, accuracy_in, read_item_scores
from ademvl.randomness import derive_seed
from ademvl.reporting.reported import ReportedNumbers, ReportedRow
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.tables.layout import MINUS
from ademvl.runs.chosen_rate import RateChoice, choice_of
from ademvl.statistics.intervals import Floats, Interval, percentiles
from ademvl.statistics.paired import Difference
from ademvl.statistics.rank_order import kendall_tau, kendall_taus
from ademvl.statistics.ranking import METHOD, Rank, draw_scores, rank

COLUMN = "AVG"
REPORTED_TABLE = "scienceqa_test"
TOWERS = {"cached": "Frozen tower", "online": "Adapters in the tower"}
"""Headings of the parts that are ranked apart, by how runs read images."""
_MIN_RANKED = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """One run of a comparison.

    Attributes:
        run: with its scores and costs.
        base: run of ADEM-VL that it is compared with; itself for a base.
        tower: heading of the part that it is ranked in.
        difference: run minus base; None for a base, and where it is not known.
        rank: in its part; None where there is no ranking.
        reported: row that the run sets out to reproduce, if any.
        choice: of its learning rate, where that was chosen from a grid.
    """

    run: RunResult
    base: RunResult
    tower: str
    difference: Difference | None = None
    rank: Rank | None = None
    reported: ReportedRow | None = None
    choice: RateChoice | None = None

    @property
    def is_base(self) -> bool:
        """Whether others are compared with it."""
        return self.run.name == self.base.name

    @property
    def accuracy(self) -> float | None:
        """Mean over seeds, a fraction."""
        estimate = self.run.estimate(COLUMN)
        return estimate.value if estimate else None

    def cost(self, name: str) -> float | None:
        """Return the mean over seeds of one of `Cost`'s numbers; None where none is known."""
        known = [getattr(seed.cost, name) for seed in self.run.finished]
        found = [number for number in known if number is not None]
        return mean(found) if found else None

    @property
    def step_seconds(self) -> float | None:
        """Time of a training step, mean over seeds of the median."""
        rates = training_speeds(self.run)
        return self.run.settings.optimization.effective_batch_size / mean(rates) if rates else None


@dataclass(frozen=True, kw_only=True)
class OrderOfOthers:
    """How far the methods' order is the reported one.

    Attributes:
        tau: Kendall's tau-b of the measured means.
        interval: of it; None without a ranking.
        num_methods: that both orders have.
    """

    tau: float
    interval: Interval | None
    num_methods: int


@dataclass(frozen=True, kw_only=True)
class MethodComparison:
    """Runs that are compared with each other; see `MethodGroup`."""

    llm: str
    rows: tuple[MethodRow, ...]
    order: OrderOfOthers | None

    @property
    def parts(self) -> Mapping[str, tuple[MethodRow, ...]]:
        """The rows by heading of the parts that are ranked apart."""
        return {
            tower: rows
            for tower in TOWERS.values()
            if (rows := tuple(row for row in self.rows if row.tower == tower))
        }

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the ranking says, with its uncertainty, and why it says nothing where it does."""
        return tuple(self._sentences())

    def _sentences(self) -> Iterator[str]:
        for tower, rows in self.parts.items():
            ranked = [(row.rank, row.run.label) for row in rows if row.rank]
            if ranked:
                ranked.sort(key=lambda pair: -pair[0].first)
                shown = [f"{label} in {share(found)}" for found, label in ranked if found.first]
                yield f"{tower}, {self.llm}: first of {len(ranked)} comes {', '.join(shown)}"
            elif len(rows) > 1 and any(row.accuracy is not None for row in rows):
                yield f"{tower}, {self.llm}: no ranking, too few seeds"
        if self.order:
            yield f"{self.llm}: {order_text(self.order)}"


def share(found: Rank) -> str:
    """Print how often a run comes first; what is neither none nor all is never rounded to it."""
    percent = min(max(100 * found.first, 0.1), 99.9) if 0 < found.first < 1 else 100 * found.first
    return f"{percent:.1f} %"


def order_text(order: OrderOfOthers) -> str:
    """Print how far the order is the reported one."""
    tau = f"{order.tau:.2f}"
    how = "no interval, too few seeds"
    if order.interval:
        tau += f" [{order.interval.low:.2f}, {order.interval.high:.2f}]"
        how = "95 % of the draws"
    return (
        "order of the methods, measured against reported: Kendall's tau-b = "
        f"{tau.replace('-', MINUS)} over {order.num_methods} methods ({how})"
    )


def training_speeds(run: RunResult) -> list[float]:
    """Return the median training speed of each finished seed, items per second."""
    own = [seed for seed in run.finished if not seed.cost.adapter_of]
    curves = [seed.learning_curve() for seed in own]
    return [median(row.items_per_second for row in curve) for curve in curves if curve]


def compare_methods(
    results: StudyResults, reported: ReportedNumbers
) -> tuple[MethodComparison, ...]:
    """Compare the methods of a study, item by item, as far as its runs are finished.

    Runs whose predictions cannot be compared, for example because their data is gone, have no
    difference and no rank, with a warning.
    """
    return tuple(_compare(results, reported, group) for group in method_groups(results.study))


def _compare(
    results: StudyResults, reported: ReportedNumbers, group: MethodGroup
) -> MethodComparison:
    by_name = {run.name: run for run in results.runs}
    items = _read_items([by_name[name] for name in group.bases])
    names = list(items)
    correct = [items[name].right_answers() for name in names]
    draws = draw_scores(correct, seed=derive_seed(0, "ranking")) if len(names) > 1 else None
    scores = {name: float(found.mean()) for name, found in zip(names, correct, strict=True)}
    ranks: dict[str, Rank] = {}
    for tower in TOWERS:
        members = [name for name in names if group.modes[name] == tower]
        if draws is not None and len(members) > 1:
            places = [names.index(name) for name in members]
            found = rank([scores[name] for name in members], draws[:, places])
            ranks |= dict(zip(members, found, strict=True))
    rows = tuple(
        MethodRow(
            run=by_name[name],
            base=by_name[base],
            tower=TOWERS[group.modes[name]],
            difference=_difference(results, by_name[name], by_name[base], items),
            rank=ranks.get(name),
            reported=_reported_row(results, reported, name),
            choice=choice_of(results.study.results_dir, by_name[name].settings),
        )
        for name, base in group.bases.items()
    )
    return MethodComparison(llm=group.llm, rows=rows, order=_order(rows, reported, names, draws))


def _read_items(runs: Sequence[RunResult]) -> dict[str, ItemScores]:
    """Read the predictions of the runs that have any, of the same items as the first."""
    found: dict[str, ItemScores] = {}
    for run in runs:
        if not run.seed_estimates(COLUMN):
            continue
        try:
            found[run.name] = read_item_scores([seed.run_dir for seed in run.finished])
        except AdemvlError as error:
            _log.warning("%s is not compared: %s", run.label, error)
    return found


def _difference(
    results: StudyResults, run: RunResult, base: RunResult, items: Mapping[str, ItemScores]
) -> Difference | None:
    if run.name == base.name or not {run.name, base.name} <= items.keys():
        return None
    others = results.spread_beside(COLUMN, run, base)
    return accuracy_in(items[run.name], items[base.name], COLUMN, others=others)


def _reported_row(
    results: StudyResults, reported: ReportedNumbers, name: str
) -> ReportedRow | None:
    references = results.study.reported(name)
    return next((reported.find(r) for r in references if r.table == REPORTED_TABLE), None)


def _order(
    rows: Sequence[MethodRow],
    reported: ReportedNumbers,
    names: Sequence[str],
    draws: Floats | None,
) -> OrderOfOthers | None:
    """Compare the order of the first run of each reported row with theirs."""
    first = {row.reported.name: row for row in reversed(rows) if row.reported}
    known = [
        (row, value)
        for row in first.values()
        if row.run.name in names and (value := reported_average(reported, row)) is not None
    ]
    if len(known) < _MIN_RANKED:
        return None
    printed = [value for _, value in known]
    measured = [row.accuracy or 0.0 for row, _ in known]
    interval = None
    if draws is not None:
        places = [names.index(row.run.name) for row, _ in known]
        low, high = percentiles(kendall_taus(draws[:, places], np.array(printed)))
        interval = Interval(low=low, high=high, method=METHOD)
    return OrderOfOthers(
        tau=kendall_tau(measured, printed), interval=interval, num_methods=len(known)
    )


def reported_average(reported: ReportedNumbers, row: MethodRow) -> float | None:
    """Return the reported accuracy of a row in percent."""
    table = reported.tables[REPORTED_TABLE]
    return table.value(row.reported, "avg") if row.reported else None
