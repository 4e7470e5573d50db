"""A study: data sets, defaults and a list of runs, resolved into the settings of every run."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ademvl.config.dataset import share_coco
from ademvl.config.findings import Finding
from ademvl.config.includes import expand_includes, read_with_places
from ademvl.config.inheritance import bases_of_runs, check_shared_adapters, merge_runs
from ademvl.config.names import check_names
from ademvl.config.nested import holds
from ademvl.config.places import Places
from ademvl.config.plain import all_plain
from ademvl.config.reading import refusal, try_reading
from ademvl.config.released import check_released, checkpoint_path
from ademvl.config.run import (
    BackboneSettings,
    FeatureSettings,
    RunSettings,
)
from ademvl.config.study_settings import ReportedReference, RunTemplate, StudySettings
from ademvl.errors import SettingsError, list_findings


@dataclass(frozen=True)
class Study:
    """A study with all of its runs resolved.

    Attributes:
        settings: the study file's settings; each run already has the defaults.
        runs: one entry per run and seed, in the order of the study file.
    """

    settings: StudySettings
    runs: tuple[RunSettings, ...]

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.settings.study

    @property
    def scale(self) -> Literal["mini", "paper"]:
        """`mini` or `paper`."""
        return self.settings.scale

    @property
    def column_notes(self) -> Mapping[str, str]:
        """Meaning of ScienceQA's columns in this study's data."""
        return self.settings.column_notes

    @property
    def results_dir(self) -> Path:
        """Folder of this study's results: <results_dir>/<study>."""
        return Path(self.settings.results_dir) / self.settings.study

    def run_dir(self, run: RunSettings) -> Path:
        """Return the directory of one run and seed."""
        return self.results_dir / "runs" / run.name / f"seed{run.seed}"

    def reported(self, run_name: str) -> tuple[ReportedReference, ...]:
        """Return the reported rows that a run sets out to reproduce."""
        return self.settings.runs[run_name].reported

    def label(self, run_name: str) -> str:
        """Return a run's name for tables and figures."""
        return self.settings.runs[run_name].label or run_name


def load_study(source: Path | Mapping[str, Any]) -> Study:
    """Read, check and resolve a study.

    Args:
        source: a study file, or its content (as Snakemake's `config`).

    Raises:
        SettingsError: lists all wrong keys and values with path, allowed values and nearest
            spelling; or a combination that cannot work.
    """
    name = str(source) if isinstance(source, Path) else "config"
    if isinstance(source, Path):
        raw, places = read_with_places(source, name=name)
    else:
        raw, places = source, Places()
    raw, places = expand_includes(raw, places, source=name)
    settings, places = _build(raw, places, source=name)
    check_names(settings, places, source=name)
    settings = dataclasses.replace(settings, datasets=share_coco(settings.datasets))
    _refuse_mini_as_paper(settings, places, source=name)
    check_shared_adapters(settings.runs, places)
    check_released(settings.runs, places)
    runs = tuple(
        _resolve(settings, run, seed)
        for run, template in settings.runs.items()
        for seed in template.seeds
    )
    if not runs:
        raise SettingsError(f"{name}: runs is empty, nothing to do; name at least one run")
    if unknown := [run for run in settings.base_runs if run not in settings.runs]:
        raise SettingsError(
            f"{name}: base_runs: {', '.join(unknown)} not under runs; "
            f"runs are {', '.join(settings.runs)}"
        )
    return Study(settings, runs)


def _build(raw: Mapping[str, Any], places: Places, *, source: str) -> tuple[StudySettings, Places]:
    """Let runs inherit, and check and build everything; return also where inherited keys stand."""
    own = all_plain(raw.get("runs", {}))
    can_inherit = isinstance(own, dict) and all(
        isinstance(group, Mapping) for group in (raw.get("defaults", {}), *own.values())
    )
    if can_inherit:
        merged = merge_runs(raw.get("defaults", {}), own, source=source, places=places)
        raw = {**raw, "runs": merged}
        places = dataclasses.replace(places, bases=bases_of_runs(own))
    settings, findings = try_reading(StudySettings, raw)
    if settings is None:
        if can_inherit:
            findings = _without_inherited(findings, own, places)
        raise refusal(findings, source=source, places=places)
    return settings, places


def _without_inherited(
    findings: Sequence[Finding], runs: Mapping[str, Any], places: Places
) -> list[Finding]:
    """Leave out what is wrong with a run only because it is wrong where the run has it from."""
    known = {(finding.path, finding.text) for finding in findings}
    return [
        finding
        for finding in findings
        if any(
            holds({"runs": runs}, path)
            for path in (finding.about if finding.is_relation else (finding.path,))
        )
        or not any(
            ((*base, *finding.path[2:]), finding.text) in known
            for base in places.bases.get(finding.path[:2], ())
        )
    ]


def _refuse_mini_as_paper(settings: StudySettings, places: Places, *, source: str) -> None:
    if settings.scale == "mini":
        return
    findings = [
        f"runs.{name}.backbones.{part}: mini"
        for name, run in settings.runs.items()
        for part in ("llm", "tower")
        if getattr(run.backbones, part) == "mini"
    ]
    findings += [
        f"runs.{name}.dataset: {run.dataset!r}, which has source easy_vqa"
        for name, run in settings.runs.items()
        if run.dataset in settings.datasets and settings.datasets[run.dataset].source == "easy_vqa"
    ]
    if findings:
        headline = f"{source}: scale is paper, which these are not of"
        marked = [places.mark(text) for text in findings]
        raise SettingsError(list_findings(headline, marked, "Write `scale: mini`."))


def _resolve(settings: StudySettings, name: str, seed: int) -> RunSettings:
    template = settings.runs[name]
    data_dir = _data_dir(settings, name, "dataset", template.task)
    evaluation_data_dir = ""
    if template.task == "instruction":
        evaluation_data_dir = _data_dir(settings, name, "evaluation_dataset", "mme")
    elif template.evaluation_dataset:
        raise SettingsError(
            f"runs.{name}.evaluation_dataset: {template.evaluation_dataset!r}, but task "
            f"{template.task} is evaluated on its own data set; leave the key out"
        )
    if template.images == "withheld" and template.task == "coco_caption":
        raise SettingsError(f"runs.{name}.images: captions cannot be trained with images withheld")
    kept = {
        part.name: getattr(template, part.name)
        for part in dataclasses.fields(RunTemplate)
        if part.name not in ("label", "dataset", "evaluation_dataset", "seeds", "reported")
    }
    kept["features"] = FeatureSettings(
        **vars(template.features), cache_dir=f"{settings.shared_dir}/features"
    )
    kept["released_from"] = checkpoint_path(template.released_from, settings.shared_dir)
    kept["backbones"] = _local_backbones(settings, template.backbones)
    return RunSettings(
        study=settings.study,
        name=name,
        seed=seed,
        data_dir=data_dir,
        evaluation_data_dir=evaluation_data_dir,
        **kept,
    )


def _data_dir(settings: StudySettings, run: str, key: str, task: str) -> str:
    """Return the folder of the data set that a run's key names; it must be one for `task`."""
    dataset = getattr(settings.runs[run], key)
    if dataset not in settings.datasets:
        known = ", ".join(settings.datasets) or "none"
        raise SettingsError(
            f"runs.{run}.{key}: {dataset!r} is not under datasets (known: {known}); "
            f"name one for {task}"
        )
    found = settings.datasets[dataset]
    if task not in found.tasks:
        raise SettingsError(
            f"runs.{run}.{key}: expected a data set for {task}, but datasets.{dataset} has source "
            f"{found.source}, which is for {' and '.join(found.tasks)}"
        )
    return f"{settings.shared_dir}/data/{dataset}/{task}"


def _local_backbones(settings: StudySettings, backbones: BackboneSettings) -> BackboneSettings:
    """Put the path of weights in place of the name that the study gives them."""
    paths = {
        name: weights.path(name, settings.shared_dir)
        for name, weights in settings.backbones.items()
    }
    return dataclasses.replace(
        backbones,
        llm=paths.get(backbones.llm, backbones.llm),
        tower_weights=paths.get(backbones.tower_weights, backbones.tower_weights),
    )
