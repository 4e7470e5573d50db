"""How vision models are read: where their blocks are, how tokens lie, and what pools them.

- Vision transformers of open_clip itself: [cls], then the grid, row by row.
- Vision transformers of timm, through open_clip: with [cls] (EVA02, PE), or without (SigLIP), with
  attention pooling in these; register tokens come behind [cls].
- ConvNeXt of timm and the ResNets of CLIP: a map of states takes the place of tokens. Blocks are
  those of the last stage, as they alone are as wide as the last norm.
- Those of transformers that `transformers_towers.py` names.

Others are refused: their blocks or tokens lie otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ademvl.errors import SettingsError
from ademvl.vision.transformers_towers import layout_of


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """What a tower is read by.

    Attributes:
        model: the vision part.
        run: sends pixels (B, 3, H, W) through all blocks.
        blocks: where they stand in `model`.
        norm: the last normalisation, of states as blocks give them.
        width: C, of the states.
        image_size: pixels of the square input's side.
        grid_size: rows and columns of the grid.
        num_prefix: tokens in front of the grid: [cls], then registers.
        has_cls: whether the first of them is [cls].
        is_map: whether blocks give (B, C, H, W) in place of tokens.
        pooling: the model's own, of (B, P + G, C) to (B, C); None without any that keeps the width.
        projection: into the space of image and text; None without any.
        output_width: of the projection; the width without any.
    """

    model: nn.Module
    run: Callable[[Tensor], object]
    blocks: str
    norm: Callable[[Tensor], Tensor]
    width: int
    image_size: int
    grid_size: tuple[int, int]
    num_prefix: int = 0
    has_cls: bool = False
    is_map: bool = False
    pooling: Callable[[Tensor], Tensor] | None = None
    projection: Callable[[Tensor], Tensor] | None = None
    output_width: int = 0

    def read(
        self, pixels: Tensor, numbers: Sequence[int], *, normalized: bool
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the tokens in front of the grid and the grid, (B, P, C) and (B, G, C), by block.

        The blocks behind those that are read run too, but nothing depends on them.

        Args:
            pixels: (B, 3, H, W).
            numbers: of the blocks, counted from 0, ascending.
            normalized: whether the last norm is applied.
        """
        blocks: Any = self.model.get_submodule(self.blocks)
        states: dict[int, Tensor] = {}

        def keep(number: int) -> Callable[..., None]:
            def hook(block: nn.Module, args: object, output: Any) -> None:
                states[number] = output[0] if isinstance(output, tuple) else output

            return hook

        handles = [blocks[number].register_forward_hook(keep(number)) for number in numbers]
        try:
            self.run(pixels)
        finally:
            for handle in handles:
                handle.remove()
        found = []
        for number in numbers:
            tokens = self.norm(states[number]) if normalized else states[number]
            if self.is_map:
                tokens = tokens.flatten(2).transpose(1, 2)  # (B, H W, C)
            found.append((tokens[:, : self.num_prefix], tokens[:, self.num_prefix :]))
        return found

    def project(self, features: Tensor) -> Tensor | None:
        """Return features (B, N, C) in the space of image and text; None without a projection."""
        return None if self.projection is None else self.projection(features)


class ClipTrunk(Trunk):
    """A vision transformer of open_clip, which stops behind the last block that is read."""

    def read(
        self, pixels: Tensor, numbers: Sequence[int], *, normalized: bool
    ) -> list[tuple[Tensor, Tensor]]:
        """See `Trunk.read`."""
        model: Any = self.model
        output = model.forward_intermediates(
            pixels,
            indices=list(numbers),
            stop_early=True,
            normalize_intermediates=normalized,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        prefixes, grids = output["image_intermediates_prefix"], output["image_intermediates"]
        return list(zip(prefixes, grids, strict=True))

    def project(self, features: Tensor) -> Tensor | None:
        """See `Trunk.project`."""
        model: Any = self.model
        return None if model.proj is None else features @ model.proj


def find_trunk(visual: nn.Module, name: str) -> Trunk:
    """Return how a vision model is read.

    Args:
        visual: vision part of a model of open_clip, or a model of transformers.
        name: for errors.

    Raises:
        SettingsError: it is of no known layout.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    trunk: Trunk | None = None
    if isinstance(visual, VisionTransformer):
        trunk = _of_clip(visual) if visual.attn_pool is None else None
    elif isinstance(visual, ModifiedResNet):
        trunk = _of_resnet(visual)
    elif isinstance(visual, TimmModel):
        trunk = _of_timm(visual)
    elif layout_of(visual) is not None:
        trunk = _of_transformers(visual)
    if trunk is None:
        raise SettingsError(
            f"backbones.tower: {name} is read by no layout that is known here; use a vision "
            "transformer, a ConvNeXt or a ResNet of open_clip, or a DINOv2, DINOv3 or SigLIP of "
            "transformers"
        )
    return trunk


def _of_clip(visual: Any) -> Trunk:
    return ClipTrunk(
        model=visual,
        run=visual,
        blocks="transformer.resblocks",
        norm=visual.ln_post,
        width=visual.ln_post.normalized_shape[0],
        image_size=_side(visual.image_size),
        grid_size=visual.grid_size,
        num_prefix=1,
        has_cls=True,
        output_width=visual.output_dim,
    )


def _of_resnet(visual: Any) -> Trunk:
    stages = nn.Sequential(visual.layer1, visual.layer2, visual.layer3, visual.layer4)
    size = _side(visual.image_size)
    width = visual.attnpool.q_proj.in_features
    return Trunk(
        model=visual,
        run=lambda pixels: stages(visual.stem(pixels)),
        blocks="layer4",
        norm=nn.Identity(),
        width=width,
        image_size=size,
        grid_size=(size // 32, size // 32),
        is_map=True,
        output_width=width,
    )


def _of_timm(visual: Any) -> Trunk | None:
    from timm.models import ConvNeXt, Eva, VisionTransformer

    trunk, size = visual.trunk, _side(visual.image_size)
    heads = (getattr(visual.head, "proj", None), getattr(trunk, "head", None))
    projection = next((head for head in heads if isinstance(head, nn.Linear)), None)
    if isinstance(trunk, ConvNeXt):
        grid_size, width = (size // 32, size // 32), trunk.num_features
    elif isinstance(trunk, (VisionTransformer, Eva)):
        grid_size, width = trunk.patch_embed.grid_size, trunk.embed_dim
    else:
        return None
    sizes: dict[str, Any] = {
        "model": visual,
        "run": trunk.forward_features,
        "width": width,
        "image_size": size,
        "grid_size": grid_size,
        "projection": projection,
        "output_width": width if projection is None else projection.out_features,
    }
    if isinstance(trunk, ConvNeXt):
        blocks = f"trunk.stages.{len(trunk.stages) - 1}.blocks"
        norm = nn.Sequential(trunk.norm_pre, trunk.get_submodule("head.norm"))
        return Trunk(**sizes, blocks=blocks, norm=norm, is_map=True)
    return Trunk(
        **sizes,
        blocks="trunk.blocks",
        norm=nn.Sequential(trunk.norm, trunk.fc_norm),
        num_prefix=trunk.num_prefix_tokens,
        has_cls=trunk.cls_token is not None,
        pooling=None if trunk.attn_pool is None else trunk.pool,
    )


def _of_transformers(visual: Any) -> Trunk | None:
    layout, config = layout_of(visual), visual.config
    if layout is None:
        return None
    side = config.image_size // config.patch_size
    num_registers = getattr(config, "num_register_tokens", 0)
    return Trunk(
        model=visual,
        run=lambda pixels: visual(pixel_values=pixels),
        blocks=layout.blocks,
        norm=visual.get_submodule(layout.norm),
        width=config.hidden_size,
        image_size=config.image_size,
        grid_size=(side, side),
        num_prefix=1 + num_registers if layout.has_cls else 0,
        has_cls=layout.has_cls,
        pooling=visual.get_submodule(layout.pooling) if layout.pooling else None,
        output_width=config.hidden_size,
    )


def _side(image_size: int | tuple[int, int]) -> int:
    return image_size if isinstance(image_size, int) else image_size[0]
