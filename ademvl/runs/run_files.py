"""The files of a run's directory."""

from dataclasses import dataclass
from pathlib import Path

from ademvl.config.run import RunSettings
from ademvl.config.settings_files import RUN_FILE
from ademvl.runs.adapter_folder import DESCRIPTION_FILE, WEIGHTS_FILE

RATIONALE = "rationale"
"""Folder, in a run's directory, of MM-CoT's first stage."""


@dataclass(frozen=True)
class RunFiles:
    """Files of a run's directory that training and evaluation write."""

    run_dir: Path

    @property
    def settings(self) -> Path:
        """Resolved settings of the run."""
        return self.run_dir / RUN_FILE

    @property
    def adapter(self) -> Path:
        """Folder of what a user keeps."""
        return self.run_dir / "adapter"

    @property
    def adapter_json(self) -> Path:
        """Written last."""
        return self.adapter / DESCRIPTION_FILE

    @property
    def adapter_weights(self) -> Path:
        """Trained parameters."""
        return self.adapter / WEIGHTS_FILE

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

    @property
    def scores_dir(self) -> Path:
        """Folder of scores, by what was evaluated."""
        return self.run_dir / "scores"

    def scores(self, evaluated: str) -> Path:
        """What came of the answers."""
        return self.scores_dir / f"{evaluated}.json"

    @property
    def lmms_scores(self) -> Path:
        """Scores that lmms-eval measured; there where they have been taken."""
        return self.scores("lmms_eval")

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

    def mark_incomplete(self) -> None:
        """Remove what a training with other settings left, the mark of completion first."""
        self.adapter_json.unlink(missing_ok=True)
        self.provenance.unlink(missing_ok=True)
        self.kept.unlink(missing_ok=True)
