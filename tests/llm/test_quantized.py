"""Protects frozen weights in 8 and 4 bits: the fusion attaches unchanged, and learns."""

import builtins
import dataclasses

import pytest
import torch

from ademvl.config.run import BackboneSettings
from ademvl.data.collate import Batch
from ademvl.errors import SettingsError, ToolError
from ademvl.evaluation.run import evaluate_run
from ademvl.llm.loading import fingerprint_llm, load_llm
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.runs.metrics import read_metrics
from ademvl.training.run import train_run
from ademvl.vision.tower import TowerShape
from tests import tiny

TOWER_SHAPE = TowerShape(width=16, num_blocks=3, image_size=8, num_grid_tokens=16, output_width=8)
FP32_ROUNDING = 1e-5  # passes with and without gradients add up in different orders
SETTINGS = AdemSettings(scales=(16, 4), projection_width=8, beta=1.0, alpha=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make_llm(tmp_path_factory.mktemp("llm"), width=128)


def make_model(folder, quantization):
    backbones = BackboneSettings(llm=str(folder), quantization=quantization)
    model = VisionLanguageModel(load_llm(backbones), SETTINGS, tower_shape=TOWER_SHAPE)
    model.initialize(0)
    return model


def make_batch():
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(3, 40, (2, 12), generator=generator)
    labels = input_ids.clone()
    labels[:, :6] = -100
    has_image = torch.tensor([True, False])
    return Batch(
        item_ids=("a", "b"),
        input_ids=input_ids,
        labels=labels,
        lengths=torch.tensor([12, 12]),
        slot_start=torch.tensor([1, -1]),
        has_image=has_image,
        images=(None, None),
    ), torch.randn(1, 17, 16, generator=generator)


def loss_and_gradient(model):
    predictions = model(*make_batch())
    loss = torch.nn.functional.cross_entropy(predictions.logits.float(), predictions.targets)
    loss.backward()
    return float(loss.detach()), model.method.key_table.grad


@pytest.mark.parametrize(("quantization", "tolerance"), [("int8", 0.02), ("int4", 0.2)])
def test_an_adapter_learns_through_quantized_weights(folder, quantization, tolerance):
    pytest.importorskip("bitsandbytes")
    expected_loss, expected_gradient = loss_and_gradient(make_model(folder, "none"))
    model = make_model(folder, quantization)
    loss, gradient = loss_and_gradient(model)
    assert loss == pytest.approx(expected_loss, rel=tolerance)
    cosine = torch.nn.functional.cosine_similarity(
        gradient.flatten(), expected_gradient.flatten(), dim=0
    )
    assert cosine > 1 - 2 * tolerance
    assert not any(parameter.requires_grad for parameter in model.llm.parameters())


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_passes_without_gradients_change_neither_numbers_nor_weights(folder, quantization):
    pytest.importorskip("bitsandbytes")
    model = make_model(folder, quantization)
    trained = model(*make_batch()).logits.detach()
    kept = {name: weight.clone() for name, weight in model.llm.state_dict().items()}
    with torch.inference_mode():
        evaluated = [model(*make_batch()).logits for _ in range(2)]
    trained_again = model(*make_batch()).logits.detach()
    for logits in (*evaluated, trained_again):
        torch.testing.assert_close(logits, trained, rtol=0, atol=FP32_ROUNDING)
    assert all(torch.equal(weight, kept[name]) for name, weight in model.llm.state_dict().items())


def test_the_layers_of_bitsandbytes_still_say_whether_they_pack_anew():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    assert hasattr(bitsandbytes.nn.Linear4bit(2, 2), "support_avx512bf16_for_cpu")


def test_linear_layers_take_fewer_bytes_and_the_rest_keeps_its_precision(folder):
    pytest.importorskip("bitsandbytes")

    def load(quantization):
        return load_llm(BackboneSettings(llm=str(folder), quantization=quantization))

    plain, halved, quartered = (load(kind) for kind in ("none", "int8", "int4"))

    def layer_bytes(llm):
        return sum(p.nbytes for p in llm.model.layers.parameters() if p.ndim > 1)

    assert layer_bytes(halved) == layer_bytes(plain) // 4
    assert layer_bytes(quartered) == layer_bytes(plain) // 8
    for llm in (halved, quartered):
        assert llm.get_output_embeddings().weight.dtype == torch.float32
        assert llm.model.norm.weight.dtype == torch.float32


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_a_run_trains_and_is_evaluated_on_quantized_weights(folder, tmp_path, caplog, quantization):
    pytest.importorskip("bitsandbytes")
    run = tiny.make_run(tmp_path, epochs=4.0, base_lr=0.2)
    backbones = dataclasses.replace(run.backbones, llm=str(folder), quantization=quantization)
    run_dir = tiny.write_run(tmp_path / "run", dataclasses.replace(run, backbones=backbones))
    assert train_run(run_dir, progress=False) == 0
    evaluate_run(run_dir, progress=False)
    losses = [row.loss for row in read_metrics(run_dir / "metrics.csv")]
    assert losses[-1] < losses[0]
    assert not any("inputs will be cast" in record.message for record in caplog.records)


def test_fingerprints_tell_the_bits(folder):
    pytest.importorskip("bitsandbytes")
    found = {
        fingerprint_llm(load_llm(BackboneSettings(llm=str(folder), quantization=kind))).dtype
        for kind in ("none", "int8", "int4")
    }
    assert found == {"float32", "float32 int8", "float32 int4"}


def test_a_missing_package_is_named_with_the_extra(folder, monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "bitsandbytes":
            raise ImportError("No module named 'bitsandbytes'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ToolError, match=r"pip install 'ademvl\[quantized\]'"):
        load_llm(BackboneSettings(llm=str(folder), quantization="int4"))


def test_gguf_files_and_meta_folders_are_not_quantized_again(golden_dir):
    with pytest.raises(SettingsError, match="is a GGUF file"):
        load_llm(BackboneSettings(llm="somewhere/model.gguf", quantization="int8"))
    meta = golden_dir / "models" / "weights" / "7B"
    with pytest.raises(SettingsError, match="ademvl backbones convert"):
        load_llm(BackboneSettings(llm=str(meta), quantization="int4"))
