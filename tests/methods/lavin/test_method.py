"""Protects LaVIN: its adapters, who routes whom, what is put into the text, how it starts."""

from dataclasses import replace
from zlib import crc32

import pytest
import torch
import torch.nn.functional as F

from ademvl.errors import SettingsError
from ademvl.evaluation.generation import decoding_steps
from ademvl.methods.lavin.adapters import PlainAdapter, RoutedAdapter
from ademvl.methods.lavin.method import LavinMethod
from ademvl.methods.lavin.settings import LavinSettings
from tests.methods.tiny_models import (
    make_backbones,
    make_batch,
    make_method,
    make_model,
    make_pixels,
)

FP32_TOLERANCE = 1e-5  # other order of sums
WIDTH, TOWER_WIDTH, BLOCKS = 12, 6, 5
SETTINGS = LavinSettings(
    dim=4, scale=0.5, temperature=2.0, projection_width=4, cls_blocks=(0, 2), dropout=0.0
)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _filled(module):
    for name, parameter in module.named_parameters():
        parameter.data.copy_(0.5 * _random(*parameter.shape, seed=crc32(name.encode())))
    return module


def _build(
    *, width: int = WIDTH, tower_width: int = TOWER_WIDTH, trains_tower: bool = True, **changes
) -> LavinMethod:
    return make_method(
        LavinMethod,
        replace(SETTINGS, **changes),
        width=width,
        tower_width=tower_width,
        blocks=BLOCKS,
        trains_tower=trains_tower,
    )


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    return make_backbones(tmp_path_factory.mktemp("tower"))


def _grouped(layer, hidden):
    """Return what a convolution over one place in two groups makes, as the released code does."""
    convolved = F.conv1d(hidden.transpose(1, 2), layer.weight[..., None], layer.bias, groups=2)
    return convolved.transpose(1, 2)


def test_experts_are_mixed_upon_the_identity_without_a_non_linearity():
    adapter = _filled(RoutedAdapter(SETTINGS, width=WIDTH))
    states, deciding = _random(2, 3, WIDTH), _random(2, 1, WIDTH, seed=1)
    mixture = adapter.mixture(deciding)
    torch.testing.assert_close(mixture, (adapter.router(deciding) / 2.0).softmax(dim=-1))
    stacked = adapter.stacked(torch.float32)
    found = adapter(states, mixture, stacked, seeds=None, purpose="here")
    hidden = adapter.down(states)
    first, second = (_grouped(expert, hidden) for expert in adapter.experts)
    expected = states + 0.5 * (mixture[..., :1] * first + mixture[..., 1:] * second)
    torch.testing.assert_close(found, expected, atol=FP32_TOLERANCE, rtol=0)


def test_plain_adapters_have_no_identity():
    adapter = _filled(PlainAdapter(SETTINGS, width=WIDTH))
    states = _random(2, 3, WIDTH)
    expected = _grouped(adapter.up, adapter.down(states))
    found = adapter(states, seeds=None, purpose="here")
    torch.testing.assert_close(found, expected, atol=FP32_TOLERANCE, rtol=0)
    adapter.up.weight.data.zero_()
    adapter.up.bias.data.zero_()
    assert not adapter(states, seeds=None, purpose="here").any()


@pytest.mark.parametrize("kind", [RoutedAdapter, PlainAdapter])
def test_dropout_of_a_row_depends_on_its_seed_only(kind):
    adapter = _filled(kind(replace(SETTINGS, dropout=0.5), width=WIDTH))
    states = _random(2, 3, WIDTH)

    def run(seeds):
        if kind is PlainAdapter:
            return adapter(states, seeds=seeds, purpose="here")
        mixture, stacked = adapter.mixture(states), adapter.stacked(torch.float32)
        return adapter(states, mixture, stacked, seeds=seeds, purpose="here")

    one, again, other, none = run([1, 2]), run([1, 2]), run([1, 3]), run(None)
    assert torch.equal(one, again)
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])
    assert not torch.equal(one[0], none[0])


@pytest.mark.parametrize("is_autocast", [False, True])
def test_states_keep_their_format_whatever_products_are_computed_in(is_autocast):
    adapter = _filled(RoutedAdapter(SETTINGS, width=WIDTH))
    states = _random(2, 3, WIDTH)
    exact = adapter(
        states, adapter.mixture(states), adapter.stacked(torch.float32), seeds=None, purpose=""
    )
    given = states if is_autocast else states.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_autocast):
        mixture = adapter.mixture(given)
        stacked = adapter.stacked(torch.bfloat16)
        found = adapter(given, mixture, stacked, seeds=None, purpose="")
    assert found.dtype == given.dtype
    assert mixture.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=0.1, rtol=0)


@torch.no_grad()
def test_modality_token_of_each_row_routes_all_its_places(backbones):
    model = make_model(SETTINGS, backbones)
    batch, pixels = make_batch(SETTINGS), make_pixels()
    with model.opened(pixels, batch.has_image) as opened:
        assert opened.before_begin.shape[1] == 1
        model.decode(model.embed(batch.input_ids, batch.slot_start, opened.with_image))
        mixtures = [opened.mixture(layer) for layer in range(2)]
    for mixture in mixtures:
        for modality in (True, False):
            alike = mixture[batch.has_image == modality]
            torch.testing.assert_close(alike, alike[:1].expand_as(alike))
        assert not torch.allclose(mixture[0], mixture[1], atol=1e-3)  # with an image and without


@torch.no_grad()
def test_text_sees_the_modality_token_through_the_routing_alone(backbones):
    model = make_model(SETTINGS, backbones)
    batch, pixels = make_batch(SETTINGS), make_pixels()
    before = model.hidden_states(batch, pixels)
    for layer in model.method.layers:
        layer.router.weight.zero_()
    routed_alike = model.hidden_states(batch, pixels)
    assert not torch.allclose(routed_alike, before, atol=1e-3)
    model.method.modality_table.add_(1)
    changed = model.hidden_states(batch, pixels)
    torch.testing.assert_close(changed, routed_alike, atol=FP32_TOLERANCE, rtol=0)


@torch.no_grad()
def test_cls_states_of_the_chosen_blocks_are_put_into_the_text(backbones):
    model = make_model(SETTINGS, backbones)
    batch, pixels = make_batch(SETTINGS), make_pixels()
    features = model.method.encode(model.tower, pixels, dropout_seeds=None)
    outputs = []
    for block in (0, 2):
        model.tower.visual.transformer.resblocks[block].register_forward_hook(
            lambda module, args, output: outputs.append(output[:, 0])
        )
    model.method.encode(model.tower, pixels, dropout_seeds=None)
    assert torch.equal(features, torch.stack(outputs, dim=1))
    with model.opened(pixels, batch.has_image) as opened:
        assert torch.equal(opened.with_image, model.method.cls_projection(features))


@torch.no_grad()
def test_an_image_routes_itself_or_by_the_first_row_of_its_batch(backbones):
    own = make_model(SETTINGS, backbones)
    by_first = make_model(replace(SETTINGS, tower_routing="first_of_batch"), backbones)
    pixels = make_pixels()
    zero = torch.zeros_like(pixels[:1])

    def features(model, pixels, has_image=None):
        return model.method.encode(model.tower, pixels, dropout_seeds=None, has_image=has_image)

    alone = torch.cat([features(own, each[None]) for each in pixels])
    torch.testing.assert_close(features(own, pixels), alone, atol=FP32_TOLERANCE, rtol=0)
    found = features(by_first, pixels)
    torch.testing.assert_close(found[0], alone[0], atol=FP32_TOLERANCE, rtol=0)
    assert not torch.allclose(found[1], alone[1], atol=1e-4)
    led_by_text = torch.tensor([False, *[True] * len(pixels)])
    torch.testing.assert_close(
        features(by_first, pixels, led_by_text),
        features(by_first, torch.cat((zero, pixels)))[1:],
        atol=FP32_TOLERANCE,
        rtol=0,
    )
    assert torch.equal(features(own, pixels, led_by_text), features(own, pixels))


def test_a_batch_led_by_text_trains_by_its_zero_picture(backbones):
    settings = replace(SETTINGS, tower_routing="first_of_batch", dropout=0.1)
    model = make_model(settings, backbones).train()
    batch, pixels = make_batch(settings, (1, 0)), make_pixels((1, 0))
    model.labelled_logits(batch, pixels).logits.sum().backward()
    router = model.method.clip_adapters["0"].router
    assert router.weight.grad.abs().max() > 0


@torch.no_grad()
def test_first_generated_token_repeats_a_position_by_setting_only(backbones):
    batch, pixels = make_batch(SETTINGS, (0,)), make_pixels((0,))
    logits = {}
    for kind in ("continued", "one_repeated"):
        model = make_model(replace(SETTINGS, generated_positions=kind), backbones)
        steps = decoding_steps(model, batch, pixels)
        logits[kind] = [next(steps)[0] for _ in range(2)]
        steps.close()
    assert torch.equal(logits["continued"][0], logits["one_repeated"][0])
    assert not torch.allclose(logits["continued"][1], logits["one_repeated"][1], atol=1e-4)


def test_blocks_behind_the_last_one_read_are_unused():
    method = _build(cls_blocks=(1, 3))
    named = dict(method.named_parameters())
    assert method.unused() == {name for name in named if name.startswith("clip_adapters.4.")}
    assert method.unused()
    assert not _build(trains_tower=False).unused()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cls_blocks": (3, 5)}, r"reads blocks 5 of"),
        ({"cls_blocks": (3, 1)}, "ascending order"),
        ({"cls_blocks": ()}, "one or more blocks"),
        ({"dim": 3}, "even number"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        _build(**changes)


def test_wrong_number_of_images_is_refused():
    has_image = torch.tensor([True, False])
    with pytest.raises(ValueError, match="features of 2 images for 1 rows"):
        _build().open(
            _random(2, 2, TOWER_WIDTH), has_image, dtype=torch.float32, dropout_seeds=None
        )


@pytest.mark.parametrize("kind", ["routed", "plain"])
def test_initial_values_are_those_of_the_released_code(kind):
    method = _build(width=64, tower_width=48, tower_adapters=kind)
    method.initialize(3)
    state = {name: parameter.detach() for name, parameter in method.named_parameters()}
    zero = {name for name, tensor in state.items() if not tensor.any()}
    assert zero == {
        name
        for name in state
        if ".experts." in name or ".up." in name.removeprefix("cls_projection")
        if "cls_projection.up.weight" not in name
    } | {name for name in state if name.endswith(("down.bias", "cls_projection.up.bias"))}
    assert abs(float(state["modality_table"].std()) - 1) < 0.3  # 128 values
    for name, tensor in state.items():
        largest = float(tensor.abs().max())
        if ".router." in name:  # torch's linear layer
            bound = (48 if name.startswith("clip_adapters.") else 64) ** -0.5
            assert largest <= bound
        elif name.endswith(("down.weight", "cls_projection.up.weight")):
            bound = (6 / sum(tensor.shape)) ** 0.5  # Xavier
            assert 0.9 * bound < largest <= bound


def test_all_but_biases_decay():
    method = _build()
    spared = {name for name, p in method.named_parameters() if not method.decays(name, p)}
    assert spared == {name for name, _ in method.named_parameters() if name.endswith(".bias")}


def test_rows_do_not_see_each_others_dropout(backbones):
    settings = replace(SETTINGS, dropout=0.1)
    model = make_model(settings, backbones).train()
    together = model.next_token_logits(make_batch(settings), make_pixels())
    for number in (0, 1):
        alone = model.next_token_logits(make_batch(settings, [number]), make_pixels([number]))
        torch.testing.assert_close(together[number], alone[0], atol=2e-5, rtol=0)
