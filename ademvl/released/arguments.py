"""The authors' command line arguments as our settings, and the other way round."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ademvl.config import influence
from ademvl.config.method import MethodSettings
from ademvl.config.run import PromptSettings, RunSettings
from ademvl.config.tasks import TaskName, all_facts, facts_of
from ademvl.errors import SettingsError, list_findings
from ademvl.released.form import ReleasedForm
from ademvl.released.forms import FORMS
from ademvl.vision.tower import tower_shape

_TASKS: Mapping[str, TaskName] = {
    name: facts.name for facts in all_facts().values() for name in facts.reference_names
}


def task_of(args: Mapping[str, Any], *, source: str) -> TaskName:
    """Return the task that an adapter was trained for.

    Raises:
        SettingsError: the arguments name no data set that is known.
    """
    dataset = str(args.get("dataset"))
    if dataset not in _TASKS:
        raise SettingsError(
            f"{source}: trained on dataset {dataset!r}, expected one of {', '.join(_TASKS)}; say "
            "what it was trained for by --task"
        )
    return _TASKS[dataset]


def prompts_of(args: Mapping[str, Any], form: ReleasedForm) -> PromptSettings:
    """Return the prompts that an adapter was trained with."""
    default = PromptSettings()
    return replace(
        default,
        train_format=str(args.get("prompt_format", form.train_format)),
        max_seq_len=int(args.get("max_seq_len", default.max_seq_len)),
    )


def check_fits(
    run: RunSettings, method: MethodSettings, args: Mapping[str, Any], source: str
) -> None:
    """Compare a run's settings with those that an adapter was trained with.

    What its arguments do not tell is as in the authors' code.

    Raises:
        SettingsError: lists those that differ.
    """
    compared: dict[str, tuple[Any, Any]] = {}
    if "prompt_format" in args and facts_of(run.task).answer == "letter":
        train_format = run.prompts.train_format
        compared["prompts.train_format"] = (train_format, args["prompt_format"])
    if args.get("dataset") in _TASKS:
        compared["task"] = (run.task, _TASKS[args["dataset"]])
    differing = [
        *_differing_methods(run, method),
        *((key, mine, its) for key, (mine, its) in compared.items() if mine != its),
    ]
    findings = [
        f"{key}: {mine!r}, but the adapter was trained with {its!r}" for key, mine, its in differing
    ]
    if findings:
        raise SettingsError(
            list_findings(
                f"{source}: trained with other settings than the run's",
                findings,
                "Set these keys to what it was trained with.",
            )
        )


def _differing_methods(run: RunSettings, method: MethodSettings) -> Iterator[tuple[str, Any, Any]]:
    """Yield path and both values of what a run's method has otherwise than an adapter's.

    Cached features are read without adapters inside the tower.
    """
    if type(run.method) is not type(method):
        yield "method.name", run.method.name, method.name
        return
    for key, mine, its in influence.differing(run.method, method, influence.binds_adapter):
        if run.features.mode == "online" or not key.startswith("clip_adapter."):
            yield f"method.{key}", mine, its


def args_of(run: RunSettings) -> dict[str, Any]:
    """Return the arguments that the authors' scripts need to use an adapter of ours.

    Raises:
        SettingsError: no authors' adapters of the method are known, or lists settings that their
            code does not have.
    """
    method = run.method
    if method.name not in FORMS:
        raise SettingsError(
            f"method.name: {method.name!r}, but only adapters of {', '.join(FORMS)} have a form of "
            "their authors"
        )
    form = FORMS[method.name]
    known = form.nearest(method, num_blocks=tower_shape(run.backbones).num_blocks)
    differing = influence.differing(method, known, influence.evaluates_anew)
    findings = [f"method.{key}: {mine!r}, there {its!r}" for key, mine, its in differing]
    if findings:
        headline = "An adapter that the authors' code cannot use"
        raise SettingsError(list_findings(headline, findings, "Such adapters are for ademvl only."))
    names = facts_of(run.task).reference_names
    if not names:
        raise SettingsError(f"task {run.task}: the authors' code does not know it")
    return {
        "dataset": names[0],
        **form.arguments_of(method),
        "prompt_format": run.prompts.train_format,
        "max_seq_len": run.prompts.max_seq_len,
    }
