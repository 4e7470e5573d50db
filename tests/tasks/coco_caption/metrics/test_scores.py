"""Protects caption scores: equal to the official tools', and nothing scored silently as zero."""

import json
import logging
import math

import pytest

from ademvl.errors import DataError
from ademvl.statistics.intervals import Estimate
from ademvl.tasks.coco_caption.metrics.scores import METRICS, score_captions
from tests.tasks.coco_caption.metrics.random_captions import random_captions

REFERENCES = {
    1: ["A red circle on white.", "There is a red circle.", "One red circle"],
    2: ["A blue square.", "The picture shows a blue square.", "One blue square"],
    3: ["A green triangle!", "There's a green triangle.", "One green triangle"],
}
HYPOTHESES = {1: "a red circle on white", 2: "a blue circle", 3: "one green triangle"}
PUBLISHED_NAMES = {
    "BLEU-1": "Bleu_1",
    "BLEU-2": "Bleu_2",
    "BLEU-3": "Bleu_3",
    "BLEU-4": "Bleu_4",
    "ROUGE-L": "ROUGE_L",
    "CIDEr": "CIDEr",
}


def _official(references, hypotheses):
    """Scores by pycocoevalcap's own classes, on text that needs no tokenization."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    single = {image_id: [text] for image_id, text in hypotheses.items()}
    bleu, _ = Bleu(4).compute_score(references, single, verbose=0)
    rouge, _ = Rouge().compute_score(references, single)
    cider, _ = Cider().compute_score(references, single)
    return dict(zip(METRICS, [*bleu, rouge, cider], strict=True))


def _tokenize(sentences):
    """Split on blanks in place of the tokenizer, so that no Java is needed."""
    return [sentence.lower().strip(".!") for sentence in sentences]


def _score(references, hypotheses, **options):
    return score_captions(references, hypotheses, tokenize=_tokenize, **options)


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_pycocoevalcaps_to_the_last_digit(seed):
    references, captions = random_captions(seed, num_images=300)
    hypotheses = {image_id: text for image_id, [text] in captions.items()}
    scores = _score(references, hypotheses)
    for name, value in _official(references, hypotheses).items():
        assert scores.metrics[name].value == value, name
        assert scores.metrics[name].ci_low <= value <= scores.metrics[name].ci_high


def test_scores_do_not_depend_on_the_order_of_images():
    turned = {key: HYPOTHESES[key] for key in (3, 1, 2)}
    assert _score(REFERENCES, turned) == _score(REFERENCES, HYPOTHESES)


def test_empty_caption_is_counted():
    scores = _score(REFERENCES, {**HYPOTHESES, 2: "."})
    assert scores.num_empty == 1
    assert scores.metrics["BLEU-1"].value < _score(REFERENCES, HYPOTHESES).metrics["BLEU-1"].value


def test_all_captions_empty_score_zero():
    scores = _score(REFERENCES, dict.fromkeys(HYPOTHESES, ""))
    assert all(abs(estimate.value) < 1e-6 for estimate in scores.metrics.values())


def test_an_optional_score_that_is_no_number_is_told():
    odd = Estimate(value=math.nan, ci_low=0.0, ci_high=1.0, n=3, method="")
    scores = _score(REFERENCES, HYPOTHESES, optional={"METEOR": lambda *_: odd})
    assert "METEOR" not in scores.metrics
    assert "not finite" in scores.not_run["METEOR"]


def test_ceiling_scores_a_reference_against_the_others():
    same = {key: ["one two three four five"] * 2 + [f"x{key}"] * 0 for key in (1, 2)}
    same[3] = ["six seven eight nine ten"] * 2
    scores = _score(same, dict.fromkeys(same, "other"), with_ceiling=True)
    assert scores.ceiling is not None
    assert scores.ceiling.metrics["BLEU-4"].value == pytest.approx(1.0)
    assert scores.ceiling.num_references == 3


def test_images_with_one_reference_have_no_ceiling():
    single = {key: texts[:1] for key, texts in REFERENCES.items()}
    assert _score(single, HYPOTHESES, with_ceiling=True).ceiling is None


def test_few_images_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        _score(REFERENCES, HYPOTHESES)
    assert "fewer than 100 images" in caplog.text


@pytest.mark.parametrize(
    ("hypotheses", "finding"),
    [
        ({1: "a", 2: "b"}, "image 3: no caption"),
        ({**HYPOTHESES, 4: "d"}, "image 4: a caption, but no references"),
        ({**HYPOTHESES, 2: None}, "image 2: caption is NoneType, not text"),
    ],
)
def test_images_that_do_not_fit_are_listed_and_refused(hypotheses, finding):
    with pytest.raises(DataError, match=finding):
        score_captions(REFERENCES, hypotheses)


@pytest.mark.parametrize("references", [{}, {1: []}, {1: "text"}])
def test_missing_references_are_refused(references):
    with pytest.raises(DataError, match="references"):
        score_captions(references, dict.fromkeys(references, "a"))


@pytest.mark.slow
@pytest.mark.java
@pytest.mark.parametrize("results", ["results_zerocap.json", "results_contrastive_search.json"])
def test_published_results_give_the_published_scores(real_dir, results):
    folder = real_dir / "coco_captions"
    references: dict[int, list[str]] = {}
    truth = json.loads((folder / "karpathy_test_gt.json").read_text(encoding="utf-8"))
    for row in truth["annotations"]:
        references.setdefault(row["image_id"], []).append(row["caption"])
    rows = json.loads((folder / results).read_text(encoding="utf-8"))
    captions = {row["image_id"]: row["caption"] for row in rows}
    known = json.loads((folder / "expected_scores.json").read_text(encoding="utf-8"))
    expected = known[results]["recomputed_pycocoevalcap_1.2"]

    scores = score_captions(references, captions)

    assert scores.n == expected["n_images"]
    for ours, theirs in PUBLISHED_NAMES.items():
        assert round(scores.metrics[ours].value, 6) == expected[theirs], ours
