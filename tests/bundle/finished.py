"""A finished study in a temporary folder: real questions, made-up predictions, right scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ademvl.config.settings_files import read_run, run_to_json, study_to_json, write_settings
from ademvl.config.study import load_study
from ademvl.runs.chosen_rate import with_chosen_rates
from ademvl.runs.identity import data_checksums, identity_sha256, recorded_identity
from ademvl.runs.metrics import COLUMNS as METRICS_COLUMNS
from ademvl.storage.files import write_json
from ademvl.tasks.scienceqa.reader import load_scienceqa
from tests.reporting.synthetic import header_of, write_adapter_json, write_evaluation
from tests.tiny import make_scienceqa

NUM_TEST = 60
Predict = Callable[[int, int, int], int]
"""(place in the split, right choice, seed) to a predicted choice."""


def usual(place: int, right: int, seed: int) -> int:
    """Answer three in four questions rightly."""
    return right if (place + seed) % 4 else 1 - right


class FinishedStudy:
    """Results of two runs, `adem` with two seeds and `other` with one."""

    def __init__(self, root: Path, **changes: Any) -> None:
        self.root = root
        self.trained_on: dict[str, str] = {}  # checksums of other files than the data set has
        data = root / "results/shared/data/squares/scienceqa"
        if not data.is_dir():
            make_scienceqa(data, num_test=NUM_TEST)
        self.data = data
        self.raw: dict[str, Any] = {
            "study": "tiny",
            "scale": "mini",
            "results_dir": str(root / "results"),
            "shared_dir": str(root / "results/shared"),
            "datasets": {"squares": {"source": "scienceqa", "existing": "/home/somebody/squares"}},
            "defaults": {"dataset": "squares", "features": {"mode": "cached"}},
            "runs": {"adem": {"seeds": [0, 1]}, "other": {"method": {"gamma": 0.0}}},
            **changes,
        }

    def finish(self, *, predict: Predict = usual, only: tuple[str, ...] = ()) -> Path:
        """Write everything that verbs leave; return the study's folder."""
        study = with_chosen_rates(load_study(self.raw))
        write_settings(study.results_dir / "study.yaml", study_to_json(study))
        for run in study.runs:
            if only and run.name not in only:
                continue
            folder = study.run_dir(run)
            write_settings(folder / "run.yaml", run_to_json(run))
            self._write(folder, run.seed, predict)
        return study.results_dir

    def _write(self, folder: Path, seed: int, predict: Predict) -> None:
        problems = load_scienceqa(self.data).split("test")
        predicted = {
            problem.question_id: predict(place, problem.answer_index, seed)
            for place, problem in enumerate(problems)
        }
        rows = [
            {"id": i, "text": "AB"[index], "predicted_index": index}
            for i, index in predicted.items()
        ]
        run = read_run(folder)
        header = {**header_of(run), "weights": {"llm": "/home/somebody/llama-7b"}}
        write_evaluation(folder, run, rows, header)
        data = {**data_checksums(self.data), **self.trained_on}
        checksums = {f"data/{name}": checksum for name, checksum in data.items()}
        write_json(
            folder / "provenance.json",
            {
                "code": {"version": "0.1.0", "sources_sha256": "0" * 64},
                "packages": {"torch": "2.15.0"},
                "python": "3.11.7",
                "hardware": {"cpu": "Some CPU", "gpus": [], "system": "Linux x86_64"},
                "checksums": checksums,
                "identity_sha256": identity_sha256(recorded_identity(run, checksums)),
                "ended": f"2026-01-0{seed + 1}T00:00:00+00:00",
                "usage": {"wall_seconds": 61.5},
            },
        )
        (folder / "metrics.csv").write_text(",".join(METRICS_COLUMNS) + "\n")
        write_adapter_json(folder)
        (folder / "adapter" / "adapter.safetensors").write_bytes(b"weights")
