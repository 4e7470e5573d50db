"""A study: data sets, defaults and a list of runs, resolved into the settings of every run.

Included files come first, then the study's defaults, then what a run says itself; then names of
data sets and weights become paths. What is wrong anywhere is listed at once.
"""

import dataclasses
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ademvl.config.dataset import share_coco
from ademvl.config.findings import REMEDY, SettingsFinding, suggest
from ademvl.config.includes import expand_includes, read_with_lines
from ademvl.config.inheritance import bases_of_runs, check_shared_adapters, merge_runs
from ademvl.config.key_lines import KeyLines
from ademvl.config.mini_backbones import MINI_BACKBONES
from ademvl.config.names import check_names
from ademvl.config.nested import holds
from ademvl.config.optimization import CHOICE_SEED
from ademvl.config.plain import all_plain
from ademvl.config.reading import refusal, try_reading
from ademvl.config.released import check_released, checkpoint_path
from ademvl.config.run import (
    TRAINED,
    BackboneSettings,
    FeatureSettings,
    RunSettings,
)
from ademvl.config.starts import check_starts, start_folder
from ademvl.config.study_settings import (
    NOTED_COLUMNS,
    ReportedReference,
    RunTemplate,
    StudySettings,
)
from ademvl.config.systems import backbones_read, check_systems, without_unread
from ademvl.config.tasks import facts_of
from ademvl.config.tuned_run import search_findings
from ademvl.errors import SettingsError, collect, list_findings


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
        """Return a run's name for tables and figures, which tells it from others of its task.

        Its key is added where another run's label looks the same, and its split where not all
        are scored on the test split.
        """
        run = self.settings.runs[run_name]
        same_task = {name: one for name, one in self.settings.runs.items() if one.task == run.task}
        looks = [_as_seen(each.label or name) for name, each in same_task.items()]
        label = run.label or run_name
        if looks.count(_as_seen(label)) > 1:
            label += f" ({run_name})"
        splits = {each.evaluation.split for each in same_task.values()}
        facts = facts_of(run.task)
        if not facts.benchmark and splits != {facts.usual_split}:
            label += f" ({run.evaluation.split})"
        return label


def _as_seen(label: str) -> str:
    """Return a label without what is not seen: its blanks, and characters without a shape."""
    return "".join(
        character
        for character in unicodedata.normalize("NFKC", label)
        if character.isprintable() and not character.isspace()
    )


def load_study(source: Path | Mapping[str, Any], *, key_lines: KeyLines | None = None) -> Study:
    """Read, check and resolve a study.

    Args:
        source: a study file, or its content (as Snakemake's `config`).
        key_lines: of the keys of such content, where they are known.

    Raises:
        SettingsError: lists all wrong keys and values with path, allowed values and nearest
            spelling; or a combination that cannot work.
    """
    name = str(source) if isinstance(source, Path) else "config"
    if isinstance(source, Path):
        raw, key_lines = read_with_lines(source, name=name)
    else:
        raw, key_lines = source, key_lines or KeyLines()
    raw, key_lines = expand_includes(raw, key_lines, source=name)
    settings, key_lines = _build(raw, key_lines, source=name)
    settings = dataclasses.replace(settings, datasets=share_coco(settings.datasets))
    _check_as_a_whole(settings, key_lines, source=name)
    runs = tuple(
        _resolve(settings, run, seed)
        for run, template in settings.runs.items()
        for seed in template.seeds
    )
    return Study(settings, runs)


def _build(
    raw: Mapping[str, Any], key_lines: KeyLines, *, source: str
) -> tuple[StudySettings, KeyLines]:
    """Let runs inherit, and check and build everything; return also where inherited keys stand."""
    own = all_plain(raw.get("runs", {}))
    can_inherit = isinstance(own, dict) and all(
        isinstance(group, Mapping) for group in (raw.get("defaults", {}), *own.values())
    )
    if can_inherit:
        merged = merge_runs(raw.get("defaults", {}), own, source=source, key_lines=key_lines)
        raw = {**raw, "runs": merged}
        key_lines = dataclasses.replace(key_lines, bases=bases_of_runs(own))
    settings, findings = try_reading(StudySettings, raw)
    if settings is None:
        if can_inherit:
            findings = _without_inherited(findings, own, key_lines)
        raise refusal(findings, source=source, key_lines=key_lines)
    return settings, key_lines


def _without_inherited(
    findings: Sequence[SettingsFinding], runs: Mapping[str, Any], key_lines: KeyLines
) -> list[SettingsFinding]:
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
            for base in key_lines.bases.get(finding.path[:2], ())
        )
    ]


def _check_as_a_whole(settings: StudySettings, key_lines: KeyLines, *, source: str) -> None:
    """Refuse what no settings class can see by itself: all of it at once, kind by kind."""
    checks = (
        lambda: check_names(settings, key_lines, source=source),
        lambda: _refuse_mini_as_paper(settings, key_lines, source=source),
        lambda: check_shared_adapters(settings.runs, key_lines),
        lambda: check_released(settings.runs, key_lines),
        lambda: check_systems(settings.runs, key_lines),
        lambda: check_starts(settings.runs, key_lines),
        lambda: _check_runs(settings, key_lines, source=source),
        lambda: _check_search(settings, key_lines, source=source),
    )
    refused = collect(*checks)
    if refused:
        raise SettingsError("\n".join(refused))


def _refuse_mini_as_paper(settings: StudySettings, key_lines: KeyLines, *, source: str) -> None:
    if settings.scale == "mini":
        return
    findings = [
        f"runs.{name}.backbones.{part}: {getattr(run.backbones, part)}"
        for name, run in settings.runs.items()
        for part, mini in MINI_BACKBONES.items()
        if part in backbones_read(run.method) and getattr(run.backbones, part) in mini
    ]
    mini_sources = {name: d.source for name, d in settings.datasets.items() if d.is_mini}
    findings += [
        f"runs.{name}.dataset: {run.dataset!r}, which has source {mini_sources[run.dataset]}"
        for name, run in settings.runs.items()
        if run.dataset in mini_sources
    ]
    headline = f"{source}: scale is paper, which these are not of"
    key_lines.refuse(findings, headline=headline, remedy="Write `scale: mini`.")


def _check_runs(settings: StudySettings, key_lines: KeyLines, *, source: str) -> None:
    if not settings.runs:
        raise SettingsError(f"{source}: runs is empty, nothing to do; name at least one run")
    findings = [text for name in settings.runs for text in _run_findings(settings, name)]
    known = ", ".join(map(str, settings.runs))
    findings += [
        f"base_runs.{index}: {name!r} is not under runs (known: {known})"
        for index, name in enumerate(settings.base_runs)
        if name not in settings.runs
    ]
    findings += [
        f"column_notes.{key}: no column of scores{suggest(key.lower(), NOTED_COLUMNS)}"
        for key in settings.column_notes
        if key not in NOTED_COLUMNS
    ]
    if findings:
        marked = list(map(key_lines.mark, findings))
        raise SettingsError(list_findings(f"{source}: wrong settings", marked, REMEDY))


def _check_search(settings: StudySettings, key_lines: KeyLines, *, source: str) -> None:
    if findings := list(search_findings(settings)):
        raise refusal(findings, source=source, key_lines=key_lines)


def _run_findings(settings: StudySettings, name: str) -> Iterator[str]:
    template = settings.runs[name]
    if not _is_evaluated_alone(template):
        yield from _dataset_findings(settings, name, "dataset", template.task)
    facts = facts_of(template.task)
    if facts.benchmark:
        yield from _dataset_findings(settings, name, "evaluation_dataset", facts.benchmark)
    elif template.evaluation_dataset:
        yield (
            f"runs.{name}.evaluation_dataset: {template.evaluation_dataset!r}, but task "
            f"{template.task} is evaluated on its own data set; leave the key out"
        )
    split = template.evaluation.split
    if facts.scored_splits and split not in facts.scored_splits:
        yield (
            f"runs.{name}.evaluation.split: {split}, but the right answers of task "
            f"{template.task} are public for {' and '.join(facts.scored_splits)} alone"
        )
    optimization = template.optimization
    if template.adapter == TRAINED and optimization.warmup_epochs > optimization.epochs:
        yield (
            f"runs.{name}.optimization.warmup_epochs: {optimization.warmup_epochs}, but the "
            f"training has epochs: {optimization.epochs}, so that base_lr is never reached; "
            "choose at most that many"
        )
    if optimization.lr_grid and not facts.has_val_split:
        yield (
            f"runs.{name}.optimization.lr_grid: task {template.task} has no val split to choose by"
        )
    if optimization.lr_grid and CHOICE_SEED in template.seeds:
        yield (
            f"runs.{name}.seeds: {CHOICE_SEED} trains the rates of optimization.lr_grid, so that a "
            "run with it would be the training that its rate was chosen by; take another seed"
        )
    if template.images == "withheld" and facts.needs_images:
        what = facts.runs_title.lower()
        yield f"runs.{name}.images: {what} cannot be trained with images withheld"


def _dataset_findings(settings: StudySettings, run: str, key: str, task: str) -> Iterator[str]:
    """Yield what is wrong with the data set that a run's key names; it must be one for `task`."""
    dataset = getattr(settings.runs[run], key)
    if dataset not in settings.datasets:
        known = ", ".join(map(str, settings.datasets)) or "none"
        yield (
            f"runs.{run}.{key}: {dataset!r} is not under datasets (known: {known}); "
            f"name one for {task}"
        )
    elif task not in (found := settings.datasets[dataset]).tasks:
        yield (
            f"runs.{run}.{key}: expected a data set for {task}, but datasets.{dataset} has source "
            f"{found.source}, which is for {' and '.join(found.tasks)}"
        )


def _resolve(settings: StudySettings, name: str, seed: int) -> RunSettings:
    template = settings.runs[name]
    data_dir, evaluation_data_dir = _data_dir(settings, template.dataset, template.task), ""
    if template.evaluation_dataset:
        benchmark = facts_of(template.task).evaluated_as
        evaluation_data_dir = _data_dir(settings, template.evaluation_dataset, benchmark)
    if _is_evaluated_alone(template):
        data_dir = evaluation_data_dir
    kept = {
        part.name: getattr(template, part.name)
        for part in dataclasses.fields(RunTemplate)
        if part.name not in ("label", "dataset", "evaluation_dataset", "seeds", "reported")
    }
    kept["features"] = FeatureSettings(
        **vars(template.features), cache_dir=f"{settings.shared_dir}/features"
    )
    kept["released_from"] = checkpoint_path(template.released_from, settings.shared_dir)
    kept["start_from"] = start_folder(settings, template.start_from, seed)
    kept["backbones"] = _local_backbones(settings, template.backbones)
    run = RunSettings(
        study=settings.study,
        name=name,
        seed=seed,
        data_dir=data_dir,
        evaluation_data_dir=evaluation_data_dir,
        **kept,
    )
    return without_unread(run)


def _is_evaluated_alone(template: RunTemplate) -> bool:
    """Whether a run needs no training data beside the benchmark that it is evaluated on."""
    return bool(facts_of(template.task).benchmark) and template.method.is_given


def _data_dir(settings: StudySettings, dataset: str, task: str) -> str:
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
