"""Trees through FlexAttention are trees through the other layouts. Written for CUDA; its formula runs here too."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from charter.model import flex
from charter.model.flex import FlexLayout
from charter.model.prefix import PackedTrees, TreeLayout
from charter.types import Branch, Tree

pytestmark = [
    pytest.mark.filterwarnings("ignore:flex_attention called without"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]


def branch(*tokens: int) -> Branch:
    return Branch(tokens=tokens, mask=(True,) * len(tokens))


TREES = [
    Tree(prefix=tuple(range(5, 28)), branches=(branch(7, 8, 9), branch(3), branch(*range(30, 44)))),
    Tree(prefix=(40,), branches=(branch(*range(60, 69)), branch(61, 62))),
    Tree(prefix=(50, 51, 52), branches=()),
]


def layouts() -> tuple[PackedTrees, TreeLayout, FlexLayout]:
    packed = PackedTrees.pack(TREES)
    plain = partial(TreeLayout, packed.spans, packed.tokens.device)
    return packed, plain(), FlexLayout(packed.spans, packed.tokens.device, plain)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3", "gpt2"])
def test_it_is_the_attention_of_the_trees(tiny_policy: Any, family: str) -> None:
    """gemma2 has soft caps and windows, mistral and gemma3 windows, most share key heads."""
    policy = tiny_policy(family)
    packed, plain, flexible = layouts()
    with torch.no_grad():
        expected = policy.hidden(packed.tokens, packed.positions, plain)
        found = policy.hidden(packed.tokens, packed.positions, flexible)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_its_gradient_is_theirs(tiny_policy: Any, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """torch refuses a backward on a CPU for want of a kernel; its written-out formula has one."""
    from torch.nn.attention import flex_attention

    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    found = []
    for which in (1, 2):
        policy = tiny_policy(family, dtype=torch.float64)
        packed, *both = layouts()
        policy.hidden(packed.tokens, packed.positions, both[which - 1]).square().sum().backward()
        found.append([p.grad for p in policy.module.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 10
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


def test_without_a_compiler_the_other_layout_serves_and_says_so(
    tiny_policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kernel(compiled: bool) -> Any:
        def refuses(*_: Any, **__: Any) -> Any:
            raise torch._dynamo.exc.TorchDynamoException("no compiler")

        return refuses

    policy = tiny_policy("llama")
    packed, plain, flexible = layouts()
    monkeypatch.setattr(flex, "_failed", [])
    monkeypatch.setattr(flex, "_kernel", kernel)
    with torch.no_grad():
        expected = policy.hidden(packed.tokens, packed.positions, plain)
        with pytest.warns(RuntimeWarning, match="without FlexAttention: .*no compiler"):
            found = policy.hidden(packed.tokens, packed.positions, flexible)
    torch.testing.assert_close(found, expected)
    assert not flex.serves(torch.device("cuda"))


def test_it_serves_cuda_alone() -> None:
    assert not flex.serves(torch.device("cpu"))
    assert isinstance(PackedTrees.pack(TREES).layout(), TreeLayout)
