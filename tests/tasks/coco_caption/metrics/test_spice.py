"""Protects SPICE's wrapper: no download, failures that are said, results by image."""

import json
from dataclasses import replace

import pytest

from ademvl.errors import ToolError
from ademvl.tasks.coco_caption.metrics.spice import LIMITS, PARSER_JARS, score_spice
from tests.tasks.coco_caption.metrics.fake_java import write_program

REFERENCES = {7: ["a dog runs"], 3: ["a cat sleeps", "one cat"]}
HYPOTHESES = {7: ["a dog"], 3: ["a cat"]}


@pytest.fixture
def parser(tmp_path):
    folder = tmp_path / "parser"
    folder.mkdir()
    for name in PARSER_JARS:
        (folder / name).write_bytes(b"")
    return folder


def _score(tmp_path, parser, results, *, status=0):
    """Let a program write `results` where SPICE's jar would."""
    source = tmp_path / "results.json"
    source.write_text(json.dumps(results), encoding="utf-8")
    script = 'while [ "$1" != -out ]; do shift; done; ' + f'cat "{source}" > "$2"; exit {status}'
    java = write_program(tmp_path / "java", f"PATH=/usr/bin:/bin; {script}")
    limits = replace(LIMITS, java=java)
    return score_spice(REFERENCES, HYPOTHESES, 0, parser_dir=parser, limits=limits)


def _row(image_id, score):
    return {"image_id": image_id, "scores": {"All": {"f": score}}}


def test_missing_parser_is_said_with_where_to_get_it(tmp_path):
    with pytest.raises(ToolError, match=r"no stanford-corenlp-3\.6\.0\.jar in .*\.zip"):
        score_spice(REFERENCES, HYPOTHESES, 0, parser_dir=tmp_path)


def test_mean_is_over_images(tmp_path, parser):
    estimate = _score(tmp_path, parser, [_row(3, 0.5), _row(7, 0.25)])
    assert estimate.value == pytest.approx(0.375)
    assert (estimate.ci_low, estimate.ci_high) == (0.25, 0.5)
    assert estimate.n == 2


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([_row(3, 0.5)], "not complete"),
        ([_row(3, 0.5), _row(7, None)], "not complete"),
        ([_row(3, 0.5), _row(7, float("nan"))], "without a score"),
        ({}, "not complete"),
    ],
)
def test_incomplete_result_is_refused(tmp_path, parser, results, message):
    with pytest.raises(ToolError, match=message):
        _score(tmp_path, parser, results)


def test_program_that_fails_is_reported(tmp_path, parser):
    with pytest.raises(ToolError, match="SPICE: Java ended with status 3"):
        _score(tmp_path, parser, [_row(3, 0.5), _row(7, 0.25)], status=3)


@pytest.mark.java
def test_real_jar_without_a_real_parser_dies_and_is_reported(parser):
    with pytest.raises(ToolError, match="SPICE: Java ended with status 1"):
        score_spice(REFERENCES, HYPOTHESES, 0, parser_dir=parser)
