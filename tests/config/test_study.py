"""Protects reading of studies: inheritance, refusal of wrong settings, and exact round trips."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema  # comes with Snakemake
import pytest
import yaml

from ademvl.config.includes import read_with_lines
from ademvl.config.json_schema import schema_of
from ademvl.config.names import NAME
from ademvl.config.settings_files import read_run, run_to_json, study_to_json, write_settings
from ademvl.config.settings_page import schema_yaml, settings_page
from ademvl.config.study import load_study
from ademvl.config.study_settings import RunTemplate, StudySettings
from ademvl.errors import SettingsError
from tests.conftest import PROJECT_ROOT

STUDIES = [
    PROJECT_ROOT / "config.yaml",
    *sorted((PROJECT_ROOT / "workflow" / "studies").glob("*.yaml")),
]


@pytest.fixture
def raw() -> dict[str, Any]:
    return yaml.safe_load((PROJECT_ROOT / "config.yaml").read_text(encoding="utf-8"))


def refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_study(raw)
    return str(caught.value)


def test_run_inherits_defaults_and_changes_only_what_it_names(raw: dict[str, Any]) -> None:
    runs = {run.name: run for run in load_study(raw).runs}
    assert runs["no_adaptive_fusion"].method.gamma == 0.0
    assert runs["no_adaptive_fusion"].method.scales == runs["adem"].method.scales == (64, 16)
    assert runs["adem_online"].features.mode == "online"


def test_every_seed_is_a_run(raw: dict[str, Any]) -> None:
    seeds = [run.seed for run in load_study(raw).runs if run.name == "text_only"]
    assert seeds == [0, 1, 2]


def test_unknown_key_names_path_and_nearest_spelling(raw: dict[str, Any]) -> None:
    raw["defaults"]["method"]["gama"] = 0.1
    message = refusal(raw)
    assert "defaults.method.gama: unknown key" in message
    assert "did you mean gamma?" in message


def test_wrong_value_names_allowed_ones(raw: dict[str, Any]) -> None:
    raw["runs"]["adem"]["features"] = {"mode": "onlin"}
    message = refusal(raw)
    assert "runs.adem.features.mode: 'onlin' is not allowed (allowed: cached, online)" in message
    assert "did you mean online?" in message


def test_all_findings_are_listed_at_once(raw: dict[str, Any]) -> None:
    raw["defaults"]["seeds"] = "all"
    raw["defaults"]["optimization"]["epochs"] = "many"
    message = refusal(raw)
    assert "2 found" in message
    assert "defaults.seeds" in message
    assert "defaults.optimization.epochs" in message


@pytest.mark.parametrize(
    ("part", "key", "value", "expected"),
    [
        ("method", "gamma", 1.0, "method.gamma: 1.0, expected >= 0 and < 1"),
        ("method", "alpha", float("nan"), "defaults.method.alpha: nan, expected finite number"),
        ("method", "projection_width", 0, "projection_width: 0, expected >= 1"),
        ("method", "scales", [60], "60 is no square number"),
        ("method", "scales", [0], "scales.0: 0, expected >= 1"),
        ("method", "scales", [], "scales: [], expected one or more different numbers of tokens"),
        ("method", "scales", [64, 64], "scales: [64, 64], expected one or more different numbers"),
        ("method", "scales", [256, "x", 15], "scales.1: 'x', expected integer"),
        ("method", "scales", [256, "x", 15], "scales.2: 15 is no square number"),
        (
            "method",
            "scales",
            [10**18],
            "scales.0: 1000000000000000000, expected >= 1 and <= 1000000",
        ),
        ("optimization", "effective_batch_size", 2**31, "2147483648, expected >= 1 and <= 1000000"),
        ("optimization", "max_nonfinite_steps", 10**30, "expected a number of at most 19 digits"),
        ("optimization", "epochs", 10**400, "epochs: "),
        ("optimization", "warmup_epochs", 10_000, "so that base_lr is never reached"),
        ("backbones", "llm", "a\0b", r"llm: 'a\x00b', expected text without control characters"),
        ("backbones", "llm", "\ud800", r"llm: '\ud800', expected text without control characters"),
        ("method", "query_from", "mlp_out", None),
        ("optimization", "per_device_batch_size", 5, "possible: [1, 2, 4, 8, 16]"),
        ("optimization", "loss_group_size", 3, "does not divide effective_batch_size"),
        ("optimization", "loss_group_size", -2, "loss_group_size: -2, expected >= 0"),
        ("optimization", "log_interval_steps", 0, "log_interval_steps: 0, expected >= 1"),
        ("optimization", "epochs", "inf", "optimization.epochs: inf, expected finite number"),
        ("optimization", "epochs", 0, "optimization.epochs: 0, expected > 0"),
        ("optimization", "base_lr", -1e-3, "base_lr: -0.001, expected >= 0"),
        ("optimization", "beta1", 1.5, "beta1: 1.5, expected >= 0 and < 1"),
        ("optimization", "log_interval_steps", 10.0, "log_interval_steps: 10.0, expected integer"),
    ],
)
def test_impossible_values_are_refused(
    raw: dict[str, Any], part: str, key: str, value: object, expected: str | None
) -> None:
    raw["defaults"][part][key] = value
    if expected is None:
        load_study(raw)
    else:
        assert expected in refusal(raw)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("study", "../x", "study: '../x', expected letters"),
        ("study", "x" * 101, "in front, at most 100"),
        ("shared_dir", "x" * 1001, "at most 1,000"),
        ("runs", {"a" * 101: {}}, "digits and _, at most 100"),
        ("results_dir", "~/x", "results_dir: '~/x', expected a folder"),
        ("shared_dir", "/tmp/a b", "shared_dir: '/tmp/a b', expected a folder"),
        ("shared_dir", "", "shared_dir: '', expected a folder"),
        ("runs", {"my-run": {}}, "runs: name 'my-run', expected text of letters A-Z a-z, digits"),
        ("runs", {1: {}, False: {"dataset": "q"}}, "runs: name False, expected text of letters"),
        ("runs", {"a": {"seeds": [0, 0]}}, "runs.a.seeds: [0, 0], expected different numbers"),
        ("runs", {"a": {"seeds": [-1]}}, "runs.a.seeds: [-1], expected different numbers >= 0"),
        ("runs", {"a": {"seeds": [2**32]}}, "runs.a.seeds.0: 4294967296, expected <= 4294967295"),
        (
            "runs",
            {"a": {"adapter": ""}},
            "runs.a.adapter: '', expected trained, released, pretrained",
        ),
        ("base_runs", ["q"], "base_runs.0: 'q' is not under runs (known: "),
        ("runs", {"a": {}, "b": {"seeds": []}}, "runs.b.seeds: [], expected one or more"),
        ("defaults", {"seeds": []}, "defaults.seeds: [], expected one or more"),
        ("runs", {"a": {"seeds": [1.0]}}, "runs.a.seeds.0: 1.0, expected integer"),
        ("runs", {"a": {"features": {"cache_dir": "/x"}}}, "features.cache_dir: unknown key"),
        ("gpus", 1.0, "gpus: 1.0, expected `all`, a number of GPUs"),
    ],
)
def test_what_rules_cannot_take_is_refused(
    raw: dict[str, Any], key: str, value: object, expected: str
) -> None:
    raw[key] = value
    assert expected in refusal(raw)


def test_folders_may_have_letters_of_any_language(raw: dict[str, Any]) -> None:
    study = load_study(raw | {"results_dir": "/daten/Müller-2", "shared_dir": "../teil"})
    assert study.runs[0].features.cache_dir == "../teil/features"


def test_names_are_those_that_the_snakefile_matches() -> None:
    text = (PROJECT_ROOT / "Snakefile").read_text(encoding="utf-8")
    assert f'    dataset="{NAME}",\n    run="{NAME}",\n' in text


def test_empty_data_sets_are_refused(raw: dict[str, Any]) -> None:
    raw["datasets"]["easy_vqa"]["train_questions"] = 0
    assert "train_questions: 0, expected >= 1" in refusal(raw)


def test_missing_keys_are_named_once(raw: dict[str, Any]) -> None:
    raw["runs"]["adem"]["reported"] = [{}]
    message = refusal(raw)
    assert "(1 found)" in message
    assert message.count("missing table, row") == 1


def test_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: s\nruns:\n  a: {}\n  b: {}\n  a: {label: x}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"(?s)key 'a' occurs twice.*line 5, column 3"):
        load_study(path)


def test_keys_of_another_mapping_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, x: 2}\n", encoding="utf-8")
    assert read_with_lines(path, name=str(path))[0]["b"] == {"x": 2}


def test_position_before_the_query_is_refused(raw: dict[str, Any]) -> None:
    raw["defaults"]["method"] |= {"query_from": "mlp_out", "add_to": "mlp_in"}
    assert "comes before query_from" in refusal(raw)


def test_unknown_dataset_is_refused(raw: dict[str, Any]) -> None:
    raw["runs"]["adem"]["dataset"] = "nosuch"
    assert "'nosuch' is not under datasets (known: easy_vqa)" in refusal(raw)


def test_numbers_given_as_text_are_read_as_numbers(raw: dict[str, Any]) -> None:
    raw["defaults"]["optimization"]["base_lr"] = "9e-3"  # YAML 1.1 reads 9e-3 as text
    assert load_study(raw).runs[0].optimization.base_lr == 9e-3


def test_truths_given_as_text_are_read_as_such(raw: dict[str, Any]) -> None:
    raw["downloads"] = {"offline": "true"}  # so Snakemake's --config passes it
    assert load_study(raw).settings.downloads.offline is True


def test_run_settings_survive_writing_and_reading(raw: dict[str, Any], tmp_path: Path) -> None:
    run = load_study(raw).runs[0]
    write_settings(tmp_path / "run.yaml", run_to_json(run))
    assert read_run(tmp_path) == run


def test_study_written_with_resolved_runs_is_the_same_study(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    study = load_study(raw)
    write_settings(tmp_path / "study.yaml", study_to_json(study))
    assert load_study(tmp_path / "study.yaml").runs == study.runs


def test_changed_default_changes_only_runs_that_use_it(raw: dict[str, Any]) -> None:
    changed = deepcopy(raw)
    changed["runs"]["text_only"]["optimization"] = {"epochs": 9.0}
    before, after = load_study(raw).runs, load_study(changed).runs
    different = {
        a.name for b, a in zip(before, after, strict=True) if run_to_json(a) != run_to_json(b)
    }
    assert different == {"text_only"}


def test_malformed_yaml_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: [", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"study\.yaml: not valid YAML"):
        load_study(path)


def test_colon_in_a_description_does_not_end_it() -> None:
    adapter = schema_of(RunTemplate)["properties"]["adapter"]
    assert "another way: such a run starts from" in adapter["description"]


def test_every_setting_is_described() -> None:
    schema = schema_of(StudySettings)
    method = schema["$defs"]["RunTemplate"]["properties"]["method"]["anyOf"][0]
    for part in (schema, method, *schema["$defs"].values()):
        assert [k for k, entry in part["properties"].items() if "description" not in entry] == []


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_present_studies_fit_the_schema_that_editors_read(path: Path) -> None:
    validator = jsonschema.Draft202012Validator(schema_of(StudySettings))
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [error.message for error in validator.iter_errors(raw)] == []


def test_printed_schema_and_page_are_current() -> None:
    schema = PROJECT_ROOT / "workflow/schemas/config.schema.yaml"
    page = PROJECT_ROOT / "docs/settings.md"
    assert schema.read_text(encoding="utf-8") == schema_yaml()
    assert page.read_text(encoding="utf-8") == settings_page()


def test_key_of_another_source_is_refused_with_its_path(raw: dict[str, Any]) -> None:
    raw["datasets"]["easy_vqa"]["existing"] = "/data"
    raw["datasets"]["real"] = {"source": "scienceqa", "seed": 1, "caption_splits": "official"}
    message = refusal(raw)
    assert "datasets.easy_vqa.existing: only with source scienceqa or coco_caption" in message
    assert "datasets.real.seed: only with source easy_vqa or many_shapes, not scienceqa" in message
    assert "datasets.real.caption_splits: only with source coco_caption, not scienceqa" in message


def test_task_must_be_one_that_the_data_set_is_for(raw: dict[str, Any]) -> None:
    raw["datasets"]["real"] = {"source": "scienceqa"}
    raw["runs"]["captions"]["dataset"] = "real"
    message = refusal(raw)
    assert "runs.captions.dataset: expected a data set for coco_caption, but" in message


def test_instructions_use_the_copy_of_coco_that_the_study_names(raw: dict[str, Any]) -> None:
    raw["datasets"]["lavin"] = {"source": "lavin_instruct"}
    assert load_study(raw).settings.datasets["lavin"].coco == ""
    raw["datasets"]["coco"] = {"source": "coco_caption", "existing": "/data/coco"}
    assert load_study(raw).settings.datasets["lavin"].coco == "/data/coco"
    raw["datasets"]["lavin"]["coco"] = "/data/other"
    assert load_study(raw).settings.datasets["lavin"].coco == "/data/other"


def test_instructions_are_evaluated_on_a_data_set_of_their_own(raw: dict[str, Any]) -> None:
    raw["datasets"] |= {"lavin": {"source": "lavin_instruct"}, "mme": {"source": "mme"}}
    run = {"task": "instruction", "dataset": "lavin"}
    raw["runs"] = {"instructions": run | {"evaluation_dataset": "mme"}}
    resolved = load_study(raw).runs[0]
    assert resolved.data_dir == "results/shared/data/lavin/instruction"
    assert resolved.evaluation_data_dir == "results/shared/data/mme/mme"
    assert resolved.evaluation_task == "mme"
    raw["runs"] = {"instructions": run}
    assert "runs.instructions.evaluation_dataset: '' is not under datasets" in refusal(raw)
    raw["runs"] = {"questions": {"evaluation_dataset": "mme"}}
    assert "task scienceqa is evaluated on its own data set" in refusal(raw)


def test_written_study_holds_only_the_keys_of_each_source(raw: dict[str, Any]) -> None:
    raw["datasets"]["real"] = {"source": "scienceqa", "existing": "/data"}
    written = yaml.safe_load(study_to_json(load_study(raw)))["datasets"]
    assert written["easy_vqa"] == raw["datasets"]["easy_vqa"]
    assert written["real"] == {
        "source": "scienceqa",
        "existing": "/data",
        "subset": False,
        "damaged": "stop",
    }


def test_reported_rows_leave_runs_and_other_studies_as_they_were(raw: dict[str, Any]) -> None:
    before = load_study(raw)
    assert "reported" not in study_to_json(before)
    raw["runs"]["adem"]["reported"] = [{"table": "ablation_projection", "row": "phi: silu"}]
    after = load_study(raw)
    assert list(map(run_to_json, after.runs)) == list(map(run_to_json, before.runs))
    assert load_study(yaml.safe_load(study_to_json(after))).reported("adem")[0].row == "phi: silu"


def test_base_runs_change_nothing_in_a_study_without_them(raw: dict[str, Any]) -> None:
    plain = yaml.safe_load(study_to_json(load_study(raw)))
    assert "base_runs" not in plain
    assert yaml.safe_load(study_to_json(load_study(raw | {"base_runs": ["adem"]}))) == {
        **plain,
        "base_runs": ["adem"],
    }


def test_study_that_says_nothing_of_its_scale_is_mini(raw: dict[str, Any]) -> None:
    del raw["scale"]
    assert load_study(raw).scale == "mini"


def test_mini_models_and_data_are_refused_at_paper_scale(raw: dict[str, Any]) -> None:
    message = refusal({**raw, "scale": "paper"})
    assert "runs.adem.backbones.llm: mini" in message
    assert "runs.adem.dataset: 'easy_vqa', which has source easy_vqa" in message
    assert "Write `scale: mini`." in message
