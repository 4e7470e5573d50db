"""A tower's attention by linear layers: torch's own formula, parameters and names."""

import pytest
import torch
from torch import Tensor, nn

from ademvl.vision.attention import SelfAttention, with_linear_projections

WIDTH, HEADS = 24, 3
SUM_ORDER = 1e-6  # fp32, other order of sums


class Block(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, **{"batch_first": True} | options)  # type: ignore[arg-type]
        if self.attn.in_proj_weight is not None:
            nn.init.normal_(self.attn.in_proj_weight, std=0.2)
        if self.attn.in_proj_bias is not None:
            nn.init.normal_(self.attn.in_proj_bias)
        self.requires_grad_(False).eval()

    def forward(self, states: Tensor) -> Tensor:
        attended: Tensor = self.attn(states, states, states, need_weights=False)[0]
        return attended


def _both() -> tuple[Block, Block]:
    ours = Block()
    with_linear_projections([ours])
    assert isinstance(ours.attn, SelfAttention)
    return Block(), ours


def _states() -> Tensor:
    return torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(1))


def test_states_and_gradients_are_those_of_torch() -> None:
    found = []
    for block in _both():
        states = _states().requires_grad_()
        attended = block(states)
        attended.square().sum().backward()
        found.append((attended, states.grad))
    torch.testing.assert_close(found[1], found[0], atol=SUM_ORDER, rtol=1e-5)


def test_inference_is_that_of_torch() -> None:
    with torch.inference_mode():
        theirs, ours = (block(_states()) for block in _both())
    torch.testing.assert_close(ours, theirs, atol=SUM_ORDER, rtol=1e-5)


def test_autocast_reaches_the_projections() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs, ours = (block(_states().requires_grad_()) for block in _both())
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)  # bf16 keeps 8 bits


def test_weights_keep_their_names_order_and_values() -> None:
    theirs, ours = (block.state_dict() for block in _both())
    assert list(ours) == list(theirs)
    torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_first": False},
        {"kdim": 8, "vdim": 8},
        {"bias": False},
        {"add_bias_kv": True},
        {"add_zero_attn": True},
        {"dropout": 0.1},
    ],
)
def test_attention_of_another_formula_is_left_alone(options: dict[str, object]) -> None:
    block = Block(**options)
    with_linear_projections([block])
    assert isinstance(block.attn, nn.MultiheadAttention)


def test_blocks_without_torchs_attention_are_left_alone() -> None:
    with_linear_projections([nn.Linear(2, 2)])


def test_other_uses_than_a_towers_are_refused() -> None:
    _, ours = _both()
    states = _states()
    mask = torch.zeros(5, 5)
    with pytest.raises(ValueError, match="without mask"):
        ours.attn(states, states, states, need_weights=False, attn_mask=mask)
    with pytest.raises(ValueError, match="self-attention"):
        ours.attn(states, states.clone(), states, need_weights=False)
