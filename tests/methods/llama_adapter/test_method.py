"""Protects LLaMA-Adapter: what an image adds to the prompts, and rows that have none."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ademvl.errors import SettingsError
from ademvl.methods.base import DecoderShape
from ademvl.methods.llama_adapter.method import LlamaAdapterMethod
from ademvl.methods.llama_adapter.settings import LlamaAdapterSettings
from ademvl.vision.tower import TowerShape
from tests.methods.tiny_models import filled, make_backbones, make_batch, make_model, make_pixels

WIDTH, OUTPUT_WIDTH = 12, 5
SETTINGS = LlamaAdapterSettings(
    prompt_length=3, first_layer=1, cls_blocks=(-1, 1), projection_width=4
)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _build(**changes) -> LlamaAdapterMethod:
    """Return a method all of whose tensors matter."""
    method = LlamaAdapterMethod(
        replace(SETTINGS, **changes),
        llm=DecoderShape(width=WIDTH, layers=3, heads=2, kv_heads=2, head_dim=6, ffn_width=7),
        tower=TowerShape(
            width=9, num_blocks=4, image_size=8, num_grid_tokens=16, output_width=OUTPUT_WIDTH
        ),
        trains_tower=False,
    )
    return filled(method)


def _open(method: LlamaAdapterMethod, features, has_image: list[bool]):
    return method.open(features, torch.tensor(has_image), dtype=torch.float32, dropout_seeds=None)


def test_cls_of_several_blocks_side_by_side_become_one_vector_for_all_prompts():
    method, features = _build(), _random(1, 2, OUTPUT_WIDTH)
    opened = _open(method, features, [False, True])
    down, up = method.image_projection.down, method.image_projection.up
    together = torch.cat((features[0, 0], features[0, 1]))
    expected = up.weight @ F.silu(down.weight @ together + down.bias) + up.bias
    assert opened.image.shape == (2, 1, WIDTH)
    torch.testing.assert_close(opened.image[1, 0], expected)
    assert not opened.image[0].any()  # a row without an image
    assert _open(method, None, [False, False]).image is None


def test_features_are_those_of_the_chosen_blocks():
    states = SETTINGS.tower_states
    assert (states.blocks, states.tokens) == ((-1, 1), "cls")
    assert states.normalized
    assert states.projected
    assert not replace(SETTINGS, projected=False).tower_states.projected
    assert _build(projected=False).image_projection.down.in_features == 2 * 9


@pytest.mark.parametrize("blocks", [(0, 4), (-5,), (3, -1)])
def test_blocks_that_the_tower_lacks_or_has_once_are_refused(blocks):
    with pytest.raises(SettingsError, match=r"reads blocks .* has 4|the tower's 4 blocks"):
        _build(cls_blocks=blocks)
    with pytest.raises(SettingsError, match="cls_blocks"):
        LlamaAdapterSettings(cls_blocks=(1, 1))


def test_wrong_number_of_images_is_refused():
    with pytest.raises(ValueError, match="features of 2 images for 1 rows"):
        _open(_build(), _random(2, 2, OUTPUT_WIDTH), [True, False])


def test_text_alone_sees_no_image(tmp_path):
    settings = replace(SETTINGS, image=False)
    model = make_model(settings, make_backbones(tmp_path))
    batch, pixels = make_batch(settings), make_pixels()
    logits = [model.next_token_logits(batch, shown) for shown in (pixels, torch.zeros_like(pixels))]
    assert torch.equal(*logits)
    assert {name.partition(".")[0] for name in model.adapter_state_dict()} == {"prompts", "gates"}


def test_all_but_biases_decay_and_gates_are_there_where_prompts_are():
    method = _build()
    spared = {name for name, p in method.named_parameters() if not method.decays(name, p)}
    assert spared == {"image_projection.down.bias", "image_projection.up.bias"}
    assert set(method.gates) == {"1", "2"}
    assert method.gates["1"].shape == (1, 2, 1, 1)
    assert not method.unused()
