"""What a method is: the trained modules, and how a batch's images reach the frozen models by them.

A method is a folder `ademvl/methods/<name>/` with `settings.py`, which needs no torch, and
`method.py`; CONTRIBUTING.md walks through both. Nothing that trains, evaluates or reports knows it;
a method may build on another (LLaVA-LoRA on LoRA), and what reads its authors' files names it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ademvl.config.method import MethodSettings
from ademvl.errors import SettingsError
from ademvl.llm.sizes import decoder_sizes
from ademvl.methods.attending import attach_attention
from ademvl.methods.begin_places import attach_begin_places
from ademvl.methods.sites import Attachment, Pass, Position, attach_sites, decoder_layers
from ademvl.vision.tower import TowerShape, VisionTower


@dataclass(frozen=True, kw_only=True)
class DecoderShape:
    """Sizes of a language model that a method may depend on.

    Attributes:
        width: d, of its states.
        layers: L.
        heads, kv_heads, head_dim: H, of keys and values, and h, of its attention.
        ffn_width: inside of its MLPs; 0 where its configuration does not tell.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_width: int

    @classmethod
    def of(cls, config: Any) -> "DecoderShape":
        """Read the sizes off a configuration of transformers."""
        return cls(**decoder_sizes(config.get_text_config()))


class FusionScores(NamedTuple):
    """What every text token saw of the image in each layer.

    Attributes:
        scores: similarities before dropping, (L, B, T, N).
        is_kept: (L, B, T, N) bool.
    """

    scores: Tensor
    is_kept: Tensor


class ScoreGrids(NamedTuple):
    """Which parts of the image the N scores are of.

    Attributes:
        scales: numbers of tokens of the square grids that they are of, one after the other.
        gamma: fraction of the N tokens that is dropped in evaluation; None where it is not the same
            for all layers and text tokens.
    """

    scales: tuple[int, ...]
    gamma: float | None


class Method(nn.Module):
    """Owns every trained module of a run, those that work inside the tower too; kept in fp32.

    Modules are uninitialised until `initialize` or a state is loaded, so that a method on the
    `meta` device costs nothing. Parameter names are those of the adapter file.

    Args:
        settings: of the run; whether they fit the tower is checked here.
        llm: sizes of the language model.
        tower: sizes of the vision tower.
        trains_tower: whether the run encodes pixels in every step, so that modules inside the tower
            can be trained; false with cached features.

    Attributes:
        training_progress: share of the training's steps that are done.

    Raises:
        SettingsError: the settings cannot work with this tower.
    """

    def __init__(
        self,
        settings: MethodSettings,
        *,
        llm: DecoderShape,
        tower: TowerShape,
        trains_tower: bool,
    ) -> None:
        super().__init__()
        findings = settings.unfit_for_tower(
            num_grid_tokens=tower.num_grid_tokens, num_blocks=tower.num_blocks
        )
        if text := "; ".join(findings):
            raise SettingsError(text)
        self.settings = settings
        self.llm_shape = llm
        self.tower_shape = tower
        self.trains_tower = trains_tower
        self.training_progress = 0.0

    def places(self) -> Mapping[Position, range]:
        """Return the layers that `Pass.visit` is called in, by position: its sites."""
        return {}

    def attending_layers(self) -> range:
        """Return the layers that `Pass.attend` is called in."""
        return range(0)

    def tuned_layers(self) -> range:
        """Return the layers inside of which `attach` changes more than sites and attention."""
        return range(0)

    def attach(self, llm: nn.Module, tower: VisionTower | None) -> Attachment:
        """Hook the method into the frozen models.

        Raises:
            SettingsError: a model has another layout, or a method is attached already.
        """
        decoder_layers(llm)
        attachment = Attachment()
        try:
            attachment.claim(llm, type(llm).__name__)
            # Before attention, which gives the model's implementation another name.
            attach_begin_places(llm, attachment, self.settings.text_places.before_begin)
            attach_sites(llm, attachment, self.places())
            attach_attention(llm, attachment, self.attending_layers())
            if tower is not None:
                attachment.claim(tower, f"backbones.tower: {tower.name}")
                self.attach_in_tower(tower, attachment)
        except BaseException:
            attachment.detach()
            raise
        return attachment

    def attach_in_tower(self, tower: VisionTower, attachment: Attachment) -> None:
        """Hook modules into a tower's blocks, in runs that encode pixels; here none."""

    def encode(
        self,
        tower: VisionTower,
        pixels: Tensor,
        *,
        dropout_seeds: Sequence[int] | None,
        has_image: Tensor | None = None,
    ) -> Tensor:
        """Return the features of images, see `VisionTower.encode`.

        Args:
            pixels: (B_img, 3, H, W), as `load_pixels` normalises them.
            dropout_seeds: one for each image in training, for modules inside the tower.
            has_image: (B,) bool, which rows of the batch these are the images of; None for all.
        """
        return tower.encode(pixels, self.settings.tower_states)

    def open(
        self,
        features: Tensor | None,
        has_image: Tensor,
        *,
        dtype: torch.dtype,
        dropout_seeds: Sequence[int] | None,
    ) -> Pass:
        """Turn the features of a batch's images into what the language model sees of them.

        Args:
            features: (B_img, N, C) as `settings.tower_states` asks, of the rows with an image, in
                row order, any float dtype; None without any image. With
                `settings.sees_empty_picture` of all rows, (B, N, C).
            has_image: (B,) bool, best on the CPU, so that no device has to be waited for.
            dtype: in which the language model computes.
            dropout_seeds: one for each row, in training.

        Raises:
            ValueError: the number of features is not the number of image rows.
        """
        raise NotImplementedError

    def initialize(self, seed: int) -> None:
        """Draw all trained parameters anew; each depends on `seed` and its own name only."""
        raise NotImplementedError

    def unused(self) -> frozenset[str]:
        """Return names of parameters that exist and are counted, but that no output depends on."""
        return frozenset()

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Say whether weight decay applies to a parameter; here to matrices and tables."""
        return parameter.ndim >= 2

    def lr_factor(self, name: str) -> float:
        """Return the factor of the learning rate for a parameter."""
        return 1.0

    def score_grids(self) -> ScoreGrids:
        """Return which parts of the image `scores` are of.

        To be overridden together with `scores` where the settings say `draws_scores`.
        """
        raise NotImplementedError

    def scores(self, opened: Pass, run: Callable[[Pass], object]) -> FusionScores | None:
        """Return what fusion maps draw of a batch; None where there is nothing to draw.

        Args:
            opened: the batch's pass, as `open` gave it.
            run: sends the batch through the language model with a pass in place of that one.
        """
        return None


def rows_with_image(features: Tensor | None, has_image: Tensor) -> Tensor:
    """Return the numbers of the rows with an image, (B_img,), after counting them.

    Raises:
        ValueError: the number of features is not the number of image rows.
    """
    rows = has_image.nonzero().squeeze(1)
    num_images = 0 if features is None else len(features)
    if num_images != len(rows):
        raise ValueError(f"features of {num_images} images for {len(rows)} rows with an image")
    return rows


def spread_rows(values: Tensor, rows: Tensor, *, batch_size: int) -> Tensor:
    """Return what belongs to rows with an image at their places, and zeros for the others.

    Args:
        values: (B_img, ...), one for each row with an image, in row order.
        rows: their numbers, (B_img,), as `rows_with_image` gives them.
        batch_size: B; where it is B_img, `values` themselves are returned.

    Returns:
        (B, ...).
    """
    if len(rows) == batch_size:
        return values
    everything = values.new_zeros((batch_size, *values.shape[1:]))
    return everything.index_copy(0, rows.to(values.device), values)
