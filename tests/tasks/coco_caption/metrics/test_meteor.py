"""Protects METEOR: the jar's own score, an interval by its own formula, failures that are said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ademvl.errors import ToolError
from ademvl.tasks.coco_caption.metrics import meteor
from ademvl.tasks.coco_caption.metrics.meteor import LIMITS, corpus_score, score_meteor, summable
from tests.tasks.coco_caption.metrics.fake_java import write_program

REFERENCES = {
    1: ["a dog runs on the grass", "the dog is running"],
    2: ["two red cars", "a pair of vehicles"],
    3: ["a plate of food on a table"],
}
HYPOTHESES = {1: ["a dog is running"], 2: ["two red cars"], 3: ["the food"]}
JAR_DIGITS = 1e-12  # the jar prints doubles in full


@pytest.mark.slow
@pytest.mark.java
def test_formula_gives_the_scores_of_the_jar():
    lines = [
        " ||| ".join(["SCORE", *texts, HYPOTHESES[image_id][0]])
        for image_id, texts in REFERENCES.items()
    ]
    matches = meteor._run_jar(lines, LIMITS)
    scores = meteor._run_jar([" ||| ".join(["EVAL", *matches])], LIMITS)
    numbers = [[float(number) for number in line.split()] for line in matches]
    statistics = summable(np.array(numbers))
    ours = [*corpus_score(statistics)[:, 0], corpus_score(statistics.sum(axis=0)[None])[0, 0]]
    np.testing.assert_allclose(ours, [float(score) for score in scores], atol=JAR_DIGITS)


@pytest.mark.slow
@pytest.mark.java
def test_score_lies_in_its_interval_and_needs_no_java_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    estimate = score_meteor(REFERENCES, HYPOTHESES, 0)
    assert 0 < estimate.ci_low <= estimate.value <= estimate.ci_high <= 1
    assert estimate.n == 3


@pytest.mark.slow
@pytest.mark.java
def test_empty_caption_scores_zero_and_is_not_taken_from_the_references():
    references = {1: ["a dog runs"], 2: ["a cat sleeps"]}
    empty = score_meteor(references, {1: [""], 2: [""]}, 0)
    assert empty.value == 0
    separators = score_meteor(references, {1: ["a dog runs"], 2: ["||| a ||| cat sleeps"]}, 0)
    assert separators.value > 0.9


@pytest.mark.java
def test_too_little_memory_is_said():
    with pytest.raises(ToolError, match="METEOR: Java ended with status"):
        score_meteor(REFERENCES, HYPOTHESES, 0, limits=replace(LIMITS, max_heap_mib=16))


@pytest.mark.slow
@pytest.mark.java
def test_installed_package_stays_untouched():
    import pycocoevalcap

    folder = Path(pycocoevalcap.__file__ or pycocoevalcap.__path__[0])
    folder = folder.parent if folder.is_file() else folder
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.[!p]*")}
    score_meteor(REFERENCES, HYPOTHESES, 0)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.[!p]*")} == before


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 1", "status 1"),
        ("exit 0", "0 lines came back, expected 3"),
        ("echo no such method", "not a number"),
        ("echo 1 2 3; echo 1 2; echo 1", "3 lines came back, expected 3 of 23 numbers"),
        ("yes NaN | head -69 | paste -sd' ' | fold -w 92", "not finite"),
    ],
)
def test_output_that_is_not_whole_is_refused(tmp_path, script, message):
    java = write_program(tmp_path / "java", f"PATH=/usr/bin:/bin; cat > /dev/null; {script}")
    with pytest.raises(ToolError, match=message):
        score_meteor(REFERENCES, HYPOTHESES, 0, limits=replace(LIMITS, java=java))
