"""Protects towers beside CLIP's: their blocks, [cls] or what takes its place, and the grid."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from ademvl.config.method import TowerStates
from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError, WeightsError
from ademvl.methods.adem.settings import AdemSettings
from ademvl.vision.tower import load_tower, tower_shape
from tests.methods.tiny_models import make_batch, make_llm
from tests.tower_kinds import KINDS, SIDE, WITHOUT_CLS, make_tower

FP32_TOLERANCE = 1e-5
REGISTERS = {"registers": 3, "DINOv2 with registers": 3, "DINOv3": 2}
ATTENTION_POOLED = ("SigLIP", "SigLIP of transformers", "SigLIP 2 with its text")
PROJECTED = ("EVA02", "registers", "ConvNeXt")

by_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    return cache(lambda kind: make_tower(kind, tmp_path_factory.mktemp("tower")))


def _pixels(tower, number: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, 3, tower.image_size, tower.image_size, generator=generator)


def _final(tower, pixels) -> tuple[Tensor, Tensor | None]:
    """Return the last states and what the model itself makes of an image, by its own code."""
    visual = tower.visual
    if hasattr(visual, "config"):
        output = visual(pixel_values=pixels)
        return output.last_hidden_state, output.pooler_output
    if hasattr(visual, "trunk"):
        states = visual.trunk.forward_features(pixels)
        return states, visual.trunk.forward_head(states, pre_logits=True)
    states = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(pixels)))))
    return states, None


@by_kind
@torch.no_grad()
def test_the_last_blocks_states_are_what_the_model_itself_gives(named, kind):
    tower = load_tower(named(kind))
    pixels, states = _pixels(tower), TowerStates(blocks=(-1,))
    features = tower.encode(pixels, states)
    final, pooled = _final(tower, pixels)
    if final.ndim == 4:
        normed = tower.visual.trunk.head.norm(final) if kind == "ConvNeXt" else final
        final = normed.flatten(2).transpose(1, 2)  # row by row
    skipped = REGISTERS.get(kind, 0) + (kind not in WITHOUT_CLS)
    torch.testing.assert_close(features[:, 1:], final[:, skipped:], atol=FP32_TOLERANCE, rtol=0)
    first = features[:, 0]
    if kind not in WITHOUT_CLS:
        torch.testing.assert_close(first, final[:, 0], atol=FP32_TOLERANCE, rtol=0)
    elif kind in ATTENTION_POOLED:
        torch.testing.assert_close(first, pooled, atol=FP32_TOLERANCE, rtol=0)
    else:
        torch.testing.assert_close(first, final.mean(dim=1), atol=FP32_TOLERANCE, rtol=0)


@by_kind
@torch.no_grad()
def test_penultimate_states_are_what_the_last_block_is_given(named, kind):
    tower, seen = load_tower(named(kind)), []
    hook = tower.blocks[-1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    raw = tower.encode(_pixels(tower), TowerStates(normalized=False, tokens="grid"))
    hook.remove()
    _final(tower, _pixels(tower))
    seen or pytest.fail("the last block did not run")
    given = seen[0].flatten(2).transpose(1, 2) if seen[0].ndim == 4 else seen[0]
    skipped = REGISTERS.get(kind, 0) + (kind not in WITHOUT_CLS)
    torch.testing.assert_close(raw, given[:, skipped:], atol=0, rtol=0)


@by_kind
@torch.no_grad()
def test_states_are_those_that_are_asked_for(named, kind):
    tower = load_tower(named(kind))
    pixels, two = _pixels(tower), TowerStates(blocks=(0, -2))
    every = tower.encode(pixels, two)
    assert every.shape == (2, *tower.features_shape(two))
    cls, grid = (tower.encode(pixels, replace(two, tokens=each)) for each in ("cls", "grid"))
    half = every.shape[1] // 2
    torch.testing.assert_close(cls, every[:, [0, half]], atol=0, rtol=0)
    kept = [place for place in range(2 * half) if place not in (0, half)]
    torch.testing.assert_close(grid, every[:, kept], atol=0, rtol=0)
    torch.testing.assert_close(
        tower.encode(pixels)[:1], tower.encode(pixels[:1]), atol=1e-5, rtol=0
    )
    if kind in PROJECTED:
        projected = tower.encode(pixels, TowerStates(tokens="cls", projected=True))
        assert projected.shape == (2, 1, tower.shape.output_width) == (2, 1, 8)
    else:
        with pytest.raises(SettingsError, match="have no output projection"):
            tower.encode(pixels, TowerStates(projected=True))


@by_kind
def test_sizes_are_known_without_weights(named, kind):
    tower = load_tower(named(kind))
    assert tower_shape(named(kind)) == tower.shape
    grid = 4 if tower.image_size > SIDE else 16
    assert (tower.shape.num_blocks, tower.num_grid_tokens) == (3, grid)


@by_kind
def test_keys_of_features_tell_pooled_from_token(named, kind):
    words = load_tower(named(kind)).describe(TowerStates())
    first = "pooled token" if kind in WITHOUT_CLS else "class token"
    assert words == f"all blocks but the last, then ln_post; {first} first"


@pytest.mark.parametrize("kind", WITHOUT_CLS)
def test_a_tower_without_cls_says_so(named, kind):
    asked = replace(named(kind), tower_cls="token")
    for find in (tower_shape, load_tower):
        with pytest.raises(
            SettingsError, match=r"tower_cls: .* no \[cls\] token; set it to pooled"
        ):
            find(asked)


@torch.no_grad()
def test_a_tower_with_cls_may_be_pooled(named):
    tower = load_tower(replace(named("DINOv2"), tower_cls="pooled"))
    features = tower.encode(_pixels(tower))
    torch.testing.assert_close(features[:, 0], features[:, 1:].mean(dim=1))


def test_towers_of_no_known_layout_are_refused(tmp_path):
    for name in ("swin_base_patch4_window7_224", "coca_ViT-B-32"):
        with pytest.raises(SettingsError, match="no layout that is known here"):
            tower_shape(BackboneSettings(tower=name))
    with pytest.raises(WeightsError, match="nowhere cannot be loaded"):
        tower_shape(BackboneSettings(tower="transformers", tower_weights=str(tmp_path / "nowhere")))
    with pytest.raises(SettingsError, match="needs a folder or a repository"):
        tower_shape(BackboneSettings(tower="transformers"))
    make_llm().save_pretrained(tmp_path)
    with pytest.raises(SettingsError, match="is a llama; towers of transformers are dinov2, "):
        tower_shape(BackboneSettings(tower="transformers", tower_weights=str(tmp_path)))


def test_a_tower_that_lacks_weights_is_refused(named, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_tower("DINOv3", tmp_path).tower_weights
    state = load_file(f"{folder}/model.safetensors")
    state.pop("norm.weight")
    save_file(state, f"{folder}/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks 1 weights, first norm\.weight"):
        load_tower(BackboneSettings(tower="transformers", tower_weights=folder))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "RN50"])
def test_adapters_inside_of_it_train(named, kind):
    from tests.methods.tiny_models import make_model

    settings = AdemSettings(scales=(4, 1), projection_width=4, gamma=0.3, alpha=1.0, beta=1.0)
    model = make_model(settings, named(kind)).train()
    batch = make_batch(settings, (0, 1))
    logits, targets, _ = model(batch, _pixels(model.tower, 1))
    torch.nn.functional.cross_entropy(logits, targets).backward()
    gradients = {name: p.grad for name, p in model.named_trainable_parameters()}
    unused = model.method.unused()
    adapters = {name for name in gradients if name.startswith("clip_adapters.")}
    assert len(adapters) == 6
    without = {name for name in adapters if gradients[name] is None or not gradients[name].any()}
    assert without == unused
    model.detach()


def test_adapters_need_blocks_with_an_mlp(named):
    from tests.methods.tiny_models import make_model

    with pytest.raises(SettingsError, match="have no MLP beside which adapters are trained"):
        make_model(AdemSettings(scales=(4, 1)), named("RN50"))
