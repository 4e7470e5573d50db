"""Settings of ADEM-VL: every hyper-parameter with its default and the source of the default."""

from collections.abc import Iterator, Sequence
from typing import Literal

from ademvl.config.method import ClipAdapterSettings, MethodSettings, TextPlaces, check_square
from ademvl.config.setting import group, relation, setting, settings_class
from ademvl.methods.adem.fusions import FUSIONS, Fusion, FusionRule, fusion_rule

FusionPosition = Literal["mhsa_in", "mhsa_out", "mlp_in", "mlp_out"]
POSITIONS: tuple[FusionPosition, ...] = ("mhsa_in", "mhsa_out", "mlp_in", "mlp_out")
Phi = Literal["silu", "identity", "softmax", "relu", "elu", "silu_positive"]
DropBy = Literal["value", "magnitude"]
SparseNormalizer = Literal["sparsemax", "entmax15"]
Threshold = Literal["fixed", "per_layer", "per_token", "sparsemax", "entmax15"]
Relaxation = Literal["straight_through", "sigmoid"]
LEARNED: tuple[Threshold, ...] = ("per_layer", "per_token")
_WITH_SCORES = " or ".join(name for name, rule in FUSIONS.items() if rule.has_scores)


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
        threshold: which image tokens a text token keeps. `fixed`: the share 1 - `gamma`, as in the
            paper. `per_layer`, `per_token`: a share that begins there and is learned, by an offset
            for each layer, or by offsets and a linear function of the text state. `sparsemax`,
            `entmax15`: those to which a sparse normaliser gives a weight, which then stands in
            place of the score; `gamma` is not read, and as the weights of a text token sum to 1,
            `alpha` weighs a mean of image tokens, no longer a sum.
        threshold_relaxation: how a learned share gets a gradient in training; evaluation drops by
            the fixed rule in both. `straight_through` drops so in training too, and takes the
            gradient of the sigmoid; `sigmoid` weighs each score by a sigmoid of its rank, whose
            temperature falls from `threshold_temperature` to `threshold_final_temperature`.
        threshold_temperature: width of that sigmoid, as a fraction of the image tokens.
        threshold_final_temperature: at the last step, of `sigmoid` alone; it falls by a like factor
            in each step.
        threshold_lr_factor: factor of the learning rate for what a learned threshold is made of, as
            it has to move further than matrices do.
        kept_target: fraction of image tokens that a learned threshold should keep on average over
            the layers and text tokens of an item.
        kept_weight: of the penalty (kept fraction - `kept_target`)^2 in the loss; 0 leaves what is
            kept to the rest of the loss.
        score_dropout: probability that a score is left out in training, after the threshold; the
            others are scaled up, as in all dropout here.
        layer_dropout: probability that the whole fusion of a layer is left out for an item in
            training (stochastic depth).
        token_dropout: probability that an image token is left out in training, in all layers and
            for all text tokens of an item.
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
    threshold: Threshold = setting(changes="results", default="fixed", unwritten_at_default=True)
    threshold_relaxation: Relaxation = setting(
        changes="training",
        default="straight_through",
        unwritten_at_default=True,
    )
    threshold_temperature: float = setting(
        changes="training",
        default=0.1,
        gt=0,
        le=1,
        unwritten_at_default=True,
    )
    threshold_final_temperature: float = setting(
        changes="training",
        default=0.005,
        gt=0,
        le=1,
        unwritten_at_default=True,
    )
    threshold_lr_factor: float = setting(
        changes="training",
        default=10.0,
        gt=0,
        le=1_000_000,
        unwritten_at_default=True,
    )
    kept_target: float = setting(
        changes="training",
        default=0.9,
        gt=0,
        le=1,
        unwritten_at_default=True,
    )
    kept_weight: float = setting(
        changes="training",
        default=0.0,
        ge=0,
        le=1_000_000,
        unwritten_at_default=True,
    )
    score_dropout: float = setting(
        changes="training",
        default=0.0,
        ge=0,
        lt=1,
        unwritten_at_default=True,
    )
    layer_dropout: float = setting(
        changes="training",
        default=0.0,
        ge=0,
        lt=1,
        unwritten_at_default=True,
    )
    token_dropout: float = setting(
        changes="training",
        default=0.0,
        ge=0,
        lt=1,
        unwritten_at_default=True,
    )

    @relation("add_to", "query_from")
    def _adds_where_it_can(self) -> Iterator[str]:
        if POSITIONS.index(self.add_to) < POSITIONS.index(self.query_from):
            yield (
                f"{self.add_to} comes before query_from: {self.query_from}; choose a position at "
                "or after it"
            )

    @relation("threshold", "fusion", "gamma", "drop_in_evaluation")
    def _has_something_to_learn(self) -> Iterator[str]:
        if self.threshold == "fixed":
            return
        if not self.draws_scores:
            yield f"{self.threshold} needs fusion: {_WITH_SCORES}, found {self.fusion}"
        if not self.drop_in_evaluation:
            yield f"{self.threshold} drops in evaluation too; leave drop_in_evaluation true"
        if self.threshold in LEARNED and self.gamma == 0:
            yield f"{self.threshold} begins at gamma, which has to be more than 0"

    @relation("kept_weight", "threshold")
    def _weighs_what_is_learned(self) -> Iterator[str]:
        if self.kept_weight and not self.learns_threshold:
            yield (
                f"{self.kept_weight:g} has nothing to act on, as threshold: {self.threshold} "
                f"learns nothing; choose threshold: {' or '.join(LEARNED)}, or leave it 0"
            )

    @relation("threshold_final_temperature", "threshold_temperature")
    def _temperature_falls(self) -> Iterator[str]:
        if self.threshold_final_temperature > self.threshold_temperature:
            yield (
                f"{self.threshold_final_temperature} is more than threshold_temperature "
                f"{self.threshold_temperature}"
            )

    @relation("fusion", "score_dropout", "layer_dropout", "token_dropout")
    def _drops_of_its_own_rule(self) -> Iterator[str]:
        rates = (self.score_dropout, self.layer_dropout, self.token_dropout)
        if any(rates) and not self.draws_scores:
            dropouts = "score_dropout, layer_dropout and token_dropout"
            yield f"{self.fusion} has no {dropouts}; {_WITH_SCORES} has"

    def tower_findings(self, num_grid_tokens: int) -> Iterator[str]:
        """Yield scales that are finer than the grid."""
        finest = f"is not possible with a tower of {num_grid_tokens} grid tokens; choose square "
        finest += f"numbers up to {num_grid_tokens}"
        for scale in self.scales:
            if scale > num_grid_tokens and self.fusion_rule is not None:
                yield f"scales: {scale} {finest}"
        if self.visual_tokens > num_grid_tokens:
            yield f"visual_tokens: {self.visual_tokens} {finest}"

    @property
    def fusion_rule(self) -> FusionRule | None:
        """How text states see the image; None with the fusion off."""
        return fusion_rule(self.fusion)

    @property
    def num_visual_tokens(self) -> int:
        """Number N of image tokens that take part in the fusion."""
        return sum(self.scales)

    @property
    def gamma_in_evaluation(self) -> float:
        """Fraction of image tokens dropped in evaluation."""
        return self.gamma if self.drop_in_evaluation else 0.0

    @property
    def learns_threshold(self) -> bool:
        """Whether what is kept is made of trained numbers."""
        return self.threshold in LEARNED

    @property
    def goes_beyond_paper(self) -> bool:
        """Whether scores are selected or dropped in a way that the paper does not have."""
        dropouts = (self.score_dropout, self.layer_dropout, self.token_dropout)
        return self.threshold != "fixed" or any(dropouts)

    def temperature_at(self, progress: float) -> float:
        """Return the temperature of the relaxation where this share of the training is done."""
        first, last = self.threshold_temperature, self.threshold_final_temperature
        if self.threshold_relaxation == "straight_through":
            return first
        return first * (last / first) ** progress

    @property
    def text_places(self) -> TextPlaces:
        """The slots of rows with an image: [cls] and projected tokens."""
        return TextPlaces(with_image=self.visual_tokens + int(self.cls))

    @property
    def learns_what_is_kept(self) -> bool:
        """Whether something else decides than a fixed share."""
        return self.threshold != "fixed"

    @property
    def draws_scores(self) -> bool:
        """Whether the fusion rule has scores."""
        return self.fusion_rule is not None and self.fusion_rule.has_scores
