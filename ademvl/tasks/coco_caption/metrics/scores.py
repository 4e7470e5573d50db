"""Caption scores: BLEU-1 to BLEU-4, CIDEr and ROUGE-L after PTB tokenization.

They are those of pycocoevalcap 1.2 to the last digit, counted faster.
CIDEr is CIDEr-D, as everywhere in the COCO tools. Its document frequencies come from the
references given, so scores of small data sets do not compare with those of full ones. METEOR and
SPICE are computed where they are asked for; where they fail, the others stand.
"""

import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from ademvl.config.tasks import largest_score
from ademvl.errors import DataError, ToolError, list_findings
from ademvl.randomness import derive_seed
from ademvl.statistics.intervals import Estimate, Floats, bootstrap_intervals
from ademvl.tasks.coco_caption.metrics.ngrams import MAX_ORDER, count_ngrams
from ademvl.tasks.coco_caption.metrics.ptb import Tokenizer, tokenize_sentences
from ademvl.tasks.coco_caption.metrics.rouge import rouge_l
from ademvl.tasks.coco_caption.metrics.tokenized import Tokenized, tokenize_captions

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")
FEW_IMAGES = 100
LIMITS = tuple((0.0, largest_score(name) / 100) for name in METRICS)
"""Least and largest value of each of the METRICS."""
FIXED_FREQUENCIES = ", document frequencies held fixed"
"""Ends the method of CIDEr's intervals."""

# The constants of pycocoevalcap's BleuScorer, which keep empty counts from dividing by zero.
_BLEU_SMALL, _BLEU_TINY = 1e-9, 1e-15
# One number at a time: numpy rounds a vector's powers otherwise on some processors.
_power, _exp = np.frompyfunc(math.pow, 2, 1), np.frompyfunc(math.exp, 1, 1)

_log = logging.getLogger(__name__)

OptionalMetric = Callable[[Tokenized, Tokenized, int], Estimate]
"""Scores tokenized references and hypotheses, with a seed for the interval."""


@dataclass(frozen=True, kw_only=True)
class CaptionScores:
    """Scores of one caption per image.

    Attributes:
        n: images.
        num_references: reference captions over all images.
        empty_images: those whose caption has no words left after tokenization; they score zero.
        metrics: by the names of METRICS and of optional ones, fractions; CIDEr can pass 1.
        not_run: why an optional metric could not be computed, by name.
        ceiling: scores of one reference of each image against its others, if asked for.
    """

    n: int
    num_references: int
    empty_images: tuple[int, ...]
    metrics: Mapping[str, Estimate]
    not_run: Mapping[str, str] = field(default_factory=dict)
    ceiling: "CaptionScores | None" = None

    @property
    def num_empty(self) -> int:
        """Number of captions of which nothing is left after tokenization."""
        return len(self.empty_images)

    def to_json(self) -> dict[str, object]:
        """Render for a score file, in percent; CIDEr too, as published tables do."""
        return {
            "n": self.n,
            "num_references": self.num_references,
            "num_empty": self.num_empty,
            "empty_images": list(self.empty_images),
            "metrics": {name: estimate.as_percent() for name, estimate in self.metrics.items()},
            "not_run": dict(self.not_run),
            "ceiling": self.ceiling and self.ceiling.to_json(),
        }


def score_captions(
    references: Mapping[int, Sequence[str]],
    hypotheses: Mapping[int, str],
    *,
    seed: int = 0,
    with_ceiling: bool = False,
    optional: Mapping[str, OptionalMetric] | None = None,
    tokenize: Tokenizer = tokenize_sentences,
    beside: Path | None = None,
) -> CaptionScores:
    """Score one caption for each image against that image's references.

    Intervals are percentile bootstraps over images; for CIDEr with document frequencies held
    fixed. Results do not depend on the order of either mapping.

    Args:
        references: reference captions by image id.
        hypotheses: captions by image id, for exactly the same images.
        seed: of the resamples and of the ceiling's choices.
        with_ceiling: also score one reference of each image against its others.
        optional: further metrics by name; the reason of one that fails is kept in `not_run`.
        tokenize: tokenizes sentences.
        beside: folder of the references' file, where these are kept once they are tokenized.

    Raises:
        DataError: images differ, an image without reference, or a caption that is no text.
        ToolError: the tokenizer cannot run.
    """
    check_captions(references, hypotheses)
    if len(references) < FEW_IMAGES:
        _log.warning(
            "captions scored on %d images: CIDEr of fewer than %d images means little, "
            "because its document frequencies come from their references",
            len(references),
            FEW_IMAGES,
        )
    tokenized_references, [tokenized_hypotheses] = tokenize_captions(
        references, [hypotheses], tokenize=tokenize, beside=beside
    )
    ceiling = None
    if with_ceiling:
        others, held_out = _hold_one_out(tokenized_references, seed=seed)
        ceiling = _score(others, held_out, seed=seed) if others else None
    scores = _score(tokenized_references, tokenized_hypotheses, seed=seed, ceiling=ceiling)
    if scores.empty_images:
        _log.warning(
            "%d of %d captions have no words and score zero: images %s",
            scores.num_empty,
            scores.n,
            ", ".join(map(str, scores.empty_images[:20])),
        )
    return _with_optional(
        scores, optional or {}, tokenized_references, tokenized_hypotheses, seed=seed
    )


def _with_optional(
    scores: CaptionScores,
    optional: Mapping[str, OptionalMetric],
    references: Tokenized,
    hypotheses: Tokenized,
    *,
    seed: int,
) -> CaptionScores:
    """Add further metrics, or why one of them was not run."""
    metrics, not_run = dict(scores.metrics), {}
    for name, metric in optional.items():
        try:
            found = {name: metric(references, hypotheses, seed)}
            _refuse_not_finite(found)
            metrics |= found
        except ToolError as error:
            _log.warning("%s not run, the other metrics stand: %s", name, error)
            not_run[name] = str(error)
    return replace(scores, metrics=metrics, not_run=not_run)


def check_captions(references: Mapping[int, Sequence[str]], hypotheses: Mapping[int, str]) -> None:
    """Make sure that both are for the same images.

    Raises:
        DataError: lists images that differ, lack references, or have a caption that is no text.
    """
    findings = [
        f"image {image_id}: no caption" for image_id in references if image_id not in hypotheses
    ]
    findings += [
        f"image {image_id}: a caption, but no references"
        for image_id in hypotheses
        if image_id not in references
    ]
    findings += [
        f"image {image_id}: caption is {type(caption).__name__}, not text"
        for image_id, caption in hypotheses.items()
        if not isinstance(caption, str)
    ]
    for image_id, texts in references.items():
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
            findings.append(f"image {image_id}: references are no list of texts")
    if findings or not references:
        findings = findings or ["no references at all"]
        remedy = "Score exactly the images of the references, with one caption each."
        raise DataError(list_findings("captions cannot be scored", findings, remedy))


def _hold_one_out(references: Tokenized, *, seed: int) -> tuple[Tokenized, Tokenized]:
    """Take one reference of each image as its caption; images with a single one are left out."""
    others: Tokenized = {}
    held_out: Tokenized = {}
    for image_id, texts in references.items():
        if len(texts) > 1:
            choice = random.Random(derive_seed(seed, "ceiling", image_id)).randrange(len(texts))
            held_out[image_id] = [texts[choice]]
            others[image_id] = texts[:choice] + texts[choice + 1 :]
    return others, held_out


def _score(
    references: Tokenized,
    hypotheses: Tokenized,
    *,
    seed: int,
    ceiling: CaptionScores | None = None,
) -> CaptionScores:
    values = _item_sums(references, hypotheses)
    metrics = metric_estimates(values, seed=derive_seed(seed, "caption bootstrap"))
    return CaptionScores(
        n=len(references),
        num_references=sum(map(len, references.values())),
        empty_images=tuple(key for key, [caption] in hypotheses.items() if not caption),
        metrics=metrics,
        ceiling=ceiling,
    )


def _refuse_not_finite(metrics: Mapping[str, Estimate]) -> None:
    findings = [
        f"{name}: {score.value} [{score.ci_low}, {score.ci_high}]"
        for name, score in metrics.items()
        if not np.isfinite([score.value, score.ci_low, score.ci_high]).all()
    ]
    if findings:
        remedy = "Please report it, with captions and references."
        raise ToolError(list_findings("caption scores are not finite", findings, remedy))


def metric_estimates(values: Floats, *, seed: int) -> dict[str, Estimate]:
    """Return the METRICS of `caption_item_sums`, (n, 12), with bootstrap intervals over images.

    Args:
        values: one row an image.
        seed: of the resamples.
    """
    n = len(values)
    statistic = partial(corpus_scores, n=n)
    # Column by column, as a mean of one column is rounded.
    scores = statistic(np.array([[column.sum() for column in values.T]]))[0]
    intervals = bootstrap_intervals(values, statistic, seed=seed, limits=LIMITS)
    return {
        name: Estimate(
            value=float(score),
            ci_low=interval.low,
            ci_high=interval.high,
            n=n,
            method=interval.method + (FIXED_FREQUENCIES if name == "CIDEr" else ""),
        )
        for name, score, interval in zip(METRICS, scores, intervals, strict=True)
    }


def caption_item_sums(
    references: Mapping[int, Sequence[str]], captions: Sequence[Mapping[int, str]]
) -> list[Floats]:
    """Return what the metrics sum over images for each set of captions of the same images.

    Each is (n, 12), images in ascending order of their ids. The last column is CIDEr with the
    document frequencies of all these references.

    Raises:
        DataError, ToolError: see `score_captions`.
    """
    for hypotheses in captions:
        check_captions(references, hypotheses)
    tokenized, found = tokenize_captions(references, captions, tokenize=tokenize_sentences)
    return [_item_sums(tokenized, hypotheses) for hypotheses in found]


def corpus_scores(sums: Floats, *, n: int) -> Floats:
    """Return the METRICS, (rows, 6), from sums of `caption_item_sums` over n images, (rows, 12)."""
    return np.column_stack([_bleu(sums[:, :-2]), sums[:, -2:] / n])


def _item_sums(references: Tokenized, hypotheses: Tokenized) -> Floats:
    counts = count_ngrams(references, hypotheses)
    rouge = rouge_l(references, hypotheses)
    return np.column_stack([counts.bleu(), rouge, counts.cider()])


def _bleu(sums: Floats) -> Floats:
    """Return BLEU-1 to BLEU-4, (rows, 4), from sums of `NgramCounts.bleu`, (rows, 10).

    The formula of pycocoevalcap's BleuScorer, for many corpora at once.
    """
    length, closest = sums[:, :1], sums[:, 1:2]
    guess, correct = sums[:, 2 : 2 + MAX_ORDER], sums[:, 2 + MAX_ORDER :]
    precisions = np.cumprod((correct + _BLEU_TINY) / (guess + _BLEU_SMALL), axis=1)
    ratio = (length + _BLEU_TINY) / (closest + _BLEU_SMALL)
    brevity = _exp(np.minimum(0.0, 1 - 1 / ratio))
    roots = _power(precisions, 1 / np.arange(1, MAX_ORDER + 1))
    return np.asarray(roots * brevity, dtype=np.float64)
