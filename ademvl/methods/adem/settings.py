"""Settings of ADEM-VL: every hyper-parameter with its default and the source of the default."""

from dataclasses import dataclass, field
from math import isqrt
from typing import Literal

from ademvl.config.method import (
    POSITIONS,
    ClipAdapterSettings,
    MethodSettings,
    Position,
    TextPlaces,
)
from ademvl.config.ranges import check_ranges
from ademvl.config.schema import OMITTED_AT_DEFAULT, UNWRITTEN_AT_DEFAULT
from ademvl.errors import SettingsError

Phi = Literal["silu", "identity", "softmax", "relu", "elu", "silu_positive"]
Fusion = Literal["adem", "memvp", "none"]
DropBy = Literal["value", "magnitude"]


@dataclass(frozen=True, kw_only=True)
class AdemSettings(MethodSettings):
    """ADEM-VL (arXiv 2410.17779); defaults are the paper's best setting.

    Attributes:
        name: of the method; never written, as runs had no other method once.
        alpha: factor of the fusion added to each layer; 0.1 (paper, section 4).
        beta: factor of the projected image tokens; 0.01 (paper, section 4).
        gamma: fraction of image tokens dropped for each text token, 0 <= gamma < 1; 0.1.
        drop_by: `value` drops the lowest scores, so the most negative ones first, as the reference
            does; `magnitude` those closest to zero, which say least either way.
        drop_in_evaluation: drop in evaluation too, as the reference does.
        scales: numbers of pooled image tokens, each a square no larger than the tower's grid.
        pool: how the grid is pooled to coarser scales.
        pool_order: the reference pools, then projects; the paper's algorithm the reverse.
        phi: feature map of the parameter-free cross-attention.
        query_from: where text states are read in each decoder layer.
        add_to: where the fused states are added, not before `query_from`.
        fusion: `adem`; `memvp` for the baseline row of the component ablation; `none` for off.
        cls: put the projected [cls] vector into the text.
        visual_tokens: projected image tokens put before the text: 0, or a square (64, 256).
        projection_width: hidden width of the projections; 128.
        projection_activation: between the two matrices of a projection; the reference has a SiLU,
            the paper calls the projection linear (`none`).
        text_only_fusion: questions without an image pass through the fusion too, with the learned
            tables alone, as in the reference.
        clip_adapter: adapters inside the tower, with online features.
    """

    name: Literal["adem"] = field(default="adem", metadata=UNWRITTEN_AT_DEFAULT)
    alpha: float = 0.1
    beta: float = 0.01
    gamma: float = 0.1
    scales: tuple[int, ...] = (256, 64)
    pool: Literal["avg", "max"] = "avg"
    pool_order: Literal["pool_then_project", "project_then_pool"] = "pool_then_project"
    phi: Phi = "silu"
    query_from: Position = "mlp_in"
    add_to: Position = "mlp_out"
    fusion: Fusion = "adem"
    cls: bool = True
    visual_tokens: int = 0
    projection_width: int = 128
    clip_adapter: ClipAdapterSettings = ClipAdapterSettings()
    drop_by: DropBy = field(default="value", metadata=OMITTED_AT_DEFAULT)
    drop_in_evaluation: bool = field(default=True, metadata=OMITTED_AT_DEFAULT)
    projection_activation: Literal["silu", "none"] = field(
        default="silu", metadata=OMITTED_AT_DEFAULT
    )
    text_only_fusion: bool = field(default=True, metadata=OMITTED_AT_DEFAULT)

    def __post_init__(self) -> None:
        ranges = {">= 1": ("projection_width",), ">= 0 and < 1": ("gamma",)}
        check_ranges("method", self, ranges)
        if min(self.scales, default=0) < 1:
            raise SettingsError(
                f"method.scales: {list(self.scales)}, expected one or more numbers of tokens >= 1"
            )
        for scale in (*self.scales, self.visual_tokens):
            if scale < 0 or isqrt(scale) ** 2 != scale:
                raise SettingsError(
                    f"method.scales, method.visual_tokens: {scale} is no square number"
                )
        if POSITIONS.index(self.add_to) < POSITIONS.index(self.query_from):
            raise SettingsError(
                f"method.add_to: {self.add_to} comes before query_from: {self.query_from}; "
                "choose a position at or after it"
            )

    @property
    def num_visual_tokens(self) -> int:
        """Number N of image tokens that take part in the fusion."""
        return sum(self.scales)

    @property
    def gamma_in_evaluation(self) -> float:
        """Fraction of image tokens dropped in evaluation."""
        return self.gamma if self.drop_in_evaluation else 0.0

    @property
    def num_slots(self) -> int:
        """Number of vectors put between the image prefix and the text."""
        return self.visual_tokens + int(self.cls)

    @property
    def text_places(self) -> TextPlaces:
        """The slots of rows with an image."""
        return TextPlaces(with_image=self.num_slots)

    @property
    def draws_scores(self) -> bool:
        """Only the adaptive fusion has scores."""
        return self.fusion == "adem"


def as_adem(settings: MethodSettings) -> AdemSettings:
    """Return the settings of a method that must be ADEM-VL.

    Raises:
        SettingsError: they are another method's.
    """
    if not isinstance(settings, AdemSettings):
        raise SettingsError(f"method.name: {settings.name!r}, but only adem can be used here")
    return settings
