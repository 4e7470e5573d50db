"""Scores that lmms-eval measured of a trained adapter, from the results file that it writes.

Four benchmarks are read, those of the paper's table of image understanding. A results file has no
answers, so its scores have the intervals that a number of items and a mean say.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ademvl.config.settings_files import read_run
from ademvl.errors import AdemvlError, DataError, list_findings
from ademvl.evaluation.predictions import SEAL
from ademvl.evaluation.sealed_scores import seal_of_scores
from ademvl.runs.adapter_folder import adapter_checksum
from ademvl.runs.run_files import RunFiles
from ademvl.runs.run_state import present_adapter
from ademvl.runs.trained_adapter import find_adapter
from ademvl.statistics.intervals import WILSON, Estimate, wilson_interval
from ademvl.storage.files import read_json, write_json
from ademvl.tasks.score_table import describe_file, interval_cell
from ademvl.text_table import aligned

MODEL = "ademvl"
"""Name of trained adapters as a model of lmms-eval."""
_REMEDY = "Name the file that lmms-eval writes below --output_path, <time>_results.json."
_MAX_ITEMS = 10**9
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Benchmark:
    """How lmms-eval tells a benchmark's score.

    Attributes:
        metric: that is its score.
        tasks: of which one is scored.
        largest: value of the metric where all is right.
        orders: how often a question is asked at most; all of its answers have to be right.
    """

    metric: str
    tasks: tuple[str, ...]
    largest: float = 1.0
    orders: int = 1


_MMB_TASKS = ("mmbench_en_dev", "mmbench_en_dev_static", "mmbench_en_dev_lite")
BENCHMARKS: Mapping[str, _Benchmark] = {
    "VQAv2": _Benchmark("exact_match", ("vqav2_val", "vqav2_val_lite")),
    "GQA": _Benchmark("exact_match", ("gqa", "gqa_lite")),
    "MMB": _Benchmark("gpt_eval_score", _MMB_TASKS, largest=100.0, orders=4),
    "MMMU": _Benchmark("mmmu_acc", ("mmmu_val",)),
}
"""By the column of the tables."""


def read_lmms_results(path: Path) -> dict[str, Any]:
    """Read the scores of a results file of lmms-eval 0.7.

    Args:
        path: `<time>_results.json`.

    Returns:
        `columns` with n, percent and interval by benchmark; `tasks`, what each was measured on;
        `source`, the file.

    Raises:
        DataError: no such file, none of the benchmarks in it, or a number that cannot be.
    """
    raw = _results_of(path)
    columns, tasks, findings = dict[str, Any](), dict[str, str](), list[str]()
    for column, benchmark in BENCHMARKS.items():
        found = [task for task in benchmark.tasks if task in raw["results"]]
        if len(found) > 1:
            findings.append(f"{column}: both {' and '.join(found)}, expected one of them")
        elif found:
            try:
                columns[column] = _estimate(raw, found[0], benchmark).as_percent()
            except ValueError as error:
                findings.append(f"{found[0]}: {error}")
            tasks[column] = _described(raw, found[0])
    if findings:
        raise DataError(list_findings(f"{path}: scores cannot be read", findings, _REMEDY))
    if not columns:
        known = ", ".join(task for benchmark in BENCHMARKS.values() for task in benchmark.tasks)
        raise DataError(f"{path}: none of the tasks {known}; it has {', '.join(raw['results'])}")
    return {"columns": columns, "tasks": tasks, "source": describe_file(path)}


def give_to_run(scores: Mapping[str, Any], results: Path, run_dir: Path) -> None:
    """Put scores of a results file beside a run's own, for the tables of its study.

    Args:
        scores: of `read_lmms_results`.
        results: the file they are from.
        run_dir: of the run and seed whose adapter was asked.

    Raises:
        DataError: the file is of another model, or of another adapter than the run has.
        SettingsError, WeightsError: no trained run is there.
    """
    adapter = _adapter_of(run_dir)
    config = _results_of(results).get("config")
    config = config if isinstance(config, dict) else {}
    if config.get("model") != MODEL:
        raise DataError(
            f"{results}: of model {config.get('model')!r}, expected {MODEL}: a run has scores of "
            "its own adapter alone"
        )
    asked = _asked_adapter(config.get("model_args"))
    try:
        found = adapter_checksum(find_adapter(Path(asked)).folder)
    except AdemvlError as error:
        if not asked or Path(asked).parts[-2:] != run_dir.absolute().parts[-2:]:
            raise DataError(
                f"{results}: of adapter={asked}, which cannot be compared with {run_dir} "
                f"({error}). Start where lmms-eval was started."
            ) from error
        _log.warning("%s: adapter=%s is not here; taken for %s by name", results, asked, run_dir)
        found = adapter
    if found != adapter:
        raise DataError(f"{results}: of adapter={asked}, which is another one than {run_dir} has")
    source = {**scores["source"], "path": results.name}  # results are passed on: no other folder
    content = {**scores, "task": "lmms_eval", "source": source, "adapter_sha256": adapter}
    write_json(RunFiles(run_dir).lmms_scores, {**content, SEAL: seal_of_scores(content)})


def lmms_table(scores: Mapping[str, Any]) -> str:
    """Render scores for a terminal."""
    rows = [
        [
            column,
            scores["tasks"][column],
            f"{entry['n']:,}",
            f"{entry['percent']:.1f}",
            interval_cell(entry, decimals=1),
        ]
        for column, entry in scores["columns"].items()
    ]
    head = ["benchmark", "task", "n", "percent", "95 % interval"]
    return "\n".join(aligned([head, *rows], num_left=2))


def _results_of(path: Path) -> Mapping[str, Any]:
    """Read a results file as far as all of them are alike."""
    raw = read_json(path, remedy=_REMEDY)
    is_alike = isinstance(raw, dict) and all(
        isinstance(raw.get(key), dict) and all(isinstance(of, dict) for of in raw[key].values())
        for key in ("results", "n-samples")
    )
    if not is_alike:
        raise DataError(f"{path}: no results of lmms-eval: expected objects by task. {_REMEDY}")
    return dict(raw)


def _estimate(raw: Mapping[str, Any], task: str, benchmark: _Benchmark) -> Estimate:
    """Return a task's score.

    Raises:
        ValueError: what is wrong with it.
    """
    found = {
        name: value
        for name, value in raw["results"][task].items()
        if name.partition(",")[0] == benchmark.metric
    }
    if len(found) != 1:
        several = f", found {', '.join(found)}" if found else ""
        raise ValueError(f"expected one {benchmark.metric}{several}")
    (value,) = found.values()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{benchmark.metric} is {value!r:.80}, not a number")
    if not 0 <= value <= benchmark.largest:
        raise ValueError(f"{benchmark.metric} is {value!s:.80}, outside 0 to {benchmark.largest:g}")
    n = (raw["n-samples"].get(task) or {}).get("effective")
    if type(n) is not int or not 1 <= n <= _MAX_ITEMS:
        raise ValueError(f"n-samples: effective is {n!r:.80}, not a number of items")
    share = value / benchmark.largest
    questions = -(-n // benchmark.orders)
    interval = wilson_interval(round(share * questions), questions)
    method = (
        WILSON if benchmark.orders == 1 else f"{WILSON} for a question to {benchmark.orders} items"
    )
    return replace(
        interval,
        value=share,
        ci_low=min(interval.ci_low, share),
        ci_high=max(interval.ci_high, share),
        n=n,
        method=method,
    )


def _described(raw: Mapping[str, Any], task: str) -> str:
    """Return a task's name, and how much of it was asked where that is not all."""
    counts = raw["n-samples"].get(task) or {}
    original, effective = counts.get("original"), counts.get("effective")
    return task if original == effective else f"{task} (first {effective} of {original})"


def _adapter_of(run_dir: Path) -> str:
    """Return the checksum of a run's adapter, its own or the one that it takes."""
    found = present_adapter(run_dir, read_run(run_dir))
    return found or adapter_checksum(RunFiles(run_dir).adapter)  # which says what is missing


def _asked_adapter(arguments: object) -> str:
    """Return the folder in `--model_args`, which is text or an object in a results file."""
    if isinstance(arguments, dict):
        return str(arguments.get("adapter", ""))
    found = re.search(r"(?:^|,)\s*adapter=([^,]*)", str(arguments or ""))
    return found[1].strip() if found else ""
