"""What a study fetches and converts: which markers a job waits for, and what its job depends on.

As in `workflow`, input functions take Snakemake's wildcards and return paths.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RELEASED
from ademvl.config.study import Study
from ademvl.config.tasks import all_sources

if TYPE_CHECKING:
    from ademvl.data.acquisition.plan import SourcePlan


class StudySources:
    """Sources that a study fetches, and weights that it converts."""

    def __init__(self, study: Study) -> None:
        self.study = study

    @cached_property
    def _plans(self) -> dict[str, "SourcePlan"]:
        """What the study fetches, by name; the registry is read only where it may be needed."""
        settings = self.study.settings
        is_local = all(dataset.is_mini for dataset in settings.datasets.values())
        has_released = any(run.adapter == RELEASED for run in self.study.runs)
        extra = settings.downloads.extra_sources
        if is_local and not settings.backbones and not extra and not has_released:
            return {}
        from ademvl.data.acquisition.plan import plan_sources

        return {plan.name: plan for plan in plan_sources(self.study)}

    def plans(self) -> list["SourcePlan"]:
        """Return the sources that the study fetches."""
        return list(self._plans.values())

    def downloads(self, wildcards: Any = None) -> list[str]:
        """Markers of all sources that the study fetches: downloaded, and unpacked."""
        return [marker for name in self._plans for marker in self._markers(name)]

    def _markers(self, name: str) -> list[str]:
        source = self._plans.get(name)
        if source is None:
            return []
        unpacked = [str(source.unpacked_marker)] if source.archives else []
        return [str(source.marker), *unpacked]

    def of_dataset(self, wildcards: Any) -> list[str]:
        """Markers of the sources that a data set is laid out from.

        A copy in place of a source may lack what others bring: instructions are about the images of
        COCO, which may be downloaded all the same.
        """
        dataset = self.study.settings.datasets[wildcards.dataset]
        source = dataset.source
        names = [] if dataset.existing else [source]
        if source in all_sources() and not dataset.coco:
            names += all_sources()[source].shares
        return [marker for name in names for marker in self._markers(name)]

    def of_paths(self, *paths: str) -> list[str]:
        """Markers of the folders of downloaded or converted files in which these paths lie."""
        used = [Path(path) for path in paths if path]
        fetched = [
            marker
            for name, source in self._plans.items()
            if any(path.is_relative_to(source.downloads_dir) for path in used)
            or any(path.is_relative_to(source.unpacked_dir) for path in used)
            for marker in self._markers(name)
        ]
        return fetched + [marker for marker in self.converted() if Path(marker).parent in used]

    def converted(self, wildcards: Any = None) -> list[str]:
        """Markers of all weights that are converted from the layout of Meta's releases."""
        return [
            self._converted_marker(name)
            for name, weights in self.study.settings.backbones.items()
            if weights.is_meta
        ]

    def _converted_marker(self, name: str) -> str:
        return f"{self.study.settings.shared_dir}/converted/{name}/conversion.json"

    def converted_dir(self, wildcards: Any) -> str:
        """Folder of converted weights."""
        return f"{self.study.settings.shared_dir}/converted/{wildcards.backbone}"

    def meta_folder(self, wildcards: Any) -> str:
        """Folder of Meta's release that is converted."""
        return self.study.settings.backbones[wildcards.backbone].existing

    def source_json(self, wildcards: Any) -> str:
        """Return what a source's bytes depend on: a job reruns exactly when that changes."""
        source = self._plans[wildcards.source].source
        files = [
            [file.name, file.bytes, file.md5, file.sha256, file.git_blob] for file in source.files
        ]
        hub = [source.hub.repository, source.hub.revision, *source.hub.patterns]
        return json.dumps({"files": files, "hub": hub if source.hub.repository else []})

    def archives_json(self, wildcards: Any) -> str:
        """Return which archives of a source are unpacked, and where."""
        return json.dumps(dict(self._plans[wildcards.source].archives))
