"""The authors' command line arguments as our settings, and the other way round."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ademvl.config.inheritance import differences
from ademvl.config.method import ClipAdapterSettings
from ademvl.config.run import PromptSettings, RunSettings, Task
from ademvl.config.schema import all_plain
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

_NOT_OF_THE_ADAPTER = frozenset(
    {
        *("method.clip_adapter.dropout", "method.clip_adapter.last_block"),
        "method.drop_in_evaluation",
    }
)
"""Settings that change training, counting or evaluation only."""


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
    allowed = _NOT_OF_THE_ADAPTER
    if run.features.mode == "cached":
        allowed |= {"method.clip_adapter"}
    ours, theirs = all_plain(run.method), all_plain(method)
    differing = [
        *differences(ours, theirs, allowed=allowed, prefix="method."),
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
    # These two change training or counting only.
    compared = replace(
        method,
        clip_adapter=replace(
            method.clip_adapter,
            dropout=known.clip_adapter.dropout,
            last_block=known.clip_adapter.last_block,
        ),
    )
    if compared != known:
        findings = [
            f"method.{key}: {value!r}, there {getattr(known, key)!r}"
            for key, value in vars(compared).items()
            if value != getattr(known, key)
        ]
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
