"""Protects the adapters inside a tower: where they stand, that they leave no trace, dropout."""

import pytest
import torch
import torch.nn.functional as F

from ademvl.config.method import ClipAdapterSettings
from ademvl.methods.sites import Attachment
from ademvl.methods.tower_adapters import TowerAdapters
from ademvl.vision.tower import load_tower
from tests.methods.tiny_models import make_backbones

FP32_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    return make_backbones(tmp_path_factory.mktemp("tower"))


@pytest.fixture
def tower(backbones):
    return load_tower(backbones)


@pytest.fixture
def pixels(tower):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, tower.image_size, tower.image_size, generator=generator)


def _attached(tower, **changes):
    adapters = TowerAdapters(ClipAdapterSettings(dim=2, **changes), tower.shape)
    adapters.initialize(0)
    attachment = Attachment()
    adapters.attach(tower, attachment)
    return adapters, attachment


def _fill(adapters):
    generator = torch.Generator().manual_seed(1)
    for adapter in adapters.values():
        torch.nn.init.normal_(adapter.up.weight, generator=generator)


def test_new_adapters_change_nothing_and_detach_without_a_trace(tower, pixels):
    before = {name: tensor.clone() for name, tensor in tower.visual.state_dict().items()}
    fingerprint, features = tower.fingerprint, tower.encode(pixels)
    adapters, attachment = _attached(tower)
    with torch.no_grad():  # with gradients torch takes another path through attention
        assert torch.equal(tower.encode(pixels), features)
    _fill(adapters)
    assert not torch.allclose(tower.encode(pixels), features, atol=1e-3)
    del tower.__dict__["fingerprint"]
    assert tower.fingerprint == fingerprint
    attachment.detach()
    after = tower.visual.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(tower.encode(pixels), features)


def test_adapter_stands_beside_the_mlp(tower):
    mlp = tower.visual.transformer.resblocks[0].mlp
    states = torch.randn(1, 5, tower.width, generator=torch.Generator().manual_seed(1))
    plain = mlp(states)
    adapters, _ = _attached(tower, scale=0.3)
    _fill(adapters)
    adapter = adapters["0"]
    expected = plain + 0.3 * F.linear(
        F.gelu(F.linear(states, adapter.down.weight)), adapter.up.weight
    )
    torch.testing.assert_close(mlp(states), expected, atol=FP32_TOLERANCE, rtol=0)


def test_the_last_blocks_adapter_never_runs(tower, pixels):
    adapters, _ = _attached(tower)
    _fill(adapters)
    tower.encode(pixels).sum().backward()
    without = {name for name, p in adapters.named_parameters() if p.grad is None}
    assert without == set(adapters.unused()) == {"2.down.weight", "2.up.weight"}
    assert all(p.grad is None for p in tower.parameters())


def test_the_unused_adapter_can_be_left_out(tower):
    adapters, _ = _attached(tower, last_block=False)
    assert list(adapters) == ["0", "1"]
    assert not list(adapters.unused())


def test_dropout_depends_on_each_images_seed_only(tower, pixels):
    adapters, _ = _attached(tower, dropout=0.5)
    _fill(adapters)

    def encode(pixels, seeds):
        with adapters.seeded(seeds):
            return tower.encode(pixels)

    together = encode(pixels, [3, 4])
    swapped = encode(pixels.flip(0), [4, 3]).flip(0)
    alone = encode(pixels[1:], [4])
    torch.testing.assert_close(together, swapped, atol=FP32_TOLERANCE, rtol=0)
    torch.testing.assert_close(together[1:], alone, atol=FP32_TOLERANCE, rtol=0)
    assert not torch.allclose(together, encode(pixels, [5, 6]), atol=1e-4)
    assert not torch.allclose(together, tower.encode(pixels), atol=1e-4)
