"""The effects that matter, with interval and verdict: what terminal, page and tables say of runs.

Images over the text-only control, adaptive fusion on over off, adapters inside the tower over a
frozen one: each pair of runs differs in that alone and is compared on the same questions with an
image. One place makes the lines, so that no other says more than `effect_verdict` allows.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from ademvl.config.factors import pairs_differing_in
from ademvl.errors import AdemvlError
from ademvl.evaluation.comparison.item_scores import ItemScores, accuracy_in, read_item_scores
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.tables.columns import SCIENCEQA
from ademvl.reporting.tables.layout import MINUS
from ademvl.statistics.effect_verdict import EffectVerdict, judge_effect
from ademvl.statistics.intervals import bracketed
from ademvl.statistics.paired import Difference

COLUMN = "IMG"
_IMAGES = "images over text-only"
_FACTORS = {
    "adaptive fusion on over off": "method.gamma",
    "adapters in the tower over a frozen one": "features.mode",
}
QUESTIONS = {
    _IMAGES: "Do images help?",
    "adaptive fusion on over off": "Does adaptive fusion help?",
    "adapters in the tower over a frozen one": "Do adapters in the tower help?",
}
"""What each effect answers, by its title."""
_OFF = {"method.gamma": 0.0, "features.mode": "cached"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Headline:
    """One effect on questions with an image.

    Attributes:
        title: what is compared.
        run, base: the runs.
        difference: run minus base.
    """

    title: str
    run: RunResult
    base: RunResult
    difference: Difference

    @property
    def verdict(self) -> EffectVerdict:
        """What can be said."""
        return judge_effect(self.difference)

    @property
    def points(self) -> str:
        """The difference in points, with its sign."""
        return _signed(self.difference.value)

    @property
    def interval(self) -> str:
        """Its paired 95 % interval, marked where it covers items only."""
        found = self.difference
        low, high = _signed(found.ci_low), _signed(found.ci_high)
        return bracketed(low, high, covers_seeds=found.covers_seeds)

    @property
    def seeds(self) -> str:
        """How many trainings each side has."""
        first, second = self.difference.num_seeds
        return f"{first} and {second} seeds"

    @property
    def sentence(self) -> str:
        """Everything in one line."""
        return (
            f"{self.title}: {self.verdict.words}. {self.run.label} minus {self.base.label}, "
            f"questions with an image: {self.points} {self.interval} points, {self.seeds}"
        )


def _signed(value: float) -> str:
    text = f"{100 * value:+.2f}"
    return text.replace("-", MINUS) if float(text) else text[1:]


def find_headlines(results: StudyResults) -> list[Headline]:
    """Compare the pairs of finished runs that one of these effects tells apart, item by item.

    Those whose predictions cannot be compared, for example because their data is gone, are left
    out with a warning.
    """

    @cache
    def read(name: str) -> ItemScores:
        run = next(run for run in results.runs if run.name == name)
        return read_item_scores([seed.run_dir for seed in run.finished])

    found = []
    for title, run, base in _pairs(results):
        if not (run.seed_estimates(COLUMN) and base.seed_estimates(COLUMN)):
            continue
        others = results.spread_beside(COLUMN, run, base)
        try:
            gained = accuracy_in(read(run.name), read(base.name), COLUMN, others=others)
        except AdemvlError as error:
            _log.warning("%s is not compared with %s: %s", run.label, base.label, error)
            continue
        found.append(Headline(title=title, run=run, base=base, difference=gained))
    return found


def _pairs(results: StudyResults) -> Iterator[tuple[str, RunResult, RunResult]]:
    """Yield title, run and base of each effect; a base with several runs has its first one."""
    runs = {run.name: run for run in results.of_task(SCIENCEQA)}
    for run in runs.values():
        if control := results.control_of(run):
            yield _IMAGES, run, control
    for title, path in _FACTORS.items():
        compared = set()
        for factor in pairs_differing_in(results.study, path):
            if factor.base_value != _OFF[path] or factor.base in compared or factor.run not in runs:
                continue
            compared.add(factor.base)
            yield title, runs[factor.run], runs[factor.base]
