"""Arithmetic by formula: counted by hand, and against torch's own counter on a real model."""

from __future__ import annotations

import pytest
import torch

from charter.evaluate.compare_accounting import Architecture, Work, forward_flops, learning_flops, work_of
from charter.types import Branch, Tree


def tree(prefix: int, *branches: int) -> Tree:
    return Tree(
        prefix=tuple(range(prefix)),
        branches=tuple(Branch(tokens=tuple(range(n)), mask=(True,) * n) for n in branches),
    )


def test_a_tree_by_hand():
    # prefix 3: 1 + 2 + 3 = 6 keys. Branch of 4 forwards 3 tokens, which see 4, 5 and 6 keys = 15; branch of 1 forwards
    # none. Tokens 3 + 3, predicted 4 + 1.
    assert work_of([tree(3, 4, 1)]) == Work(tokens=6, attended=21, predicted=5, rows=2)


def test_no_trees_are_no_work():
    assert work_of([]) == Work()


def test_a_group_counts_its_prompt_once():
    together, apart = work_of([tree(10, 5, 5)]), work_of([tree(10, 5), tree(10, 5)])
    assert apart.tokens - together.tokens == 10
    assert apart.attended - together.attended == 55  # 1 + … + 10
    assert apart.predicted == together.predicted == 10


def test_sums_and_multiples_agree():
    one = work_of([tree(4, 3)])
    assert one.times(3) == one + one + one
    assert Work.of(one.record()) == one


def test_operations_by_hand():
    architecture = Architecture(parameters=100, head=50, layers=2, attention_width=8)
    work = Work(tokens=6, attended=21, predicted=5, rows=2)
    # 2·100·6 + 4·2·8·21 + 2·50·5 = 1200 + 1344 + 500
    assert forward_flops(work, architecture) == 3044
    assert forward_flops(work, architecture, head=False) == 2544
    assert learning_flops(work, architecture) == 9132


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_against_torchs_counter(tiny_folder, family):
    """One sequence through the plain model: the formula against what torch counts in its matrix products."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    from charter.cli.compare_memory import architecture_of
    from charter.cli.estimate import read_shape

    folder = tiny_folder(family)
    shape = read_shape(folder)
    assert shape is not None
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    length = 40
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.arange(length)[None])
    architecture = architecture_of(shape)
    # eager attention multiplies whole squares, and predicts at every position
    work = Work(tokens=length, attended=length * length, predicted=length, rows=1)
    ours = forward_flops(work, architecture)
    norms = architecture.parameters - sum(
        size[0] * size[1] for name, size in shape.tensors.items() if len(size) == 2 and "embed" not in name
        and "lm_head" not in name
    )  # fmt: skip
    # the vectors of the norms count two per weight and token here, and in torch's counter nothing
    rotary = counter.get_total_flops() - (ours - 2 * norms * length)
    assert 0 <= rotary <= 0.001 * ours  # the angles of the positions are one small product
