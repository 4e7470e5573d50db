"""Settings of ADEM-VL: every hyper-parameter with its default and the source of the default."""

from collections.abc import Iterator, Sequence
from typing import Literal

from ademvl.config.method import (
    ClipAdapterSettings,
    MethodSettings,
    TextPlaces,
    check_square,
)
from ademvl.config.setting import group, relation, setting, settings_class

FusionPosition = Literal["mhsa_in", "mhsa_out", "mlp_in", "mlp_out"]
POSITIONS: tuple[FusionPosition, ...] = ("mhsa_in", "mhsa_out", "mlp_in", "mlp_out")
Phi = Literal["silu", "identity", "softmax", "relu", "elu", "silu_positive"]
Fusion = Literal["adem", "memvp", "none"]
DropBy = Literal["value", "magnitude"]


def _check_scales(scales: Sequence[int]) -> None:
    if not scales or len(set(scales)) < len(scales):
        raise ValueError(f"{list(scales)}, expected one or more different numbers of tokens")


@settings_class
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

    name: Literal["adem"] = setting(changes="results", default="adem", unwritten_at_default=True)
    alpha: float = setting(changes="results", default=0.1)
    beta: float = setting(changes="results", default=0.01)
    gamma: float = setting(changes="results", default=0.1, ge=0, lt=1)
    scales: tuple[int, ...] = setting(
        changes="results",
        default=(256, 64),
        ge=1,
        le=1_000_000,
        check=_check_scales,
        check_each=check_square,
    )
    pool: Literal["avg", "max"] = setting(changes="results", default="avg")
    pool_order: Literal["pool_then_project", "project_then_pool"] = setting(
        changes="results", default="pool_then_project"
    )
    phi: Phi = setting(changes="results", default="silu")
    query_from: FusionPosition = setting(changes="results", default="mlp_in")
    add_to: FusionPosition = setting(changes="results", default="mlp_out")
    fusion: Fusion = setting(changes="results", default="adem")
    cls: bool = setting(changes="results", default=True)
    visual_tokens: int = setting(changes="results", default=0, le=1_000_000, check=check_square)
    projection_width: int = setting(changes="results", default=128, ge=1, le=1_000_000)
    clip_adapter: ClipAdapterSettings = group(default_factory=ClipAdapterSettings)
    drop_by: DropBy = setting(changes="results", default="value", omitted_at_default=True)
    drop_in_evaluation: bool = setting(changes="evaluation", default=True, omitted_at_default=True)
    projection_activation: Literal["silu", "none"] = setting(
        changes="results", default="silu", omitted_at_default=True
    )
    text_only_fusion: bool = setting(changes="results", default=True, omitted_at_default=True)

    @relation("add_to", "query_from")
    def _adds_where_it_can(self) -> Iterator[str]:
        if POSITIONS.index(self.add_to) < POSITIONS.index(self.query_from):
            yield (
                f"{self.add_to} comes before query_from: {self.query_from}; choose a position at "
                "or after it"
            )

    def tower_findings(self, num_grid_tokens: int) -> Iterator[str]:
        """Yield scales that are finer than the grid."""
        finest = f"is not possible with a tower of {num_grid_tokens} grid tokens; choose square "
        finest += f"numbers up to {num_grid_tokens}"
        for scale in self.scales:
            if scale > num_grid_tokens and self.fusion != "none":
                yield f"scales: {scale} {finest}"
        if self.visual_tokens > num_grid_tokens:
            yield f"visual_tokens: {self.visual_tokens} {finest}"

    @property
    def num_visual_tokens(self) -> int:
        """Number N of image tokens that take part in the fusion."""
        return sum(self.scales)

    @property
    def gamma_in_evaluation(self) -> float:
        """Fraction of image tokens dropped in evaluation."""
        return self.gamma if self.drop_in_evaluation else 0.0

    @property
    def text_places(self) -> TextPlaces:
        """The slots of rows with an image: [cls] and projected tokens."""
        return TextPlaces(with_image=self.visual_tokens + int(self.cls))

    @property
    def draws_scores(self) -> bool:
        """Only the adaptive fusion has scores."""
        return self.fusion == "adem"
