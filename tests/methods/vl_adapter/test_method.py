"""Protects VL-Adapter: its bottleneck, visual tokens, trained norms, initial values, decay."""

import pytest
import torch
import torch.nn.functional as F

from ademvl.config.method import TextPlaces, TowerStates
from ademvl.errors import SettingsError
from ademvl.methods.vl_adapter.method import Adapter, VlAdapterMethod
from ademvl.methods.vl_adapter.settings import VlAdapterSettings
from tests.methods.tiny_models import (
    make_backbones,
    make_batch,
    make_llm,
    make_method,
    make_model,
    make_pixels,
)

FP32_TOLERANCE = 2e-5  # other order of sums, after two layers
WIDTH, TOWER_WIDTH, GRID = 12, 10, 16


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _build(*, width: int = WIDTH, tower_width: int = TOWER_WIDTH, **changes) -> VlAdapterMethod:
    options = {"visual_tokens": 4, "reduction_factor": 5, **changes}
    return make_method(
        VlAdapterMethod,
        VlAdapterSettings(**options),
        width=width,
        tower_width=tower_width,
        grid=GRID,
    )


def _fill(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(0.5 * _random(*parameter.shape, seed=len(name)))


@pytest.mark.parametrize("norm_before", [False, True])
@pytest.mark.parametrize("norm_after", [False, True])
def test_a_bottleneck_is_added_to_what_comes_in(norm_before, norm_after):
    adapter = Adapter(width=6, bottleneck=2, norm_before=norm_before, norm_after=norm_after)
    _fill(adapter)
    states = _random(2, 3, 6, seed=1)
    inner = states
    if norm_before:
        inner = F.layer_norm(inner, (6,), adapter.norm_before.weight, adapter.norm_before.bias)
    inner = inner @ adapter.down.weight.T + adapter.down.bias
    inner = 0.5 * inner * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (inner + 0.044715 * inner**3)))
    inner = inner @ adapter.up.weight.T + adapter.up.bias
    if norm_after:
        inner = F.layer_norm(inner, (6,), adapter.norm_after.weight, adapter.norm_after.bias)
    torch.testing.assert_close(adapter(states), states + inner)
    assert adapter(states.half()).dtype == torch.float16


@torch.no_grad()
def test_adapters_act_before_the_residual_sum(tmp_path):
    settings = VlAdapterSettings(visual_tokens=4, reduction_factor=4, train_norms=False)
    model = make_model(settings, make_backbones(tmp_path))
    embeddings = _random(1, 5, 16)
    with model.opened(None, torch.tensor([False])):
        adapted = model.decode(embeddings)[0]
    bare, method = make_llm(), model.method
    for layer, attention, mlp in zip(
        bare.model.layers, method.attention_adapters, method.mlp_adapters, strict=True
    ):
        _insert_before_sum(layer, attention, mlp)
    expected = bare.model(inputs_embeds=embeddings).last_hidden_state
    torch.testing.assert_close(adapted, expected, atol=FP32_TOLERANCE, rtol=0)


def _insert_before_sum(layer, attention_adapter, mlp_adapter) -> None:
    """Let a layer compute h = x + A(attn(norm(x))), h + A'(mlp(norm(h)))."""

    def forward(hidden_states, **options):
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **options)
        between = hidden_states + attention_adapter(attended)
        fed = layer.mlp(layer.post_attention_layernorm(between))
        return between + mlp_adapter(fed)

    layer.forward = forward


@torch.no_grad()
def test_trained_norms_are_the_decoders_with_other_weights(tmp_path):
    settings = VlAdapterSettings(visual_tokens=4, reduction_factor=4)
    model = make_model(settings, make_backbones(tmp_path))
    norms, bare = model.method.norms, make_llm()
    for adapters in (model.method.attention_adapters, model.method.mlp_adapters):
        for parameter in adapters.parameters():
            parameter.zero_()
    for number, layer in enumerate(bare.model.layers):
        layer.input_layernorm.weight.mul_(1 + norms.attention[number])
        layer.post_attention_layernorm.weight.mul_(1 + norms.mlp[number])
    bare.model.norm.weight.mul_(1 + norms.last)
    batch, pixels = make_batch(settings), make_pixels()
    with model.opened(pixels, batch.has_image) as opened:
        embeddings = model.embed(batch.input_ids, batch.slot_start, opened.with_image)
        states = model.decode(embeddings)[0]
    expected = bare.model(inputs_embeds=embeddings).last_hidden_state
    torch.testing.assert_close(states, expected, atol=FP32_TOLERANCE, rtol=0)


def test_a_decoder_without_a_last_norm_is_refused(tmp_path):
    method, llm = _build(width=16), make_llm()
    norm = llm.model.norm
    llm.model.norm = None
    with pytest.raises(SettingsError, match=r"train_norms: LlamaForCausalLM has no model\.norm"):
        method.attach(llm, None)
    llm.model.norm = norm
    method.attach(llm, None).detach()
    _build(width=16, train_norms=False).attach(llm, None).detach()


def test_visual_tokens_are_the_largest_of_each_cell_mapped_and_normalised():
    method, features = _build(), _random(2, 1 + GRID, TOWER_WIDTH)
    _fill(method)
    opened = method.open(
        features, torch.tensor([True, False, True]), dtype=torch.float32, dropout_seeds=None
    )
    grid = features[:, 1:].unflatten(1, (4, 4))
    cells = [grid[:, r : r + 2, c : c + 2].amax(dim=(1, 2)) for r in (0, 2) for c in (0, 2)]
    embedding = method.visual_embedding
    mapped = torch.stack(cells, dim=1) @ embedding.projection.weight.T + embedding.projection.bias
    expected = F.layer_norm(mapped, (WIDTH,), embedding.norm.weight, embedding.norm.bias)
    torch.testing.assert_close(opened.with_image, expected)


def test_rows_without_an_image_bring_none():
    opened = _build().open(
        None, torch.tensor([False, False]), dtype=torch.float32, dropout_seeds=None
    )
    assert opened.with_image is None
    with pytest.raises(ValueError, match="features of 2 images for 1 rows"):
        _build().open(
            _random(2, 17, TOWER_WIDTH),
            torch.tensor([True]),
            dtype=torch.float32,
            dropout_seeds=None,
        )


def test_the_usual_features_are_read_and_visual_tokens_stand_in_the_text():
    settings = VlAdapterSettings()
    assert settings.tower_states == TowerStates()
    assert settings.text_places == TextPlaces(with_image=36)


def test_settings_that_do_not_fit_the_models_are_refused():
    with pytest.raises(SettingsError, match=r"method\.visual_tokens: 25 is not possible"):
        _build(visual_tokens=25)
    with pytest.raises(SettingsError, match="visual_tokens: 5 is no square number"):
        _build(visual_tokens=5)
    with pytest.raises(SettingsError, match=r"reduction_factor: 13.*width is 12; choose 1 to 12"):
        _build(reduction_factor=13)
    assert _build(reduction_factor=12).attention_adapters[0].down.weight.shape == (1, 12)


def test_initial_values_are_those_of_the_released_code():
    method = _build(width=256, tower_width=48, norm_after=True)
    method.initialize(3)
    state = {name: parameter.detach() for name, parameter in method.named_parameters()}
    zero = {name for name, tensor in state.items() if not tensor.any()}
    biases = {name for name in state if name.endswith("bias")}
    assert zero == {*biases, "norms.attention", "norms.mlp", "norms.last"}
    for name, tensor in state.items():
        if name.endswith("weight") and tensor.ndim == 2:
            # 12,000 values and more: their deviation scatters by less than 1 %.
            assert abs(float(tensor.std()) / 0.02 - 1) < 0.05, name
        elif name.endswith("weight"):
            assert torch.equal(tensor, torch.ones_like(tensor))


def test_all_but_biases_decay():
    method = _build(norm_before=True)
    for name, parameter in method.named_parameters():
        assert method.decays(name, parameter) == (not name.endswith("bias"))
