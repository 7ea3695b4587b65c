"""A prefix read once for parts with backwards of their own: values and gradients of the whole, and no token twice."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from charter.learner.open_prefix import OpenPrefix
from charter.learner.packing import MicroBatch
from charter.learner.plan import Piece
from charter.model.prefix import PackedTrees
from charter.types import Branch, Tree

PREFIX = (5, 9, 100, 7, 5, 42, 8, 3, 77, 11)  # longer than mistral's and gemma's window of 7


def branch(seed: int, length: int) -> Branch:
    draw = random.Random(seed)
    return Branch(tokens=tuple(draw.randrange(3, 259) for _ in range(length)), mask=(True,) * length)


BRANCHES = tuple(branch(seed, length) for seed, length in enumerate((6, 1, 9, 2, 4)))
PARTS = (BRANCHES[:1], BRANCHES[1:2], BRANCHES[2:])  # the second forwards nothing: its one token is only predicted


def part_of(branches: tuple[Branch, ...]) -> MicroBatch:
    return MicroBatch.of([Piece(0, Tree(prefix=PREFIX, branches=branches))], torch.device("cpu"))


def weighted(states: Tensor, first: int) -> Tensor:
    """A loss in which every state of the branch tokens from the first on has weights of its own."""
    at = torch.arange(first, first + len(states), dtype=states.dtype)[:, None] + 1
    return (states * torch.sin(at * (torch.arange(states.shape[1]) + 1))).sum()


def gradients(policy: Any) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in policy.module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gpt2"])
def test_parts_give_the_gradient_of_the_whole(tiny_policy: Any, family: str) -> None:
    policy = tiny_policy(family)
    packed = PackedTrees.pack([Tree(prefix=PREFIX, branches=BRANCHES)])
    states = policy.hidden(packed.tokens, packed.positions, packed.layout())
    states = states.index_select(0, packed.source[packed.present])
    weighted(states, 0).backward()
    whole = gradients(policy)
    policy.module.zero_grad()

    opened, first = OpenPrefix(policy, PREFIX), 0
    for branches in PARTS:
        ours = opened.predicting(part_of(branches))
        torch.testing.assert_close(ours, states[first : first + len(ours)], atol=2e-6, rtol=2e-5)
        weighted(ours, first).backward()
        first += len(ours)
    assert first == len(states) == 22
    before = gradients(policy)
    opened.close()
    after = gradients(policy)
    assert whole.keys() == after.keys()
    for name, gradient in whole.items():
        assert (after[name] - gradient).abs().max() <= 3e-5 * gradient.abs().max(), name
    # the prefix has a share in it: without it the parts' own gradients differ
    assert any((before[name] - whole[name]).abs().max() > 1e-2 * whole[name].abs().max() for name in before)


def test_no_token_is_forwarded_twice(tiny_policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny_policy("llama")
    seen: list[int] = []
    hidden = type(policy).hidden

    def counted(self: Any, tokens: Tensor, positions: Tensor, layout: Any) -> Tensor:
        seen.append(len(tokens))
        return hidden(self, tokens, positions, layout)

    monkeypatch.setattr(type(policy), "hidden", counted)
    opened = OpenPrefix(policy, PREFIX)
    for branches in PARTS:
        opened.predicting(part_of(branches))
    assert seen == [10, 5, 8 + 1 + 3]


def test_what_nobody_asked_a_gradient_of_closes_in_silence(tiny_policy: Any) -> None:
    policy = tiny_policy("llama")
    opened = OpenPrefix(policy, PREFIX)
    opened.close()
    with torch.no_grad():
        frozen = OpenPrefix(policy, PREFIX)
    with torch.no_grad():
        assert not frozen.predicting(part_of(BRANCHES)).requires_grad
    held = {leaf.untyped_storage().data_ptr(): leaf.untyped_storage().nbytes() for leaf in frozen.leaves[:-1]}
    # keys and values of two layers, 2 heads of 8, and not the queries that were made in one product with them
    assert sum(held.values()) == 2 * 2 * 2 * 8 * len(PREFIX) * 4
    frozen.close()
    assert gradients(policy) == {}
