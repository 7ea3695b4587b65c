"""Shared-prefix forwards give what G separate padded-or-not sequences give: values and gradients, every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from charter.model.logprobs import token_logprobs
from charter.model.prefix import PackedTrees, forwarded_tokens
from charter.types import Branch, Tree


def tree(prefix: list[int], *branches: list[int]) -> Tree:
    return Tree(prefix=tuple(prefix), branches=tuple(Branch(tokens=tuple(b), mask=(True,) * len(b)) for b in branches))


def ids(seed: int, count: int) -> list[int]:
    return torch.randint(3, 259, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


TREES = [
    tree(ids(0, 11), ids(1, 5), ids(2, 9), ids(3, 1)),
    tree(ids(4, 3), ids(5, 12)),
    tree(ids(6, 1), ids(7, 2), ids(8, 2), ids(9, 4)),
]


def packed_logprobs(policy: Any, trees: list[Tree]) -> list[torch.Tensor]:
    packed = PackedTrees.pack(trees)
    hidden = policy.hidden(packed.tokens, packed.positions, packed.layout())
    return [
        token_logprobs(hidden[packed.source[row][keep]], policy.head, packed.targets[row][keep])[0]
        for row, keep in enumerate(packed.present)
    ]


def separate_logprobs(module: Any, trees: list[Tree]) -> list[torch.Tensor]:
    """The G-fold forward with transformers' own attention, padded to the right."""
    sequences = [(list(t.prefix), list(b.tokens)) for t in trees for b in t.branches]
    longest = max(len(p) + len(c) for p, c in sequences)
    tokens = torch.tensor([p + c + [0] * (longest - len(p) - len(c)) for p, c in sequences])
    mask = torch.tensor([[1] * (len(p) + len(c)) + [0] * (longest - len(p) - len(c)) for p, c in sequences])
    logits = module(tokens, attention_mask=mask).logits
    logits = torch.log_softmax(logits, -1)
    return [
        logits[row, torch.arange(len(p) - 1, len(p) + len(c) - 1), torch.tensor(c)]
        for row, (p, c) in enumerate(sequences)
    ]


def gradients(module: Any, rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    weights = torch.linspace(-1, 1, sum(len(r) for r in rows), dtype=rows[0].dtype)
    module.zero_grad()
    (torch.cat(rows) * weights).sum().backward()
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def reference_attention(family: str) -> str:
    # transformers' eager attention takes its softmax in float32 whatever the dtype; only Gemma 2's softcap needs it
    return "eager" if family == "gemma2" else "sdpa"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-4)])
def test_values_and_gradients_equal_the_padded_forward(tiny_policy, family, dtype, tolerance):
    if family == "gemma2" and dtype == torch.float64:
        pytest.skip("transformers' own eager forward is NaN here: it masks with float64's minimum in a float32 softmax")
    policy = tiny_policy(family, dtype=dtype)
    ours = packed_logprobs(policy, TREES)
    our_gradients = gradients(policy.module, ours)
    policy.module.set_attn_implementation(reference_attention(family))
    theirs = separate_logprobs(policy.module, TREES)
    their_gradients = gradients(policy.module, theirs)

    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    assert our_gradients.keys() == their_gradients.keys()
    scale = max(float(g.abs().max()) for g in their_gradients.values())
    for name, gradient in our_gradients.items():
        difference = float((gradient - their_gradients[name]).abs().max())
        assert difference <= tolerance * scale, f"{name}: {difference / scale:.1e}"


def test_the_prompt_goes_through_once_and_last_tokens_not_at_all():
    # prefix 11, branches of 5, 9 and 1 tokens: 11 + 4 + 8 + 0
    assert forwarded_tokens(TREES[0]) == 23
    packed = PackedTrees.pack(TREES)
    assert len(packed.tokens) == sum(forwarded_tokens(t) for t in TREES) == 23 + (3 + 11) + (1 + 1 + 1 + 3)
    assert packed.positions[:15].tolist() == [*range(11), 11, 12, 13, 14]


def test_a_branch_does_not_see_its_siblings(tiny_policy):
    policy = tiny_policy("llama", dtype=torch.float64)
    with_sibling = packed_logprobs(policy, [tree(ids(0, 6), ids(1, 5), ids(2, 7))])[0]
    other_sibling = packed_logprobs(policy, [tree(ids(0, 6), ids(1, 5), ids(3, 4))])[0]
    torch.testing.assert_close(with_sibling, other_sibling, rtol=1e-12, atol=1e-12)


def test_an_empty_prefix_is_refused():
    with pytest.raises(ValueError, match="prefix"):
        PackedTrees.pack([tree([], [5, 6])])


def test_a_model_that_differs_is_refused(tiny_policy):
    from charter.errors import ModelError

    policy = tiny_policy("llama")
    policy.verify()
    object.__setattr__(policy.head, "scale", 1.5)
    with pytest.raises(ModelError, match="differs from the model's own"):
        policy.verify()
