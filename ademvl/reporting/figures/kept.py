"""What a training learned to keep of the image: by layer and epoch, and by word at its end."""

from collections import defaultdict
from typing import TYPE_CHECKING

from ademvl.reporting.figures.plotting import COLORS, GREY, Drawing, new_figure, plain, say
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.runs.kept import MEASURED_ITEMS, KeptRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WORDS = 8  # with the smallest fraction, and as many with the largest
_MIN_TOKENS = 3  # that a word stands for, so that one odd place is not drawn
_CAPTION = (
    "Fraction of the image tokens that text tokens keep in evaluation, on {} training items. Left: "
    "a line a layer, over epochs; the darker the later the layer. Right: words that keep least and "
    "most over all layers, at the end (dot) and before the first step (bar). Means over seeds."
)


def draw_kept(results: StudyResults) -> Drawing:
    """Draw kept fractions: a row of two panels for each run that learns them."""
    runs = [run for run in results.runs if run.settings.method.learns_what_is_kept]
    figure = new_figure(9.4, 3.0 * max(len(runs), 1))
    panels = figure.subplots(max(len(runs), 1), 2, squeeze=False)
    for (by_layer, by_word), run in zip(panels, runs, strict=False):
        rows = [row for seed in run.seeds if seed.state != "stale" for row in seed.kept_shares()]
        _draw_layers(by_layer, run, rows)
        _draw_words(by_word, rows)
    if not runs:
        for axis in panels[0]:
            say(axis, "not run")
    return Drawing(figure, _CAPTION.format(MEASURED_ITEMS))


def _draw_layers(axis: "Axes", run: RunResult, rows: list[KeptRow]) -> None:
    axis.set_title(plain(run.label))
    curves: dict[int, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.layer >= 0:
            curves[row.layer][row.epoch].append(row.kept_fraction)
    if not curves:
        say(axis, "not run")
        return
    for layer, curve in sorted(curves.items()):
        axis.plot(
            list(curve),
            [sum(found) / len(found) for found in curve.values()],
            color=COLORS[0],
            alpha=0.25 + 0.75 * layer / max(len(curves) - 1, 1),
            linewidth=1.2,
        )
    axis.set_xlabel("epoch")
    axis.set_ylabel("kept fraction")
    axis.set_ylim(0, 1)


def _draw_words(axis: "Axes", rows: list[KeptRow]) -> None:
    of_words = [row for row in rows if row.word and row.tokens >= _MIN_TOKENS]
    if not of_words:
        say(axis, "not run")
        return
    epochs = sorted({row.epoch for row in of_words})
    first, last = _means(of_words, epochs[0]), _means(of_words, epochs[-1])
    ordered = sorted(last, key=lambda word: (last[word], word))
    if len(ordered) > 2 * _WORDS:
        ordered = ordered[:_WORDS] + ordered[-_WORDS:]
    places = list(range(len(ordered)))
    before = [first.get(word, last[word]) for word in ordered]
    axis.plot(before, places, "|", color=GREY, markersize=9)
    axis.plot([last[word] for word in ordered], places, "o", color=COLORS[1], markersize=4)
    axis.set_yticks(places, [plain(word) for word in ordered], fontsize=7)
    axis.set_xlabel(f"kept fraction after {epochs[-1]:g} epochs")
    axis.set_xlim(0, 1)


def _means(rows: list[KeptRow], epoch: float) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.epoch == epoch:
            found[row.word].append(row.kept_fraction)
    return {word: sum(values) / len(values) for word, values in found.items()}
