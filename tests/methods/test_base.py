"""Protects what all methods share: how they are attached, and what is refused."""

import pytest
import torch
from torch import nn

from ademvl.config.method import MethodSettings, TextPlaces, TowerStates
from ademvl.config.setting import setting, settings_class
from ademvl.errors import SettingsError
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.base import DecoderShape, Method, rows_with_image, spread_rows
from ademvl.methods.registry import build_method, implements
from ademvl.methods.sites import Pass
from ademvl.methods.tower_adapters import TowerAdapters
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.vision.tower import load_tower
from tests.methods.tiny_models import WIDTH, make_backbones, make_batch, make_llm, make_pixels

ADEM = AdemSettings(scales=(16, 4), projection_width=4)


@settings_class
class PlacesSettings(MethodSettings):
    """A method that gives other vectors than its settings tell.

    Attributes:
        name: of the method.
        told: vectors that rows have places for.
        given: vectors that the pass holds.
        where: attribute of the pass.
    """

    name: str = setting(default="places", changes="results")
    told: int = setting(default=1, ge=0, changes="results")
    given: int = setting(default=1, ge=0, changes="results")
    where: str = setting(default="with_image", changes="results")

    @property
    def text_places(self):
        return TextPlaces(**{self.where: self.told})


@implements(PlacesSettings)
class PlacesMethod(Method):
    """Gives vectors of ones."""

    settings: PlacesSettings

    def open(self, features, has_image, *, dtype, dropout_seeds):
        rows = rows_with_image(features, has_image)
        num_rows = len(rows) if self.settings.where == "with_image" else len(has_image)
        opened = Pass()
        if self.settings.given:
            setattr(opened, self.settings.where, torch.ones(num_rows, self.settings.given, WIDTH))
        return opened


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    return make_backbones(tmp_path_factory.mktemp("tower"))


def test_a_second_method_on_a_language_model_or_a_tower_is_refused(backbones):
    llm, tower = make_llm(), load_tower(backbones)
    model = VisionLanguageModel(llm, ADEM, tower)
    with pytest.raises(SettingsError, match="LlamaForCausalLM: a method is attached already"):
        VisionLanguageModel(llm, ADEM, load_tower(backbones))
    with pytest.raises(SettingsError, match=r"backbones\.tower: .* attached already"):
        VisionLanguageModel(make_llm(), ADEM, tower)
    model.detach()
    VisionLanguageModel(llm, ADEM, tower)


def test_what_fails_half_way_leaves_nothing_attached(backbones, monkeypatch):
    llm, tower = make_llm(), load_tower(backbones)

    def fail(self, tower, attachment):
        raise ValueError("no")

    with monkeypatch.context() as patched:
        patched.setattr(TowerAdapters, "attach", fail)
        with pytest.raises(ValueError, match="no"):
            VisionLanguageModel(llm, ADEM, tower)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in llm.modules())
    VisionLanguageModel(llm, ADEM, tower)


@pytest.mark.parametrize("where", ["with_image", "before_begin"])
@pytest.mark.parametrize(("told", "given"), [(1, 3), (2, 0), (0, 2), (1, 1), (0, 0)])
def test_vectors_without_their_places_are_refused(backbones, where, told, given):
    settings = PlacesSettings(told=told, given=given, where=where)
    model = VisionLanguageModel(make_llm(), settings, load_tower(backbones)).eval()
    batch, pixels = make_batch(settings), make_pixels()
    if told == given:
        assert model.next_token_logits(batch, pixels).isfinite().all()
        return
    with pytest.raises(ValueError, match=rf"places: {where} holds {given} .* say {told}"):
        model.next_token_logits(batch, pixels)


def test_buffers_are_refused_as_no_adapter_holds_them(backbones):
    @settings_class
    class Buffered(PlacesSettings):
        """With a buffer."""

    @implements(Buffered)
    class BufferedMethod(PlacesMethod):
        def __init__(self, settings, **sizes):
            super().__init__(settings, **sizes)
            self.norm = nn.BatchNorm1d(2)

    llm = DecoderShape(width=4, layers=1, heads=1, kv_heads=1, head_dim=4, ffn_width=4)
    with pytest.raises(TypeError, match=r"parameters only.* norm\.running_mean"):
        build_method(Buffered(), llm=llm, tower=load_tower(backbones).shape, trains_tower=True)


def test_what_belongs_to_rows_with_an_image_is_spread_over_the_batch():
    has_image = torch.tensor([False, True, True])
    values = torch.tensor([[1.0], [2.0]])
    rows = rows_with_image(values, has_image)
    assert spread_rows(values, rows, batch_size=3).tolist() == [[0.0], [1.0], [2.0]]
    assert spread_rows(values, torch.arange(2), batch_size=2) is values


@pytest.mark.parametrize("blocks", [(), (1, 1)])
def test_states_of_no_block_or_of_one_twice_are_refused(blocks):
    with pytest.raises(ValueError, match="one or more different ones"):
        TowerStates(blocks=blocks)
