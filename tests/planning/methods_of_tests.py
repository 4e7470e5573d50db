"""Two made-up methods, each in one file as a user's would be, that touch some layers only."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.config.method import MethodSettings, TextPlaces, TowerStates
from ademvl.config.setting import setting, settings_class
from ademvl.methods.base import DecoderShape, Method, rows_with_image
from ademvl.methods.dropout import drop_rows
from ademvl.methods.registry import implements
from ademvl.methods.sites import Pass, Position
from ademvl.vision.tower import TowerShape


@settings_class
class Fourth(MethodSettings):
    """Adds a bottleneck of the text and of the image behind the MLP of every fourth layer."""

    name: Literal["fourth"] = setting(changes="results", default="fourth")
    width: int = setting(changes="results", default=8)


class _Trained(Method):
    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.normal_(0.0, 0.02, generator=generator)


@implements(Fourth)
class FourthMethod(_Trained):
    settings: Fourth

    def __init__(
        self, settings: Fourth, *, llm: DecoderShape, tower: TowerShape, trains_tower: bool
    ) -> None:
        super().__init__(settings, llm=llm, tower=tower, trains_tower=trains_tower)
        self.image = nn.Linear(tower.width, settings.width)
        self.down = nn.ModuleDict({str(n): nn.Linear(llm.width, settings.width) for n in self._at})
        self.up = nn.ModuleDict({str(n): nn.Linear(settings.width, llm.width) for n in self._at})

    @property
    def _at(self) -> range:
        return range(1, self.llm_shape.layers, 4)

    def places(self) -> Mapping[Position, range]:
        return {"mlp_out": self._at}

    def open(
        self,
        features: Tensor | None,
        has_image: Tensor,
        *,
        dtype: torch.dtype,
        dropout_seeds: Sequence[int] | None,
    ) -> Pass:
        rows = rows_with_image(features, has_image)
        visual = self.image.bias.expand(len(has_image), -1)  # (B, r)
        if features is not None:
            shown = self.image(features.float().mean(dim=1))
            visual = visual.index_add(0, rows.to(visual.device), shown.to(visual.dtype))
        return _FourthPass(self, visual[:, None], dropout_seeds)


class _FourthPass(Pass):
    def __init__(
        self, method: FourthMethod, visual: Tensor, dropout_seeds: Sequence[int] | None
    ) -> None:
        self.method, self.visual, self.dropout_seeds = method, visual, dropout_seeds

    def visit(self, position: Position, layer: int, states: Tensor) -> Tensor:
        hidden = F.gelu(self.method.down[str(layer)](states) + self.visual)
        hidden = drop_rows(hidden, self.dropout_seeds, p=0.1, purpose=f"fourth.{layer}")
        return states + self.method.up[str(layer)](hidden).to(states.dtype)


@settings_class
class Attending(MethodSettings):
    """Lets all layers but the first attend to the image; two trained vectors before the text."""

    name: Literal["attending"] = setting(changes="results", default="attending")
    num_before: int = setting(changes="results", default=2)

    @property
    def tower_states(self) -> TowerStates:
        return TowerStates(blocks=(-3, -2), tokens="cls")

    @property
    def text_places(self) -> TextPlaces:
        return TextPlaces(before_begin=self.num_before)


@implements(Attending)
class AttendingMethod(_Trained):
    settings: Attending

    def __init__(
        self, settings: Attending, *, llm: DecoderShape, tower: TowerShape, trains_tower: bool
    ) -> None:
        super().__init__(settings, llm=llm, tower=tower, trains_tower=trains_tower)
        self.before = nn.Parameter(torch.empty(settings.num_before, llm.width))
        self.image = nn.Linear(tower.width, llm.width)
        self.gates = nn.Parameter(torch.empty(llm.layers, 1, 1, llm.heads, 1))

    def attending_layers(self) -> range:
        return range(1, self.llm_shape.layers)

    def open(
        self,
        features: Tensor | None,
        has_image: Tensor,
        *,
        dtype: torch.dtype,
        dropout_seeds: Sequence[int] | None,
    ) -> Pass:
        rows_with_image(features, has_image)
        visual = None if features is None else self.image(features.float()).to(dtype)
        opened = _AttendingPass(self, visual, has_image)
        opened.before_begin = self.before.to(dtype).expand(len(has_image), -1, -1)
        return opened


class _AttendingPass(Pass):
    def __init__(self, method: AttendingMethod, visual: Tensor | None, has_image: Tensor) -> None:
        self.method, self.visual, self.has_image = method, visual, has_image

    def attend(self, layer: int, attention: nn.Module, query: Tensor) -> Tensor | None:
        if self.visual is None:
            return None
        shape = self.method.llm_shape
        rows = self.has_image.nonzero().squeeze(1).to(query.device)
        heads = (-1, shape.kv_heads, shape.head_dim)
        repeats = shape.heads // shape.kv_heads
        keys, values = (
            project(self.visual).unflatten(-1, heads[1:]).transpose(1, 2)
            for project in (attention.k_proj, attention.v_proj)
        )  # (B_img, H_kv, N, h)
        keys, values = (part.repeat_interleave(repeats, dim=1) for part in (keys, values))
        added = F.scaled_dot_product_attention(query[rows], keys, values).transpose(1, 2)
        added = (added * self.method.gates[layer]).to(query.dtype)  # (B_img, T, H, h)
        return query.new_zeros(query.transpose(1, 2).shape).index_add(0, rows, added)
