"""ROUGE-L of tokenized captions (Lin 2004), as pycocoevalcap 1.2 has it, to the last bit."""

from collections.abc import Mapping, Sequence

import numpy as np

from ademvl.statistics.intervals import Floats

_BETA = 1.2


def rouge_l(
    references: Mapping[int, Sequence[str]], hypotheses: Mapping[int, Sequence[str]]
) -> Floats:
    """Return ROUGE-L of each image, (n,): best precision and best recall of any reference.

    Args:
        references: tokenized references by image id; the n images are in this order.
        hypotheses: one tokenized caption for each of the same images.
    """
    return np.array(
        [_rouge_l(hypotheses[image_id][0], texts) for image_id, texts in references.items()]
    )


def _rouge_l(caption: str, references: Sequence[str]) -> float:
    words = caption.split(" ")
    places: dict[str, int] = {}  # of each word, a bit for each
    for place, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << place
    precision = recall = 0.0
    for reference in references:
        others = reference.split(" ")
        common = _longest_common(places, len(words), others)
        precision = max(precision, common / len(words))
        recall = max(recall, common / len(others))
    if precision == 0:
        return 0.0
    return ((1 + _BETA**2) * precision * recall) / (recall + _BETA**2 * precision)


def _longest_common(places: Mapping[str, int], length: int, others: Sequence[str]) -> int:
    """Return the length of the longest common subsequence (Hyyrö 2004: one step a word).

    Args:
        places: of each word of the first sequence, as bits.
        length: of the first sequence.
        others: the second sequence.
    """
    everywhere = (1 << length) - 1
    unmatched = everywhere
    for word in others:
        matched = unmatched & places.get(word, 0)
        unmatched = (unmatched + matched | unmatched - matched) & everywhere
    return length - unmatched.bit_count()
