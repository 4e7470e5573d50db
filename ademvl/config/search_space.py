"""Settings of `ademvl tune`: which settings of a run are searched, among which values, and how."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import PlainValidator, WithJsonSchema

from ademvl.config.setting import group, relation, setting, settings_class

STEP_ROUNDING = 1e-9
"""By how much a number of steps may miss a whole one: decimals are no binary numbers."""


def _read_choices(choices: Any) -> tuple[Any, ...]:
    if not isinstance(choices, list | tuple):
        raise ValueError(f"{choices!r}, expected a list of values that the setting may have")
    if any(choice in choices[:place] for place, choice in enumerate(choices)):
        raise ValueError(f"{list(choices)}, expected different values")
    return tuple(choices)


_CHOICE: dict[str, Any] = {
    "anyOf": [
        {"type": "number"},
        {"type": "string"},
        {"type": "boolean"},
        {"type": "array", "items": {"type": "number"}},
    ]
}
Choices: TypeAlias = Annotated[
    tuple[Any, ...],
    PlainValidator(_read_choices),
    WithJsonSchema({"type": "array", "items": _CHOICE}),
]
"""Values of any type: whether the setting takes them, its own class says."""


@settings_class
class SearchedValues:
    """Values that a setting may have: a range of numbers, or a list.

    Attributes:
        low, high: ends of a range of numbers, both included.
        log: of a range: as many values are drawn from 0.01 to 0.1 as from 0.1 to 1, which suits
            rates.
        step: of a range: distance between values that are drawn, from `low` on; 0 draws any value,
            of whole numbers each.
        choices: values in place of a range, whatever the setting takes.
    """

    low: float | None = setting(changes="nothing", default=None)
    high: float | None = setting(changes="nothing", default=None)
    log: bool = setting(changes="nothing", default=False)
    step: float = setting(changes="nothing", default=0.0, ge=0)
    choices: Choices = setting(changes="nothing", default=())

    @property
    def is_range(self) -> bool:
        """Whether it is a range of numbers."""
        return not self.choices

    @property
    def is_whole(self) -> bool:
        """Whether a range has whole numbers alone."""
        return all(float(number or 0).is_integer() for number in (self.low, self.high, self.step))

    @relation("choices", "low", "high", "log", "step")
    def _is_range_or_list(self) -> Iterator[str]:
        given = (self.low is not None, self.high is not None)
        if self.choices and (any(given) or self.log or self.step):
            yield "stands beside low, high, log or step; give a list or a range"
        elif not self.choices and not all(given):
            yield "neither a list nor a range; give choices: [...], or low and high"

    @relation("low", "high")
    def _has_width(self) -> Iterator[str]:
        if self.low is not None and self.high is not None and self.low >= self.high:
            yield f"{self.low:g}, expected less than high, {self.high:g}"

    @relation("step", "low", "high")
    def _ends_at_high(self) -> Iterator[str]:
        if self.low is None or self.high is None or not 0 < self.step < math.inf:
            return
        steps = (self.high - self.low) / self.step
        if abs(steps - round(steps)) > STEP_ROUNDING:
            last = self.low + int(steps) * self.step
            yield (
                f"{self.step:g}, but steps from low, {self.low:g}, do not end at high, "
                f"{self.high:g}; choose {last:g} as high, or another step"
                if last > self.low
                else f"{self.step:g}, expected at most high - low, {self.high - self.low:g}"
            )

    @relation("log", "low", "step")
    def _is_log_of_positive(self) -> Iterator[str]:
        if self.log and self.step:
            yield "a range with step is drawn evenly; leave out one of both"
        elif self.log and self.low is not None and self.low <= 0:
            yield f"needs low > 0, but it is {self.low:g}"


@settings_class
class TuneSettings:
    """The search of `ademvl tune`; no result of the study's runs depends on it.

    Attributes:
        run: of the study, whose settings are searched; it has all others as they stand there.
            Empty where nothing is searched.
        space: values of each searched setting, by its path in a run, such as `method.gamma`. Where
            the run has an `optimization.lr_grid`, its rates are searched without being named.
        trials: combinations of values that are tried.
        rungs: lengths of training, each a whole one with a schedule of its own. Every trial has the
            shortest, and the next one only when it is among the best by then; the longest is the
            run's. 1 trains every trial in full.
        reduction: factor between two lengths, and of how many trials one has the next length.
        seed: of the draws; another one begins a search in a folder of its own.
    """

    run: str = setting(changes="nothing", default="")
    space: Mapping[str, SearchedValues] = group(default_factory=dict)
    trials: int = setting(changes="nothing", default=20, ge=1, le=10_000)
    rungs: int = setting(changes="nothing", default=3, ge=1, le=10)
    reduction: int = setting(changes="nothing", default=3, ge=2, le=100)
    seed: int = setting(changes="nothing", default=0, ge=0)
