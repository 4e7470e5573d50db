"""VL-Adapter (arXiv 2112.06825): a bottleneck behind each attention and MLP, images in the text."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.errors import SettingsError
from ademvl.methods.base import DecoderShape, Method, rows_with_image
from ademvl.methods.multiscale import pool_grid
from ademvl.methods.projection import uninitialized_linear
from ademvl.methods.registry import implements
from ademvl.methods.sites import Attachment, Pass, Position
from ademvl.methods.vl_adapter.settings import VlAdapterSettings
from ademvl.randomness import derive_seed
from ademvl.vision.tower import TowerShape, VisionTower

INITIAL_STD = 0.02  # of all matrices, as BART's


class Adapter(nn.Module):
    """A(y) = y + up(gelu(down(y))), the GELU by its tanh approximation; nothing starts at zero.

    Computes in fp32, or as autocast says.

    Args:
        width: d.
        bottleneck: inner width.
        norm_before, norm_after: LayerNorms before `down` and behind `up`.
    """

    def __init__(self, *, width: int, bottleneck: int, norm_before: bool, norm_after: bool) -> None:
        super().__init__()
        self.norm_before = nn.LayerNorm(width) if norm_before else None
        self.down = uninitialized_linear(width, bottleneck)
        self.up = uninitialized_linear(bottleneck, width)
        self.norm_after = nn.LayerNorm(width) if norm_after else None

    def forward(self, states: Tensor) -> Tensor:
        """Return (B, T, d) of a sub-layer's output, in its dtype, before the residual sum."""
        hidden = states.float()
        normed = hidden if self.norm_before is None else self.norm_before(hidden)
        branch = self.up(F.gelu(self.down(normed), approximate="tanh"))
        if self.norm_after is not None:
            branch = self.norm_after(branch)
        adapted: Tensor = (hidden + branch).to(states.dtype)
        return adapted


class VisualEmbedding(nn.Module):
    """LN(W f + b): pooled grid tokens as places in the text.

    Args:
        tower_width: C.
        llm_width: d.
    """

    def __init__(self, *, tower_width: int, llm_width: int) -> None:
        super().__init__()
        self.projection = uninitialized_linear(tower_width, llm_width)
        self.norm = nn.LayerNorm(llm_width)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B_img, S, d) of (B_img, S, C)."""
        embedded: Tensor = self.norm(self.projection(features))
        return embedded


class NormScales(nn.Module):
    """What is added to 1 in factors of the outputs of a decoder's norms; 0 leaves them as they are.

    Args:
        layers: L.
        width: d.

    Attributes:
        attention, mlp: of the norms in front of them, (L, d).
        last: of the one behind all layers, (d,).
    """

    def __init__(self, *, layers: int, width: int) -> None:
        super().__init__()
        self.attention = nn.Parameter(torch.empty(layers, width))
        self.mlp = nn.Parameter(torch.empty(layers, width))
        self.last = nn.Parameter(torch.empty(width))


@implements(VlAdapterSettings)
class VlAdapterMethod(Method):
    """VL-Adapter on a frozen pre-norm decoder (paper: arXiv 2112.06825, which has BART and T5).

    h = x + A(attn(norm(x))), out = h + A'(mlp(norm(h))), each adapter of its own. The grid is
    pooled by its maximum, mapped and normalised, and stands behind "Image: ".

    Deviations, all because the released code is for encoders with a decoder:

    - The visual tokens stand before the question in place of behind it, which a causal decoder
      would not see.
    - They get no embeddings of box, of the image's number or of their own number. The first two
      are the same vector for every token here, as there are no boxes and one image, which the
      LayerNorm's bias can hold; the third tells tokens apart that have no position otherwise, and
      here they have.
    - The decoder's norms are trained by what is added to 1, in a factor of their outputs, which
      starts at 0. So weight decay draws them to what was pre-trained in place of 0.

    Args:
        settings, llm, tower, trains_tower: see `Method`.

    Raises:
        SettingsError: the settings do not fit the tower's grid or the decoder's width.
    """

    settings: VlAdapterSettings

    def __init__(
        self,
        settings: VlAdapterSettings,
        *,
        llm: DecoderShape,
        tower: TowerShape,
        trains_tower: bool,
    ) -> None:
        super().__init__(settings, llm=llm, tower=tower, trains_tower=trains_tower)
        bottleneck = llm.width // settings.reduction_factor
        if not bottleneck:
            raise SettingsError(
                f"method.reduction_factor: {settings.reduction_factor}, but the language model's "
                f"width is {llm.width}; choose 1 to {llm.width}"
            )
        self.visual_embedding = VisualEmbedding(tower_width=tower.width, llm_width=llm.width)
        self.attention_adapters, self.mlp_adapters = (
            nn.ModuleList(
                Adapter(
                    width=llm.width,
                    bottleneck=bottleneck,
                    norm_before=settings.norm_before,
                    norm_after=settings.norm_after,
                )
                for _ in range(llm.layers)
            )
            for _ in range(2)
        )
        self.norms = (
            NormScales(layers=llm.layers, width=llm.width) if settings.train_norms else None
        )

    def places(self) -> Mapping[Position, range]:
        """Return the outputs of all attentions and MLPs, and their inputs where norms train."""
        layers = range(self.llm_shape.layers)
        positions: tuple[Position, ...] = ("mhsa_out", "mlp_out")
        if self.settings.train_norms:
            positions = ("mhsa_in", "mlp_in", *positions)
        return dict.fromkeys(positions, layers)

    def attach(self, llm: nn.Module, tower: VisionTower | None) -> Attachment:
        """Hook the method in, behind the decoder's last norm too where norms are trained."""
        attachment = super().attach(llm, tower)
        scales = self.norms
        if scales is None:
            return attachment
        norm = getattr(llm.model, "norm", None)
        if not isinstance(norm, nn.Module):
            attachment.detach()
            raise SettingsError(
                f"method.train_norms: {type(llm).__name__} has no model.norm, the last norm of a "
                "decoder laid out as Llama's; set it to false"
            )

        def scale_output(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            return scaled(output, scales.last)

        attachment.on_detach(norm.register_forward_hook(scale_output).remove)
        return attachment

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Set matrices to N(0, 0.02^2), biases to 0, LayerNorms to 1 and 0, as the released code.

        The decoder's own norms stay what they are: 0 is added to their factor of 1.
        """
        for name, parameter in self.named_parameters():
            generator = torch.Generator().manual_seed(derive_seed(seed, "vl_adapter", name))
            values = torch.zeros(parameter.shape)
            if name.endswith("weight"):
                if parameter.ndim == 2:
                    values.normal_(0.0, INITIAL_STD, generator=generator)
                else:
                    values.fill_(1.0)  # of a LayerNorm
            parameter.copy_(values)

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Say yes for all but biases.

        The released code means to spare norms too, by names that they do not have.
        """
        return not name.endswith("bias")

    def open(
        self,
        features: Tensor | None,
        has_image: Tensor,
        *,
        dtype: torch.dtype,
        dropout_seeds: Sequence[int] | None,
    ) -> Pass:
        """Turn the grids of a batch's images into places of the text; see `Method.open`.

        Args:
            features: (B_img, 1 + G, C); [cls] is not used.
            has_image: (B,) bool.
            dtype: not used; adapters compute in fp32, or as autocast says.
        """
        rows_with_image(features, has_image)
        if features is None or not len(features):
            return VlAdapterPass(self, None)
        return VlAdapterPass(self, self.visual_tokens(features[:, 1:]))

    def visual_tokens(self, grid: Tensor) -> Tensor:
        """Return an image's places in the text, (B_img, S, d) of its grid (B_img, G, C)."""
        pooled = pool_grid(grid.float(), (self.settings.visual_tokens,), pool="max")
        tokens: Tensor = self.visual_embedding(pooled)
        return tokens


class VlAdapterPass(Pass):
    """Sends the outputs of attentions and MLPs through their adapters, and scales norms' outputs.

    Args:
        method: with the adapters.
        with_image: see `Pass`.
    """

    def __init__(self, method: VlAdapterMethod, with_image: Tensor | None) -> None:
        self.method = method
        self.with_image = with_image

    def visit(self, position: Position, layer: int, states: Tensor) -> Tensor:
        """Return what is added to the residual stream, or what attention or MLP is given."""
        method = self.method
        if position == "mhsa_out":
            states = method.attention_adapters[layer](states)
        elif position == "mlp_out":
            states = method.mlp_adapters[layer](states)
        elif method.norms is not None:
            changes = method.norms.attention if position == "mhsa_in" else method.norms.mlp
            states = scaled(states, changes[layer])
        return states


def scaled(states: Tensor, change: Tensor) -> Tensor:
    """Return (1 + change) * states, (B, T, d), in their dtype; computed in fp32."""
    return (states.float() * (1 + change)).to(states.dtype)
