"""Protects ROUGE-L: each image's number is pycocoevalcap's, bit by bit."""

import pytest

from ademvl.tasks.coco_caption.metrics.rouge import rouge_l
from tests.tasks.coco_caption.metrics.random_captions import random_captions
from tests.tasks.coco_caption.metrics.test_ngrams import ODD


@pytest.mark.parametrize(
    ("references", "captions"),
    [*ODD.values(), *(random_captions(seed, num_images=200) for seed in range(5))],
)
def test_rouge_of_each_image_is_pycocoevalcaps(references, captions):
    from pycocoevalcap.rouge.rouge import Rouge

    _, expected = Rouge().compute_score(references, captions)
    assert rouge_l(references, captions).tolist() == expected.tolist()
