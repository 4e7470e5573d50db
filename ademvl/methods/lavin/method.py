"""LaVIN (arXiv 2305.15023): routed adapters before every attention, and [cls] states in the text.

- The sites are inputs of attention: between a layer's norm and its attention stands the adapter,
  with its own identity.
- In the language model one mixture a row and layer is made of the modality token's normalised state
  in the first call, and kept for all that a generation adds.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ademvl.methods.base import DecoderShape, Method, rows_with_image
from ademvl.methods.lavin.adapters import RoutedAdapter, TowerAdapters
from ademvl.methods.lavin.settings import LavinSettings
from ademvl.methods.projection import Projection
from ademvl.methods.registry import implements
from ademvl.methods.sites import Attachment, Pass, Position
from ademvl.randomness import derive_seed
from ademvl.vision.tower import TowerShape, VisionTower

MODALITIES = 2  # rows of the table: text alone, and with an image


@implements(LavinSettings)
class LavinMethod(Method):
    """LaVIN on a frozen decoder (paper: arXiv 2305.15023; sizes of its released code for LLaMA).

    In each layer h = x + attn(R(norm(x); w)), out = h + mlp(norm(h)), see `RoutedAdapter`; w, of
    each row, is routed by the normalised state of the modality token, which stands before the begin
    token and which no other place sees.

    Args:
        settings, llm, tower, trains_tower: see `Method`.

    Raises:
        SettingsError: the tower has fewer blocks than are read.
    """

    settings: LavinSettings

    def __init__(
        self,
        settings: LavinSettings,
        *,
        llm: DecoderShape,
        tower: TowerShape,
        trains_tower: bool,
    ) -> None:
        super().__init__(settings, llm=llm, tower=tower, trains_tower=trains_tower)
        self.modality_table = nn.Parameter(torch.empty(MODALITIES, llm.width))
        self.cls_projection = Projection(
            tower_width=tower.width, hidden_width=settings.projection_width, llm_width=llm.width
        )
        self.layers = nn.ModuleList(
            RoutedAdapter(settings, width=llm.width) for _ in range(llm.layers)
        )
        self.clip_adapters = TowerAdapters(settings, tower) if trains_tower else None

    def places(self) -> Mapping[Position, range]:
        """Return the inputs of all attentions."""
        return {"mhsa_in": range(self.llm_shape.layers)}

    def attach_in_tower(self, tower: VisionTower, attachment: Attachment) -> None:
        """Hook the adapters into the tower's blocks."""
        if self.clip_adapters is not None:
            self.clip_adapters.attach(tower, attachment)

    def encode(
        self,
        tower: VisionTower,
        pixels: Tensor,
        *,
        dropout_seeds: Sequence[int] | None,
        has_image: Tensor | None = None,
    ) -> Tensor:
        """Return the [cls] states of images, (B_img, S, C), see `Method.encode`.

        Where the batch's first row routes, and it has no image, an all-zero picture is encoded too,
        as the released code does.
        """
        states = self.settings.tower_states
        if self.clip_adapters is None:
            return tower.encode(pixels, states)
        is_routed_by_first = self.settings.tower_routing == "first_of_batch"
        is_led_by_text = has_image is not None and not has_image[0]
        num_more = int(is_routed_by_first and is_led_by_text)
        if num_more:
            pixels = torch.cat((torch.zeros_like(pixels[:1]), pixels))
            if dropout_seeds is not None:
                dropout_seeds = [derive_seed(dropout_seeds[0], "no image"), *dropout_seeds]
        with self.clip_adapters.seeded(dropout_seeds):
            return tower.encode(pixels, states)[num_more:]

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Set all tensors as the released code does.

        Downs and projection Xavier-uniform, ups and biases 0, modalities N(0, 1), routers torch's
        default of a linear layer.
        """
        for name, parameter in self.named_parameters():
            generator = torch.Generator().manual_seed(derive_seed(seed, "lavin", name))
            values = torch.zeros(parameter.shape)
            if name == "modality_table":
                values.normal_(generator=generator)
            elif ".router." in name:
                in_tower = name.startswith("clip_adapters.")
                width = self.tower_shape.width if in_tower else self.llm_shape.width
                values.uniform_(-(width**-0.5), width**-0.5, generator=generator)
            elif name.endswith("down.weight") or name == "cls_projection.up.weight":
                nn.init.xavier_uniform_(values, generator=generator)
            parameter.copy_(values)

    def unused(self) -> frozenset[str]:
        """Return the adapters in blocks of the tower behind the last one that is read."""
        adapters = () if self.clip_adapters is None else self.clip_adapters.unused()
        return frozenset(f"clip_adapters.{name}" for name in adapters)

    def open(
        self,
        features: Tensor | None,
        has_image: Tensor,
        *,
        dtype: torch.dtype,
        dropout_seeds: Sequence[int] | None,
    ) -> "LavinPass":
        """Turn the [cls] states of a batch's images into vectors in the text; see `Method.open`.

        Args:
            features: (B_img, S, C), the [cls] of S blocks of the tower.
            has_image: (B,) bool; decides the modality token of each row.
            dtype: of all products in the language model.
            dropout_seeds: one for each row, in training.
        """
        rows_with_image(features, has_image)
        modality = has_image.to(self.modality_table.device).long()
        opened = LavinPass(self, dtype, dropout_seeds)
        opened.before_begin = self.modality_table[modality][:, None].to(dtype)  # (B, 1, d)
        if features is not None and len(features):
            opened.with_image = self.cls_projection(features.float())  # (B_img, S, d)
        return opened


class LavinPass(Pass):
    """Adapts what every attention gets, by mixtures that the modality token decides once.

    Args:
        method: whose adapters are applied.
        dtype: of the adapters' products; states keep their own.
        dropout_seeds: one for each row, in training.
    """

    def __init__(
        self, method: LavinMethod, dtype: torch.dtype, dropout_seeds: Sequence[int] | None
    ) -> None:
        self._method = method
        self._dtype = dtype
        self._dropout_seeds = dropout_seeds
        self._routed: dict[int, tuple[Tensor, Tensor]] = {}
        self.counts_begin_later = method.settings.generated_positions == "continued"

    def visit(self, position: Position, layer: int, states: Tensor) -> Tensor:
        """Route by position 0 where this layer has not been visited yet, and adapt all states."""
        adapter = cast(RoutedAdapter, self._method.layers[layer])
        if layer not in self._routed:
            mixture = adapter.mixture(states[:, :1])  # (B, 1, 2)
            self._routed[layer] = mixture, adapter.stacked(self._dtype)
        mixture, stacked = self._routed[layer]
        adapted: Tensor = adapter(
            states, mixture, stacked, seeds=self._dropout_seeds, purpose=f"lavin.{layer}"
        )
        return adapted

    def mixture(self, layer: int) -> Tensor:
        """Return the weights of both experts in a layer that was visited: (B, 2)."""
        return self._routed[layer][0][:, 0]

    def repeated(self, times: int) -> "LavinPass":
        """Repeat the modality token of each row, and its seed, side by side."""
        if times == 1:
            return self
        seeds = self._dropout_seeds
        if seeds is not None:
            seeds = [seed for seed in seeds for _ in range(times)]
        repeated = LavinPass(self._method, self._dtype, seeds)
        if self.before_begin is not None:
            repeated.before_begin = self.before_begin.repeat_interleave(times, dim=0)
        repeated.with_image = self.with_image
        return repeated

    def restarted(self) -> "LavinPass":
        """Return a pass with the same vectors that has routed nothing yet."""
        restarted = LavinPass(self._method, self._dtype, self._dropout_seeds)
        restarted.before_begin, restarted.with_image = self.before_begin, self.with_image
        return restarted
