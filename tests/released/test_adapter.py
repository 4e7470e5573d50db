"""Protects the way of a released adapter: imported, checked, evaluated, exported."""

import dataclasses
import json

import pytest
import torch

from ademvl.cli import main
from ademvl.config.method import ClipAdapterSettings
from ademvl.config.run import FeatureSettings
from ademvl.errors import SettingsError, WeightsError
from ademvl.evaluation.run import evaluate_run
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.adapter_file import load_adapter, save_adapter
from ademvl.model.build import build_model
from ademvl.released.adapter import export_adapter, import_adapter, read_for_run
from ademvl.released.checkpoint import read_checkpoint, write_checkpoint
from ademvl.runs.metrics import read_metrics
from ademvl.runs.trained_adapter import find_adapter
from ademvl.storage.checksums import checksum_file
from ademvl.training.run import train_run
from tests import tiny

METHOD = AdemSettings(scales=(16, 4), projection_width=8, clip_adapter=ClipAdapterSettings(dim=2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("released")


@pytest.fixture(scope="module")
def run(folder):
    features = FeatureSettings(mode="online", cache_dir=str(folder / "features"))
    return tiny.make_run(folder, features=features, method=METHOD)


@pytest.fixture(scope="module")
def own(folder, run):
    """An adapter of ours, every tensor random."""
    model = build_model(run)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _, parameter in model.named_trainable_parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    save_adapter(folder / "own", model, run)
    return folder / "own"


@pytest.fixture(scope="module")
def checkpoint(folder, own):
    path = folder / "download" / "checkpoint_tiny.pth"
    export_adapter(own, path)
    return path


@pytest.fixture
def released(run, checkpoint):
    return dataclasses.replace(run, adapter="released", released_from=str(checkpoint.parent))


def state_of(adapter_dir, run):
    model = build_model(run)
    load_adapter(adapter_dir, model)
    return model.adapter_state_dict()


def test_an_adapter_comes_back_bit_for_bit_with_its_settings(run, own, checkpoint, tmp_path):
    origin = import_adapter(checkpoint, tmp_path / "imported", backbones=run.backbones)
    found, expected = state_of(tmp_path / "imported", run), state_of(own, run)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    trained = find_adapter(tmp_path / "imported")
    assert (trained.run.method, trained.run.task) == (run.method, "scienceqa")
    assert trained.run.prompts.max_seq_len == run.prompts.max_seq_len
    assert origin["args"]["down_sample_num"] == [16, 4]
    assert origin["sha256"] == checksum_file(checkpoint).removeprefix("sha256:")
    description = json.loads((tmp_path / "imported/adapter.json").read_text())
    assert description["origin"] == origin


@pytest.mark.parametrize("is_distributed", [False, True])
def test_an_imported_adapter_goes_out_as_it_came(run, checkpoint, tmp_path, is_distributed):
    first = dataclasses.replace(
        read_checkpoint(checkpoint), is_distributed=is_distributed, epoch=19
    )
    write_checkpoint(tmp_path / "theirs.pth", first)
    import_adapter(tmp_path / "theirs.pth", tmp_path / "imported", backbones=run.backbones)
    export_adapter(tmp_path / "imported", tmp_path / "again.pth")
    again = read_checkpoint(tmp_path / "again.pth")
    assert (again.args, again.epoch, again.is_distributed) == (first.args, 19, is_distributed)
    assert again.state.keys() == first.state.keys()
    assert all(torch.equal(again.state[name], first.state[name]) for name in first.state)


def test_a_released_run_is_imported_and_evaluated_like_any_other(
    run, own, released, checkpoint, tmp_path
):
    run_dir = tiny.write_run(tmp_path / "released", released)
    assert train_run(run_dir, progress=False) == 0
    assert read_metrics(run_dir / "metrics.csv") == []
    provenance = json.loads((run_dir / "provenance.json").read_text())
    assert provenance["released"]["file"] == checkpoint.name
    assert provenance["trainable_parameters"] == sum(
        tensor.numel() for tensor in state_of(own, run).values()
    )
    evaluate_run(run_dir, progress=False)
    scores = json.loads((run_dir / "scores/scienceqa.json").read_text())
    assert scores["n"] == 4

    written = (run_dir / "adapter/adapter.json").stat().st_mtime_ns
    train_run(run_dir, progress=False)
    assert (run_dir / "adapter/adapter.json").stat().st_mtime_ns == written


def test_another_checkpoint_under_the_same_name_is_imported_again(released, checkpoint, tmp_path):
    changed = tmp_path / "checkpoint.pth"
    first = read_checkpoint(checkpoint)
    write_checkpoint(changed, first)
    run_dir = tiny.write_run(
        tmp_path / "run", dataclasses.replace(released, released_from=str(changed))
    )
    train_run(run_dir, progress=False)
    state = {name: tensor + 1 for name, tensor in first.state.items()}
    write_checkpoint(changed, dataclasses.replace(first, state=state))
    train_run(run_dir, progress=False)
    found = state_of(run_dir / "adapter", released)
    assert torch.equal(found["key_table"], state["key_table"])


def test_settings_that_it_was_not_trained_with_are_listed(released, checkpoint):
    method = dataclasses.replace(
        released.method, alpha=0.5, gamma=0.2, phi="relu", drop_in_evaluation=False
    )
    prompts = dataclasses.replace(released.prompts, train_format="QCM-A")
    other = dataclasses.replace(released, method=method, prompts=prompts)
    with pytest.raises(SettingsError) as error:
        read_for_run(checkpoint, other)
    for expected in (
        "method.alpha: 0.5, but the adapter was trained with 0.1",
        "method.gamma: 0.2",
        "method.phi: 'relu', but the adapter was trained with 'silu'",
        "prompts.train_format: 'QCM-A'",
    ):
        assert expected in str(error.value)
    assert "(4 found)" in str(error.value)


def test_tensors_that_do_not_fit_are_listed(released, checkpoint, tmp_path):
    cached = dataclasses.replace(released, features=FeatureSettings(mode="cached"))
    with pytest.raises(WeightsError, match=r"clip_adapters\.0.*not part of this model"):
        read_for_run(checkpoint, cached)
    first = read_checkpoint(checkpoint)
    args = {**first.args, "down_sample_num": [16]}
    write_checkpoint(tmp_path / "short.pth", dataclasses.replace(first, args=args))
    with pytest.raises(WeightsError, match="tables have 20 rows"):
        read_for_run(tmp_path / "short.pth", released)
    partial = {name: t for name, t in first.state.items() if name != "grid_projection.up.bias"}
    write_checkpoint(tmp_path / "partial.pth", dataclasses.replace(first, state=partial))
    with pytest.raises(WeightsError, match=r"grid_projection\.up\.bias: missing"):
        read_for_run(tmp_path / "partial.pth", released)


def test_arguments_that_are_no_numbers_are_named(released, checkpoint, tmp_path):
    first = read_checkpoint(checkpoint)
    args = {**first.args, "alpha": "large"}
    write_checkpoint(tmp_path / "odd.pth", dataclasses.replace(first, args=args))
    with pytest.raises(WeightsError, match=r"an argument is no number.*large"):
        read_for_run(tmp_path / "odd.pth", released)


def test_folders_without_one_checkpoint_are_named(released, tmp_path):
    with pytest.raises(WeightsError, match="found nothing"):
        read_for_run(tmp_path, released)
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).touch()
    with pytest.raises(WeightsError, match=r"found a\.pth, b\.pth"):
        read_for_run(tmp_path, released)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phi": "relu"}, "'relu', there 'silu'"),
        ({"threshold": "per_token"}, "'per_token', there 'fixed'"),
    ],
    ids=str,
)
def test_adapters_that_the_authors_code_does_not_have_stay_here(run, tmp_path, changes, message):
    other = dataclasses.replace(run, method=dataclasses.replace(run.method, **changes))
    save_adapter(tmp_path / "own", build_model(other), other)
    with pytest.raises(SettingsError, match=message):
        export_adapter(tmp_path / "own", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_the_verbs_import_and_export(run, checkpoint, tmp_path, capsys):
    backbones = run.backbones
    arguments = ["--llm", backbones.llm, "--tower", backbones.tower]
    arguments += ["--tower-weights", backbones.tower_weights, "--precision", "fp32"]
    out, again = tmp_path / "imported", tmp_path / "again.pth"
    assert main(["adapter", "import", str(checkpoint), "--output", str(out), *arguments]) == 0
    assert checkpoint.name in capsys.readouterr().out
    assert main(["adapter", "export", str(out), "--output", str(again)]) == 0
    assert read_checkpoint(again).args == read_checkpoint(checkpoint).args
    (tmp_path / "bad.pth").write_bytes(b"nonsense")
    assert main(["adapter", "import", str(tmp_path / "bad.pth"), "--output", "x", *arguments]) == 2
