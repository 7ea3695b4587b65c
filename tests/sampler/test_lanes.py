"""Rows as lanes of kernels: the hidden states of torch's path, whatever ends when, and where kernels do not serve."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from charter.errors import DivergedError
from charter.sampler import decoding
from charter.sampler.cache import GroupCache
from charter.sampler.lanes import Lanes, fit_for_lanes
from charter.sampler.local import LocalSampler
from charter.sampler.prefill import prefill
from charter.types import Prompt

PROMPTS = [tuple(range(5, 5 + length)) for length in (11, 3, 8)]


@pytest.fixture
def inference():
    with torch.inference_mode():
        yield


def both(policy, completions: int, most: int) -> tuple[GroupCache, GroupCache]:
    return tuple(GroupCache(prefill(policy, PROMPTS), completions, most) for _ in range(2))  # type: ignore[return-value]


def by_torch(policy, cache: GroupCache, slots: list[int], tokens: list[int]) -> torch.Tensor:
    at = torch.tensor(slots)
    hidden = policy.hidden(torch.tensor(tokens), cache.positions(at), cache.layout(at))
    cache.step += 1
    return hidden


def read(step: int, rows: int) -> list[int]:
    return [(17 * step + 5 * row + 3) % 259 for row in range(rows)]


@pytest.mark.usefixtures("inference")
@pytest.mark.parametrize("family", ["llama", "qwen2"])  # the latter's projections have biases
@pytest.mark.parametrize("completions", [1, 3, 8])  # blocks of eight lanes then have three, two and one prompts
@pytest.mark.parametrize("before", [0, 3])  # steps by torch before the rows become lanes
def test_the_hidden_states_of_torchs_path(tiny_policy, family, completions, before):
    policy = tiny_policy(family)
    expected, taken = both(policy, completions, most=80)
    slots = list(range(3 * completions))
    for step in range(before):
        for cache in (expected, taken):
            by_torch(policy, cache, slots, read(step, len(slots)))
    fused = policy.fused_forward()
    assert fit_for_lanes(fused, taken, len(slots), 80)
    lanes = Lanes(fused, taken, slots, 80)
    taken.release()
    for step in range(before, 70):  # beyond the first 64 cells
        tokens = read(step, len(slots))
        torch.testing.assert_close(
            lanes.hidden(tokens), by_torch(policy, expected, slots, tokens), atol=2e-5, rtol=2e-5
        )


@pytest.mark.usefixtures("inference")
def test_rows_that_end_leave_the_others_as_they_were(tiny_policy):
    policy = tiny_policy("llama")
    expected, taken = both(policy, 8, most=40)
    slots = list(range(24))
    lanes = Lanes(policy.fused_forward(), taken, slots, 40)
    widths = []
    for step, ended in enumerate([(), (0, 9), (), tuple(range(14)), (1,), (0, 1, 2), (0,), ()]):
        still = [i for i in range(len(slots)) if i not in ended]
        lanes.keep(still)
        slots = [slots[i] for i in still]
        tokens = read(step, len(slots))
        torch.testing.assert_close(
            lanes.hidden(tokens), by_torch(policy, expected, slots, tokens), atol=2e-5, rtol=2e-5
        )
        widths.append(len(lanes._groups))
    assert widths == [32, 32, 32, 8, 8, 8, 8, 8]  # 24, 22, 22, 8, 7, 4, 3, 3 rows
    lanes.keep([])


@pytest.mark.usefixtures("inference")
def test_a_row_does_not_depend_on_the_others(tiny_policy):
    """Bit by bit, also where its block of lanes has the rows of another prompt in it, or none."""
    policy = tiny_policy("llama")
    first, second = both(policy, 3, most=8)
    together = Lanes(policy.fused_forward(), first, list(range(9)), 8)
    alone = Lanes(policy.fused_forward(), second, [2, 3], 8)
    for step in range(4):
        tokens = read(step, 9)
        assert torch.equal(together.hidden(tokens)[2:4], alone.hidden(tokens[2:4]))


@pytest.mark.usefixtures("inference")
def test_where_kernels_do_not_serve(tiny_policy):
    def fits(family: str = "llama", rows: int = 6, most: int = 8, dtype=None) -> bool:
        policy = tiny_policy(family, dtype=dtype)
        cache = GroupCache(prefill(policy, PROMPTS), 2, most)
        return fit_for_lanes(policy.fused_forward(), cache, rows, most)

    assert fits()
    assert not fits(rows=1)
    assert not fits(rows=65)
    assert not fits("qwen3")  # norms over each head
    assert not fits("mistral")  # a window of 7
    assert not fits(dtype=torch.float64)
    with torch.inference_mode(mode=False), torch.no_grad():
        assert not fits()


def sampled(policy, count: int = 3, **other) -> list[list[tuple[int, ...]]]:
    settings = SimpleNamespace(**{"group_size": 6, "max_new_tokens": 30, "temperature": 1.0, "top_p": 1.0, "top_k": 0,
                                  **other})  # fmt: skip
    prompts = [Prompt(id=f"p{i}", messages=({"role": "user", "content": "x" * i},)) for i in range(count)]

    async def run():
        groups = [group async for group in LocalSampler(policy, seed=3).sample(prompts, settings, 1)]
        return [[rollout.tokens for rollout in group.rollouts] for group in sorted(groups, key=lambda g: g.prompt.id)]

    return asyncio.run(run())


def test_the_same_tokens_with_and_without(tiny_policy, monkeypatch):
    policy = tiny_policy("llama")
    policy.chat.eos_ids = frozenset(range(0, 259, 12))  # rows end at different times
    taken = []

    class Counted(Lanes):
        def hidden(self, tokens):
            taken.append(len(tokens))
            return super().hidden(tokens)

    monkeypatch.setattr(decoding, "Lanes", Counted)
    by_kernels = sampled(policy)
    assert sum(taken) == sum(len(row) - 1 for group in by_kernels for row in group)
    assert len(set(map(len, (row for group in by_kernels for row in group)))) > 4
    monkeypatch.setattr(decoding, "fit_for_lanes", lambda *_: False)
    assert sampled(policy) == by_kernels


@pytest.mark.parametrize("name", ["q_proj", "v_proj"])
def test_weights_that_are_not_finite_are_noticed(tiny_policy, monkeypatch, name):
    """No comparison in the softmax may hide a NaN."""
    policy = tiny_policy("llama")
    policy.fused_forward()
    with torch.no_grad():
        getattr(policy.module.model.layers[1].self_attn, name).weight[0, 0] = float("nan")
    real = decoding.prefill

    def finite(policy, prompts):  # the first token would tell already
        read = real(policy, prompts)
        return replace(read, last_hidden=torch.nan_to_num(read.last_hidden))

    monkeypatch.setattr(decoding, "prefill", finite)
    with pytest.raises(DivergedError, match="not finite"):
        sampled(policy)
