"""The keys of a study file."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from ademvl.config.dataset import DatasetSettings
from ademvl.config.downloads import DownloadSettings, WeightsSource
from ademvl.config.evaluation import EvaluationSettings
from ademvl.config.gpu_limit import GpuSetting
from ademvl.config.methods_by_name import AnyMethod, default_method
from ademvl.config.optimization import OptimizationSettings
from ademvl.config.report import ReportSettings
from ademvl.config.run import (
    ADAPTER_KEYWORDS,
    LARGEST_SEED,
    TRAINED,
    BackboneSettings,
    FeatureTemplate,
    PromptSettings,
)
from ademvl.config.search_space import TuneSettings
from ademvl.config.setting import group, relation, setting, settings_class
from ademvl.config.tasks import TaskName, score_columns

NOTED_COLUMNS = tuple(column.key for column in score_columns())
"""Keys of the columns of scores that a study can explain."""


@settings_class
class ReportedReference:
    """Names a number that others reported, which a run sets out to reproduce.

    Attributes:
        table: key of a table of workflow/reported, such as scienceqa_test.
        row: name of a row in it, method and language model, such as "ADEM-VL, LLaMA-7B"; for
            ablations what the row varies, such as "phi: silu".
    """

    table: str = setting(changes="nothing")
    row: str = setting(changes="nothing")


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds:
        raise ValueError("[], expected one or more")
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"{list(seeds)}, expected different numbers >= 0")


def _check_adapter(adapter: str) -> None:
    if not adapter:
        raise ValueError(f"'', expected {', '.join(ADAPTER_KEYWORDS)}, or a run")


@settings_class
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
            another way: such a run starts from the other's settings, and changes nothing that the
            adapter depends on. `released` evaluates an adapter of the method's authors,
            `pretrained` a whole system (llava, blip, blip2), `predictions` answers in a file.
        released_from: with `adapter: released`, the authors' checkpoint: a file, or the name of a
            source of downloads such as `adem_released_scienceqa`; with `adapter: predictions`, the
            file of answers.
        start_from: run of the study whose adapter of the same seed this run's training starts from,
            or the folder of an adapter, written with a slash; of the same method on the same
            models. Parameters that it lacks are newly initialised; empty initialises all.
        seeds: one training for each.
        images: `withheld` gives the text-only control: same training, no question has an image.
        method: what is trained between the frozen models, and its settings; `name` chooses it.
        backbones: the frozen models.
        features: how images reach the method.
        prompts: text of prompts, and how it becomes tokens.
        optimization: AdamW and its schedule.
        evaluation: how a trained run is scored.
        reported: rows of workflow/reported that this run reproduces; it stands beside them in
            the tables.
    """

    label: str = setting(changes="nothing", default="")
    task: TaskName = setting(changes="results", default="scienceqa")
    dataset: str = setting(changes="results", default="")
    evaluation_dataset: str = setting(changes="evaluation", default="", omitted_at_default=True)
    adapter: str = setting(
        changes="results",
        default=TRAINED,
        by_content=True,
        omitted_at_default=True,
        check=_check_adapter,
    )
    released_from: str = setting(changes="results", default="", omitted_at_default=True)
    start_from: str = setting(
        changes="results", default="", by_content=True, unwritten_at_default=True
    )
    seeds: tuple[int, ...] = setting(
        changes="training", default=(0,), le=LARGEST_SEED, check=_check_seeds
    )
    images: Literal["shown", "withheld"] = setting(
        changes="results", default="shown", portable=True
    )
    method: AnyMethod = group(default_factory=default_method)
    backbones: BackboneSettings = group(default_factory=BackboneSettings)
    features: FeatureTemplate = group(default_factory=FeatureTemplate)
    prompts: PromptSettings = group(default_factory=PromptSettings)
    optimization: OptimizationSettings = group(default_factory=OptimizationSettings)
    evaluation: EvaluationSettings = group(default_factory=EvaluationSettings)
    reported: tuple[ReportedReference, ...] = setting(changes="nothing", default=())


@settings_class
class StudySettings:
    """The keys of a study file.

    Attributes:
        study: name; results go to <results_dir>/<study>.
        include: study files whose keys are taken over, paths from the working directory or the
            project's; what stands in this file itself goes first. Two of them may share runs, and
            must not contradict each other.
        only: runs of included files that are kept; all of them where the key is missing.
        scale: `mini` results are never printed in a column of paper-scale numbers; `paper` is for
            studies with neither mini backbones nor drawn or easy-VQA data.
        results_dir: folder of everything the workflow makes.
        shared_dir: folder of data and feature cache, may be shared by studies and users.
        gpus: GPUs of this machine that the study may use; `all`, how many at once (0 for the CPU),
            or a list of indices or UUIDs. CUDA_VISIBLE_DEVICES limits them further; in a job of a
            cluster the scheduler decides instead.
        column_notes: meaning of columns of scores in this study's data, for footnotes: nat, soc,
            lan, txt, img, no, g1_6, g7_12, avg of ScienceQA; bleu4, cider, rouge_l of captions;
            mme_p, mme_c; mc of A-OKVQA.
        datasets: data sets by name.
        downloads: how data and weights reach this machine.
        backbones: weights by the name of their source; runs use the name as `llm` or
            `tower_weights`.
        defaults: settings that every run starts from.
        runs: runs by name; each names only what it changes.
        report: what the report shows.
        base_runs: runs that others are compared with, one factor at a time: every run that differs
            in exactly one setting from one of them shows that setting's effect.
        tune: search of good settings of one run (`ademvl tune`).
    """

    study: str = setting(changes="nothing")
    include: tuple[str, ...] = setting(changes="nothing", default=(), omitted_at_default=True)
    only: tuple[str, ...] = setting(changes="nothing", default=(), omitted_at_default=True)
    scale: Literal["mini", "paper"] = setting(changes="nothing", default="mini")
    results_dir: str = setting(changes="nothing", default="results")
    shared_dir: str = setting(changes="nothing", default="results/shared")
    gpus: GpuSetting = setting(changes="speed", default="all")
    column_notes: Mapping[str, str] = setting(changes="nothing", default_factory=dict)
    datasets: Mapping[str, DatasetSettings] = group(default_factory=dict)
    downloads: DownloadSettings = group(default_factory=DownloadSettings)
    backbones: Mapping[str, WeightsSource] = group(default_factory=dict)
    defaults: RunTemplate = group(default_factory=RunTemplate)
    runs: Mapping[str, RunTemplate] = group(default_factory=dict)
    report: ReportSettings = group(default_factory=ReportSettings, omitted_at_default=True)
    base_runs: tuple[str, ...] = setting(changes="nothing", default=(), omitted_at_default=True)
    tune: TuneSettings = group(default_factory=TuneSettings, omitted_at_default=True)

    @relation("only", "include")
    def _choose_among_included(self) -> Iterator[str]:
        if self.only and not self.include:  # where files are included, both keys are gone here
            yield f"only: {list(self.only)}, but no file is included that has runs"
