"""What the Snakefile needs to know of a study: targets, inputs and params as plain functions.

The rules hold no logic of their own; input functions take Snakemake's wildcards and return paths.
"""

import json
import os
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ademvl.config.includes import read_with_lines
from ademvl.config.key_lines import lines_in_files
from ademvl.config.run import ADAPTER_KEYWORDS, PREDICTIONS, RELEASED, TRAINED, RunSettings
from ademvl.config.settings_files import run_to_json, study_to_json
from ademvl.config.study import Study, load_study
from ademvl.config.tasks import facts_of
from ademvl.errors import AdemvlError, collect
from ademvl.reporting.figures.build import figures_of
from ademvl.reporting.tables.keys import TABLE_SUFFIXES, table_keys
from ademvl.runs.adapter_folder import DESCRIPTION_FILE
from ademvl.runs.chosen_rate import choosing_run
from ademvl.runs.identity import (
    evaluation_settings,
    feature_settings,
    training_settings,
)
from ademvl.runs.run_files import RunFiles
from ademvl.runs.versions import RESULT_VERSIONS
from ademvl.storage.locks import FileLock, try_lock_file
from ademvl.workflow.feature_plan import FeaturePlan
from ademvl.workflow.notices import notice_changes
from ademvl.workflow.rate_plan import RatePlan
from ademvl.workflow.resources import JobResources
from ademvl.workflow.sources import StudySources
from ademvl.workflow.start_checks import (
    check_start,
    refuse_changed_data,
    refuse_future_times,
    refuse_touch,
)
from ademvl.workflow.status import WORKFLOW_LOCK
from ademvl.workflow.study_checks import (
    missing_at_start,
    refuse_all,
    study_problems,
    wrong_settings,
)
from ademvl.workflow.work import work_of_jobs


class WorkflowPlan:
    """Targets, inputs and params of one study."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.sources = StudySources(study)
        self.rates = RatePlan(study, self.run)
        self.features = FeaturePlan(study, self.run)
        self.resources = JobResources(study, self.run, self.features.first_run)
        self.versions = RESULT_VERSIONS
        self._lock: FileLock | None = None
        self._planned_at = time.time_ns()  # before Snakemake looks at which files there are
        self._by_dir = {str(study.run_dir(run)): run for run in study.runs}
        self._files = [RunFiles(Path(folder)) for folder in self._by_dir]

    @classmethod
    def of_config(cls, config: Mapping[str, Any], files: Iterable[str | Path]) -> "WorkflowPlan":
        """Check Snakemake's config and plan it; end with the findings and exit code 2 otherwise.

        Args:
            config: what Snakemake made of its files and its command line.
            files: those files, read once more: Snakemake drops the first of two equal keys, and
                does not say on which line a key stands.
        """
        try:
            read = [read_with_lines(Path(path), name=_shown(path)) for path in files]
            plan = cls(load_study(config, key_lines=lines_in_files(config, read)))
            refuse_all(plan.study.name, wrong_settings(plan.study, plan.sources))
            return plan
        except AdemvlError as error:
            print(error, file=sys.stderr)
            raise SystemExit(2) from None

    def hold(self) -> None:
        """Keep other workflows off this study until the process ends, however it ends.

        Raises:
            AdemvlError: another workflow is at work on the same study.
        """
        self.study.results_dir.mkdir(parents=True, exist_ok=True)
        self._lock = try_lock_file(self.study.results_dir / WORKFLOW_LOCK)
        if self._lock is None:
            raise AdemvlError(
                f"{self.results}: another workflow is at work on this study; wait for it to end, "
                "or give this one another name (key `study`)"
            )
        os.utime(self.started, ns=(self._planned_at, self._planned_at))

    def notice_changes(self, workflow: Any) -> None:
        """Say which results are of other settings or data, and plan what is of other data again.

        A dry run says what a start would be refused for.

        Args:
            workflow: Snakemake's; processes that it starts for jobs say nothing.
        """
        if workflow.is_main_process:
            texts = notice_changes(self.study)
            if workflow.output_settings.dryrun:
                texts += missing_at_start(self.study, self.sources)
            for text in texts:
                print(text, file=sys.stderr)

    def check_start(self, workflow: Any) -> None:
        """Refuse, before the first job, all that is wrong with licences, files, models and machine.

        Args:
            workflow: Snakemake's, with all jobs that are about to run.
        """
        if workflow.touch:
            refuse_touch(self.study)
        jobs = list(workflow.dag.needrun_jobs())
        made = {str(path) for job in jobs for path in job.output}
        read = {str(path) for job in jobs for path in job.input} - made
        sources = self.sources.plans()
        work = work_of_jobs(self.study, sources, made, is_local=workflow.local_exec)
        found = collect(
            lambda: refuse_future_times(read),
            lambda: refuse_changed_data(self.study, read),
            lambda: check_start(self.study, sources, read=read, made=made),
        )
        if not workflow.touch:
            found += study_problems(self.study, work)
        refuse_all(self.study.name, found)

    @property
    def started(self) -> str:
        """File whose time is the beginning of the present workflow on this study."""
        return f"{self.results}/{WORKFLOW_LOCK}"

    @property
    def shared(self) -> str:
        """Folder of data and feature cache."""
        return self.study.settings.shared_dir

    @property
    def results(self) -> str:
        """Folder of this study's results."""
        return str(self.study.results_dir)

    def run(self, wildcards: Any) -> RunSettings:
        """Return the run that `{run}` and `{seed}` name, or its first seed without any."""
        seed = getattr(wildcards, "seed", None)
        if seed is None:
            return next(run for run in self.study.runs if run.name == wildcards.run)
        return self._by_dir[f"{self.results}/runs/{wildcards.run}/seed{seed}"]

    def run_json(self, wildcards: Any) -> str:
        """Return all settings of a run."""
        return run_to_json(self.run(wildcards))

    def relevant_json(self, wildcards: Any) -> str:
        """Return the settings of a run that the results of `{verb}` depend on."""
        relevant = {
            "features": feature_settings,
            "train": training_settings,
            "evaluate": evaluation_settings,
        }
        return json.dumps(relevant[wildcards.verb](self.run(wildcards)))

    def study_json(self, wildcards: Any) -> str:
        """Return the study's settings."""
        return study_to_json(self.study)

    def dataset_json(self, wildcards: Any) -> str:
        """Return a data set's settings."""
        return json.dumps(self.study.settings.datasets[wildcards.dataset].to_plain())

    def data_manifests(self, wildcards: Any = None) -> list[str]:
        """Manifests of all data sets."""
        return [f"{self.shared}/data/{name}/manifest.json" for name in self.study.settings.datasets]

    def data_ready(self, wildcards: Any = None) -> list[str]:
        """Files that say of each data set that it can be used."""
        return [self._ready(name) for name in self.study.settings.datasets]

    def _ready(self, dataset: str) -> str:
        """Real data is verified before use; what was made here is right when it is complete."""
        is_made_here = self.study.settings.datasets[dataset].is_mini
        name = "manifest" if is_made_here else "verified"
        return f"{self.shared}/data/{dataset}/{name}.json"

    def run_backbones(self, wildcards: Any) -> list[str]:
        """Markers of the weights that a run loads; none where they are shipped or exist already."""
        run = self.run(wildcards)
        return self.sources.of_paths(run.backbones.llm, run.backbones.tower_weights)

    def feature_backbones(self, wildcards: Any) -> list[str]:
        """Markers of the weights that encode a feature report's images."""
        run = self.features.first_run(wildcards)
        return self.sources.of_paths(run.backbones.tower_weights)

    def run_data(self, wildcards: Any) -> list[str]:
        """Files that say of the data sets that a run reads that they can be used."""
        return self._data_of(self.run(wildcards))

    def _data_of(self, run: RunSettings) -> list[str]:
        folders = (run.data_dir, run.evaluation_data_dir)
        return [self._ready(Path(folder).parent.name) for folder in folders if folder]

    def feature_run_settings(self, wildcards: Any) -> str:
        """Settings file of the run whose features a report is about."""
        run = self.features.first_run(wildcards)
        if choosing_run(run):  # its own file waits for the rate, whose choice reads the features
            return self.rates.settings_file(run)
        return str(RunFiles(self.study.run_dir(run)).settings)

    def feature_data(self, wildcards: Any) -> list[str]:
        """Files that say that the data sets whose images a feature report is about can be used."""
        return self._data_of(self.features.first_run(wildcards))

    def run_adapter(self, wildcards: Any) -> list[str]:
        """What a run's adapter is made from without training: another run's, or a given file."""
        run = self.run(wildcards)
        if run.adapter in (RELEASED, PREDICTIONS):
            return self.sources.of_paths(run.released_from) or [run.released_from]
        if run.adapter in ADAPTER_KEYWORDS:
            return []
        return [str(RunFiles(self.study.run_dir(run)).of_run(run.adapter).adapter_json)]

    def run_start(self, wildcards: Any) -> list[str]:
        """Adapter that a run's training starts from; none where it starts anew."""
        run = self.run(wildcards)
        starts = run.start_from and run.adapter == TRAINED
        return [f"{run.start_from}/{DESCRIPTION_FILE}"] if starts else []

    def run_files(self, wildcards: Any = None) -> list[str]:
        """Settings files of all runs, which tell results of other settings from present ones."""
        return [str(files.settings) for files in self._files]

    def adapters(self, wildcards: Any = None) -> list[str]:
        """Trained adapters of all runs."""
        return [str(files.adapter_json) for files in self._files]

    def scores(self, wildcards: Any = None) -> list[str]:
        """Scores of all runs."""
        runs = zip(self._files, self._by_dir.values(), strict=True)
        return [str(files.scores(run.evaluation_task)) for files, run in runs]

    def taken_scores(self, wildcards: Any = None) -> list[str]:
        """Scores of lmms-eval, of the runs that have been given any."""
        found = [files.lmms_scores for files in self._files]
        return [str(path) for path in found if path.is_file()]

    def tables(
        self, wildcards: Any = None, *, suffixes: Sequence[str] = TABLE_SUFFIXES
    ) -> list[str]:
        """Tables in all formats."""
        return [
            f"{self.results}/tables/{table}.{suffix}"
            for table in table_keys(self.study)
            for suffix in suffixes
        ]

    def figures(self, wildcards: Any = None) -> list[str]:
        """Figures of the study, and fusion maps where a run has fusion."""
        return self.charts() + self.fusion_maps()

    def charts(
        self, wildcards: Any = None, *, suffixes: Sequence[str] = ("png", "svg")
    ) -> list[str]:
        """Figures that the study's runs can fill."""
        return [
            f"{self.results}/figures/{figure}.{suffix}"
            for figure in figures_of(self.study)
            for suffix in suffixes
        ]

    def fusion_maps(self, wildcards: Any = None) -> list[str]:
        """Fusion maps of each task's first run that sees images through the adaptive fusion."""
        maps: dict[str, str] = {}
        for folder, run in self._by_dir.items():
            if run.has_fusion_maps and self._map_options(run):
                maps.setdefault(run.task, f"{folder}/fusion_maps")
        return list(maps.values())

    def fusion_map_options(self, wildcards: Any) -> str:
        """Options that choose the items of a run's fusion maps."""
        return self._map_options(self.run(wildcards))

    def _map_options(self, run: RunSettings) -> str:
        """Return the options for a run, empty where nothing is to be drawn."""
        report = self.study.settings.report
        chosen = report.fusion_map_questions
        if facts_of(run.task).shown_as == "captions":
            chosen = tuple(map(str, report.fusion_map_images))
        if not chosen and not report.fusion_map_items:
            return ""
        options = ["--items", str(report.fusion_map_items), "--seed", str(report.fusion_map_seed)]
        return shlex.join([*options, *(f"--id={item}" for item in chosen)])

    def report(self, wildcards: Any = None) -> list[str]:
        """Folder of the page that shows everything."""
        return [f"{self.results}/report"]

    def bundle(self, wildcards: Any = None) -> list[str]:
        """The results as one file, to be passed on."""
        return [f"{self.results}/bundle.zip"]


def _shown(path: str | Path) -> str:
    """Return a path as it is most easily found: from the working directory where it is in there."""
    absolute = Path(path).absolute()
    is_inside = absolute.is_relative_to(Path.cwd())
    return str(absolute.relative_to(Path.cwd()) if is_inside else path)
