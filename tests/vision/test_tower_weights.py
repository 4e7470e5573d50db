"""Protects weights in the layout of transformers: the same features as open_clip's own file."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionModel, CLIPVisionModelWithProjection

from ademvl.config.method import TowerStates
from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError, WeightsError
from ademvl.vision.tower import load_tower
from tests import tiny

FP32_TOLERANCE = 2e-6  # order of sums in attention
QUICK = f"{tiny.TOWER}-quickgelu"
VISION = {
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 2,
    "projection_dim": 16,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 16,
    "max_position_embeddings": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A random CLIP of transformers, every parameter random."""
    tiny.make_tower(tmp_path_factory.mktemp("architectures"))
    config = CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def _alone(kind, clip):
    model = kind(clip.config.vision_config)
    state = clip.state_dict()
    own = {name: state.get(name, state.get(f"vision_model.{name}")) for name in model.state_dict()}
    model.load_state_dict(own)
    return model


LAYOUTS = {
    "CLIPModel": lambda clip, folder: clip.save_pretrained(folder),
    "CLIPVisionModelWithProjection": lambda clip, folder: _alone(
        CLIPVisionModelWithProjection, clip
    ).save_pretrained(folder),
    "CLIPVisionModel": lambda clip, folder: _alone(CLIPVisionModel, clip).save_pretrained(folder),
    "CLIPVisionModel of transformers 4": lambda clip, folder: _save_as_version_4(clip, folder),
    "pytorch_model.bin": lambda clip, folder: _save_as_bin(clip, folder),
}


def _save_as_version_4(clip, folder):
    clip.save_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    vision = {name: tensor for name, tensor in state.items() if name.startswith("vision_model.")}
    vision["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(vision, folder / "model.safetensors")


def _save_as_bin(clip, folder):
    clip.save_pretrained(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "model.bin")
    (folder / "model.safetensors").unlink()


def _file_of(layout, clip, folder):
    LAYOUTS[layout](clip, folder)
    return next(folder.glob("model.*"))


def _tower(path, name=QUICK):
    return load_tower(BackboneSettings(tower=name, tower_weights=str(path)))


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_features_are_those_of_transformers(clip, pixels, tmp_path, layout):
    tower = _tower(_file_of(layout, clip, tmp_path))
    states = clip.vision_model(pixels, output_hidden_states=True).hidden_states
    expected = clip.vision_model.post_layernorm(states[-2])
    torch.testing.assert_close(tower.encode(pixels), expected, atol=FP32_TOLERANCE, rtol=1e-5)


@torch.no_grad()
def test_features_are_those_of_open_clips_own_file(clip, pixels, tmp_path):
    theirs = _tower(_file_of("CLIPModel", clip, tmp_path / "theirs"))
    whole = _open_clip_state(theirs)
    torch.save(whole, tmp_path / "own.pt")
    own = _tower(tmp_path / "own.pt")
    for states in (TowerStates(), TowerStates(blocks=(-1,), projected=True)):
        assert torch.equal(own.encode(pixels, states), theirs.encode(pixels, states))
    digests = [tower.fingerprint.partition("sha256:")[2] for tower in (own, theirs)]
    assert digests[0] == digests[1]


def _open_clip_state(tower):
    import open_clip

    state = open_clip.create_model(QUICK).state_dict()
    return state | {f"visual.{name}": w for name, w in tower.visual.state_dict().items()}


@torch.no_grad()
def test_projected_states_are_those_of_transformers(clip, pixels, tmp_path):
    tower = _tower(_file_of("CLIPModel", clip, tmp_path))
    states = TowerStates(blocks=(-1,), tokens="cls", normalized=True, projected=True)
    expected = clip.visual_projection(clip.vision_model(pixels).pooler_output)
    found = tower.encode(pixels, states)[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_weights_without_projection_are_refused_where_it_is_read(clip, pixels, tmp_path):
    tower = _tower(_file_of("CLIPVisionModel", clip, tmp_path))
    with pytest.raises(SettingsError, match="have no output projection"):
        tower.encode(pixels, TowerStates(projected=True))


@pytest.mark.parametrize(
    ("act", "name", "other"), [("quick_gelu", tiny.TOWER, QUICK), ("gelu", QUICK, tiny.TOWER)]
)
def test_weights_of_another_activation_are_refused(clip, tmp_path, act, name, other):
    path = _file_of("CLIPModel", clip, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["hidden_act"] = act
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SettingsError, match=f"use {other}$"):
        _tower(path, name)
    assert _tower(path, other).num_grid_tokens == 16


DAMAGE = {
    "lacks a key": (
        lambda s: s.pop("vision_model.encoder.layers.1.self_attn.k_proj.bias"),
        "k_proj",
    ),
    "lacks a block": (
        lambda s: [s.pop(name) for name in list(s) if "vision_model.encoder.layers.2." in name],
        "cannot be loaded",
    ),
    "has another part": (
        lambda s: s.update({"vision_model.head.probe": torch.ones(1)}),
        r"head\.probe: not known",
    ),
    "is of another size": (
        lambda s: s.update({"vision_model.post_layernorm.bias": torch.ones(3)}),
        "cannot be loaded",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_weights_that_do_not_fit_are_named(clip, tmp_path, name):
    damage, message = DAMAGE[name]
    path = _file_of("CLIPModel", clip, tmp_path)
    state = load_file(path)
    damage(state)
    save_file(state, path)
    with pytest.raises(WeightsError, match=message) as error:
        _tower(path)
    assert "model.safetensors" in str(error.value)


def test_a_folder_of_weights_is_told_to_name_its_file(clip, tmp_path):
    LAYOUTS["CLIPModel"](clip, tmp_path)
    with pytest.raises(WeightsError, match=r"is a folder; name the file .*model\.safetensors"):
        _tower(tmp_path)


@pytest.mark.parametrize("num_bytes", [9, 100, 5000])
def test_truncated_weights_are_named(clip, tmp_path, num_bytes):
    path = _file_of("CLIPModel", clip, tmp_path)
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(WeightsError, match=r"model\.safetensors: damaged, get it again"):
        _tower(path)
