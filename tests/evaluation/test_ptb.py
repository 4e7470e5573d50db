"""Protects the tokenizer's wrapper: no Java on the PATH, no lost line, failures are said."""

import subprocess

import pytest

from ademvl.errors import ToolError
from ademvl.evaluation import ptb
from ademvl.evaluation.ptb import tokenize_sentences


def _finished(*, returncode=0, stdout=b"", stderr=b""):
    return lambda *args, **settings: subprocess.CompletedProcess(
        args, returncode, stdout=stdout, stderr=stderr
    )


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


def test_nothing_to_tokenize_runs_nothing(monkeypatch):
    monkeypatch.setattr(ptb.subprocess, "run", None)
    assert tokenize_sentences([]) == []


def test_java_that_dies_is_reported_with_its_message(monkeypatch):
    monkeypatch.setattr(
        ptb.subprocess, "run", _finished(returncode=134, stderr=b"OutOfMemoryError: heap")
    )
    with pytest.raises(ToolError, match=r"status 134.*OutOfMemoryError"):
        tokenize_sentences(["a"])


def test_lost_lines_are_reported(monkeypatch):
    monkeypatch.setattr(ptb.subprocess, "run", _finished(stdout=b"a\n"))
    with pytest.raises(ToolError, match="1 lines came back for 2 sentences"):
        tokenize_sentences(["a", "b"])


def test_hanging_java_is_stopped(monkeypatch):
    def hang(*args, **settings):
        raise subprocess.TimeoutExpired("java", settings["timeout"])

    monkeypatch.setattr(ptb.subprocess, "run", hang)
    with pytest.raises(ToolError, match="not finished after 5 seconds"):
        tokenize_sentences(["a"], timeout_seconds=5)


def test_missing_java_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(ptb, "_java", lambda: tmp_path / "java")
    with pytest.raises(ToolError, match="cannot be run"):
        tokenize_sentences(["a"])
