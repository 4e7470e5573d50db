"""Protects ADEM-VL: what exists under which settings, how it starts, what it makes of images."""

import pytest
import torch

from ademvl.errors import SettingsError
from ademvl.methods.adem.method import KEY_TABLE_STD, AdemMethod
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.multiscale import pool_grid
from tests.methods.tiny_models import make_method

WIDTH, TOWER_WIDTH, GRID = 12, 6, 16


def _build(settings: AdemSettings, *, width: int, tower_width: int, grid: int) -> AdemMethod:
    return make_method(AdemMethod, settings, width=width, tower_width=tower_width, grid=grid)


def _adapter(seed: int = 0, *, grid: int = GRID, **changes) -> AdemMethod:
    settings = AdemSettings(**{"scales": (16, 4), "projection_width": 5, "beta": 0.5, **changes})
    adapter = _build(settings, width=WIDTH, tower_width=TOWER_WIDTH, grid=grid)
    adapter.initialize(seed)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "bias" in name or name == "value_table":
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    return adapter


def _open(adapter: AdemMethod, features, has_image):
    return adapter.open(features, has_image, dtype=torch.float32, dropout_seeds=None)


def _features(num_images: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(num_images, 1 + GRID, TOWER_WIDTH, generator=generator)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, {"key_table", "value_table", "grid_projection", "cls_projection"}),
        ({"cls": False}, {"key_table", "value_table", "grid_projection"}),
        ({"fusion": "none"}, {"cls_projection"}),
        ({"fusion": "none", "visual_tokens": 4}, {"grid_projection", "cls_projection"}),
        ({"fusion": "memvp", "cls": False}, {"key_table", "value_table", "grid_projection"}),
    ],
)
def test_only_what_the_settings_use_is_created(changes, parts):
    names = {name.partition(".")[0] for name, _ in _adapter(**changes).named_parameters()}
    assert names == parts


def test_initial_values_are_those_of_the_reference():
    settings = AdemSettings(scales=(256, 64))
    adapter = _build(settings, width=64, tower_width=48, grid=256)
    adapter.initialize(3)
    state = {name: parameter.detach() for name, parameter in adapter.named_parameters()}
    assert state["key_table"].shape == (320, 64)
    assert abs(float(state["key_table"].std()) - KEY_TABLE_STD) < 0.05 * KEY_TABLE_STD
    assert not state["value_table"].any()
    for name, parameter in state.items():
        if name.endswith("bias"):
            assert not parameter.any()
        elif name.endswith("weight"):
            bound = (6 / sum(parameter.shape)) ** 0.5  # Xavier
            assert 0.9 * bound < float(parameter.abs().max()) <= bound


def test_initial_values_depend_on_seed_and_name_only():
    state_before = torch.get_rng_state()
    first, again, other = (dict(_adapter(seed).named_parameters()) for seed in (1, 1, 2))
    without_cls = dict(_adapter(1, cls=False).named_parameters())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["key_table"], other["key_table"])
    assert all(torch.equal(first[name], without_cls[name]) for name in without_cls)
    assert torch.equal(torch.get_rng_state(), state_before)


def test_rows_without_an_image_have_the_tables_alone():
    adapter, has_image = _adapter(), torch.tensor([False, True, False])
    opened = _open(adapter, _features(1), has_image)
    for row in (0, 2):
        assert torch.equal(opened.keys[row], torch.nn.functional.silu(adapter.key_table))
        assert torch.equal(opened.values[row], adapter.value_table)
    assert not torch.equal(opened.values[1], adapter.value_table)
    nothing = _open(adapter, None, torch.tensor([False, False]))
    assert nothing.with_image is None
    assert torch.equal(nothing.keys[1], opened.keys[0])
    assert torch.equal(nothing.values[1], opened.values[2])


def test_a_rows_opened_does_not_depend_on_other_rows():
    adapter, features = _adapter(), _features(3)
    together = _open(adapter, features, torch.tensor([True, False, True, True]))
    alone = _open(adapter, features[1:2], torch.tensor([True]))
    torch.testing.assert_close(together.keys[2], alone.keys[0])
    torch.testing.assert_close(together.values[2], alone.values[0])
    torch.testing.assert_close(together.with_image[1], alone.with_image[0])


def test_values_are_the_scaled_projection_plus_the_table():
    adapter, features = _adapter(), _features(2)
    projected = adapter.grid_projection(pool_grid(features[:, 1:], (16, 4), pool="avg"))
    opened = _open(adapter, features, torch.tensor([True, True]))
    torch.testing.assert_close(opened.values, 0.5 * projected + adapter.value_table)
    torch.testing.assert_close(
        opened.keys, torch.nn.functional.silu(0.5 * projected + adapter.key_table)
    )


def test_slots_hold_cls_first_and_are_not_scaled():
    adapter, features = _adapter(visual_tokens=4), _features(2)
    slots = _open(adapter, features, torch.tensor([True, True])).with_image
    assert slots.shape == (2, 5, WIDTH)
    torch.testing.assert_close(slots[:, 0], adapter.cls_projection(features[:, 0]))
    grid = adapter.grid_projection(pool_grid(features[:, 1:], (4,), pool="avg"))
    torch.testing.assert_close(slots[:, 1:], grid)


def test_orders_of_pooling_and_projection_differ():
    features, has_image = _features(1), torch.tensor([True])
    usual = _open(_adapter(), features, has_image).values
    paper = _open(_adapter(pool_order="project_then_pool"), features, has_image).values
    torch.testing.assert_close(usual[:, :16], paper[:, :16])  # nothing is pooled at this scale
    assert not torch.allclose(usual[:, 16:], paper[:, 16:])


def test_half_precision_features_are_computed_in_fp32():
    adapter, features = _adapter(), _features(1).half()
    opened = _open(adapter, features, torch.tensor([True]))
    assert opened.keys.dtype == opened.with_image.dtype == torch.float32
    assert torch.equal(opened.keys, _open(adapter, features.float(), torch.tensor([True])).keys)


def test_wrong_number_of_images_is_refused():
    with pytest.raises(ValueError, match="features of 2 images for 1 rows"):
        _open(_adapter(), _features(2), torch.tensor([True, False]))
    with pytest.raises(ValueError, match="features of 0 images for 1 rows"):
        _open(_adapter(), None, torch.tensor([True, False]))


def test_scales_finer_than_the_grid_are_refused():
    with pytest.raises(SettingsError, match="16 is not possible with a tower of 9"):
        _adapter(grid=9)
    with pytest.raises(SettingsError, match="64 is not possible"):
        _adapter(visual_tokens=64)
    _adapter(fusion="none", scales=(256,))


def _fused(adapter: AdemMethod, has_image: torch.Tensor) -> torch.Tensor:
    opened = _open(adapter, _features(int(has_image.sum())), has_image)
    queries = torch.randn(len(has_image), 3, WIDTH, generator=torch.Generator().manual_seed(1))
    opened.visit("mlp_in", 0, queries)
    return opened.visit("mlp_out", 0, torch.zeros_like(queries)).detach()


@pytest.mark.parametrize("fusion", ["adem", "memvp"])
def test_without_text_only_fusion_rows_without_an_image_get_nothing(fusion):
    has_image = torch.tensor([True, False])
    usual = _fused(_adapter(fusion=fusion), has_image)
    without = _fused(_adapter(fusion=fusion, text_only_fusion=False), has_image)
    assert torch.equal(usual[0], without[0])
    assert usual[1].any()
    assert not without[1].any()


def test_dropping_can_be_left_to_training():
    has_image = torch.tensor([True])
    always = _adapter(gamma=0.5)
    in_training = _adapter(gamma=0.5, drop_in_evaluation=False)
    never = _adapter(gamma=0.0)
    for adapter in (always, in_training, never):
        adapter.train()
    assert torch.equal(_fused(in_training, has_image), _fused(always, has_image))
    for adapter in (always, in_training, never):
        adapter.eval()
    assert torch.equal(_fused(in_training, has_image), _fused(never, has_image))
    assert not torch.equal(_fused(always, has_image), _fused(never, has_image))


def test_way_of_dropping_reaches_the_fusion():
    has_image = torch.tensor([True])
    by_value = _fused(_adapter(gamma=0.5), has_image)
    assert not torch.equal(_fused(_adapter(gamma=0.5, drop_by="magnitude"), has_image), by_value)


def test_linear_projection_is_the_papers():
    linear, features = _adapter(projection_activation="none"), _features(2)
    both = linear.grid_projection(features)
    middle = linear.grid_projection(features.mean(dim=0))
    torch.testing.assert_close(both.mean(dim=0), middle)
    usual = _adapter()
    assert not torch.allclose(usual.grid_projection(features), both)
    # A linear projection may be pooled before or after: the paper's order is the reference's.
    first = _adapter(projection_activation="none", pool_order="project_then_pool")
    shown = torch.tensor([True, True])
    torch.testing.assert_close(
        _open(linear, features, shown).keys, _open(first, features, shown).keys
    )
