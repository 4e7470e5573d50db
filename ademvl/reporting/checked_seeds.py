"""Whether scores are of the same items as those beside them, and of the predictions beside them.

Right are those on the data that is there now. Where the data set is not there, as on a machine that
results were copied to, it is those on what the first of its runs was asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ademvl.config.run import RunSettings
from ademvl.errors import DataError
from ademvl.evaluation.asked import Asked, asked_now, items_of, other_parts
from ademvl.evaluation.sealed_scores import doubt_of, underived
from ademvl.reporting.seed_result import SeedResult
from ademvl.runs.identity import changed_data, data_checksums
from ademvl.runs.run_state import REMEDY, read_object
from ademvl.storage.files import read_json_lines


def check_seeds(seeds: Sequence[SeedResult]) -> list[SeedResult]:
    """Leave out scores on other data than the rest, and say which are not of their predictions.

    Args:
        seeds: of all runs of a study, as their folders tell.

    Raises:
        DataError: a prediction file is malformed.
    """
    groups = _Groups()
    return [groups.check(groups.note_training(seed)) for seed in seeds]


class _Groups:
    """What was asked in each task and split of a data set."""

    def __init__(self) -> None:
        self._present: dict[tuple[str, ...], Asked | None] = {}
        self._first: dict[tuple[str, ...], dict[str, str]] = {}
        self._files: dict[str, dict[str, str]] = {}

    def note_training(self, seed: SeedResult) -> SeedResult:
        """Note whether the data set has changed since the run was trained."""
        files = self._files_of(seed.settings.data_dir) if seed.provenance else {}
        trained_on_other = bool(files and changed_data(seed.provenance, files))
        return replace(seed, trained_on_other=trained_on_other)

    def check(self, seed: SeedResult) -> SeedResult:
        """Leave a finished seed out that was asked other items; note what makes it doubtful."""
        if seed.state != "finished":
            return seed
        run = seed.settings
        present = self._asked_now(run)
        if present is None:
            right: Mapping[str, str] = self._first.setdefault(items_of(run), {})
            beside = "the study's first run on it"
        else:
            right, beside = present.data, f"data set {_dataset(run)} holds now"
        if parts := other_parts(seed.data, right):
            reason = f"scored on other {' and '.join(parts)} than {beside}"
            return replace(seed.left_out(reason), scored_on_other=True)
        if present is None:
            self._first[items_of(run)] |= {**seed.data, **right}
        doubt = "" if seed.doubts else _doubt(seed, present)
        return replace(seed, scores={}, ceiling={}, doubts=(doubt,)) if doubt else seed

    def _asked_now(self, run: RunSettings) -> Asked | None:
        key = (*items_of(run), run.images)
        if key not in self._present:
            self._present[key] = asked_now(run)
        return self._present[key]

    def _files_of(self, data_dir: str) -> dict[str, str]:
        """Return the checksums of a data set's files; none where it is not there."""
        if data_dir not in self._files:
            try:
                self._files[data_dir] = data_checksums(Path(data_dir))
            except DataError:
                self._files[data_dir] = {}
        return self._files[data_dir]


def _dataset(run: RunSettings) -> str:
    return Path(run.evaluation_data_dir or run.data_dir).parent.name


def _doubt(seed: SeedResult, present: Asked | None) -> str:
    scores, predictions = read_object(seed.scores_path), seed.predictions_path
    doubts = [doubt_of(scores, predictions)]
    if present is not None and predictions.is_file():
        rows = read_json_lines(predictions, remedy=REMEDY)
        try:
            doubts.append(underived(scores, present, rows))
        except (DataError, KeyError, TypeError, ValueError) as error:
            doubts.append(f"{predictions}: cannot be scored ({str(error).splitlines()[0]})")
    return "; ".join(filter(None, doubts))
