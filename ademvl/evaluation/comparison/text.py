"""What `ademvl compare` prints: scores, differences, the test, and what would be needed."""

from ademvl.config.tasks import facts_of
from ademvl.evaluation.comparison.compare import Comparison, interval_method, needed_numbers
from ademvl.statistics.intervals import CONFIDENCE, ITEMS_NOTE
from ademvl.statistics.paired import MCNEMAR, POWER
from ademvl.statistics.percent import printed
from ademvl.text_table import aligned


def render(comparison: Comparison) -> str:
    """Render a comparison as text, in percent and points."""
    parts = [_sides(comparison), _table(comparison)]
    if comparison.tests:
        parts.append(_tests(comparison))
    parts += [_needed(comparison), _methods(comparison)]
    return "\n\n".join(parts) + "\n"


def _sides(comparison: Comparison) -> str:
    lines = []
    for name, side in (("A", comparison.first), ("B", comparison.second)):
        count = len(side.predictions)
        lines.append(f"{name}: {side.label} ({count} {'seed' if count == 1 else 'seeds'})")
    return "\n".join(lines)


def _table(comparison: Comparison) -> str:
    header = ("", "n", "A", "B", "A - B")
    rows: list[tuple[str, ...]] = [header]
    for name, (first, second) in comparison.scores.items():
        found = comparison.differences[name]
        cells = (" ".join(printed(number)) for number in (first, second, found))
        rows.append((name, str(found.n), *cells))
    return "\n".join(aligned(rows, num_left=len(header)))


def _tests(comparison: Comparison) -> str:
    lines = []
    for number, test in enumerate(comparison.tests, 1):
        which = f" (pair of seeds {number})" if len(comparison.tests) > 1 else ""
        lines.append(
            f"McNemar{which}: A alone right {test.only_first}, B alone right {test.only_second}, "
            f"p = {test.p_value:.4g} (exact {test.exact_p_value:.4g})"
        )
    return "\n".join(lines)


def _needed(comparison: Comparison) -> str:
    name = comparison.main
    needed = needed_numbers(comparison, name)
    if needed is None:
        return f"{name}: no difference, so no number of questions would show it."
    items = facts_of(comparison.first.task).items
    points = f"{abs(needed['to_see_points']):.2f} points of {name}"
    goal = f"To see {points} in {POWER:.0%} of such comparisons"
    number = needed["items"]
    enough = "no number of " + items + " is enough with these seeds"
    lines = [f"{goal}: " + (enough if number is None else f"{number:,} {items} with these seeds")]
    if "seeds" not in needed:
        lines.append(
            "How many seeds: not known, as the spread between seeds is not known with one seed "
            "(assume one with --seed-spread)."
        )
    elif needed["seeds"] is None:
        lines.append(f"How many seeds: no number is enough with these {items}.")
    else:
        lines.append(f"How many seeds of each run, with these {items}: {needed['seeds']}.")
    return "\n".join(lines)


def _methods(comparison: Comparison) -> str:
    scored: dict[str, list[str]] = {}
    compared: dict[str, list[str]] = {}
    for name, pair in comparison.scores.items():
        for method in dict.fromkeys(estimate.method for estimate in pair):
            scored.setdefault(method, []).append(name)
        compared.setdefault(interval_method(comparison, name), []).append(name)
    lines = [
        f"{CONFIDENCE:.0%} intervals of scores: {_by_method(scored)}.",
        f"{CONFIDENCE:.0%} intervals of differences: {_by_method(compared)}.",
    ]
    if not all(score.covers_seeds for pair in comparison.scores.values() for score in pair):
        lines.append(ITEMS_NOTE)
    if comparison.tests:
        lines.append(f"Test: {MCNEMAR}.")
    if None in comparison.differences[comparison.main].seed_spreads:
        lines.append(
            "A run has one seed: another training would give another score, by an unknown amount, "
            "and the intervals do not hold it."
        )
    return "\n".join(lines)


def _by_method(names: dict[str, list[str]]) -> str:
    """Name each method, and what it is of where there are several."""
    if len(names) == 1:
        return next(iter(names))
    return "; ".join(f"{', '.join(members)}: {method}" for method, members in names.items())
