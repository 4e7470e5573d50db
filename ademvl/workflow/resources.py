"""What the Snakefile's jobs ask of the machine: GPUs, cores and memory."""

from collections.abc import Callable
from typing import Any

from ademvl.config.mini_backbones import MINI_TOWERS
from ademvl.config.run import TRAINED, RunSettings
from ademvl.config.study import Study
from ademvl.machine.devices import wants_gpu


class JobResources:
    """Resources of the jobs of one study.

    Args:
        study: whose backbones and key `gpus` decide.
        run_of: gives the run that wildcards name.
        feature_run_of: gives the run whose features a report is about.
    """

    def __init__(
        self,
        study: Study,
        run_of: Callable[[Any], RunSettings],
        feature_run_of: Callable[[Any], RunSettings],
    ) -> None:
        self._study = study
        self._run_of = run_of
        self._feature_run_of = feature_run_of

    def gpus(self, wildcards: Any) -> int:
        """GPUs that a run's job asks for: none for the mini backbones."""
        return int(wants_gpu(self._run_of(wildcards).backbones))

    def training_gpus(self, wildcards: Any) -> int:
        """GPUs that a run's training asks for: none where nothing is trained."""
        return self.gpus(wildcards) if self._run_of(wildcards).adapter == TRAINED else 0

    def feature_gpus(self, wildcards: Any) -> int:
        """GPUs that the job of a feature report asks for: none for the mini tower."""
        run = self._feature_run_of(wildcards)
        return 0 if run.backbones.tower in MINI_TOWERS else 1

    def threads(self, wildcards: Any) -> int:
        """CPU cores that a job with a run's models asks for; images are read in them."""
        return _threads(self.gpus(wildcards))

    def training_threads(self, wildcards: Any) -> int:
        """CPU cores that a run's training asks for."""
        return _threads(self.training_gpus(wildcards))

    def feature_threads(self, wildcards: Any) -> int:
        """CPU cores that the job of a feature report asks for."""
        return _threads(self.feature_gpus(wildcards))

    def model_mem_mb(self, wildcards: Any, attempt: int) -> int:
        """Memory that a job with a run's models asks for: more each time it is tried."""
        return _model_mem_mb(not self.gpus(wildcards), attempt)

    def feature_mem_mb(self, wildcards: Any, attempt: int) -> int:
        """Memory that the job of a feature report asks for: more each time it is tried."""
        return _model_mem_mb(not self.feature_gpus(wildcards), attempt)

    @property
    def gpu_limit(self) -> str:
        """Which GPUs of the machine jobs may take; no param of a rule, so that nothing reruns."""
        limit = self._study.settings.gpus
        return str(list(limit)) if isinstance(limit, tuple) else str(limit)


def _threads(gpus: int) -> int:
    """Eight decode images as fast as a GPU takes them; Snakemake gives at most `--cores`."""
    return 8 if gpus else 1


def _model_mem_mb(is_mini: bool, attempt: int) -> int:
    """Mini models need 1.1 GB with torch; weights of 7B in 16 bits pass through memory whole."""
    return attempt * (1500 if is_mini else 32_000)
