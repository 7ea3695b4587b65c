"""What the cache of keys and values costs, and what packing it keeps."""

from __future__ import annotations

import pytest
import torch

from charter.sampler.cache import GroupCache, rows_that_fit
from charter.sampler.prefill import prefill


def test_rows_are_bounded_by_a_quarter_of_the_memory(tiny_policy, monkeypatch):
    policy = tiny_policy("llama")
    monkeypatch.setattr(type(policy), "memory_bytes", property(lambda self: 2**20))
    # 2 layers · (keys, values) · 2 heads · 8 · 4 bytes = 256 bytes a token; 10 new tokens and 24 / 4 of the prompt each
    assert rows_that_fit(policy, 24, 4, 10) == 2**18 // (256 * 16)


@pytest.fixture
def cache(tiny_policy):
    with torch.no_grad():
        return GroupCache(prefill(tiny_policy("llama"), [(5, 6, 7), (8, 9), (10,)]), 4, 16)


def test_packing_waits_until_half_of_the_slots_idle(cache):
    assert cache.slots == 12
    assert cache.pack([0, 1, 2, 4, 5, 8, 9]) is None  # three groups of width 3: nothing is gained
    assert cache.pack([0, 1, 4, 5, 8, 9]) == [0, 1, 2, 3, 4, 5]
    assert (cache.groups, cache.completions) == (3, 2)


def test_packing_drops_finished_groups_and_keeps_each_rows_keys(cache):
    cache.reserve(1)
    for layer in range(2):
        cache.own_keys[layer][:] = torch.arange(12)[:, None, None, None].float()
    prompts = cache.prompt_keys[0].clone()
    assert cache.pack([6, 4, 11]) == [0, 1, 2]  # slots of groups 1 and 2, in the caller's order
    assert (cache.groups, cache.completions, cache.lengths.tolist()) == (2, 2, [2, 1])
    assert cache.own_keys[0][:, 0, 0, 0].tolist() == [6, 4, 11, 11]
    assert torch.equal(cache.prompt_keys[0], prompts[1:])
