"""Runs of whole systems, or of answers from a file: what they read of a study, and what they need.

They share `defaults` with runs of methods; what they do not read has no part in their settings.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ademvl.config.key_lines import KeyLines
from ademvl.config.method import Kind, MethodSettings
from ademvl.config.optimization import OptimizationSettings
from ademvl.config.released import seed_findings
from ademvl.config.run import (
    PREDICTIONS,
    PRETRAINED,
    TRAINED,
    BackboneSettings,
    FeatureSettings,
    PromptSettings,
    RunSettings,
)
from ademvl.config.study_settings import RunTemplate

_ADAPTER_OF_KIND: Mapping[Kind, str] = {"pretrained": PRETRAINED, "elsewhere": PREDICTIONS}
_BACKBONES_OF_KIND: Mapping[Kind, tuple[str, ...]] = {
    "method": ("llm", "tower"),
    "trained_whole": ("llm", "tower"),
    "pretrained": ("llm",),
    "elsewhere": (),
}


def backbones_read(method: MethodSettings) -> tuple[str, ...]:
    """Return which of `llm` and `tower` a run with these settings loads."""
    return _BACKBONES_OF_KIND[method.kind]


def without_unread(run: RunSettings) -> RunSettings:
    """Put defaults in place of what a run of a system or of a file never reads."""
    kind = run.method.kind
    if kind == "trained_whole":
        return replace(run, prompts=PromptSettings())
    if not run.method.is_given:
        return run
    backbones = replace(run.backbones, tower="", tower_weights="", tower_cls="token")
    if kind == "elsewhere":
        backbones = BackboneSettings(llm="", tower="")
    return replace(
        run,
        backbones=backbones,
        features=FeatureSettings(cache_dir=run.features.cache_dir),
        prompts=run.prompts if kind == "pretrained" else PromptSettings(),
        optimization=OptimizationSettings(),
    )


def check_systems(runs: Mapping[str, RunTemplate], key_lines: KeyLines) -> None:
    """Refuse runs whose `adapter` and `method` do not belong together, or that lack something.

    Args:
        runs: complete settings by name.
        key_lines: file and line of the keys.

    Raises:
        SettingsError: lists all such runs.
    """
    key_lines.refuse(
        (text for name, run in runs.items() for text in _findings(name, run)),
        headline="Systems that are not trained here",
        remedy=f"`adapter: {PRETRAINED}` evaluates a system such as llava, blip or blip2 as its "
        f"checkpoint is; `adapter: {PREDICTIONS}` with `method: {{name: elsewhere}}` reads "
        "answers from the file that `released_from` names.",
    )


def _findings(name: str, run: RunTemplate) -> Iterator[str]:
    kind = run.method.kind
    expected = _ADAPTER_OF_KIND.get(kind)
    if expected is not None and run.adapter != expected:
        yield f"runs.{name}.adapter: {run.adapter!r}, but method {run.method.name} is {expected}"
        return
    if expected is None and run.adapter in _ADAPTER_OF_KIND.values():
        yield f"runs.{name}.method.name: {run.method.name!r} is no system for {run.adapter!r}"
        return
    if expected is None:
        if (task := run.method.only_task) and run.task != task:
            yield f"runs.{name}.task: {run.task}, but method {run.method.name} is for {task}"
        if kind == "trained_whole" and run.adapter != TRAINED:
            yield f"runs.{name}.adapter: {run.adapter!r}, but {run.method.name} is always trained"
        return
    yield from seed_findings(name, run)
    if kind == "elsewhere" and not run.released_from:
        yield f"runs.{name}.released_from: empty, expected a file of predictions"
    if kind == "pretrained" and run.released_from:
        yield f"runs.{name}.released_from: {run.released_from!r}, but backbones.llm is the system"
    if kind == "pretrained" and run.images == "withheld":
        yield f"runs.{name}.images: withheld, but a system is evaluated as it was trained"
