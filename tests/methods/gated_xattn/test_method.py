"""Protects gated cross-attention: where blocks stand, what rows see, initial values, decay."""

import pytest
import torch
import torch.nn.functional as F

from ademvl.config.method import TextPlaces, TowerStates
from ademvl.errors import SettingsError
from ademvl.methods.gated_xattn.method import GatedPass, GatedXattnMethod
from ademvl.methods.gated_xattn.settings import GatedXattnSettings, PerceiverSettings
from tests.methods.tiny_models import (
    filled,
    make_backbones,
    make_batch,
    make_llm,
    make_method,
    make_model,
    make_pixels,
)

FP32_TOLERANCE = 1e-5  # other order of sums
WIDTH, TOWER_WIDTH, GRID, HEADS, HEAD = 12, 10, 16, 2, 3
PERCEIVER = PerceiverSettings(num_latents=4, layers=2, heads=2, head_width=3, ratio=2)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _build(*, layers: int = 8, width: int = WIDTH, tower_width: int = TOWER_WIDTH, **changes):
    options = {"perceiver": PERCEIVER, "heads": HEADS, "head_width": HEAD, "ratio": 2, **changes}
    return make_method(
        GatedXattnMethod,
        GatedXattnSettings(**options),
        width=width,
        tower_width=tower_width,
        layers=layers,
        grid=GRID,
    )


def _method(**changes) -> GatedXattnMethod:
    """Return a method all of whose tensors matter."""
    return filled(_build(**changes), size=0.3).requires_grad_(False)


def _open(method: GatedXattnMethod, features, has_image: list[bool]) -> GatedPass:
    opened = method.open(features, torch.tensor(has_image), dtype=torch.float32, dropout_seeds=None)
    assert isinstance(opened, GatedPass)
    return opened


@pytest.mark.parametrize(
    ("every", "layers", "expected"),
    [(1, 3, [0, 1, 2]), (4, 32, [3, 7, 11, 15, 19, 23, 27, 31]), (3, 8, [2, 5]), (8, 8, [7])],
)
def test_blocks_stand_before_layers_whose_number_divides(every, layers, expected):
    method = _build(every=every, layers=layers)
    assert list(method.places()["layer_in"]) == expected
    assert list(method.blocks) == [str(layer) for layer in expected]


def test_too_few_layers_for_a_block_are_refused():
    with pytest.raises(SettingsError, match=r"method\.every: 9, but .* 8 layers.*choose 1 to 8"):
        _build(every=9)


def test_a_row_with_an_image_attends_to_its_latents_alone():
    method, features = _method(every=4), _random(2, GRID, TOWER_WIDTH)
    opened, states = _open(method, features, [True, False, True]), _random(3, 5, WIDTH, seed=3)
    block = method.block(3)
    for row, image in ((0, 0), (2, 1)):
        latents = method.perceiver(features[image : image + 1])
        normed = F.layer_norm(
            states[row], (WIDTH,), block.attention_norm.weight, block.attention_norm.bias
        )
        queries = normed @ block.attention.to_q.weight.T
        keys, values = (latents[0] @ block.attention.to_kv.weight.T).chunk(2, dim=1)
        heads = [
            part.unflatten(1, (HEADS, HEAD)).transpose(0, 1) for part in (queries, keys, values)
        ]
        attended = F.scaled_dot_product_attention(*heads).transpose(0, 1).flatten(1)
        branch = attended @ block.attention.to_out.weight.T
        expected = states[row] + torch.tanh(block.attention_gate) * branch
        expected = expected + torch.tanh(block.feed_forward_gate) * block.feed_forward(expected)
        visited = opened.visit("layer_in", 3, states)[row]
        torch.testing.assert_close(visited, expected, atol=FP32_TOLERANCE, rtol=0)


def test_rows_without_an_image_pass_the_feed_forward_alone():
    method, states = _method(every=8), _random(2, 5, WIDTH, seed=3)
    opened = _open(method, _random(1, GRID, TOWER_WIDTH), [False, True])
    block = method.block(7)
    expected = states[0] + torch.tanh(block.feed_forward_gate) * block.feed_forward(states[0])
    visited = opened.visit("layer_in", 7, states)
    torch.testing.assert_close(visited[0], expected, atol=FP32_TOLERANCE, rtol=0)
    assert not torch.allclose(visited[0], states[0])
    nothing = _open(method, None, [False, False]).visit("layer_in", 7, states)
    torch.testing.assert_close(nothing[0], visited[0], atol=FP32_TOLERANCE, rtol=0)


def test_beams_of_a_row_see_its_image():
    method = _method(every=8)
    opened = _open(method, _random(1, GRID, TOWER_WIDTH), [False, True])
    states = _random(4, 5, WIDTH, seed=3)
    repeated = opened.repeated(2).visit("layer_in", 7, states)
    for row in range(4):
        once = opened.visit("layer_in", 7, states[row].expand(2, -1, -1))[row // 2]
        torch.testing.assert_close(repeated[row], once, atol=FP32_TOLERANCE, rtol=0)


def test_states_keep_their_precision():
    method = _method(every=8)
    opened = _open(method, _random(1, GRID, TOWER_WIDTH), [True])
    assert opened.visit("layer_in", 7, _random(1, 5, WIDTH).half()).dtype == torch.float16


def test_patches_of_the_last_block_are_read_and_nothing_is_put_into_the_text():
    assert GatedXattnSettings().tower_states == TowerStates(
        blocks=(-1,), normalized=False, tokens="grid"
    )
    assert GatedXattnSettings(ln_post=True).tower_states.normalized
    assert GatedXattnSettings().text_places == TextPlaces()


def test_initial_values_are_those_of_the_released_code():
    method = _build(every=4, width=64, tower_width=48)
    method.initialize(3)
    state = {name: parameter.detach() for name, parameter in method.named_parameters()}
    zero = {name for name, tensor in state.items() if not tensor.any()}
    assert zero == {
        *(
            f"blocks.{layer}.{gate}_gate"
            for layer in (3, 7)
            for gate in ("attention", "feed_forward")
        ),
        *(name for name in state if name.endswith("bias")),
    }
    # 192 normal values: their deviation scatters by 5 %.
    assert abs(float(state["perceiver.latents"].std()) - 1) < 0.25
    for name, tensor in state.items():
        if tensor.ndim == 2 and "latents" not in name:
            bound = tensor.shape[1] ** -0.5  # torch's Linear
            assert 0.9 * bound < float(tensor.abs().max()) <= bound, name
        elif name.endswith("weight") and "norm" in name:
            assert torch.equal(tensor, torch.ones_like(tensor))


def test_a_fresh_model_is_the_bare_one(tmp_path):
    settings = GatedXattnSettings(every=1, perceiver=PERCEIVER, heads=2, head_width=3)
    model = make_model(settings, make_backbones(tmp_path))
    model.initialize(0)
    batch = make_batch(settings)
    with torch.no_grad():
        states = model.hidden_states(batch, make_pixels())
        bare = make_llm().model(input_ids=batch.input_ids).last_hidden_state
    torch.testing.assert_close(states, bare, atol=FP32_TOLERANCE, rtol=0)


def test_all_of_the_blocks_decays_and_nothing_of_the_resampler():
    method = _build(every=4)
    decaying = {name for name, p in method.named_parameters() if method.decays(name, p)}
    assert decaying == {name for name, _ in method.named_parameters() if name.startswith("blocks")}


def test_wrong_number_of_images_is_refused():
    with pytest.raises(ValueError, match="features of 2 images for 1 rows"):
        _open(_method(every=8), _random(2, GRID, TOWER_WIDTH), [True, False])
