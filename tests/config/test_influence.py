"""Protects that what a setting says it changes is what every function makes of it.

Every field of every group of a run, of all methods, is changed once; whether that trains anew,
evaluates anew, is allowed beside another run's adapter, fits a trained adapter, and is told as a
difference must all follow from its mark.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml

from ademvl.config.influence import differing, fields_of, is_told, told_settings
from ademvl.config.inheritance import check_shared_adapters
from ademvl.config.key_lines import KeyLines
from ademvl.config.method import MethodSettings
from ademvl.config.methods_by_name import built_in_methods, settings_class_of
from ademvl.config.plain import to_plain
from ademvl.config.run import RunSettings
from ademvl.config.setting import Setting
from ademvl.config.study import load_study
from ademvl.config.study_settings import RunTemplate
from ademvl.errors import SettingsError, WeightsError
from ademvl.reporting.page.settings_difference import differences_to_paper
from ademvl.runs.adapter_folder import NEEDED_SETTINGS, check_settings
from ademvl.runs.identity import evaluation_settings, training_settings
from tests.config.methods_of_tests import Blind

METHODS: list[type[MethodSettings]] = [*map(settings_class_of, built_in_methods()), Blind]
OTHER_VALUES: Mapping[str, Any] = {
    "effective_batch_size": 64,
    "per_device_batch_size": 8,
    "loss_group_size": 4,
    "lr_grid": (0.1, 0.2),
    "lr_grid_growth": 2,
    "query_from": "mhsa_in",
    "add_to": "mlp_in",
    "scales": (64,),
    "visual_tokens": 64,
    "targets": ("q_proj",),
    "cls_blocks": (3, 7),
    "visual_width": 1024,
    "visual_heads": 8,
    "train_format": "QCM-A",
    "seeds": (0, 1),
    "reported": (),
    "log_to": ("tensorboard",),
}
"""Of settings for which a value is not simply made."""
NEEDED: Mapping[str, Mapping[str, Any]] = {"kept_weight": {"threshold": "per_layer"}}
"""What a setting needs of others of its group to have anything to act on."""


@dataclass(frozen=True)
class Field:
    """One setting: what its field says of it, and the objects without and with a change of it."""

    path: tuple[str, ...]
    said: Setting
    before: Any
    after: Any

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def changes(self, *kinds: str) -> bool:
        """Whether another value changes one of these, and is no place whose content counts."""
        return self.said.changes in kinds and not self.said.by_content


def base_run(method: type[MethodSettings], task: str) -> RunSettings:
    names = {"study": "s", "name": "n", "seed": 0, "data_dir": "data"}
    return RunSettings(**names, task=task, method=method())  # type: ignore[call-arg]


def other_value(hint: Any, name: str, value: Any) -> Any:
    if name in OTHER_VALUES:
        return OTHER_VALUES[name]
    if get_origin(hint) is Literal:
        return next(option for option in get_args(hint) if option != value)
    if hint is bool:
        return not value
    if hint is int:
        return value + 1 if value % 2 else value + 2
    if hint is float:
        return value / 2 + 0.013
    assert hint is str, f"{name}: give another value to OTHER_VALUES"
    return f"{value}_other"


def changed(settings: Any, path: tuple[str, ...]) -> Any:
    key, value = path[0], getattr(settings, path[0])
    if len(path) > 1:
        return dataclasses.replace(settings, **{key: changed(value, path[1:])})
    other = other_value(get_type_hints(type(settings))[key], key, value)
    return dataclasses.replace(settings, **{key: other})


def prepared(settings: Any, path: tuple[str, ...]) -> Any:
    """Give a setting what it needs."""
    key = path[0]
    if len(path) > 1:
        return dataclasses.replace(settings, **{key: prepared(getattr(settings, key), path[1:])})
    return dataclasses.replace(settings, **NEEDED.get(key, {}))


def fields(settings: Any) -> Iterator[Field]:
    """Yield all settings but the names of methods, which only one value fits."""
    for path, said, _ in fields_of(settings):
        if path not in (("method", "name"), ("reported",)):
            before = prepared(settings, path)
            yield Field(path, said, before, changed(before, path))


def fields_of_runs(method: type[MethodSettings]) -> Iterator[Field]:
    """Yield the fields of a run, of a task in which each is used."""
    captions, questions = (fields(base_run(method, task)) for task in ("coco_caption", "scienceqa"))
    for caption, question in zip(captions, questions, strict=True):
        yield question if caption.path[-1] in ("answer_by", "mode") else caption


def wrong(found: Iterable[Field], is_right: Callable[[Field], bool]) -> list[str]:
    return [field.name for field in found if not is_right(field)]


@pytest.fixture(params=METHODS, ids=lambda method: method().name)
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("ademvl.config.methods_by_name._registered", {"blind": Blind})
    return request.param


def test_adapter_is_trained_anew_where_it_depends_on_a_setting(method: Any) -> None:
    def is_right(field: Field) -> bool:
        trains = training_settings(field.before) != training_settings(field.after)
        return trains == field.changes("results", "training")

    assert wrong(fields_of_runs(method), is_right) == []


def test_predictions_are_made_anew_where_they_or_the_adapter_depend_on_a_setting(
    method: Any,
) -> None:
    def is_right(field: Field) -> bool:
        before, after = (
            (training_settings(run), evaluation_settings(run))
            for run in (field.before, field.after)
        )
        evaluates_only = before[0] == after[0] and before[1] != after[1]
        is_made_anew = before != after
        return evaluates_only == field.changes("evaluation") and (
            is_made_anew == field.changes("results", "training", "evaluation")
        )

    assert wrong(fields_of_runs(method), is_right) == []


def test_run_with_another_runs_adapter_changes_only_what_that_does_not_depend_on(
    method: Any,
) -> None:
    def is_right(field: Field) -> bool:
        owner = dataclasses.replace(field.before, seeds=(0, 1))
        taker = dataclasses.replace(field.after, adapter="owner")
        is_free = field.said.changes in ("evaluation", "speed", "nothing")
        try:
            check_shared_adapters({"owner": owner, "taker": taker}, KeyLines())
        except SettingsError as error:
            return not is_free and f"- runs.taker.{field.name}: " in str(error)
        return is_free or field.name in ("adapter", "seeds")

    assert wrong(fields(RunTemplate(method=method())), is_right) == []


def test_adapter_is_used_with_other_values_only_of_what_does_not_bind_it(
    method: Any, tmp_path: Path
) -> None:
    def is_right(field: Field) -> bool:
        plain = to_plain(field.before)
        settings = {key: plain[key] for key in NEEDED_SETTINGS}
        (tmp_path / "adapter.json").write_text(json.dumps({"settings": settings}), encoding="utf-8")
        binds = field.said.changes == "results" and not field.said.portable
        try:
            check_settings(tmp_path, field.after)
        except WeightsError as error:
            return binds and f"- {field.name}: " in str(error)
        return not binds or field.path[0] not in NEEDED_SETTINGS

    assert wrong(fields_of_runs(method), is_right) == []


def test_what_results_depend_on_is_told_as_a_difference(method: Any) -> None:
    def is_right(field: Field) -> bool:
        is_told = told_settings(field.before) != told_settings(field.after)
        counts = field.changes("results", "training", "evaluation")
        return is_told == (counts and field.name != "seed")

    assert wrong(fields_of_runs(method), is_right) == []


def test_page_lists_the_same_differences(tmp_path: Path) -> None:
    def is_right(field: Field) -> bool:
        run = field.before
        groups = {key: to_plain(run)[key] for key in ("backbones", "method", "prompts", "features")}
        del groups["features"]["cache_dir"]
        template = {"task": run.task, "dataset": "mini", **groups}
        study = {"study": "paper", "datasets": {"mini": {}}, "runs": {"run": template}}
        (tmp_path / "paper.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
        results: Any = SimpleNamespace(
            of_task=lambda task: [SimpleNamespace(settings=field.after, label="x")]
        )
        found = [one.name for one in differences_to_paper(results, tmp_path / "paper.yaml")]
        counts = field.changes("results", "training", "evaluation") and field.name != "seed"
        return found == ([field.name] if counts else [])

    of_one_task = [field for field in fields_of_runs(METHODS[0]) if field.name != "task"]
    assert wrong(of_one_task, is_right) == []


def test_of_two_methods_only_the_names_are_told() -> None:
    first, second = RunTemplate(), RunTemplate(method=Blind(width=3))
    assert list(differing(first, second, is_told)) == [("method.name", "adem", "blind")]


def test_interval_of_the_log_trains_nothing_anew_but_stays_where_it_stood() -> None:
    runs = {"a": {}, "b": {"optimization": {"log_interval_steps": 3}}}
    study = {"study": "s", "datasets": {"mini": {}}, "defaults": {"dataset": "mini"}, "runs": runs}
    first, second = (training_settings(run) for run in load_study(study).runs)
    assert first == second
    assert first["optimization"]["log_interval_steps"] == 10
