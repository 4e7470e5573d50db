"""Scores of a study's adapters on benchmarks that lmms-eval asked them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ademvl.errors import DataError
from ademvl.evaluation.predictions import SEAL
from ademvl.evaluation.sealed_scores import seal_of_scores
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.score_entries import impossible_numbers, read_estimates
from ademvl.reporting.seed_result import SeedResult
from ademvl.runs.run_state import read_object

_REMEDY = "Take the scores again: `ademvl score lmms-eval --results FILE --run RUN`."


@dataclass(frozen=True)
class BenchmarkedRun:
    """A run as lmms-eval scored it.

    Attributes:
        run: with the seeds that it asked, and their scores on the benchmarks.
        notes: what each column was measured on.
    """

    run: RunResult
    notes: tuple[str, ...]


def benchmarked_runs(results: StudyResults) -> tuple[BenchmarkedRun, ...]:
    """Return the runs that lmms-eval asked, in the order of the study file.

    Raises:
        DataError: scores are malformed, or changed since they were taken.
    """
    return tuple(found for run in results.runs if (found := _benchmarked(run)))


def _benchmarked(run: RunResult) -> BenchmarkedRun | None:
    asked = [(seed, content) for seed in run.seeds if (content := _read(seed))]
    if not asked:
        return None
    seeds, counts = list[SeedResult](), dict[str, int]()
    for seed, content in asked:
        scores = read_estimates(content, seed.files.lmms_scores, None)
        counts = counts or {column: score.n for column, score in scores.items()}
        if seed.state != "finished" or content.get("adapter_sha256") != seed.adapter_sha256:
            seed = seed.left_out("lmms-eval asked an adapter that the run has no more")
        elif {column: score.n for column, score in scores.items()} != counts:
            seed = seed.left_out("lmms-eval asked other items than of the first seed")
        seeds.append(replace(seed, scores=scores if seed.state == "finished" else {}, ceiling={}))
    notes = _notes(run.label, [content for _, content in asked])
    return BenchmarkedRun(replace(run, seeds=tuple(seeds), others={}), tuple(notes))


def _read(seed: SeedResult) -> dict[str, Any]:
    """Read the scores of one training; empty without any."""
    path = seed.files.lmms_scores
    content = dict(read_object(path))
    if not content:
        return {}
    wrong = impossible_numbers(content, path, None)
    if content.get(SEAL) != seal_of_scores(content):
        wrong.append("changed since they were taken")
    if wrong:
        raise DataError(f"{path}: {'; '.join(wrong)}. {_REMEDY}")
    return content


def _notes(label: str, contents: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say on which tasks seeds were scored, and the results files; one note for the same tasks."""
    files: dict[str, list[str]] = {}
    for content in contents:
        tasks, source = content.get("tasks") or {}, content.get("source") or {}
        told = ", ".join(f"{column} by {task}" for column, task in tasks.items())
        files.setdefault(told, []).append(str(source.get("path", "")))
    for told, of in files.items():
        yield f"{label}: measured by lmms-eval, {told}; {', '.join(dict.fromkeys(of))}."
