"""The files of a run's directory, and when those that training writes are complete."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ademvl.config.run import RunSettings
from ademvl.errors import DataError, WeightsError
from ademvl.runs.adapter_folder import DESCRIPTION_FILE, adapter_checksum
from ademvl.runs.adapter_training import other_training
from ademvl.runs.identity import identity_sha256

RATIONALE = "rationale"
"""Folder, in a run's directory, of MM-CoT's first stage."""
LMMS_SCORES = "scores/lmms_eval.json"
"""Scores, in a run's directory, that lmms-eval measured; there where they have been taken."""


@dataclass(frozen=True)
class RunFiles:
    """Files of a run's directory that training and evaluation write."""

    run_dir: Path

    @property
    def adapter(self) -> Path:
        """Folder of what a user keeps."""
        return self.run_dir / "adapter"

    @property
    def adapter_json(self) -> Path:
        """Written last."""
        return self.adapter / DESCRIPTION_FILE

    @property
    def metrics(self) -> Path:
        """Table of logged steps."""
        return self.run_dir / "metrics.csv"

    @property
    def kept(self) -> Path:
        """Table of what text tokens keep of the image, where a training learns it."""
        return self.run_dir / "kept.csv"

    @property
    def provenance(self) -> Path:
        """Code, packages, hardware, checksums and cost."""
        return self.run_dir / "provenance.json"

    @property
    def state(self) -> Path:
        """Folder of resumable states."""
        return self.run_dir / "state"

    @property
    def lock(self) -> Path:
        """Held by the process that trains."""
        return self.run_dir / ".train.lock"

    @property
    def predictions_dir(self) -> Path:
        """Folder of answers, by what was evaluated."""
        return self.run_dir / "predictions"

    def predictions(self, evaluated: str) -> Path:
        """Answers, one a line; `evaluated` is a task, or the benchmark that it is evaluated on."""
        return self.predictions_dir / f"{evaluated}.jsonl"

    def scores(self, evaluated: str) -> Path:
        """What came of the answers."""
        return self.run_dir / "scores" / f"{evaluated}.json"

    @property
    def evaluation_lock(self) -> Path:
        """Held by the process that evaluates."""
        return self.run_dir / ".evaluate.lock"

    def stages(self, run: RunSettings) -> "dict[str, RunFiles]":
        """Files of each training of a run by its name, in order; the last are the run's own.

        MM-CoT alone has two: its rationales are learned first, in a folder of their own.
        """
        if run.method.kind == "trained_whole":
            return {RATIONALE: RunFiles(self.run_dir / RATIONALE), "answer": self}
        return {"": self}

    def of_run(self, name: str) -> "RunFiles":
        """Files of another run of the same study, with the same seed."""
        return RunFiles(self.run_dir.parent.parent / name / self.run_dir.name)

    def is_complete(self, identity: Mapping[str, Any]) -> bool:
        """Tell whether a training of this identity has finished here."""
        if not (self.adapter_json.is_file() and self.metrics.is_file()):
            return False
        try:
            adapter_checksum(self.adapter)
            provenance = json.loads(self.provenance.read_text(encoding="utf-8"))
            is_own = other_training(self.adapter, provenance) is None
            return is_own and bool(provenance["identity_sha256"] == identity_sha256(identity))
        except (DataError, WeightsError, OSError, ValueError, KeyError, TypeError):
            return False

    def mark_incomplete(self) -> None:
        """Remove what a training with other settings left, the mark of completion first."""
        self.adapter_json.unlink(missing_ok=True)
        self.provenance.unlink(missing_ok=True)
        self.kept.unlink(missing_ok=True)
