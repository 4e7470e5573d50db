"""Protects MemVP: its rule, its rows of zeros, what is never used, and that ADEM-VL contains it."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from ademvl.config.method import ClipAdapterSettings
from ademvl.errors import SettingsError
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.dropout import drop_rows
from ademvl.methods.memvp.method import MEMVP_DROPOUT, MemvpMethod, fuse_memvp
from ademvl.methods.memvp.settings import MemvpSettings
from tests.methods.tiny_models import (
    filled,
    make_backbones,
    make_batch,
    make_method,
    make_model,
    make_pixels,
)

FP32_TOLERANCE = 1e-5  # other order of sums
WIDTH, TOWER_WIDTH, GRID, ROWS = 12, 6, 16, 20


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _build(
    *, width: int = WIDTH, tower_width: int = TOWER_WIDTH, trains_tower: bool = False, **changes
) -> MemvpMethod:
    options = {"table_rows": ROWS, "projection_width": 5, "beta": 0.5, **changes}
    return make_method(
        MemvpMethod,
        MemvpSettings(**options),
        width=width,
        tower_width=tower_width,
        grid=GRID,
        trains_tower=trains_tower,
    )


def _method(**changes) -> MemvpMethod:
    """Return a method all of whose tensors matter."""
    return filled(_build(**changes))


def _open(method: MemvpMethod, features, has_image: list[bool]):
    return method.open(features, torch.tensor(has_image), dtype=torch.float32, dropout_seeds=None)


def test_memvp_maps_scores_and_drops_at_random_in_training_only():
    states, keys, values = _random(2, 3, 4), _random(2, 50, 4, seed=2), _random(2, 50, 4, seed=3)

    def fuse(seeds):
        drop = partial(drop_rows, seeds=seeds, p=MEMVP_DROPOUT, purpose="memvp.0")
        target = torch.zeros_like(states)
        return fuse_memvp(states, keys, values, target=target, alpha=1.0, drop=drop)

    evaluated = fuse(None)
    expected = F.silu(states @ keys.transpose(1, 2)) @ values
    torch.testing.assert_close(evaluated, expected, atol=FP32_TOLERANCE, rtol=0)
    trained = [fuse(seeds) for seeds in ([1, 2], [1, 2], [1, 3])]
    assert torch.equal(trained[0], trained[1])
    assert torch.equal(trained[0][0], trained[2][0])
    assert not torch.equal(trained[0][1], trained[2][1])
    assert 0 < MEMVP_DROPOUT < 1


def test_rows_behind_the_grid_are_zeros_and_hold_the_tables_alone():
    method, features = _method(), _random(2, 1 + GRID, TOWER_WIDTH)
    visual = method.visual_prompt(features)
    assert visual.shape == (2, ROWS, WIDTH)
    torch.testing.assert_close(visual[:, :GRID], 0.5 * method.grid_projection(features[:, 1:]))
    assert not visual[:, GRID:].any()
    opened = _open(method, features, [True, True])
    for states, table in ((opened.keys, method.key_table), (opened.values, method.value_table)):
        torch.testing.assert_close(states, visual + table)
        assert torch.equal(states[:, GRID:], table[GRID:].expand(2, -1, -1))


def test_tables_shorter_than_the_grid_are_refused():
    with pytest.raises(SettingsError, match=r"method\.table_rows: 15, expected at least the 16"):
        _build(table_rows=GRID - 1)
    _build(table_rows=GRID)


def test_rows_without_an_image_pass_through_the_memory():
    method = _method()
    opened = _open(method, _random(1, 1 + GRID, TOWER_WIDTH), [False, True])
    assert torch.equal(opened.keys[0], method.key_table)
    assert torch.equal(opened.values[0], method.value_table)
    states, target = _random(2, 3, WIDTH, seed=1), _random(2, 3, WIDTH, seed=2)
    opened.visit("mlp_in", 0, states)
    fused = opened.visit("mlp_out", 0, target)
    memory = F.silu(states[0] @ method.key_table.T) @ method.value_table
    expected = target[0] + method.settings.alpha * memory
    torch.testing.assert_close(fused[0], expected, atol=FP32_TOLERANCE, rtol=0)
    nothing = _open(method, None, [False, False])
    assert torch.equal(nothing.keys[1], opened.keys[0])
    assert torch.equal(nothing.values[1], opened.values[0])


def test_an_all_zero_picture_would_not_be_the_same_as_none():
    method = _method()
    shown = _open(method, torch.zeros(1, 1 + GRID, TOWER_WIDTH), [True])
    assert not torch.allclose(shown.keys, _open(method, None, [False]).keys)


def test_cls_is_not_used_and_nothing_is_put_into_the_text():
    method, features = _method(), _random(1, 1 + GRID, TOWER_WIDTH)
    other = features.clone()
    other[:, 0] += 1
    opened, changed = (_open(method, each, [True]) for each in (features, other))
    assert torch.equal(opened.keys, changed.keys)
    assert torch.equal(opened.values, changed.values)
    assert opened.with_image is None
    assert method.settings.text_places.with_image == method.settings.text_places.before_begin == 0


def test_wrong_number_of_images_is_refused():
    with pytest.raises(ValueError, match="features of 2 images for 1 rows"):
        _open(_method(), _random(2, 1 + GRID, TOWER_WIDTH), [True, False])


@pytest.mark.parametrize(
    ("adapters", "names"),
    [
        (ClipAdapterSettings(dim=2), {"clip_adapters.2.down.weight", "clip_adapters.2.up.weight"}),
        (ClipAdapterSettings(dim=2, last_block=False), set()),
    ],
)
def test_modalities_and_the_last_blocks_adapter_are_unused(adapters, names):
    method = _build(trains_tower=True, clip_adapter=adapters)
    assert method.unused() == {"modality_table", *names}
    assert method.unused() <= dict(method.named_parameters()).keys()
    assert _build().unused() == {"modality_table"}


def test_initial_values_are_those_of_the_released_code():
    method = _build(width=64, tower_width=48, table_rows=320, trains_tower=True)
    method.initialize(3)
    state = {name: parameter.detach() for name, parameter in method.named_parameters()}
    # 20,480 and 128 normal values: their deviation scatters by 0.5 % and 6 %.
    assert abs(float(state["key_table"].std()) / 0.02 - 1) < 0.025
    assert abs(float(state["modality_table"].std()) - 1) < 0.3
    zero = {name for name, tensor in state.items() if not tensor.any()}
    assert zero == {
        "value_table",
        *("grid_projection.down.bias", "grid_projection.up.bias"),
        *(f"clip_adapters.{block}.up.weight" for block in range(3)),
    }
    for name in ("grid_projection.down.weight", "grid_projection.up.weight"):
        bound = (6 / sum(state[name].shape)) ** 0.5  # Xavier
        assert 0.9 * bound < float(state[name].abs().max()) <= bound


def test_all_but_biases_decay():
    method = _build(trains_tower=True)
    spared = {name for name, p in method.named_parameters() if not method.decays(name, p)}
    assert spared == {"grid_projection.down.bias", "grid_projection.up.bias"}


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    return make_backbones(tmp_path_factory.mktemp("tower"))


@pytest.mark.parametrize("is_training", [False, True], ids=["evaluation", "training"])
def test_one_scale_without_cls_is_adem_with_memvps_rule(is_training, backbones):
    shared = {"alpha": 0.5, "beta": 0.5, "projection_width": 4}
    adapters = ClipAdapterSettings(dim=2, dropout=0.1)
    memvp = make_model(MemvpSettings(**shared, table_rows=GRID, clip_adapter=adapters), backbones)
    settings = AdemSettings(
        **shared, scales=(GRID,), cls=False, fusion="memvp", clip_adapter=adapters
    )
    adem = make_model(settings, backbones)
    state = memvp.adapter_state_dict()
    del state["modality_table"]
    adem.load_adapter_state_dict(state, source="memvp")
    batch, pixels = make_batch(settings), make_pixels()
    for model in (memvp, adem):
        model.train(is_training)
    logits = [model.labelled_logits(batch, pixels).logits for model in (memvp, adem)]
    assert torch.equal(logits[0], logits[1])
    memvp.dropout_seed = 1
    changed = memvp.labelled_logits(batch, pixels).logits
    assert torch.equal(changed, logits[0]) == (not is_training)


def test_rows_do_not_see_each_others_dropout(backbones):
    settings = MemvpSettings(table_rows=ROWS, projection_width=4, alpha=0.5, beta=0.5)
    model = make_model(replace(settings, clip_adapter=ClipAdapterSettings(dim=2)), backbones)
    model.train()
    together = model.next_token_logits(make_batch(settings), make_pixels())
    for number in (0, 1):
        alone = model.next_token_logits(make_batch(settings, [number]), make_pixels([number]))
        torch.testing.assert_close(together[number], alone[0], atol=2e-5, rtol=0)
