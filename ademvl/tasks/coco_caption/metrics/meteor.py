"""METEOR 1.5, by the jar that pycocoevalcap ships, on captions that are tokenized already.

The jar runs twice: the first call matches each caption with its references, the second turns these
statistics into the corpus score. So each is one text in and one text out, and nothing can wait for
the other's pipe. The interval comes from resampled statistics with METEOR's own formula.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ademvl.errors import ToolError
from ademvl.randomness import derive_seed
from ademvl.statistics.intervals import Estimate, Floats, bootstrap_intervals
from ademvl.tasks.coco_caption.metrics.java import JavaLimits, package_file, run_java

LIMITS = JavaLimits(timeout_seconds=1200.0, max_heap_mib=2048)

_TOOL = "METEOR"
_SEPARATOR = " ||| "
_NUM_STATISTICS = 23
# METEOR 1.5 for English, task `rank` (Denkowski and Lavie, 2014): weights of exact, stem, synonym
# and paraphrase matches, and the parameters.
_STAGE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75


def score_meteor(
    references: Mapping[int, Sequence[str]],
    hypotheses: Mapping[int, Sequence[str]],
    seed: int,
    *,
    limits: JavaLimits = LIMITS,
) -> Estimate:
    """Return the corpus score with a bootstrap interval over images.

    Args:
        references: tokenized references by image id.
        hypotheses: one tokenized caption for each of the same images.
        seed: of the resamples.
        limits: of each of the two calls of the jar.

    Raises:
        ToolError: no Java runtime, or it failed, ran too long or lost lines.
    """
    lines = [
        _SEPARATOR.join(["SCORE", *map(_plain, texts), _plain(hypotheses[image_id][0])])
        for image_id, texts in references.items()
    ]
    matches = _run_jar(lines, limits)
    statistics = _parse(matches, num_columns=_NUM_STATISTICS, num_rows=len(lines))
    scores = _run_jar([_SEPARATOR.join(["EVAL", *matches])], limits)
    value = _parse(scores, num_columns=1, num_rows=len(lines) + 1)[-1, 0]  # corpus score comes last
    (interval,) = bootstrap_intervals(
        summable(statistics),
        corpus_score,
        seed=derive_seed(seed, "caption bootstrap"),
        limits=[(0.0, 1.0)],
    )
    return Estimate(
        value=float(value),
        ci_low=interval.low,
        ci_high=interval.high,
        n=len(lines),
        method=interval.method,
    )


def summable(statistics: Floats) -> Floats:
    """Return the jar's statistics, (n, 23), as it sums them over captions.

    A caption that matches a reference word by word in one piece adds no chunk.
    """
    is_whole = (statistics[:, 21:23] == statistics[:, 0:2]).all(axis=1) & (statistics[:, 20] == 1)
    summed = statistics.copy()
    summed[is_whole, 20] = 0
    return summed


def corpus_score(sums: Floats) -> Floats:
    """Return METEOR, (rows, 1), from sums of `summable` statistics over captions, (rows, 23).

    Columns: words of caption and reference, function words of both; for each of four stages the
    matched content words of caption and reference, and function words of both; then chunks, and
    all matched words of caption and reference.
    """
    lengths, function_words = sums[:, 0:2], sums[:, 2:4]  # (rows, 2): caption, reference
    stages = sums[:, 4:20].reshape(-1, 4, 2, 2)  # (rows, stage, content or function, side)
    weights = np.array([_DELTA, 1 - _DELTA])
    matched = np.einsum("rstc,s,t->rc", stages, _STAGE_WEIGHTS, weights)  # (rows, 2)
    total = _DELTA * (lengths - function_words) + (1 - _DELTA) * function_words
    precision, recall = np.divide(matched, total, out=np.zeros_like(matched), where=total > 0).T
    chunks, words = sums[:, 20], sums[:, 21:23]
    denominator = _ALPHA * precision + (1 - _ALPHA) * recall
    mean = np.divide(
        precision * recall, denominator, out=np.zeros_like(recall), where=denominator > 0
    )
    average = words.mean(axis=1)
    fragmentation = np.divide(chunks, average, out=np.zeros_like(chunks), where=average > 0)
    scores: Floats = (mean * (1 - _GAMMA * fragmentation**_BETA))[:, None]
    return scores


def _plain(text: str) -> str:
    """Take out what separates fields; an empty text stays a field of its own."""
    return text.replace("|||", "").replace("  ", " ")


def _run_jar(lines: Sequence[str], limits: JavaLimits) -> list[str]:
    import pycocoevalcap.meteor.meteor as wrapper

    jar = package_file(Path(wrapper.__file__).parent, wrapper.METEOR_JAR, tool=_TOOL)
    arguments = ["-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    text = "".join(f"{line}\n" for line in lines).encode()
    return run_java(arguments, tool=_TOOL, limits=limits, text=text).decode().splitlines()


def _parse(lines: Sequence[str], *, num_columns: int, num_rows: int) -> Floats:
    try:
        rows = [[float(number) for number in line.split()] for line in lines]
    except ValueError as error:
        raise ToolError(f"{_TOOL}: not a number in its output: {error}") from error
    if len(rows) != num_rows or any(len(row) != num_columns for row in rows):
        raise ToolError(
            f"{_TOOL}: {len(rows)} lines came back, expected {num_rows} of {num_columns} numbers. "
            "The captions hold characters that it does not keep apart; please report them."
        )
    values = np.array(rows, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ToolError(f"{_TOOL}: a score that is not finite came back; please report it.")
    return values
