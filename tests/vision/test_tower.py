"""Protects the tower: which features it gives, and what identifies it."""

from dataclasses import replace

import pytest
import torch

from ademvl.config.method import TowerStates
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


@pytest.mark.parametrize("tokens", ["all", "cls", "grid"])
@pytest.mark.parametrize("normalized", [True, False])
@torch.no_grad()
def test_states_are_those_that_are_asked_for(tower, pixels, tokens, normalized):
    seen = []
    hooks = [
        block.register_forward_hook(lambda _, __, output: seen.append(output))
        for block in tower.visual.transformer.resblocks
    ]
    tower.visual(pixels)
    for hook in hooks:
        hook.remove()
    states = TowerStates(blocks=(0, -1), normalized=normalized, tokens=tokens)
    chosen = {"all": slice(None), "cls": slice(1), "grid": slice(1, None)}[tokens]
    expected = [
        (tower.visual.ln_post(output) if normalized else output)[:, chosen]
        for output in (seen[0], seen[2])
    ]
    features = tower.encode(pixels, states)
    torch.testing.assert_close(features, torch.cat(expected, dim=1), atol=FP32_TOLERANCE, rtol=0)
    projected = tower.encode(pixels, replace(states, projected=True))
    torch.testing.assert_close(projected, features @ tower.visual.proj)


def test_blocks_that_the_tower_lacks_are_refused(tower, pixels):
    with pytest.raises(SettingsError, match="has 3 blocks, and the method reads 3, -4"):
        tower.encode(pixels, TowerStates(blocks=(3, 0, -4)))


def test_fingerprint_tells_weights_apart(tower, backbones, tmp_path):
    fingerprint = tower.fingerprint
    assert "GELU" in fingerprint
    assert load_tower(backbones).fingerprint == fingerprint
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
        ("RN50", "openai", r"has no \[cls\] token; set it to pooled"),
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
