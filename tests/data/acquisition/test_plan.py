"""Protects what a study is said to need, and that saying so is quick and touches no network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ademvl.config.settings_files import study_to_json
from ademvl.config.study import load_study
from ademvl.data.acquisition.plan import needed_sources, plan_sources, render_plan
from ademvl.data.acquisition.registry import load_registry
from ademvl.errors import SettingsError
from ademvl.workflow.plan import WorkflowPlan
from tests.conftest import PROJECT_ROOT
from tests.data.acquisition.studies import study_of

PAPER = PROJECT_ROOT / "workflow/studies/paper-7b.yaml"
SCIENCEQA = {"real": {"source": "scienceqa"}}
RUN = {"run": {"dataset": "real"}}


def meta_copy(folder: Path) -> Path:
    """A folder that looks like LLaMA-7B of Meta's release."""
    (folder / "7B").mkdir()
    for name in ("params.json", "consolidated.00.pth"):
        (folder / "7B" / name).write_bytes(b"{}")
    return folder / "7B"


def needs(shared: Path, **keys: object) -> tuple[str, ...]:
    return needed_sources(study_of(shared, **keys), load_registry())


def refusal(shared: Path, **keys: object) -> str:
    with pytest.raises(SettingsError) as caught:
        needs(shared, **keys)
    return str(caught.value)


def test_paper_study_needs_data_and_weights() -> None:
    study = load_study(PAPER)
    assert needed_sources(study, load_registry()) == (
        *("scienceqa", "coco_caption", "lavin_instruct", "mme"),
        *("clip_vit_l14", "llama_7b"),
        *(f"adem_released_{task}" for task in ("scienceqa", "caption", "instruction")),
    )


def test_paper_study_loads_what_it_fetches() -> None:
    run = load_study(PAPER).runs[0]
    assert run.backbones.llm == "results/shared/downloads/llama_7b"
    assert run.backbones.tower_weights == "results/shared/downloads/clip_vit_l14/ViT-L-14.pt"
    assert run.optimization.lr == pytest.approx(9e-3 * 32 / 256)


def test_mini_study_fetches_nothing_and_is_written_as_before() -> None:
    study = load_study(PROJECT_ROOT / "config.yaml")
    assert WorkflowPlan(study).sources.downloads() == []
    assert "downloads" not in study_to_json(study)
    assert 'backbones": {}' not in study_to_json(study)
    assert render_plan(study, plan_sources(study)) == "mini: nothing to fetch\n"


def test_existing_copies_are_not_fetched(tmp_path: Path) -> None:
    datasets = {"real": {"source": "scienceqa", "existing": "/data/scienceqa"}}
    weights = {"llama_7b": {"existing": str(meta_copy(tmp_path))}}
    assert needs(tmp_path, datasets=datasets, runs=RUN, backbones=weights) == ()
    defaults = {"backbones": {"llm": "llama_7b"}}
    study = study_of(tmp_path, datasets=datasets, runs=RUN, backbones=weights, defaults=defaults)
    assert study.runs[0].backbones.llm == str(tmp_path / "converted" / "llama_7b")


def test_what_a_source_needs_is_needed_too(tmp_path: Path) -> None:
    datasets = {"easy_vqa": {}, "instructions": {"source": "lavin_instruct"}}
    assert needs(tmp_path, datasets=datasets) == ("coco_caption", "lavin_instruct")
    datasets |= {"coco": {"source": "coco_caption", "existing": "/data/coco"}}
    assert needs(tmp_path, datasets=datasets) == ("lavin_instruct",)
    datasets["instructions"] = {"source": "lavin_instruct", "existing": "/data/lavin"}
    assert needs(tmp_path, datasets=datasets) == ()


def test_own_repository_is_fetched_in_place_of_the_default(tmp_path: Path) -> None:
    study = study_of(tmp_path, backbones={"llama_7b": {"repository": "me/llama"}})
    (plan,) = plan_sources(study)
    assert plan.source.hub.repository == "me/llama"
    assert plan.files[0].name == "me/llama (main)"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"downloads": {"extra_sources": ["coco"]}}, "downloads.extra_sources: 'coco' is no"),
        ({"downloads": {"accepted_licenses": ["lama"]}}, "accepted_licenses: 'lama' is none of"),
        ({"backbones": {"lama": {}}}, "backbones.lama: no source of this name"),
        ({"backbones": {"clip_vit_l14": {}}}, "expected one of ['ViT-L-14.pt']"),
        (
            {"backbones": {"clip_vit_l14": {"file": "ViT-L-14.pt", "member": "a"}}},
            "backbones.clip_vit_l14.member: is 'a', but archives here are []",
        ),
        ({"defaults": {"backbones": {"llm": "llama_7b"}}}, "not under the study's key backbones"),
    ],
)
def test_unknown_names_are_refused(tmp_path: Path, keys: dict[str, object], expected: str) -> None:
    assert expected in refusal(tmp_path, **keys)


def test_part_and_file_placed_by_hand_are_seen(tmp_path: Path) -> None:
    folder = tmp_path / "downloads/scienceqa"
    folder.mkdir(parents=True)
    (folder / "captions.json.part").write_bytes(bytes(700_000))
    (folder / "problems.json").write_bytes(b"{}")
    study = study_of(tmp_path, datasets=SCIENCEQA, runs=RUN)
    (plan,) = plan_sources(study)
    states = {file.name: (file.state, file.missing_bytes) for file in plan.files}
    assert states["captions.json"] == ("in part", 14_559)
    assert states["problems.json"] == ("to be verified", 0)


def test_rules_wait_for_what_they_read(tmp_path: Path) -> None:
    keys = {"datasets": SCIENCEQA, "runs": RUN, "backbones": {"llama_7b": {}}}
    defaults = {"backbones": {"llm": "llama_7b"}, "features": {"mode": "cached"}}
    study = study_of(tmp_path, **keys, defaults=defaults)
    plan = WorkflowPlan(study)
    scienceqa = [
        f"{tmp_path}/downloads/scienceqa/complete.json",
        f"{tmp_path}/unpacked/scienceqa/.complete.json",
    ]
    llama = f"{tmp_path}/downloads/llama_7b/complete.json"

    class Wildcards:
        run, seed, dataset, source = "run", 0, "real", "scienceqa"
        features = Path(plan.features.reports()[0]).stem

    assert plan.sources.downloads() == [*scienceqa, llama]
    assert plan.sources.of_dataset(Wildcards) == scienceqa
    assert plan.run_backbones(Wildcards) == [llama]
    assert plan.feature_backbones(Wildcards) == []
    assert "problems.json" in plan.sources.source_json(Wildcards)
    assert "train.zip" in plan.sources.archives_json(Wildcards)


def test_plan_of_the_paper_needs_neither_the_network_nor_large_packages(tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(PROJECT_ROOT),
        "https_proxy": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }
    command = [sys.executable, "-X", "importtime", "-m", "ademvl", "data", "plan"]
    done = subprocess.run(
        [*command, "--study", str(PAPER)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    for expected in (
        "train2014.zip                        13.5 GB  missing",
        "NOT ACCEPTED: read it, then add llama to downloads.accepted_licenses",
        "to fetch   35.5 GB, and 11 files of unknown size",
    ):
        assert expected in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported.isdisjoint({"torch", "requests", "gdown", "huggingface_hub", "numpy"})
