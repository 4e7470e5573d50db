"""Protects the tokenizer's wrapper: no Java on the PATH, no lost line, odd captions kept apart."""

from contextlib import nullcontext

import pytest

from ademvl.errors import ToolError
from ademvl.tasks.coco_caption.metrics import ptb
from ademvl.tasks.coco_caption.metrics.java import JavaLimits
from ademvl.tasks.coco_caption.metrics.ptb import tokenize_sentences


@pytest.mark.java
def test_sentences_are_tokenized_without_java_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    sentences = [
        "The dogs' bowl, it's very RED.",
        "",
        "line\nbreak\r\n and\u2028another",
        "café — naïve",
        "lone \ud800 surrogate",
        "...",
        " two  blanks ",
        "",
    ]
    assert tokenize_sentences(sentences) == [
        "the dogs bowl it 's very red",
        "",
        "line break and another",
        "café naïve",
        "lone surrogate",
        "",
        "two blanks",
        "",
    ]


@pytest.mark.java
def test_odd_captions_stay_one_line_each():
    control = "".join(map(chr, range(32)))
    sentences = ["a" * 100_000, "dog " * 25_000, control, "a\x85b", "\ufeffcat", "\U0001f600", "x"]
    tokenized = tokenize_sentences(sentences)
    assert len(tokenized) == len(sentences)
    assert tokenized[1].split() == ["dog"] * 25_000
    assert tokenized[-1] == "x"


def test_nothing_to_tokenize_runs_nothing(tmp_path):
    nowhere = JavaLimits(timeout_seconds=1, max_heap_mib=64, java=tmp_path / "java")
    assert tokenize_sentences([], limits=nowhere) == []


def test_lost_lines_are_reported(monkeypatch):
    lost = nullcontext(lambda text: b"a\n")
    monkeypatch.setattr(ptb, "started_java", lambda *arguments, **settings: lost)
    with pytest.raises(ToolError, match="1 lines came back for 2 sentences"):
        tokenize_sentences(["a", "b"])
