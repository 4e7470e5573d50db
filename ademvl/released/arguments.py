"""The authors' command line arguments as our settings, and the other way round."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ademvl.config import influence
from ademvl.config.method import ClipAdapterSettings
from ademvl.config.run import PromptSettings, RunSettings, Task
from ademvl.errors import SettingsError, WeightsError, list_findings
from ademvl.methods.adem.settings import AdemSettings, as_adem

_TASKS: Mapping[str, Task] = {
    "sqa": "scienceqa",
    "coco_caption": "coco_caption",
    "caption": "coco_caption",
    "instruction": "instruction",
}
_DATASETS: Mapping[Task, str] = {
    "scienceqa": "sqa",
    "coco_caption": "coco_caption",
    "instruction": "instruction",
}


def method_of(args: Mapping[str, Any], state: Mapping[str, Tensor], *, source: str) -> AdemSettings:
    """Return the method's settings of an adapter: sizes from its tensors, the rest from args.

    What neither tells is as in the authors' code, which is the default.

    Raises:
        WeightsError: tensors are missing, or do not fit the arguments.
    """
    try:
        grid = state["grid_projection.down.weight"]
        num_visual_tokens = state["key_table"].shape[0]
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{source}: no adapter of ADEM-VL, {error.args[0]} is missing") from None
    default = AdemSettings()
    try:
        scales = tuple(int(scale) for scale in args.get("down_sample_num") or default.scales)
        scalars = {
            ours: float(args.get(theirs, getattr(default, ours)))
            for theirs, ours in (("alpha", "alpha"), ("beta", "beta"), ("drop_ratio", "gamma"))
        }
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{source}: an argument is no number: {error}") from None
    if sum(scales) != num_visual_tokens:
        raise WeightsError(
            f"{source}: its tables have {num_visual_tokens} rows, but down_sample_num {scales} "
            f"makes {sum(scales)}"
        )
    return replace(
        default,
        alpha=scalars["alpha"],
        beta=scalars["beta"],
        gamma=scalars["gamma"],
        scales=scales,
        cls="cls_projection.down.weight" in state,
        projection_width=grid.shape[0],
        clip_adapter=_clip_adapter_of(state, default.clip_adapter),
    )


def _clip_adapter_of(
    state: Mapping[str, Tensor], default: ClipAdapterSettings
) -> ClipAdapterSettings:
    dims = {
        tensor.shape[0]
        for name, tensor in state.items()
        if name.startswith("clip_adapters.") and name.endswith(".down.weight")
    }
    return replace(default, dim=dims.pop()) if len(dims) == 1 else default


def task_of(args: Mapping[str, Any], *, source: str) -> Task:
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


def prompts_of(args: Mapping[str, Any]) -> PromptSettings:
    """Return the prompts that an adapter was trained with."""
    default = PromptSettings()
    return replace(
        default,
        train_format=str(args.get("prompt_format", default.train_format)),
        max_seq_len=int(args.get("max_seq_len", default.max_seq_len)),
    )


def check_fits(
    run: RunSettings, method: AdemSettings, args: Mapping[str, Any], source: str
) -> None:
    """Compare a run's settings with those that an adapter was trained with.

    What its arguments do not tell is as in the authors' code.

    Raises:
        SettingsError: lists those that differ.
    """
    compared: dict[str, tuple[Any, Any]] = {}
    if "prompt_format" in args and run.task == "scienceqa":
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


def _differing_methods(run: RunSettings, method: AdemSettings) -> Iterator[tuple[str, Any, Any]]:
    """Yield path and both values of what a run's method has otherwise than an adapter's.

    Whether a tower's last block has an adapter is not told by a checkpoint's arguments; cached
    features are read without these adapters.
    """
    ours = as_adem(run.method)
    adapters = ours.clip_adapter
    if run.features.mode == "online":
        adapters = replace(method.clip_adapter, last_block=adapters.last_block)
    theirs = replace(method, clip_adapter=adapters)
    for key, mine, its in influence.differing(ours, theirs, influence.binds_adapter):
        yield f"method.{key}", mine, its


def args_of(run: RunSettings) -> dict[str, Any]:
    """Return the arguments that the authors' scripts need to use an adapter of ours.

    Raises:
        SettingsError: lists settings that their code does not have.
    """
    method = as_adem(run.method)
    known = AdemSettings(
        alpha=method.alpha,
        beta=method.beta,
        gamma=method.gamma,
        scales=method.scales,
        cls=method.cls,
        projection_width=method.projection_width,
        clip_adapter=ClipAdapterSettings(dim=method.clip_adapter.dim),
    )
    adapters = replace(known.clip_adapter, last_block=method.clip_adapter.last_block)
    known = replace(known, clip_adapter=adapters)
    differing = influence.differing(method, known, influence.evaluates_anew)
    findings = [f"method.{key}: {mine!r}, there {its!r}" for key, mine, its in differing]
    if findings:
        headline = "An adapter that the authors' code cannot use"
        raise SettingsError(list_findings(headline, findings, "Such adapters are for ademvl only."))
    return {
        "dataset": _DATASETS[run.task],
        "alpha": method.alpha,
        "beta": method.beta,
        "drop_ratio": method.gamma,
        "down_sample_num": list(method.scales),
        "no_cls": not method.cls,
        "hidden_proj": method.projection_width,
        "adapter_dim": method.clip_adapter.dim,
        "prompt_format": run.prompts.train_format,
        "max_seq_len": run.prompts.max_seq_len,
    }
