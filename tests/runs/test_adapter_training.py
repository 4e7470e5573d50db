"""Protects that an adapter is used under the name of its own training only."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ademvl.cli import main
from ademvl.config.run import RunSettings
from ademvl.errors import SettingsError, WeightsError
from ademvl.evaluation.run import evaluate_run
from ademvl.model.adapter_file import load_adapter
from ademvl.model.build import build_model
from ademvl.runs.adapter_training import check_training, is_complete, read_training
from ademvl.runs.identity import training_identity
from ademvl.runs.run_files import RunFiles
from ademvl.training.run import train_run
from tests import tiny

RUNS = {
    "adem": ("adem", 0, "shown"),
    "control": ("control", 0, "withheld"),
    "seed1": ("adem", 1, "shown"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs and a second seed, all trained, with adapters of the same shapes."""
    folder = tmp_path_factory.mktemp("world")
    for name, seed, images in RUNS.values():
        assert train_run(_write(folder, name, seed, images), progress=False) == 0
    return folder


def _write(folder: Path, name: str, seed: int, images: str) -> Path:
    run = tiny.make_run(folder, name=name, seed=seed, images=images, epochs=1.0)
    return tiny.write_run(_place(folder, name, seed), run)


def _place(folder: Path, name: str, seed: int) -> Path:
    return folder / "results" / "tiny" / "runs" / name / f"seed{seed}"


@pytest.fixture
def runs(world: Path, tmp_path: Path) -> dict[str, Path]:
    """Directories of copies that a test may change."""
    shutil.copytree(world / "results", tmp_path / "results")
    return {key: _place(tmp_path, name, seed) for key, (name, seed, _) in RUNS.items()}


def _exchange(first: Path, second: Path, *names: str) -> None:
    for name in names:
        aside = first.with_name("aside")
        (first / name).rename(aside)
        (second / name).rename(first / name)
        aside.rename(second / name)


def _snapshot(run_dir: Path) -> dict[str, bytes]:
    files = (path for path in run_dir.rglob("*") if path.is_file())
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in files}


def test_an_adapter_says_of_which_training_it_is(runs: dict[str, Path]) -> None:
    for key, (name, seed, _) in RUNS.items():
        training = read_training(runs[key] / "adapter")
        assert training is not None
        assert str(training) == f"tiny/{name}, seed {seed}"
        provenance = json.loads((runs[key] / "provenance.json").read_text())
        assert training.identity_sha256 == provenance["identity_sha256"]


@pytest.mark.parametrize(
    ("other", "its_name"), [("control", "control, seed 0"), ("seed1", "adem, seed 1")]
)
@pytest.mark.parametrize("moved", [("adapter",), ("adapter", "provenance.json")])
def test_an_exchanged_adapter_is_not_evaluated(
    runs: dict[str, Path], other: str, its_name: str, moved: tuple[str, ...]
) -> None:
    _exchange(runs["adem"], runs[other], *moved)
    named = {"adem": "adem, seed 0", other: its_name}
    for key, theirs in (("adem", other), (other, "adem")):
        with pytest.raises(WeightsError, match="holds the adapter of another training") as raised:
            evaluate_run(runs[key], progress=False)
        assert str(runs[key] / "adapter") in str(raised.value)
        assert f"it is of tiny/{named[theirs]}" in str(raised.value)
        assert f"the run here is tiny/{named[key]}" in str(raised.value)
        assert not (runs[key] / "scores").exists()


@pytest.mark.parametrize("verb", ["evaluate-mme", "fusion-maps", "predict"])
def test_no_other_verb_uses_an_exchanged_adapter(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    _exchange(runs["adem"], runs["control"], "adapter")
    benchmark = tmp_path / "MME"
    tiny.make_mme(benchmark)
    options = {
        "evaluate-mme": ["--benchmark", str(benchmark), "--answers", str(tmp_path / "answers")],
        "fusion-maps": ["--items", "1"],
        "predict": ["--question", "What?"],
    }
    assert main([verb, str(runs["adem"]), *options[verb]]) == 2
    assert "holds the adapter of another training" in capsys.readouterr().err


def test_an_exchanged_adapter_is_neither_taken_for_trained_nor_overwritten(
    runs: dict[str, Path],
) -> None:
    _exchange(runs["adem"], runs["control"], "adapter")
    for run_dir in (runs["adem"], runs["control"]):
        before = _snapshot(run_dir)
        with pytest.raises(WeightsError, match=r"another training.*or remove this folder"):
            train_run(run_dir, progress=False)
        assert _snapshot(run_dir) == before
    _exchange(runs["adem"], runs["control"], "adapter")
    assert train_run(runs["adem"], progress=False) == 0


def test_an_exchanged_adapter_is_not_taken_by_another_run(
    runs: dict[str, Path], world: Path
) -> None:
    run = tiny.make_run(world, name="again", adapter="adem", epochs=1.0)
    taking = tiny.write_run(_place(runs["adem"].parents[4], "again", 0), run)
    _exchange(runs["adem"], runs["control"], "adapter")
    with pytest.raises(SettingsError, match="has no finished adapter"):
        train_run(taking, progress=False)
    _exchange(runs["adem"], runs["control"], "adapter")
    assert train_run(taking, progress=False) == 0
    evaluate_run(taking, progress=False)


@pytest.mark.parametrize(
    "changes", [{"study": "other", "name": "renamed"}, {"base_lr": 0.25}, {"seed": 1}]
)
def test_names_may_change_and_what_is_trained_may_not(
    runs: dict[str, Path], world: Path, changes: dict[str, Any]
) -> None:
    run_dir = runs["adem"].rename(runs["adem"].with_name("moved"))
    run = tiny.make_run(world, **{"name": "adem", "epochs": 1.0, **changes})
    tiny.write_run(run_dir, run)
    if "name" in changes:
        evaluate_run(run_dir, progress=False)
        return
    how = " with other settings" if "base_lr" in changes else ""
    with pytest.raises(WeightsError, match=f"it is of tiny/adem, seed 0{how}, the run here"):
        evaluate_run(run_dir, progress=False)
    assert train_run(run_dir, progress=False) == 0  # its own adapter is replaced, as ever
    evaluate_run(run_dir, progress=False)


def test_data_that_changed_since_is_no_other_training(
    runs: dict[str, Path], world: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(world / "data", tmp_path / "data") / "scienceqa"
    (data / "captions.json").write_text('{"captions": {}}')
    run = tiny.make_run(world, name="adem", epochs=1.0)
    check_training(runs["adem"] / "adapter", dataclasses.replace(run, data_dir=str(data)))


def _without_claim(run_dir: Path) -> None:
    path = run_dir / "adapter" / "adapter.json"
    description = json.loads(path.read_text())
    del description["training"]
    path.write_text(json.dumps(description))


def test_adapters_from_before_make_no_claim(
    runs: dict[str, Path], world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: RunSettings = tiny.make_run(world, name="adem", epochs=1.0)
    _without_claim(runs["adem"])
    assert is_complete(RunFiles(runs["adem"]), training_identity(run))
    monkeypatch.setattr("ademvl.training.run.build_trainer", None)
    assert train_run(runs["adem"], progress=False) == 0
    evaluate_run(runs["adem"], progress=False)
    load_adapter(runs["adem"] / "adapter", build_model(run))


def test_a_malformed_claim_is_named(runs: dict[str, Path]) -> None:
    path = runs["adem"] / "adapter" / "adapter.json"
    for claim in ({"run": "adem"}, "adem", 7):
        path.write_text(json.dumps({**json.loads(path.read_text()), "training": claim}))
        with pytest.raises(WeightsError, match=r"adapter\.json: training is malformed"):
            evaluate_run(runs["adem"], progress=False)


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict"])
def test_a_copied_seed_is_refused_by_its_folder(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    copy = shutil.copytree(runs["adem"], runs["adem"].with_name("seed2"))
    options = ["--question", "What?"] if verb == "predict" else []
    assert main([verb, str(copy), *options]) == 2
    assert "seed2/run.yaml: seed is 0, but the folder is seed2" in capsys.readouterr().err
