"""A small study in a temporary folder, with run directories as the verbs leave them."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ademvl.config.run import RELEASED, TRAINED, RunSettings
from ademvl.config.settings_files import read_run, run_to_json, write_settings
from ademvl.config.study import Study, load_study
from ademvl.evaluation.asked import asked_now
from ademvl.evaluation.predictions import SEAL, header_file, seal_of
from ademvl.evaluation.sealed_scores import seal_of_scores, write_scores
from ademvl.runs.identity import (
    evaluation_settings,
    identity_sha256,
    recorded_identity,
)
from ademvl.runs.metrics import COLUMNS as METRICS_COLUMNS
from ademvl.runs.versions import RESULT_VERSIONS
from ademvl.statistics.intervals import wilson_interval
from ademvl.storage.files import write_json

COLUMNS = ("NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12", "AVG")
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")


def adapter_sha256(run: RunSettings) -> str:
    """Return the checksum of the adapter that a run has or takes, of its seed."""
    owner = run.name if run.adapter in (TRAINED, RELEASED) else run.adapter
    return hashlib.sha256(f"{owner} {run.seed}".encode()).hexdigest()


def write_adapter_json(folder: Path) -> None:
    """Write what says that a run's adapter is complete."""
    (folder / "adapter").mkdir(exist_ok=True)
    content = json.dumps({"sha256": adapter_sha256(read_run(folder))})
    (folder / "adapter" / "adapter.json").write_text(content, encoding="utf-8")


def trained_with(run: RunSettings) -> dict[str, Any]:
    """Return what provenance.json says a run was trained with; data and weights have no part."""
    return {"identity_sha256": identity_sha256(recorded_identity(run, {}))}


def header_of(run: RunSettings) -> dict[str, Any]:
    """Return the header of a run's scores, on its data as far as there is any."""
    asked = asked_now(run)
    return {
        "adapter_sha256": adapter_sha256(run),
        "data": dict(asked.data) if asked else {},
        "settings": evaluation_settings(run),
        "version": RESULT_VERSIONS["evaluate"],
    }


def write_predictions(
    folder: Path, task: str, rows: Sequence[Mapping[str, Any]], header: Mapping[str, Any]
) -> Path:
    """Write complete predictions with their sealed header."""
    path = folder / "predictions" / f"{task}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(header_file(path), {**header, SEAL: seal_of(header, path)})
    return path


def write_evaluation(
    folder: Path, run: RunSettings, rows: Sequence[Mapping[str, Any]], header: Mapping[str, Any]
) -> None:
    """Write predictions, and the scores that they have, as an evaluation does."""
    asked, task = asked_now(run), run.evaluation_task
    assert asked is not None
    scores = {"task": task, "n": len(rows), "header": header, **asked.score(rows)}
    predictions = write_predictions(folder, task, rows, header)
    write_scores(folder / "scores" / f"{task}.json", scores, predictions)


def write_sealed(path: Path, scores: Mapping[str, Any]) -> None:
    """Write scores of predictions that are not there."""
    write_json(path, {**scores, SEAL: seal_of_scores(scores)})


class SyntheticStudy:
    """Writes scores, metrics and provenance of chosen runs; the others stay not run."""

    def __init__(self, root: Path, **overrides: Any) -> None:
        self.raw: dict[str, Any] = {
            "study": "tiny",
            "scale": "mini",
            "results_dir": str(root / "results"),
            "shared_dir": str(root / "shared"),
            "column_notes": {"nat": "questions for a colour"},
            "datasets": {"shapes": {"source": "easy_vqa"}},
            "defaults": {"dataset": "shapes", "features": {"mode": "cached"}},
            "runs": {
                "adem": {"label": "ADEM-VL", "seeds": [0, 1]},
                "text_only": {"label": "text-only control", "images": "withheld"},
                "captions": {"label": "ADEM-VL", "task": "coco_caption"},
            },
        }
        self.raw.update(overrides)
        if overrides.get("scale") == "paper":
            self.at_paper_scale()

    def at_paper_scale(self) -> None:
        """Give the runs names of real backbones and data; what they have made is of other ones."""
        self.raw["scale"] = "paper"
        self.raw["datasets"] = {
            "shapes": {"source": "scienceqa"},
            "coco": {"source": "coco_caption"},
        }
        self.raw["defaults"]["backbones"] = {"llm": "llama_7b", "tower": "ViT-L-14"}
        for run in self.raw["runs"].values():
            if run.get("task") == "coco_caption":
                run["dataset"] = "coco"

    @property
    def study(self) -> Study:
        return load_study(self.raw)

    def run_dir(self, name: str, seed: int = 0) -> Path:
        study = self.study
        run = next(run for run in study.runs if (run.name, run.seed) == (name, seed))
        folder = study.run_dir(run)
        write_settings(folder / "run.yaml", run_to_json(run))
        return folder

    def finish_scienceqa(
        self, name: str, correct: Mapping[str, tuple[int, int]], *, seed: int = 0
    ) -> Path:
        """Write scores from (correct, n) by column; columns not named have no questions."""
        columns: dict[str, Any] = {}
        for column in COLUMNS:
            successes, n = correct.get(column, (0, 0))
            columns[column] = (
                {**wilson_interval(successes, n).as_percent(), "correct": successes} if n else None
            )
        return self._finish(name, seed, {"task": "scienceqa", "columns": columns})

    def finish_captions(self, name: str, values: Mapping[str, float], *, seed: int = 0) -> Path:
        """Write metrics (times 100) with intervals of +-1, and a ceiling 5 above them."""

        def entries(offset: float) -> dict[str, Any]:
            return {
                metric: {
                    "n": 300,
                    "percent": value + offset,
                    "ci_low": value + offset - 1,
                    "ci_high": value + offset + 1,
                    "method": "percentile bootstrap over items, 10,000 resamples",
                }
                for metric, value in values.items()
            }

        scores = {"task": "coco_caption", "metrics": entries(0), "ceiling": {"metrics": entries(5)}}
        return self._finish(name, seed, scores)

    def _finish(self, name: str, seed: int, scores: Mapping[str, Any]) -> Path:
        folder = self.run_dir(name, seed)
        run = read_run(folder)
        write_adapter_json(folder)
        path = folder / "scores" / f"{scores['task']}.json"
        write_sealed(path, {**scores, "header": header_of(run)})
        provenance = {
            **trained_with(run),
            "trainable_parameters": 123456,
            "usage": {"wall_seconds": 61.5, "peak_memory_mib": 900.0},
            "operations": {"training": 500_000_000, "answer": 200_000_000, "tokens": 40},
            "hardware": {"cpu": "Some CPU", "gpus": []},
            "packages": {"torch": "2.6.0"},
            "code": {"version": "0.1.0", "sources_sha256": "0" * 64},
        }
        (folder / "provenance.json").write_text(json.dumps(provenance))
        lines = [",".join(METRICS_COLUMNS)]
        lines += [
            f"{step},{step / 100},0.001,{3 * math.exp(-step / 40) + 0.1 * seed},1.0,0,0,10.0,9.0,9"
            for step in range(10, 210, 10)
        ]
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
        return folder
