"""Protects BLEU's counts and CIDEr in arrays: each image has pycocoevalcap's, bit by bit."""

import numpy as np
import pytest

from ademvl.tasks.coco_caption.metrics.ngrams import count_ngrams
from tests.tasks.coco_caption.metrics.random_captions import random_captions

ODD = {
    "a single image": ({1: ["a b c d e", "a b c"]}, {1: ["a b c d"]}),
    "a single image without words": ({1: ["", ""]}, {1: ["a b"]}),
    "no words at all": ({1: [""], 2: [""]}, {1: [""], 2: [""]}),
    "repeated words": ({1: ["a a a a a a", "a a"], 2: ["b a"]}, {1: ["a a a a"], 2: ["b b b"]}),
    "other white space": ({1: ["1\u00a01/2 cups", "a"], 2: ["b"]}, {1: ["1 1/2 cups"], 2: ["b"]}),
    "a caption of one word": ({1: ["a b", "c"], 2: ["d"]}, {1: ["c"], 2: ["d"]}),
}
CASES = [*ODD.values(), *(random_captions(seed, num_images=200) for seed in range(5))]


@pytest.mark.parametrize(("references", "captions"), CASES)
def test_cider_of_each_image_is_pycocoevalcaps(references, captions):
    from pycocoevalcap.cider.cider import Cider

    found = count_ngrams(references, captions).cider()
    if any(text for texts in references.values() for text in texts):
        _, expected = Cider().compute_score(references, captions)
        assert found.tolist() == expected.tolist()
    else:  # which pycocoevalcap does not take
        assert not found.any()


@pytest.mark.parametrize(("references", "captions"), CASES)
def test_bleu_counts_of_each_image_are_pycocoevalcaps(references, captions):
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    for image_id, texts in references.items():
        scorer += (captions[image_id][0], texts)
    expected = []
    for image in scorer.ctest:
        closest = scorer._single_reflen(image["reflen"], "closest", image["testlen"])
        expected.append([image["testlen"], closest, *image["guess"], *image["correct"]])
    found = count_ngrams(references, captions).bleu()
    assert found.dtype == np.float64
    assert found.tolist() == expected
