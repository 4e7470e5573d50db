"""Which runs of a study cannot be trained, by their settings and the sizes of what they name.

Nothing is loaded or read from data: it is told when a workflow starts, and by `plan` and `params`.
"""

from collections.abc import Iterator
from pathlib import Path

from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import TRAINED, RunSettings
from ademvl.config.study import Study
from ademvl.errors import SettingsError, list_findings
from ademvl.planning.shapes import vision_shape
from ademvl.tasks.registry import task_named


def refuse_impossible(study: Study) -> None:
    """Refuse runs that the tower, or the size of the training data, does not allow.

    Raises:
        SettingsError: lists all of them, with what is possible.
    """
    findings = [
        f"runs.{name}.{finding}"
        for name, run in {run.name: run for run in study.runs}.items()
        for finding in _findings(run, study.settings.datasets[Path(run.data_dir).parent.name])
    ]
    if findings:
        remedy = "Change these, for each run or under `defaults`; all keys: docs/settings.md."
        raise SettingsError(list_findings(f"{study.name}: runs that cannot work", findings, remedy))


def _findings(run: RunSettings, dataset: DatasetSettings) -> Iterator[str]:
    if run.method.is_given:
        return
    try:
        vision = vision_shape(run.backbones)
    except SettingsError:
        pass  # told where the tower is loaded
    else:
        yield from run.method.unfit_for_tower(
            num_grid_tokens=vision.grid_tokens, num_blocks=vision.blocks
        )
    if run.adapter == TRAINED:
        items, *_ = task_named(run.task).published_sizes(run, dataset, is_training=True)
        try:
            run.optimization.total_steps(items)
        except SettingsError as error:
            yield str(error)
