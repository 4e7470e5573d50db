"""Protects the tower: which features it gives, adapters inside it, and what identifies it."""

import pytest
import torch
import torch.nn.functional as F

from ademvl.config.method import ClipAdapterSettings
from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError, WeightsError
from ademvl.vision.tower import load_openai_format, load_tower, tower_shape
from tests import tiny

FP32_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> BackboneSettings:
    weights = tiny.make_tower(tmp_path_factory.mktemp("tower"))
    return BackboneSettings(tower=tiny.TOWER, tower_weights=str(weights))


@pytest.fixture
def tower(backbones):
    return load_tower(backbones)


@pytest.fixture
def pixels(tower):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, tower.image_size, tower.image_size, generator=generator)


def _open_adapters(tower):
    generator = torch.Generator().manual_seed(1)
    for adapter in tower.adapters.values():
        torch.nn.init.normal_(adapter.up.weight, generator=generator)


@torch.no_grad()
def test_features_are_the_penultimate_blocks_behind_ln_post(tower, pixels):
    seen = []
    hook = tower.visual.transformer.resblocks[-2].register_forward_hook(
        lambda _, __, output: seen.append(output)
    )
    tower.visual(pixels)
    hook.remove()
    features = tower.encode(pixels)
    assert features.shape == (2, 1 + tower.num_grid_tokens, tower.width)
    expected = tower.visual.ln_post(seen[0])
    torch.testing.assert_close(features, expected, atol=FP32_TOLERANCE, rtol=0)


def test_new_adapters_change_nothing_and_detach_without_a_trace(tower, pixels):
    before = {name: tensor.clone() for name, tensor in tower.visual.state_dict().items()}
    features = tower.encode(pixels)
    tower.attach_adapters(ClipAdapterSettings(dim=2))
    tower.initialize_adapters(0)
    with torch.no_grad():  # with gradients torch takes another path through attention
        assert torch.equal(tower.encode(pixels), features)
    _open_adapters(tower)
    assert not torch.allclose(tower.encode(pixels), features, atol=1e-3)
    tower.detach_adapters()
    after = tower.visual.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(tower.encode(pixels), features)


def test_adapter_stands_beside_the_mlp(tower):
    mlp = tower.visual.transformer.resblocks[0].mlp
    adapter = tower.attach_adapters(ClipAdapterSettings(dim=2, scale=0.3))["0"]
    tower.initialize_adapters(0)
    _open_adapters(tower)
    states = torch.randn(1, 5, tower.width, generator=torch.Generator().manual_seed(1))
    expected = mlp(states) + 0.3 * F.linear(
        F.gelu(F.linear(states, adapter.down.weight)), adapter.up.weight
    )
    adapted = tower.visual.transformer.resblocks[0].mlp(states)
    torch.testing.assert_close(adapted, expected, atol=FP32_TOLERANCE, rtol=0)


def test_the_last_blocks_adapter_never_runs(tower, pixels):
    tower.attach_adapters(ClipAdapterSettings(dim=2))
    tower.initialize_adapters(0)
    _open_adapters(tower)
    tower.encode(pixels).sum().backward()
    has_gradient = {
        block: adapter.up.weight.grad is not None for block, adapter in tower.adapters.items()
    }
    assert has_gradient == {"0": True, "1": True, "2": False}
    assert all(
        p.grad is None for name, p in tower.visual.named_parameters() if "adapter" not in name
    )


def test_the_unused_adapter_can_be_left_out(tower):
    adapters = tower.attach_adapters(ClipAdapterSettings(dim=2, last_block=False))
    assert list(adapters) == ["0", "1"]
    with pytest.raises(SettingsError, match="attached already"):
        tower.attach_adapters(ClipAdapterSettings(dim=2))


def test_dropout_depends_on_each_images_seed_only(tower, pixels):
    tower.attach_adapters(ClipAdapterSettings(dim=2, dropout=0.5))
    tower.initialize_adapters(0)
    _open_adapters(tower)
    together = tower.encode(pixels, dropout_seeds=[3, 4])
    swapped = tower.encode(pixels.flip(0), dropout_seeds=[4, 3]).flip(0)
    alone = tower.encode(pixels[1:], dropout_seeds=[4])
    torch.testing.assert_close(together, swapped, atol=FP32_TOLERANCE, rtol=0)
    torch.testing.assert_close(together[1:], alone, atol=FP32_TOLERANCE, rtol=0)
    assert not torch.allclose(together, tower.encode(pixels, dropout_seeds=[5, 6]), atol=1e-4)
    assert not torch.allclose(together, tower.encode(pixels), atol=1e-4)


def test_fingerprint_tells_weights_apart_and_ignores_adapters(tower, backbones, tmp_path):
    fingerprint = tower.fingerprint
    assert "GELU" in fingerprint
    again = load_tower(backbones)
    again.attach_adapters(ClipAdapterSettings(dim=2))
    assert again.fingerprint == fingerprint
    other = tiny.make_tower(tmp_path, seed=1)
    changed = BackboneSettings(tower=tiny.TOWER, tower_weights=str(other))
    assert load_tower(changed).fingerprint != fingerprint


def test_sizes_are_known_without_weights(tower, backbones):
    assert tower_shape(backbones) == tower.shape
    vit_large = tower_shape(BackboneSettings(tower="ViT-L-14-quickgelu"))
    assert (vit_large.width, vit_large.num_blocks, vit_large.num_grid_tokens) == (1024, 24, 256)
    mini = BackboneSettings()
    assert tower_shape(mini) == load_tower(mini).shape


def test_pixels_of_another_size_are_refused(tower):
    with pytest.raises(ValueError, match="wants 8 squared"):
        tower.encode(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("ViT-L-14", "openai", "use ViT-L-14-quickgelu"),
        ("ViT-L-14-quickgelu", "", "needs a pretrained tag"),
        ("ViT-L-15", "openai", "knows no model"),
        ("RN50", "openai", "no plain vision transformer"),
    ],
)
def test_wrong_towers_are_refused_before_anything_is_loaded(name, weights, message):
    with pytest.raises(SettingsError, match=message):
        load_tower(BackboneSettings(tower=name, tower_weights=weights))


def test_damaged_weights_are_named(backbones, tmp_path):
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match=r"broken\.pt"):
        load_tower(BackboneSettings(tower=backbones.tower, tower_weights=str(broken)))
    with pytest.raises(WeightsError, match=r"broken\.pt"):
        load_openai_format(broken)
    with pytest.raises(WeightsError, match=r"missing\.safetensors"):
        load_openai_format(tmp_path / "missing.safetensors")


class _Holder(torch.nn.Module):
    """Holds weights under the names of a state dict, as a program that TorchScript can save."""

    def __init__(self, state):
        super().__init__()
        for key, weight in state.items():
            first, _, rest = key.partition(".")
            if not rest:
                self.register_buffer(first, weight)
            elif first not in self._modules:
                inner = {k.partition(".")[2]: w for k, w in state.items() if _is_inside(k, first)}
                self.add_module(first, _Holder(inner))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels


def _is_inside(key, name):
    return key.startswith(f"{name}.")


@pytest.fixture
def openai_file(backbones, tmp_path):
    """The tower's weights in the form of OpenAI's releases."""
    state = torch.load(backbones.tower_weights, weights_only=True)
    state |= {name: torch.tensor(8) for name in ("input_resolution", "context_length")}
    path = tmp_path / "ViT.pt"
    torch.jit.script(_Holder(state)).save(path)
    return str(path)


def test_torchscript_archive_of_openais_releases_is_read(backbones, openai_file, pixels, caplog):
    name = f"{tiny.TOWER}-quickgelu"
    loaded = load_tower(BackboneSettings(tower=name, tower_weights=openai_file))
    same = load_tower(BackboneSettings(tower=name, tower_weights=backbones.tower_weights))
    torch.testing.assert_close(loaded.encode(pixels), same.encode(pixels), rtol=0, atol=0)
    assert "randomly" not in caplog.text  # open_clip's word before the weights are set


def test_openais_weights_are_refused_by_a_tower_of_another_activation(backbones, openai_file):
    with pytest.raises(SettingsError, match=f"use {tiny.TOWER}-quickgelu"):
        load_tower(BackboneSettings(tower=backbones.tower, tower_weights=openai_file))
