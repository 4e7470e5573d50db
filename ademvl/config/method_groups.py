"""Which runs of a study compare methods under equal conditions, and with which run of ADEM-VL each.

Runs are compared that are asked the same questions in the same way of the same frozen models, where
at least two methods are among them. Methods that train inside the tower (online features) have
ADEM-VL with its adapters there as their base, the others ADEM-VL with a frozen tower: in each case
the study's first such run. Further runs of ADEM-VL are ablations and stand elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ademvl.config.methods_by_name import DEFAULT_METHOD
from ademvl.config.run import TRAINED, RunSettings
from ademvl.config.study import Study


@dataclass(frozen=True, kw_only=True)
class MethodGroup:
    """Runs that are compared.

    Attributes:
        llm: language model of all of them, by the name that it has in the study or its folder's.
        bases: name of the run of ADEM-VL that each run is compared with, itself for a base; in the
            order of the study.
        modes: how each run reads images.
    """

    llm: str
    bases: Mapping[str, str]
    modes: Mapping[str, Literal["cached", "online"]]


def method_groups(study: Study) -> tuple[MethodGroup, ...]:
    """Return the groups of runs that compare methods, in the order of the study; often none."""
    alike: dict[tuple[object, ...], dict[str, RunSettings]] = {}
    for run in study.runs:
        if run.task == "scienceqa" and run.adapter == TRAINED:
            alike.setdefault(conditions_of(run), {}).setdefault(run.name, run)
    groups = (_group(list(runs.values())) for runs in alike.values())
    return tuple(group for group in groups if group is not None)


def conditions_of(run: RunSettings) -> tuple[object, ...]:
    """Return what runs must have in common to be compared: what they are asked, how, and of whom.

    Task, data, split, prompts, answers and backbones are the same.
    """
    how = (run.evaluation.split, run.evaluation.answer_by, run.prompts.evaluation)
    return (run.task, run.data_dir, run.backbones, *how)


def _group(runs: list[RunSettings]) -> MethodGroup | None:
    own = [run for run in runs if _is_own(run)]
    if not own or len({run.method.name for run in runs}) < 2:
        return None
    bases = {run.features.mode: run for run in reversed(own)}
    rows = [run for run in runs if not _is_own(run) or run in bases.values()]
    return MethodGroup(
        llm=Path(runs[0].backbones.llm).name,
        bases={run.name: bases.get(run.features.mode, own[0]).name for run in rows},
        modes={run.name: run.features.mode for run in rows},
    )


def _is_own(run: RunSettings) -> bool:
    return run.method.name == DEFAULT_METHOD and run.images == "shown"
