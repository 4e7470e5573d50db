"""A study: data sets, defaults and a list of runs, resolved into the settings of every run."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ademvl.config.dataset import DatasetSettings, check_sources, share_coco
from ademvl.config.downloads import DownloadSettings, WeightsSource
from ademvl.config.evaluation import EvaluationSettings
from ademvl.config.gpu_limit import check_gpu_limit
from ademvl.config.includes import expand_includes, read_yaml
from ademvl.config.inheritance import check_shared_adapters, merge_runs
from ademvl.config.method import AdemSettings
from ademvl.config.names import check_names
from ademvl.config.optimization import OptimizationSettings
from ademvl.config.released import check_released, checkpoint_path
from ademvl.config.report import ReportSettings
from ademvl.config.run import (
    TRAINED,
    BackboneSettings,
    FeatureSettings,
    FeatureTemplate,
    PromptSettings,
    RunSettings,
    Task,
)
from ademvl.config.schema import OMITTED_AT_DEFAULT, all_plain, build, check, schema_of
from ademvl.errors import SettingsError, list_findings


@dataclass(frozen=True, kw_only=True)
class ReportedReference:
    """Names a number that others reported, which a run sets out to reproduce.

    Attributes:
        table: key of a table of workflow/reported, such as scienceqa_test.
        row: name of a row in it, method and language model, such as "ADEM-VL, LLaMA-7B"; for
            ablations what the row varies, such as "phi: silu".
    """

    table: str
    row: str


@dataclass(frozen=True, kw_only=True)
class RunTemplate:
    """What a study says about a run; `defaults` has the same keys and each run overrides them.

    Attributes:
        label: name of the run in tables and figures; the run's key when empty.
        task: what is trained and evaluated.
        dataset: key under `datasets`: what is trained on, and evaluated where the task has a test
            split of its own.
        evaluation_dataset: key under `datasets` of MME, on which task instruction is evaluated;
            not for other tasks.
        adapter: `trained` trains one; the name of another run evaluates that run's adapter in
            another way: such a run starts from the other's settings, and changes nothing but
            `evaluation`, `prompts.evaluation`, `label`, `seeds` and `reported`. `released`
            evaluates an adapter of the method's authors.
        released_from: with `adapter: released`, the authors' checkpoint: a file, or the name of a
            source of downloads such as `adem_released_scienceqa`.
        seeds: one training for each.
        images: `withheld` gives the text-only control: same training, no question has an image.
        method: settings of ADEM-VL.
        backbones: the frozen models.
        features: how images reach the method.
        prompts: text of the ScienceQA prompts.
        optimization: AdamW and its schedule.
        evaluation: how a trained run is scored.
        reported: rows of workflow/reported that this run reproduces; it stands beside them in
            the tables. Has no influence on training.
    """

    label: str = ""
    task: Task = "scienceqa"
    dataset: str = ""
    evaluation_dataset: str = field(default="", metadata=OMITTED_AT_DEFAULT)
    adapter: str = field(default=TRAINED, metadata=OMITTED_AT_DEFAULT)
    released_from: str = field(default="", metadata=OMITTED_AT_DEFAULT)
    seeds: tuple[int, ...] = (0,)
    images: Literal["shown", "withheld"] = "shown"
    method: AdemSettings = AdemSettings()
    backbones: BackboneSettings = BackboneSettings()
    features: FeatureTemplate = FeatureTemplate()
    prompts: PromptSettings = PromptSettings()
    optimization: OptimizationSettings = OptimizationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    reported: tuple[ReportedReference, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """The keys of a study file.

    Attributes:
        study: name; results go to <results_dir>/<study>.
        include: study files whose keys are taken over, paths from the working directory or the
            project's; what stands in this file itself goes first. Two of them may share runs, and
            must not contradict each other.
        scale: `mini` results are never printed in a column of paper-scale numbers; `paper` is for
            studies with neither mini backbones nor easy-VQA.
        results_dir: folder of everything the workflow makes.
        shared_dir: folder of data and feature cache, may be shared by studies and users.
        gpus: GPUs of this machine that the study may use; `all`, how many at once (0 for the CPU),
            or a list of indices or UUIDs. CUDA_VISIBLE_DEVICES limits them further; in a job of a
            cluster the scheduler decides instead. Has no influence on results.
        column_notes: meaning of ScienceQA's columns in this study's data, for footnotes.
        datasets: data sets by name.
        downloads: how data and weights reach this machine.
        backbones: weights by the name of their source; runs use the name as `llm` or
            `tower_weights`.
        defaults: settings that every run starts from.
        runs: runs by name; each names only what it changes.
        report: what the report shows.
        base_runs: runs that others are compared with, one factor at a time: every run that differs
            in exactly one setting from one of them shows that setting's effect. Has no influence
            on training.
    """

    study: str
    include: tuple[str, ...] = field(default=(), metadata=OMITTED_AT_DEFAULT)
    scale: Literal["mini", "paper"] = "mini"
    results_dir: str = "results"
    shared_dir: str = "results/shared"
    gpus: Literal["all"] | int | tuple[int | str, ...] = "all"
    column_notes: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, DatasetSettings] = field(default_factory=dict)
    downloads: DownloadSettings = DownloadSettings()
    backbones: Mapping[str, WeightsSource] = field(default_factory=dict)
    defaults: RunTemplate = RunTemplate()
    runs: Mapping[str, RunTemplate] = field(default_factory=dict)
    report: ReportSettings = field(default=ReportSettings(), metadata=OMITTED_AT_DEFAULT)
    base_runs: tuple[str, ...] = field(default=(), metadata=OMITTED_AT_DEFAULT)

    def __post_init__(self) -> None:
        check_gpu_limit(self.gpus)


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
    raw = read_yaml(source) if isinstance(source, Path) else source
    name = str(source) if isinstance(source, Path) else "config"
    raw = expand_includes(raw, source=name)
    checked = check(raw, schema_of(StudySettings), source=name)
    datasets = checked.get("datasets", {})
    check_sources({f"datasets.{key}": dataset for key, dataset in datasets.items()}, source=name)
    checked["runs"] = merge_runs(checked.get("defaults", {}), checked.get("runs", {}), source=name)
    settings = build(StudySettings, checked)
    check_names(settings, source=name)
    settings = dataclasses.replace(settings, datasets=share_coco(settings.datasets))
    _refuse_mini_as_paper(settings, source=name)
    plain_runs = {run: all_plain(template) for run, template in settings.runs.items()}
    check_shared_adapters(plain_runs)
    check_released(plain_runs)
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


def _refuse_mini_as_paper(settings: StudySettings, *, source: str) -> None:
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
        raise SettingsError(list_findings(headline, findings, "Write `scale: mini`."))


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
