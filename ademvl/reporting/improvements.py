"""Which settings beat their base run, which are undecided; and all better ones in one run.

Winners are named by effects on the split that the study asks: val, where it is to choose. Of many
settings some look better by chance, so the run that has all of them is asked the test split, once.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ademvl.config.influence import differing
from ademvl.config.inheritance import merge_settings
from ademvl.config.nested import from_flat
from ademvl.config.plain import all_plain
from ademvl.config.study import Study, load_study
from ademvl.config.tasks import facts_of
from ademvl.errors import SettingsError
from ademvl.reporting.effects import Effect, seeds_in_words
from ademvl.statistics.effect_verdict import judge_effect
from ademvl.storage.files import write_text

COMBINED = "combined"
"""Name of the run that has all winners."""


def winners(effects: Sequence[Effect]) -> list[Effect]:
    """Return the effects of settings that are seen to score higher than their base run."""
    return [
        effect
        for effect in effects
        if effect.difference
        and effect.difference.value > 0
        and judge_effect(effect.difference).outcome == "seen"
    ]


def conclusion(effects: Sequence[Effect]) -> str:
    """Render in two lines which settings are winners, and what the undecided ones would need."""
    best = ", ".join(_named(effect) for effect in winners(effects))
    undecided = [
        f"{_named(effect)} ({seeds_in_words(effect.difference)})"
        for effect in effects
        if effect.difference and judge_effect(effect.difference).outcome == "cannot tell"
    ]
    return (
        f"Higher than the base run: {best or 'none'}.\n"
        "Undecided, with the seeds of each run that would tell: "
        f"{', '.join(undecided) or 'none'}.\n"
    )


def _named(effect: Effect) -> str:
    return f"`{effect.factor.run}`"


def combine(study: Study, file: Path, effects: Sequence[Effect], output: Path) -> Study:
    """Write a study with one more run, that of all winners over the first base run, and read it.

    It and the base run are asked the test split. Of several values of one setting the best is
    taken; a winner over another base run counts where that is a winner itself.

    Args:
        study: whose effects these are.
        file: that it stands in, which is included.
        effects: of the study.
        output: study file to write.

    Raises:
        SettingsError: no setting is a winner, the winners cannot stand together, or the study has
            a run of one of the two names.
    """
    base = study.settings.base_runs[0]
    chosen = list(_chosen(winners(effects), base))
    if not chosen:
        raise SettingsError(f"{file}: nothing is seen to be higher than {base}, nothing to combine")
    on_test = f"{base}_on_test"
    if taken := [name for name in (COMBINED, on_test) if name in study.settings.runs]:
        raise SettingsError(f"{file}: has a run {taken[0]} already; rename it")
    names = " + ".join(effect.factor.run for effect in chosen)
    template = study.settings.runs[base]
    asked = {"evaluation": {"split": facts_of(template.task).usual_split}}
    trained = {"adapter": chosen[0].factor.run}
    if len(chosen) > 1:
        whole = {key: value for key, value in all_plain(template).items() if key != "reported"}
        trained = merge_settings(whole, from_flat(_settings_of(study, chosen)))
    runs = {
        COMBINED: merge_settings(trained, {"label": names, **asked}),
        on_test: {"label": template.label or base, "adapter": base, **asked},
    }
    raw = {"study": study.name, "include": [str(file)], "runs": runs}
    head = f"# {file}, and what was higher there than {base} in one run: {names}.\n"
    text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, default_flow_style=None)
    write_text(output, head + text)
    return load_study(output)


def _settings_of(study: Study, chosen: Sequence[Effect]) -> dict[str, Any]:
    """Return all settings in which runs differ from their base runs, by path."""
    settings: dict[str, Any] = {}
    for effect in chosen:
        run, other = (study.settings.runs[name] for name in (effect.factor.run, effect.factor.base))
        for path, value, _ in differing(run, other, lambda said: said.changes != "nothing"):
            settings.setdefault(path, value)
    return settings


def _chosen(found: Sequence[Effect], base: str) -> Iterator[Effect]:
    """Yield the best winner of each setting over a base run, and those over these in turn."""
    best: dict[str, Effect] = {}
    for effect in found:
        if effect.factor.base == base:
            other = best.get(effect.factor.path)
            if other is None or _gain(effect) > _gain(other):
                best[effect.factor.path] = effect
    for effect in best.values():
        yield effect
        yield from _chosen(found, effect.factor.run)


def _gain(effect: Effect) -> float:
    return effect.difference.value if effect.difference else 0.0
