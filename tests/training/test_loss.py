"""Protects the loss: averages over fixed groups, however items are spread over passes."""

import pytest
import torch

from ademvl.training.loss import token_losses, token_weights


def test_groups_of_two_weigh_the_same_whatever_their_tokens() -> None:
    # Groups (3 + 1 tokens) and (5 + 5): each token weighs 1 / (2 groups * tokens of its group).
    weights = token_weights(torch.tensor([3, 1, 5, 5]), group_size=2)
    torch.testing.assert_close(weights, torch.tensor([1 / 8, 1 / 8, 1 / 20, 1 / 20]))


def test_group_size_zero_averages_over_all_tokens() -> None:
    weights = token_weights(torch.tensor([3, 1, 5, 5]), group_size=0)
    torch.testing.assert_close(weights, torch.full((4,), 1 / 14))


def test_weights_equal_mean_of_group_means() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(1, 9, (8,), generator=generator)
    losses = [torch.rand(int(count), generator=generator) for count in counts]
    groups = [torch.cat(losses[i : i + 2]).mean() for i in range(0, 8, 2)]
    weighted = sum(
        (loss * weight).sum()
        for loss, weight in zip(losses, token_weights(counts, group_size=2), strict=True)
    )
    torch.testing.assert_close(weighted, torch.stack(groups).mean())


def test_item_without_scored_tokens_leaves_its_group_to_the_other() -> None:
    weights = token_weights(torch.tensor([0, 4, 2, 2]), group_size=2)
    torch.testing.assert_close(weights, torch.tensor([0, 1 / 8, 1 / 8, 1 / 8]))


def test_group_without_scored_tokens_counts_as_a_group() -> None:
    weights = token_weights(torch.tensor([0, 0, 2, 2]), group_size=2)
    torch.testing.assert_close(weights, torch.tensor([0, 0, 1 / 8, 1 / 8]))


def test_groups_must_fill_the_batch() -> None:
    with pytest.raises(ValueError, match="groups of 3"):
        token_weights(torch.ones(4, dtype=torch.long), group_size=3)


def test_losses_of_half_precision_logits_are_computed_in_fp32() -> None:
    logits = torch.tensor([[10.0, -10.0, 3.0]], dtype=torch.bfloat16)
    losses = token_losses(logits, torch.tensor([2]))
    assert losses.dtype == torch.float32
    # -log softmax = log(1 + e^-20 + e^-7) + 7, which bf16 would round to 7.
    torch.testing.assert_close(losses, torch.tensor([7.000911]), atol=1e-6, rtol=0)


def test_smoothing_spreads_its_share_over_the_vocabulary() -> None:
    logits = torch.tensor([[2.0, 0.5, -1.0]])
    loss = token_losses(logits, torch.tensor([0]), label_smoothing=0.3)
    of_each = -logits.log_softmax(dim=-1)[0]
    torch.testing.assert_close(loss, (0.7 * of_each[0] + 0.3 * of_each.mean())[None])
