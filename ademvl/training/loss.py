"""The training loss: an average over fixed groups of items, whatever a device holds at once."""

import torch
from torch import Tensor
from torch.nn import functional


def token_weights(token_counts: Tensor, *, group_size: int) -> Tensor:
    """Weigh the scored tokens of an effective batch so that their weighted sum is the loss.

    The reference averages over the answer tokens of a micro-batch of two items, and then over
    micro-batches, so a micro-batch weighs the same however many answer tokens it has. Here that
    micro-batch is a group of consecutive items of the effective batch. As the weights are known
    before any forward pass, the items may be spread over devices and passes in any way.

    A group without any scored token contributes nothing, but counts as a group.

    Args:
        token_counts: scored tokens of each item of the effective batch, (B,), integer.
        group_size: items of a group, must divide B; 0 for one average over all tokens.

    Returns:
        The weight of each scored token of each item, (B,), fp32; 0 for items without any.

    Raises:
        ValueError: the groups do not fill the batch.
    """
    num_items = token_counts.numel()
    group_size = group_size or num_items
    if num_items % group_size:
        raise ValueError(f"groups of {group_size} do not fill a batch of {num_items} items")
    group_tokens = token_counts.view(-1, group_size).sum(dim=1)  # (groups,)
    weights = 1.0 / (group_tokens.clamp(min=1).float() * group_tokens.numel())
    weights = torch.where(group_tokens > 0, weights, 0.0)
    return weights.repeat_interleave(group_size) * (token_counts > 0)


def token_losses(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross entropy of each scored token in fp32, (M,).

    Args:
        logits: at the positions before the scored tokens, (M, V), any float dtype.
        targets: the scored tokens, (M,).
        label_smoothing: share of the target that is spread evenly over all V tokens (Szegedy et
            al., arXiv 1512.00567).
    """
    return functional.cross_entropy(
        logits.float(), targets, reduction="none", label_smoothing=label_smoothing
    )
