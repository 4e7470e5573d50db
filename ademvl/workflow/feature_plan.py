"""What the Snakefile asks about cached features: one report for each distinct set of them."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from ademvl.config.run import RunSettings
from ademvl.config.study import Study
from ademvl.runs.identity import feature_settings, identity_sha256


class FeaturePlan:
    """Which runs of one study read which features.

    Args:
        study: its settings.
        run_of: gives the run that wildcards name.
    """

    def __init__(self, study: Study, run_of: Callable[[Any], RunSettings]) -> None:
        self._study = study
        self._run_of = run_of

    def of_run(self, wildcards: Any) -> list[str]:
        """Report of the features that a run reads; empty where pixels are encoded online."""
        run = self._run_of(wildcards)
        return [self._report(run)] if _reads_features(run) else []

    def reports(self, wildcards: Any = None) -> list[str]:
        """Feature reports of the study, one for each distinct set of features."""
        cached = [run for run in self._study.runs if _reads_features(run)]
        return list(dict.fromkeys(self._report(run) for run in cached))

    def first_run(self, wildcards: Any) -> RunSettings:
        """Return the first run that reads the features of a report: one job encodes for all."""
        return next(
            run
            for run in self._study.runs
            if self._names.get((run.name, run.seed)) == wildcards.features
        )

    def relevant_settings(self, wildcards: Any) -> str:
        """Those settings of that run which its features depend on, as a file."""
        return f"{self._study.run_dir(self.first_run(wildcards))}/settings/features.json"

    def _report(self, run: RunSettings) -> str:
        return f"{self._study.results_dir}/features/{self._names[run.name, run.seed]}.json"

    @cached_property
    def _names(self) -> dict[tuple[str, int], str]:
        """Names of the features that runs and seeds read, by what they are.

        So a new run does not rename those of others.
        """
        return {
            (run.name, run.seed): identity_sha256(feature_settings(run))[:8]
            for run in self._study.runs
            if _reads_features(run)
        }


def _reads_features(run: RunSettings) -> bool:
    return run.features.mode == "cached" and run.images == "shown"
