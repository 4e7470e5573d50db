"""What a bundle says of each training: settings, provenance, scores, predictions, right answers."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ademvl.bundle.collection import Collection, answers_name
from ademvl.config.influence import told_settings
from ademvl.config.nested import flat
from ademvl.config.reading import read
from ademvl.config.run import RunSettings
from ademvl.config.settings_files import RUN_FILE, STUDY_FILE
from ademvl.config.strict_yaml import load_yaml
from ademvl.config.tasks import all_facts, facts_evaluated_as, facts_of
from ademvl.errors import DataError, SettingsError
from ademvl.evaluation.predictions import SEAL
from ademvl.evaluation.sealed_scores import PREDICTIONS, SEALED_SINCE, seal_of_scores
from ademvl.runs.run_files import RunFiles
from ademvl.storage.files import parse_json

_REMEDY = "Make the bundle again."
_OF_PROVENANCE = ("code", "hardware", "packages", "checksums")


@dataclass(frozen=True, kw_only=True)
class SeedRecord:
    """One training of a run.

    Attributes:
        run: key under `runs`.
        seed: of the run.
        task: name of the score file.
        settings: by dotted path, those that results depend on.
        provenance: content of provenance.json; empty where the run takes another run's adapter.
        scores: content of the score file.
        predictions: row by item id; empty without any.
        answers: right answers by item id; empty where they are not known.
        predictions_sha256: of the file of predictions; empty without any.
    """

    run: str
    seed: int
    task: str
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    scores: Mapping[str, Any]
    predictions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    predictions_sha256: str = ""

    @property
    def is_doubtful(self) -> bool:
        """Whether the scores are not as they were written, or of other predictions.

        Those of bundles from before scores were sealed are taken as they are.
        """
        header = self.scores.get("header")
        version = header.get("version") if isinstance(header, dict) else None
        if isinstance(version, int) and version < SEALED_SINCE:
            return False
        is_of_others = self.predictions_sha256 not in ("", self.scores.get(PREDICTIONS))
        return is_of_others or self.scores.get(SEAL) != seal_of_scores(self.scores)


@dataclass(frozen=True)
class Results:
    """A study's results as a bundle holds them."""

    label: str
    collection: Collection

    @cached_property
    def runs(self) -> dict[str, list[SeedRecord]]:
        """Finished trainings by run, seeds in order.

        Raises:
            DataError: a file is malformed; names it.
        """
        found: dict[str, list[SeedRecord]] = {}
        for name, state in self.collection.states.items():
            run, _, seed = name.partition("/seed")
            if state == "finished":
                found.setdefault(run, []).append(self._record(run, int(seed)))
        return {run: sorted(seeds, key=lambda s: s.seed) for run, seeds in found.items()}

    @property
    def tables(self) -> dict[str, bytes]:
        """Tables by file name."""
        return {
            PurePosixPath(name).name: content
            for name, content in self.collection.files.items()
            if name.startswith("tables/")
        }

    def _record(self, run: str, seed: int) -> SeedRecord:
        prefix = f"runs/{run}/seed{seed}"
        files = RunFiles(Path(prefix))
        raw = self._yaml(files.settings.as_posix())
        name = str(raw.get("task"))
        if name not in all_facts():
            raise DataError(
                f"{self.label}: {files.settings}: task {name!r} is not known to this version of "
                "ademvl; use the one that made it"
            )
        task = facts_of(name).evaluated_as
        scores_in = facts_evaluated_as(task).scores_in
        predictions = files.predictions(task).as_posix()
        content = self._content(predictions, optional=True)
        return SeedRecord(
            run=run,
            seed=seed,
            task=task,
            settings=_told(raw),
            provenance=self._json(files.provenance.as_posix(), *_OF_PROVENANCE, optional=True),
            scores=self._json(files.scores(task).as_posix(), "header", scores_in),
            predictions=self._lines(predictions),
            answers=self._json(self._answers_name(run, raw, task), optional=True),
            predictions_sha256=hashlib.sha256(content).hexdigest() if content else "",
        )

    def _answers_name(self, run: str, settings: Mapping[str, Any], task: str) -> str:
        template = self._templates.get(run) or {}
        dataset = template.get("evaluation_dataset") or template.get("dataset") or ""
        split = (settings.get("evaluation") or {}).get("split", "")
        return answers_name(str(dataset), task, str(split))

    @cached_property
    def _templates(self) -> Mapping[str, Any]:
        return self._object(self._yaml(STUDY_FILE).get("runs"), STUDY_FILE)

    def _content(self, name: str, *, optional: bool = False) -> bytes:
        content = self.collection.files.get(name)
        if content is None and not optional:
            raise DataError(f"{self.label}: {name} is missing; make the bundle again")
        return content or b""

    def _yaml(self, name: str) -> Mapping[str, Any]:
        try:
            raw = load_yaml(self._content(name).decode("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DataError(f"{self.label}: {name} is not valid YAML: {error}") from error
        return self._object(raw, name)

    def _json(self, name: str, *objects: str, optional: bool = False) -> Mapping[str, Any]:
        """Read an object; its values at the keys `objects`, where there are any, are objects."""
        content = self._content(name, optional=optional)
        if not content:
            return {}
        raw = self._object(self._parsed(content, f"{self.label}: {name}"), name)
        for key in objects:
            self._object(raw.get(key) or {}, f"{name}: {key}")
        return raw

    def _parsed(self, content: bytes, place: str) -> Any:
        try:
            return parse_json(content.decode("utf-8"), place=place, remedy=_REMEDY)
        except UnicodeDecodeError as error:
            raise DataError(f"{place}: not UTF-8 text at byte {error.start}. {_REMEDY}") from error

    def _lines(self, name: str) -> dict[str, Mapping[str, Any]]:
        lines = self._content(name, optional=True).splitlines()
        try:
            rows = [
                self._parsed(line, f"{self.label}: {name}: line {number}")
                for number, line in enumerate(lines, start=1)
            ]
            return {str(row["id"]): row for row in rows}
        except (KeyError, TypeError) as error:
            raise DataError(f"{self.label}: {name} is malformed ({error!r})") from error

    def _object(self, raw: Any, name: str) -> Mapping[str, Any]:
        if not isinstance(raw, dict):
            raise DataError(
                f"{self.label}: {name} holds a {type(raw).__name__}, not an object. {_REMEDY}"
            )
        return raw


def _told(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings by which results are told apart, those at their default too."""
    try:
        return told_settings(read(RunSettings, raw, source=RUN_FILE))
    except SettingsError:
        return flat(raw)  # of another version of ademvl: compared as written
