"""Attention in two parts against attention over the keys laid side by side: value and every gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from charter.model.attention import AttentionSpec
from charter.model.two_part import BranchAttention, in_two_parts

SIZE = 4


def one_by_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix_key: Tensor,
    prefix_value: Tensor,
    lengths: list[int],
    scale: float,
) -> Tensor:
    """Each branch alone, by the definition: softmax(scale · q kᵀ) v over [prefix, own up to here]."""
    share = query.shape[0] // key.shape[0]
    at, outputs = 0, []
    for length in lengths:
        own = slice(at, at + length)
        keys = torch.cat([prefix_key, key[:, own]], 1).repeat_interleave(share, 0)
        values = torch.cat([prefix_value, value[:, own]], 1).repeat_interleave(share, 0)
        scores = query[:, own] @ keys.transpose(1, 2) * scale
        seen = torch.ones(length, prefix_key.shape[1] + length).tril(prefix_key.shape[1]).bool()
        outputs.append(torch.softmax(scores.masked_fill(~seen, float("-inf")), -1) @ values)
        at += length
    return torch.cat(outputs, 1)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    prefix=st.integers(1, 70),
    heads=st.sampled_from([(1, 1), (2, 1), (6, 2)]),
    seed=st.integers(0, 99),
)
def test_value_and_gradients(lengths: list[int], prefix: int, heads: tuple[int, int], seed: int) -> None:
    torch.manual_seed(seed)
    (many, few), tokens = heads, sum(lengths)
    shapes = [(many, tokens), (few, tokens), (few, tokens), (few, prefix), (few, prefix)]
    given_ = [torch.randn(*shape, SIZE, dtype=torch.float64, requires_grad=True) for shape in shapes]
    longest = max(lengths)
    places = torch.tensor([g * longest + i for g, length in enumerate(lengths) for i in range(length)])
    out = BranchAttention.apply(*given_, places, len(lengths), longest, 0.7)
    wanted = one_by_one(*given_, lengths, 0.7)  # type: ignore[arg-type]
    torch.testing.assert_close(out, wanted, atol=1e-12, rtol=1e-10)
    weights = torch.randn_like(wanted)
    ours = torch.autograd.grad((out * weights).sum(), given_)
    theirs = torch.autograd.grad((wanted * weights).sum(), given_)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize(
    ("window", "softcap", "serves"), [(None, None, True), (12, None, True), (11, None, False), (None, 30.0, False)]
)
def test_where_it_serves(window: int | None, softcap: float | None, serves: bool) -> None:
    spec = AttentionSpec(layer=0, scale=1.0, window=window, softcap=softcap)
    x = torch.zeros(1, 2, 3)
    assert in_two_parts(x, x, spec, 12) is serves
    assert not in_two_parts(x, x.double(), spec, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not in_two_parts(x, x, spec, 12)
