"""Protects learned thresholds and sparse normalisers: exact in evaluation, with true gradients."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from ademvl.errors import SettingsError
from ademvl.methods.adem.method import AdemMethod
from ademvl.methods.adem.rule import drop_low_scores
from ademvl.methods.adem.settings import AdemSettings, SparseNormalizer
from ademvl.methods.adem.thresholds import (
    KeptPenalty,
    LearnedThreshold,
    drop_at,
    drop_relaxed,
    settled,
    sparse_weights,
)
from tests.methods.tiny_models import filled, make_method

WIDTH, TOWER_WIDTH = 12, 6
HAS_IMAGE = torch.tensor([True, False, True, True])
SMALL = {"scales": (16, 4), "projection_width": 5, "beta": 0.5}
FP32_TOLERANCE = 1e-6
GRADIENT_TOLERANCE = 1e-6  # of finite differences in fp64


def _random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _method(**changes: object) -> AdemMethod:
    settings = AdemSettings(**{**SMALL, **changes})
    return filled(make_method(AdemMethod, settings, width=WIDTH, tower_width=TOWER_WIDTH)).eval()


def _fuse(method: AdemMethod, layer: int, *, rows=slice(None), seeds=None) -> torch.Tensor:
    """Return what a layer adds to the states of chosen rows, (B, T, d)."""
    has_image, queries = HAS_IMAGE[rows], _random(4, 5, WIDTH, seed=1)[rows]
    features = _random(4, 17, TOWER_WIDTH, seed=2)[rows][has_image]
    shown = features if len(features) else None
    opened = method.open(shown, has_image, dtype=torch.float32, dropout_seeds=seeds)
    opened.visit("mlp_in", layer, queries)
    return opened.visit("mlp_out", layer, torch.zeros_like(queries))


@pytest.mark.parametrize("gamma", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("num_visual", [320, 20, 7])
def test_a_threshold_of_zeros_is_the_fixed_one(gamma, num_visual):
    threshold = LearnedThreshold(first=gamma, layers=2, width=8)
    with torch.no_grad():
        for parameter in threshold.parameters():
            parameter.zero_()
    found = settled(threshold(_random(2, 3, 8), 1))
    assert found.unique().tolist() == [gamma]
    scores = _random(2, 3, num_visual)
    assert torch.equal(drop_at(scores, found, by="value"), drop_low_scores(scores, gamma=gamma))


@pytest.mark.parametrize("drop_by", ["value", "magnitude"])
@torch.no_grad()
def test_each_layer_is_evaluated_as_the_fixed_rule_at_its_gamma(drop_by):
    learned = _method(threshold="per_layer", gamma=0.4, drop_by=drop_by)
    gammas = [float(settled(learned.threshold(torch.zeros(1, 1, WIDTH), at))) for at in (0, 1)]
    assert gammas[0] != gammas[1]
    for layer, gamma in enumerate(gammas):
        fixed = _method(gamma=gamma, drop_by=drop_by)
        fixed.load_state_dict(
            {name: p for name, p in learned.state_dict().items() if "threshold" not in name}
        )
        assert torch.equal(_fuse(learned, layer), _fuse(fixed, layer))


@pytest.mark.parametrize("by", ["value", "magnitude"])
def test_each_text_token_is_evaluated_as_the_fixed_rule_at_its_gamma(by):
    threshold = filled(LearnedThreshold(first=0.4, layers=1, width=8), size=3.0)
    gammas = settled(threshold(_random(2, 6, 8), 0))  # (B, T)
    scores = (_random(2, 6, 20, seed=1) * 3).round()  # with ties
    dropped = drop_at(scores, gammas, by=by)
    for row in range(2):
        for token in range(6):
            alone = scores[row : row + 1, token : token + 1]
            fixed = drop_low_scores(alone, gamma=float(gammas[row, token]), by=by)
            assert torch.equal(dropped[row, token], fixed[0, 0])
    assert gammas.unique().numel() == 12


@pytest.mark.parametrize("logit", [-100.0, 100.0])
def test_gamma_stays_inside_its_range(logit):
    gamma = settled(torch.sigmoid(torch.full((1, 2), logit)))
    kept = drop_at(_random(1, 2, 10).abs() + 1, gamma, by="value") != 0
    assert kept.sum(dim=-1).unique().tolist() == [10 if logit < 0 else 1]


@pytest.mark.parametrize("by", ["value", "magnitude"])
def test_sigmoid_has_true_gradients(by):
    scores = _random(2, 3, 7, dtype=torch.float64).requires_grad_()
    gamma = torch.rand(2, 3, dtype=torch.float64).requires_grad_()
    relaxed = partial(drop_relaxed, temperature=0.2, relaxation="sigmoid", by=by)
    assert torch.autograd.gradcheck(relaxed, (scores, gamma))


def test_straight_through_has_the_true_gradient_of_scores_and_the_sigmoids_of_gamma():
    scores = _random(2, 3, 7, dtype=torch.float64).requires_grad_()
    gamma = torch.rand(2, 3, dtype=torch.float64).requires_grad_()
    upstream = _random(2, 3, 7, seed=3, dtype=torch.float64)
    hard = partial(drop_relaxed, temperature=0.2, relaxation="straight_through", by="value")
    assert torch.autograd.gradcheck(lambda given: hard(given, gamma.detach()), (scores,))
    found = torch.autograd.grad(hard(scores, gamma), gamma, upstream)[0]
    step = 1e-6
    ends = [
        drop_relaxed(scores, gamma + by, temperature=0.2, relaxation="sigmoid", by="value").detach()
        for by in (-step, step)
    ]
    expected = ((ends[1] - ends[0]) * upstream).sum(dim=-1) / (2 * step)
    torch.testing.assert_close(found, expected, atol=GRADIENT_TOLERANCE, rtol=0)


def test_gamma_has_true_gradients_and_gives_the_text_states_none():
    threshold = filled(LearnedThreshold(first=0.3, layers=3, width=5)).double()
    states = _random(2, 4, 5).requires_grad_()
    parameters = tuple(threshold.parameters())

    def gamma(*values: torch.Tensor) -> torch.Tensor:
        named = dict(zip(("offsets", "direction"), values, strict=True))
        return torch.func.functional_call(threshold, named, (states, 1))

    assert torch.autograd.gradcheck(gamma, parameters)
    threshold(states, 1).sum().backward()
    assert states.grad is None


@pytest.mark.parametrize("by", ["value", "magnitude"])
def test_straight_through_drops_as_the_fixed_rule_does(by):
    scores = (_random(2, 6, 20) * 3).round()  # with ties
    gamma = torch.rand(2, 6, generator=torch.Generator().manual_seed(1))
    found = drop_relaxed(scores, gamma, temperature=0.1, relaxation="straight_through", by=by)
    assert torch.equal(found, drop_at(scores, settled(gamma), by=by))


def test_sigmoid_turns_into_the_fixed_rule_as_its_temperature_falls():
    scores, gamma = _random(2, 6, 20), torch.tensor([[0.11, 0.28, 0.33, 0.57, 0.72, 0.93]] * 2)
    fixed = drop_at(scores, settled(gamma), by="value")
    differences = [
        float(
            (drop_relaxed(scores, gamma, temperature=at, relaxation="sigmoid", by="value") - fixed)
            .abs()
            .max()
        )
        for at in (0.1, 0.01, 0.0001)
    ]
    assert differences == sorted(differences, reverse=True)
    assert differences[-1] < FP32_TOLERANCE


def test_temperature_of_the_sigmoid_falls_by_a_like_factor():
    settings = AdemSettings(
        threshold="per_layer",
        threshold_relaxation="sigmoid",
        threshold_temperature=0.4,
        threshold_final_temperature=0.1,
    )
    found = [settings.temperature_at(progress) for progress in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([0.4, 0.2, 0.1])
    assert AdemSettings(threshold="per_layer").temperature_at(0.5) == 0.1


def test_training_uses_the_temperature_of_its_progress():
    method = _method(threshold="per_layer", threshold_relaxation="sigmoid", gamma=0.4).train()
    first = _fuse(method, 0)
    method.training_progress = 0.9
    assert not torch.equal(_fuse(method, 0), first)


def test_sparse_weights_by_hand():
    scores = torch.tensor([[1.0, 0.8, 0.1, -3.0]])
    # sparsemax: 1 and 0.8 less (1.8 - 1) / 2.
    found = sparse_weights(scores, "sparsemax")
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.4, 0.0, 0.0]]))
    # 1.5-entmax: squares of (s / 2 - tau), three of which are positive at the tau where they sum
    # to 1: tau = m - sqrt((1 - 3 v) / 3), with mean m and variance v of 0.5, 0.4 and 0.05.
    halves = torch.tensor([0.5, 0.4, 0.05])
    tau = halves.mean() - ((1 - 3 * halves.var(unbiased=False)) / 3).sqrt()
    found = sparse_weights(scores, "entmax15")
    torch.testing.assert_close(found[0, :3], (halves - tau).square())
    assert found[0, 3] == 0


@pytest.mark.parametrize("normalizer", ["sparsemax", "entmax15"])
def test_sparse_weights_have_true_gradients_and_tell_what_is_not_finite(
    normalizer: SparseNormalizer,
):
    scores = _random(2, 6)
    weights = sparse_weights(scores.bfloat16(), normalizer)
    assert weights.dtype == torch.bfloat16
    upstream, given = _random(2, 6, seed=1), scores.clone().requires_grad_()
    sparse_weights(given, normalizer).backward(upstream)
    step = 1e-3  # in fp32, in which weights are computed
    for place in range(6):
        shift = step * F.one_hot(torch.tensor(place), 6)
        ends = [sparse_weights(scores + by * shift, normalizer) for by in (-1, 1)]
        expected = ((ends[1] - ends[0]) * upstream).sum(dim=-1) / (2 * step)
        torch.testing.assert_close(given.grad[:, place], expected, atol=1e-3, rtol=0)
    scores[0, 2] = math.nan
    weights = sparse_weights(scores, normalizer)
    assert weights[0].isnan().all()
    assert float(weights[1].sum()) == pytest.approx(1, abs=FP32_TOLERANCE)


@torch.no_grad()
def test_a_sparse_normaliser_averages_values_in_evaluation_as_in_training():
    method = _method(threshold="sparsemax", alpha=1.0)
    found = _fuse(method, 0)
    opened = method.open(
        _random(4, 17, TOWER_WIDTH, seed=2)[HAS_IMAGE],
        HAS_IMAGE,
        dtype=torch.float32,
        dropout_seeds=None,
    )
    scores = F.silu(_random(4, 5, WIDTH, seed=1)) @ opened.keys.transpose(1, 2)
    expected = sparse_weights(scores, "sparsemax") @ opened.values
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert torch.equal(_fuse(method.train(), 0), found)


def test_penalty_is_of_each_items_mean_over_layers_and_text():
    penalty = KeptPenalty(target=0.5, weight=2.0)
    penalty.note(torch.tensor([[0.1, 0.3, 0.9], [0.5, 0.5, 0.5]]), 0)
    penalty.note(torch.tensor([[0.3, 0.1, 0.9], [0.5, 0.5, 0.5]]), 1)
    penalty.note(torch.zeros(2, 3), 1)  # computed again in the backward pass
    # The third place of the first row is padding: kept are 0.9, 0.7, 0.7 and 0.9.
    found = penalty(torch.tensor([2, 3]))
    torch.testing.assert_close(found, torch.tensor([2 * 0.3**2, 0.0]))


def test_penalty_is_asked_for_in_training_alone():
    method = _method(threshold="per_token", kept_weight=1.0, kept_target=0.2)
    lengths = torch.tensor([5, 5, 5, 5])

    def penalty():
        opened = method.open(
            _random(3, 17, TOWER_WIDTH), HAS_IMAGE, dtype=torch.float32, dropout_seeds=None
        )
        for layer in (0, 1):
            opened.visit("mlp_in", layer, _random(4, 5, WIDTH))
            opened.visit("mlp_out", layer, torch.zeros(4, 5, WIDTH))
        return opened.penalty(lengths)

    assert penalty() is None
    found = method.train() and penalty()
    assert found.shape == (4,)
    found.sum().backward()
    assert method.threshold.offsets.grad.all()
    assert method.threshold.direction.grad.all()


@pytest.mark.parametrize(
    "changes",
    [
        {"score_dropout": 0.5},
        {"layer_dropout": 0.5},
        {"token_dropout": 0.5},
        {"score_dropout": 0.3, "layer_dropout": 0.3, "token_dropout": 0.3},
    ],
    ids=str,
)
@torch.no_grad()
def test_dropout_follows_the_rows_seeds_and_is_off_in_evaluation(changes):
    method, plain, seeds = _method(**changes), _method(), [3, 4, 5, 6]
    assert torch.equal(_fuse(method, 0), _fuse(plain, 0))
    method.train()
    together = _fuse(method, 0, seeds=seeds)
    assert torch.equal(together, _fuse(method, 0, seeds=seeds))
    for row in range(4):
        alone = _fuse(method, 0, rows=slice(row, row + 1), seeds=seeds[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=0)
    assert not torch.equal(together, _fuse(method, 0, seeds=[7, 8, 9, 10]))


@torch.no_grad()
def test_a_layer_is_dropped_whole_for_an_item_and_others_are_scaled_up():
    method, plain, seeds = _method(layer_dropout=0.5).train(), _method(), [3, 4, 5, 6]
    kept = []
    for layer in (0, 1):
        found, whole = _fuse(method, layer, seeds=seeds), _fuse(plain, layer)
        is_kept = found.flatten(1).any(dim=1)
        torch.testing.assert_close(found[is_kept], 2 * whole[is_kept])
        kept.append(is_kept.tolist())
    assert {*kept[0], *kept[1]} == {True, False}
    assert kept[0] != kept[1]


@torch.no_grad()
def test_an_image_token_is_dropped_in_all_layers():
    method = _method(token_dropout=0.5).train()
    features = _random(3, 17, TOWER_WIDTH)
    seeds = list(range(4))
    opened = method.open(features, HAS_IMAGE, dtype=torch.float32, dropout_seeds=seeds)
    whole = method.eval().open(features, HAS_IMAGE, dtype=torch.float32, dropout_seeds=None)
    is_kept = opened.values.any(dim=-1)  # (B, N)
    assert 0.2 < float(is_kept.float().mean()) < 0.8
    torch.testing.assert_close(opened.values[is_kept], 2 * whole.values[is_kept])
    assert torch.equal(opened.keys, whole.keys)


@pytest.mark.parametrize("threshold", ["per_layer", "per_token", "sparsemax", "entmax15"])
@torch.no_grad()
def test_maps_show_what_evaluation_keeps(threshold):
    method, keys = _method(threshold=threshold, gamma=0.4), _random(4, 20, WIDTH, seed=3)
    features = _random(3, 17, TOWER_WIDTH)
    opened = method.open(features, HAS_IMAGE, dtype=torch.float32, dropout_seeds=None)
    opened.keys, opened.values = keys, torch.eye(20).expand(4, 20, 20)
    queries = [_random(4, 5, WIDTH, seed=seed) for seed in (5, 6)]
    added = []

    def run(shown):
        added.clear()
        for layer in (0, 1):
            shown.visit("mlp_in", layer, queries[layer])
            added.append(shown.visit("mlp_out", layer, torch.zeros(4, 5, 20)))

    scores, is_kept = method.scores(opened, run)
    torch.testing.assert_close(scores[1], F.silu(queries[1]) @ keys.transpose(1, 2))
    assert torch.equal(is_kept, torch.stack(added) != 0)
    assert 0 < float(is_kept.float().mean()) < 1
    assert method.score_grids().gamma is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": "per_layer", "fusion": "memvp"}, "per_layer needs fusion: adem"),
        ({"kept_weight": 1.0}, "kept_weight: 1 has nothing to act on, as threshold: fixed learns"),
        ({"threshold": "entmax15", "kept_weight": 0.5}, "0.5 has nothing to act on"),
        ({"threshold": "per_token", "gamma": 0.0}, "has to be more than 0"),
        ({"threshold": "sparsemax", "drop_in_evaluation": False}, "leave drop_in_evaluation true"),
        ({"threshold_final_temperature": 0.5}, "0.5 is more than threshold_temperature 0.1"),
        ({"fusion": "none", "layer_dropout": 0.1}, "none has no score_dropout"),
    ],
    ids=str,
)
def test_settings_that_contradict_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        AdemSettings(**changes)
