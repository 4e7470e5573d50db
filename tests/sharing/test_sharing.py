"""Protects adapters that are passed on: whole, portable, checked, over a hub and back."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ademvl.cli import main
from ademvl.config.run import BackboneSettings
from ademvl.config.settings_files import run_to_json, study_to_json, write_settings
from ademvl.config.study import load_study
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.adapter_file import save_adapter
from ademvl.model.build import build_model
from tests import finished_world, tiny
from tests.conftest import PROJECT_ROOT
from tests.sharing.loopback_hub import TOKEN, LoopbackHub, running_hub

RUN = Path("results/tiny/runs/adem")
MINI = {"llm": "mini", "tower": "mini", "tower_weights": ""}
METHOD = {"scales": [64, 16], "projection_width": 8}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The present folder, with a random adapter on the shipped backbones, and it exported."""
    folder = tmp_path_factory.mktemp("project")
    method = AdemSettings(scales=(64, 16), projection_width=8)
    run = tiny.make_run(folder / "base", backbones=BackboneSettings(**MINI), method=method)
    model = build_model(run)
    model.initialize(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_adapter(tiny.write_run(RUN / "seed0", run) / "adapter", model, run)
        assert main(["adapter", "export", str(RUN), "--hub", "exported", "--license", "mit"]) == 0
        yield folder


@pytest.mark.slow
def test_card_has_the_measured_table_of_this_adapter_and_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = finished_world.SETTINGS | {
        "runs": {"adem": {"label": "ADEM-VL", "seeds": [0, 1]}},
        "column_notes": {"img": "squares"},
        "defaults": finished_world.SETTINGS["defaults"] | {"backbones": MINI, "method": METHOD},
    }
    tiny.make_scienceqa(tmp_path / finished_world.DATA, num_test=finished_world.NUM_TEST)
    monkeypatch.chdir(tmp_path)
    study = load_study(settings)
    write_settings(finished_world.STUDY / "study.yaml", study_to_json(study))
    for run in study.runs:
        write_settings(study.run_dir(run) / "run.yaml", run_to_json(run))
        for verb in ("train", "evaluate"):
            assert main([verb, str(study.run_dir(run)), "--threads", "1"]) == 0
    assert main(["adapter", "export", str(RUN), "--hub", "exported"]) == 0
    assert main(["tables", "results/tiny/study.yaml"]) == 0
    tables = Path("results/tiny/tables/accuracy.md").read_text(encoding="utf-8")
    card = Path("exported/README.md").read_text(encoding="utf-8")
    assert cells(tables, "ADEM-VL", seeds="0, 1") == cells(card, "ADEM-VL", seeds="0, 1")
    average = json.loads((RUN / "seed0/scores/scienceqa.json").read_text())["columns"]["AVG"]
    (own,) = cells(card, "this adapter, seed 0", seeds="0")
    assert own[-2].startswith(f"{average['percent']:.2f} ")
    assert "in this study's data: squares" in card
    assert Path("exported/scores/scienceqa.json").is_file()
    assert Path("exported/provenance.json").is_file()


def cells(text: str, name: str, *, seeds: str) -> list[list[str]]:
    """Return the rows of a run in Markdown tables."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    return [row for row in rows if len(row) > 3 and (row[1], row[3]) == (name, seeds)]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")  # which loopback does not speak
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def ademvl(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a verb in a process of its own: huggingface_hub reads HF_ENDPOINT when it is imported."""
    command = [sys.executable, "-m", "ademvl", *map(str, arguments)]
    environ = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False)


def front_matter(card: str) -> dict[str, object]:
    return yaml.safe_load(card.split("---\n")[1])


def test_metadata_are_what_the_hub_knows(project: Path) -> None:
    found = front_matter((project / "exported/README.md").read_text(encoding="utf-8"))
    assert (found["license"], found["library_name"]) == ("mit", "ademvl")
    assert "base_model" not in found  # no repository of the hub


def test_code_of_the_card_loads_the_adapter(project: Path, capsys) -> None:
    card = (project / "exported/README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", card, flags=re.MULTILINE | re.DOTALL)
    exec(compile(block.replace("my_adapter", "exported"), "card", "exec"), {})
    assert capsys.readouterr().out.strip() in ("red", "blue", "")


def test_folder_names_no_place_of_this_machine(project: Path) -> None:
    texts = [path.read_text() for path in (project / "exported").rglob("*.*") if path.suffix in
             (".md", ".yaml", ".json")]  # fmt: skip
    assert len(texts) == 4
    assert not [text for text in texts if str(project) in text or "results/shared/data" in text]


def test_answers_are_checked_on_any_copy(project: Path, tmp_path: Path, capsys) -> None:
    copy = shutil.copytree(project / "exported", tmp_path / "copy")
    assert main(["adapter", "check", str(copy)]) == 0
    golden = json.loads((copy / "golden.json").read_text())
    assert len(golden["answers"]) == 8
    golden["answers"][0]["probabilities"][0] += 0.01
    golden["answers"][1]["text"] = "something else"
    (copy / "golden.json").write_text(json.dumps(golden))
    capsys.readouterr()
    assert main(["adapter", "check", str(copy)]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert "request 1: probabilities are" in first
    assert "request 2: says" in second


def test_adapter_goes_to_the_hub_and_back(project: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    (project / "exported/notes.txt").write_text("private")
    pushed = ademvl("adapter", "push", "exported", "org/mine", "--private")
    (project / "exported/notes.txt").unlink()
    assert pushed.returncode == 0, pushed.stderr
    repository = hub.repositories["org/mine"]
    assert pushed.stdout.strip() == f"{hub.url}/org/mine/commit/{repository.commits[0]}"
    assert (repository.is_private, len(repository.commits)) == (True, 1)
    assert set(repository.files) == {
        *("README.md", "golden.json", "run.yaml"),
        *("adapter/adapter.json", "adapter/adapter.safetensors"),
    }
    pulled = ademvl("adapter", "pull", "org/mine", "--output", tmp_path / "pulled")
    assert pulled.returncode == 0, pulled.stderr
    for name, content in repository.files.items():
        assert (tmp_path / "pulled" / name).read_bytes() == content
    assert main(["adapter", "check", str(tmp_path / "pulled")]) == 0


@pytest.mark.slow
def test_damage_on_the_way_is_refused(project: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    assert ademvl("adapter", "push", "exported", "org/mine").returncode == 0
    hub.flipped = "adapter/adapter.safetensors"
    pulled = ademvl("adapter", "pull", "org/mine", "--output", tmp_path / "pulled")
    assert pulled.returncode == 2
    assert "adapter.safetensors: sha256 is" in pulled.stderr
    hub.flipped = ""
    assert ademvl("adapter", "pull", "org/mine", "--output", tmp_path / "pulled").returncode == 0


@pytest.mark.slow
def test_hub_that_refuses_is_explained(
    project: Path, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = ademvl("adapter", "pull", "org/absent", "--output", tmp_path / "pulled")
    assert absent.returncode == 2
    assert "org/absent: the Hugging Face hub does not give it" in absent.stderr
    assert "Check the name" in absent.stderr
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused = ademvl("adapter", "push", "exported", "org/mine")
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert "org/mine: the Hugging Face hub does not take it" in refused.stderr


def test_other_folders_are_not_pushed(project: Path, tmp_path: Path, capsys) -> None:
    assert main(["adapter", "push", str(RUN / "seed0"), "org/mine"]) == 2
    assert "no README.md, golden.json there" in capsys.readouterr().err
    copy = shutil.copytree(project / "exported", tmp_path / "copy")
    with (copy / "adapter/adapter.safetensors").open("ab") as stream:
        stream.write(b"x")
    assert main(["adapter", "push", str(copy), "org/mine"]) == 2
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["coco_caption", "instruction", "scienceqa"])
def test_adapter_without_a_study_is_exported_with_the_names_that_others_know(
    tmp_path: Path, capsys, task: str
) -> None:
    run = tiny.make_run(
        tmp_path / "base", task=task, images="withheld" if task == "scienceqa" else "shown"
    )
    model = build_model(run)
    model.initialize(1)
    save_adapter(tiny.write_run(tmp_path / "run", run) / "adapter", model, run)
    call = ["adapter", "export", str(tmp_path / "run"), "--hub", str(tmp_path / "exported")]
    assert main(call) == 2
    assert "is a place of this machine; say by --llm" in capsys.readouterr().err
    assert main([*call, "--llm", "org/llama", "--tower-weights", "openai"]) == 0
    card = (tmp_path / "exported/README.md").read_text(encoding="utf-8")
    assert front_matter(card)["base_model"] == "org/llama"
    assert "No scores came with it" in card
    assert ("answer(None" in card) == (task == "scienceqa")
    exported = yaml.safe_load((tmp_path / "exported/run.yaml").read_text())
    exported["backbones"] |= {
        "llm": run.backbones.llm,
        "tower_weights": run.backbones.tower_weights,
    }
    (tmp_path / "exported/run.yaml").write_text(yaml.safe_dump(exported))  # as the card says
    assert main(["adapter", "check", str(tmp_path / "exported")]) == 0
