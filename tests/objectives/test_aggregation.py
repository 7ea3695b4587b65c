"""Aggregation: by hand, and its law on value and gradient."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from charter.objectives.aggregation import Normalizers, aggregate, normalizer_of, normalizers, token_weights

HOWS = ("token", "sequence", "constant", "prompt")
fast = settings(max_examples=40, deadline=None, derandomize=True)

# two groups: completions of 3 and 1 loss tokens, and of 2 and 0
LOSS = torch.tensor([[1.0, 2.0, 3.0], [8.0, 9.0, 9.0], [5.0, 7.0, 9.0], [9.0, 9.0, 9.0]], dtype=torch.float64)
MASK = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]])
GROUPS = torch.tensor([4, 4, 2, 2])


def arguments(how: str, groups: Tensor = GROUPS) -> dict[str, Any]:
    return {"how": how, "groups": groups if how == "prompt" else None, "max_tokens": 10 if how == "constant" else None}


class TestByHand:
    @pytest.mark.parametrize(
        ("how", "expected"),
        [
            ("token", 26 / 6),  # 1+2+3+8+5+7 over six tokens
            ("sequence", (2 + 8 + 6) / 3),  # row means 2, 8, 6; the empty row counts in neither
            ("constant", 26 / (4 * 10)),  # four completions of at most 10 tokens, the empty one too
            ("prompt", (14 / 4 + 12 / 2) / 2),  # 14 over four tokens, 12 over two
        ],
    )
    def test_values(self, how: str, expected: float):
        assert aggregate(LOSS, MASK, **arguments(how)).item() == pytest.approx(expected, rel=1e-12)

    def test_default_is_token(self):
        assert aggregate(LOSS, MASK).item() == pytest.approx(26 / 6, rel=1e-12)

    def test_microbatches_of_unequal_token_counts(self):
        # 1 token of loss 1 and 4 tokens of loss 0.25: 2/5, where the mean of the two means is 0.625
        short, long = torch.tensor([[1.0]]), torch.full((1, 4), 0.25)
        parts = [aggregate(x, torch.ones_like(x), normalizer=5) for x in (short, long)]
        assert sum(x.item() for x in parts) == pytest.approx(0.4, rel=1e-6)

    def test_weights(self):
        found = token_weights(MASK, how="prompt", groups=GROUPS, dtype=torch.float64)
        eighth, quarter = 1 / 8, 1 / 4
        expected = [[eighth] * 3, [eighth, 0, 0], [quarter, quarter, 0], [0, 0, 0]]
        assert found.tolist() == expected
        assert token_weights(MASK).dtype == torch.float32
        assert token_weights(MASK).sum().item() == pytest.approx(1)

    def test_normalizers(self):
        assert normalizers(MASK, GROUPS) == Normalizers(tokens=6, sequences=3, completions=4, prompts=2)
        assert normalizers(MASK) == Normalizers(tokens=6, sequences=3, completions=4, prompts=0)
        # plain numbers: they are added over ranks and compared with the batch's own
        assert {type(n) for n in dataclasses.astuple(normalizers(MASK, GROUPS))} == {int}
        empty_second_group = MASK * torch.tensor([[1], [1], [0], [0]])
        assert normalizers(empty_second_group, GROUPS).prompts == 1

    def test_normalizer_of_each_aggregation(self):
        counts = Normalizers(tokens=6, sequences=3, completions=4, prompts=2)
        assert [normalizer_of(counts, how) for how in HOWS] == [6, 3, 4, 2]
        with pytest.raises(ValueError, match="token, sequence, constant, prompt"):
            normalizer_of(counts, "mean")

    def test_group_without_loss_tokens_counts_in_neither(self):
        # only the first group remains: 14 over four tokens
        mask = MASK * torch.tensor([[1], [1], [0], [0]])
        assert aggregate(LOSS, mask, how="prompt", groups=GROUPS).item() == pytest.approx(3.5, rel=1e-12)

    @pytest.mark.parametrize("how", HOWS)
    def test_no_loss_token_at_all(self, how: str):
        loss = LOSS.clone().requires_grad_()
        value = aggregate(loss, torch.zeros_like(MASK), **arguments(how))
        assert value.item() == 0
        value.backward()
        assert loss.grad is not None
        assert loss.grad.eq(0).all()

    def test_half_precision_is_summed_in_single(self):
        # 4096 tokens of 1 in bfloat16 sum to 4096, where bfloat16 itself stops counting at 256
        ones = torch.ones(1, 4096, dtype=torch.bfloat16)
        found = aggregate(ones, ones, normalizer=1)
        assert found.dtype == torch.float32
        assert found.item() == 4096


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), float("-inf")])
def test_masked_garbage_reaches_neither_value_nor_gradient(how: str, garbage: float):
    clean = LOSS.clone().requires_grad_()
    dirty = LOSS.masked_fill(MASK == 0, garbage).requires_grad_()
    expected, found = (aggregate(x, MASK, **arguments(how)) for x in (clean, dirty))
    assert found.item() == expected.item()
    found.backward()
    expected.backward()
    assert dirty.grad is not None
    assert clean.grad is not None
    assert dirty.grad.equal(clean.grad)
    assert dirty.grad[MASK == 0].eq(0).all()


@st.composite
def steps(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, list[list[int]]]:
    """A step of up to 7 completions in groups, and a partition of its rows into micro-batches."""
    B, T = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    loss = torch.randn(B, T, generator=generator, dtype=torch.float64)
    mask = torch.rand(B, T, generator=generator) < draw(st.sampled_from([0.3, 0.7, 1.0]))
    mask[0, 0] = True  # a step has at least one loss token
    groups = torch.tensor([draw(st.integers(0, 3)) for _ in range(B)])
    order = draw(st.permutations(range(B)))
    cuts = sorted({0, B, *draw(st.lists(st.integers(0, B), max_size=3))})
    return loss, mask, groups, [order[a:b] for a, b in pairwise(cuts)]


def tokens_of_groups(mask: Tensor, groups: Tensor) -> Tensor:
    """For each row the loss tokens of its group, by counting."""
    return torch.tensor([int(mask[groups == g].sum()) for g in groups])


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-5), (torch.float32, 1e-4)])
@fast
@given(step=steps(), padding=st.integers(0, 3), side=st.sampled_from(["left", "right"]))
def test_law(how: str, dtype: torch.dtype, rtol: float, step, padding: int, side: str):
    """Any split, order and padding gives the loss and the gradient of the whole step in one call."""
    loss, mask, groups, parts = step
    whole = loss.to(dtype).requires_grad_()
    value = aggregate(whole, mask, **arguments(how, groups))
    value.backward()

    split = loss.to(dtype).requires_grad_()
    n = normalizer_of(normalizers(mask, groups), how)
    per_row = tokens_of_groups(mask, groups)
    pad = (padding, 0) if side == "left" else (0, padding)
    total = 0.0
    for rows in parts:
        padded = torch.nn.functional.pad(split[rows], pad, value=float("nan"))
        share = aggregate(
            padded,
            torch.nn.functional.pad(mask[rows], pad),
            normalizer=n,
            group_tokens=per_row[rows] if how == "prompt" else None,
            **arguments(how, groups[rows]),
        )
        share.backward()
        total += share.item()
    assert total == pytest.approx(value.item(), rel=rtol, abs=rtol)
    assert split.grad is not None
    assert whole.grad is not None
    assert_close(split.grad, whole.grad, rtol=rtol, atol=0)


@fast
@given(steps(), st.sampled_from(HOWS))
def test_weights_are_the_gradient(step, how: str):
    loss, mask, groups, _ = step
    loss.requires_grad_()
    aggregate(loss, mask, **arguments(how, groups)).backward()
    assert loss.grad is not None
    assert_close(loss.grad, token_weights(mask, dtype=torch.float64, **arguments(how, groups)))


def test_normalizer_may_be_a_tensor():
    assert aggregate(LOSS, MASK, normalizer=torch.tensor(13)).item() == pytest.approx(2.0, rel=1e-12)


class TestRefusals:
    def test_unknown_aggregation_names_the_choices(self):
        with pytest.raises(ValueError, match="token, sequence, constant, prompt"):
            aggregate(LOSS, MASK, how="mean")

    @pytest.mark.parametrize("max_tokens", [None, 0])
    def test_constant_needs_its_constant(self, max_tokens: int | None):
        with pytest.raises(ValueError, match="max_tokens"):
            aggregate(LOSS, MASK, how="constant", max_tokens=max_tokens)
        assert aggregate(LOSS, MASK, how="constant", max_tokens=1).item() == pytest.approx(26 / 4)

    def test_prompt_needs_groups(self):
        with pytest.raises(ValueError, match="needs groups"):
            aggregate(LOSS, MASK, how="prompt")
        with pytest.raises(ValueError, match=r"groups has the shape \[3\]"):
            aggregate(LOSS, MASK, how="prompt", groups=GROUPS[:3])
        with pytest.raises(ValueError, match=r"groups has the shape \[3\]"):
            normalizers(MASK, GROUPS[:3])

    @pytest.mark.parametrize("n", [0, -1, 0.0, float("nan")])
    def test_normalizer_must_count_something(self, n: float):
        with pytest.raises(ValueError, match="normalizer"):
            aggregate(LOSS, MASK, normalizer=n)

    def test_split_groups_need_the_step(self):
        counts = torch.tensor([4, 4, 2, 2])
        with pytest.raises(ValueError, match="normalizer too"):
            aggregate(LOSS, MASK, how="prompt", groups=GROUPS, group_tokens=counts)
        with pytest.raises(ValueError, match="below the unmasked tokens"):
            aggregate(LOSS, MASK, how="prompt", groups=GROUPS, group_tokens=counts - 1, normalizer=2)
        one_short = torch.tensor([4, 3, 2, 2])
        with pytest.raises(ValueError, match="below the unmasked tokens"):
            aggregate(LOSS, MASK, how="prompt", groups=GROUPS, group_tokens=one_short, normalizer=2)
        with pytest.raises(ValueError, match="group_tokens has the shape"):
            aggregate(LOSS, MASK, how="prompt", groups=GROUPS, group_tokens=counts[:2], normalizer=2)

    def test_shapes(self):
        with pytest.raises(ValueError, match=r"loss \[4, 3\], mask \[4, 2\]"):
            aggregate(LOSS, MASK[:, :2])
