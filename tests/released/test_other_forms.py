"""Protects other authors' adapters: told by their names, imported, evaluated, exported."""

import dataclasses
import json

import pytest
import torch

from ademvl.config.method import ClipAdapterSettings
from ademvl.config.run import BackboneSettings, FeatureSettings
from ademvl.errors import SettingsError, WeightsError
from ademvl.evaluation.run import evaluate_run
from ademvl.methods.lavin.settings import LavinSettings
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.model.adapter_file import load_adapter, save_adapter
from ademvl.model.build import build_model
from ademvl.released.adapter import export_adapter, import_adapter, read_for_run
from ademvl.released.checkpoint import read_checkpoint, write_checkpoint
from ademvl.released.forms import form_of
from ademvl.runs.trained_adapter import find_adapter
from ademvl.training.run import train_run
from tests import tiny

# The mini tower has five blocks and 64 places.
METHODS = {
    "lavin": LavinSettings(dim=4, projection_width=8, cls_blocks=(3,), temperature=5.0),
    "lavin, plain": LavinSettings(
        dim=2, projection_width=8, cls_blocks=(3,), scale=0.5, tower_adapters="plain"
    ),
    "memvp": MemvpSettings(
        table_rows=70, alpha=0.2, projection_width=8, clip_adapter=ClipAdapterSettings(dim=2)
    ),
}
PREFIXES = {"lavin": "layers.0.adapter_attn.", "memvp": "adapter_modality_embedding"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("released")


@pytest.fixture(scope="module", params=METHODS.values(), ids=METHODS.keys())
def run(request, folder):
    features = FeatureSettings(mode="online", cache_dir=str(folder / "features"))
    run = tiny.make_run(folder, features=features, method=request.param)
    backbones = BackboneSettings(llm=run.backbones.llm, tower="mini")
    return dataclasses.replace(run, backbones=backbones)


@pytest.fixture(scope="module")
def own(run, tmp_path_factory):
    """An adapter of ours, every tensor random."""
    folder = tmp_path_factory.mktemp("own")
    model = build_model(run)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _, parameter in model.named_trainable_parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    save_adapter(folder, model, run)
    return folder


@pytest.fixture(scope="module")
def checkpoint(own, tmp_path_factory):
    path = tmp_path_factory.mktemp("download") / "theirs.pth"
    export_adapter(own, path)
    return path


def _state_of(adapter_dir, run):
    model = build_model(run)
    load_adapter(adapter_dir, model)
    return model.adapter_state_dict()


def test_an_adapter_comes_back_bit_for_bit_with_its_settings(run, own, checkpoint, tmp_path):
    names = torch.load(checkpoint, weights_only=False)["model"].keys()
    assert any(name.startswith(PREFIXES[run.method.name]) for name in names)
    assert form_of(f"module.{name}" for name in names).method == run.method.name
    origin = import_adapter(checkpoint, tmp_path, backbones=run.backbones)
    found, expected = _state_of(tmp_path, run), _state_of(own, run)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert find_adapter(tmp_path).run.method == run.method
    assert origin["args"]["prompt_format"] == run.prompts.train_format
    export_adapter(tmp_path, tmp_path / "again.pth")
    again, first = (read_checkpoint(path) for path in (tmp_path / "again.pth", checkpoint))
    assert again.args == first.args
    assert all(torch.equal(again.state[name], first.state[name]) for name in first.state)


def test_without_arguments_the_authors_settings_are_taken(run, checkpoint, tmp_path):
    first = read_checkpoint(checkpoint)
    write_checkpoint(tmp_path / "bare.pth", dataclasses.replace(first, args={}))
    import_adapter(
        tmp_path / "bare.pth", tmp_path / "in", backbones=run.backbones, task="scienceqa"
    )
    found = find_adapter(tmp_path / "in").run
    if isinstance(found.method, LavinSettings):
        told = (found.method.temperature, found.method.scale, found.prompts.train_format)
        assert told == (10.0, 1.0, "QCM-ALE")
    else:
        assert (found.method.alpha, found.prompts.train_format) == (0.1, "QCM-A")


def test_a_released_run_is_imported_and_evaluated_like_any_other(run, checkpoint, tmp_path):
    released = dataclasses.replace(run, adapter="released", released_from=str(checkpoint))
    run_dir = tiny.write_run(tmp_path / "run", released)
    assert train_run(run_dir, progress=False) == 0
    evaluate_run(run_dir, progress=False)
    assert json.loads((run_dir / "scores/scienceqa.json").read_text())["n"] == 4
    if isinstance(run.method, LavinSettings):  # trained by it, and evaluated otherwise by default
        other = dataclasses.replace(run.method, tower_routing="first_of_batch")
        read_for_run(checkpoint, dataclasses.replace(run, method=other))


def test_another_methods_adapter_is_named(run, checkpoint):
    other = next(each for each in METHODS.values() if each.name != run.method.name)
    with pytest.raises(SettingsError, match=rf"method\.name: '{other.name}', but .* trained with"):
        read_for_run(checkpoint, dataclasses.replace(run, method=other))


def test_tensors_and_numbers_that_are_missing_are_named(run, checkpoint, tmp_path):
    first = read_checkpoint(checkpoint)
    part = "grid_projection" if run.method.name == "memvp" else "cls_projection"
    partial = {n: t for n, t in first.state.items() if n != f"{part}.down.weight"}
    write_checkpoint(tmp_path / "partial.pth", dataclasses.replace(first, state=partial))
    with pytest.raises(WeightsError, match=rf"no adapter of .*{part}\.down\.weight is missing"):
        read_for_run(tmp_path / "partial.pth", run)
    args = {**first.args, "adapter_scale": "large"}
    write_checkpoint(tmp_path / "odd.pth", dataclasses.replace(first, args=args))
    with pytest.raises(WeightsError, match=r"an argument is no number: adapter_scale.*large"):
        read_for_run(tmp_path / "odd.pth", run)


def test_adapters_that_the_authors_code_does_not_have_stay_here(folder, tmp_path):
    features = FeatureSettings(mode="online", cache_dir=str(folder / "features"))
    method = LavinSettings(projection_width=8, cls_blocks=(0, 2))
    run = tiny.make_run(folder, features=features, method=method)
    save_adapter(tmp_path / "own", build_model(run), run)
    with pytest.raises(SettingsError, match=r"method\.cls_blocks: .*0, 2.* there "):
        export_adapter(tmp_path / "own", tmp_path / "out.pth")
