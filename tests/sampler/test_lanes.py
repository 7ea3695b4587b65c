"""Rows as lanes of kernels: the hidden states of torch's path, whatever ends when, and where kernels do not serve."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from charter.errors import DivergedError
from charter.sampler import decoding, local
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
    assert fit_for_lanes(fused, taken, 80)
    lanes = Lanes(fused, taken, slots, 80)
    assert not taken.own_keys + taken.prompt_keys  # nothing is there twice
    for step in range(before, 70):  # beyond the first 64 cells
        tokens = read(step, len(slots))
        torch.testing.assert_close(
            lanes.hidden(fused, tokens), by_torch(policy, expected, slots, tokens), atol=2e-5, rtol=2e-5
        )


def kept(ended: tuple[int, ...]):
    return lambda rows: [i for i in range(rows) if i not in ended]


def spread(left: int):
    return lambda rows: [i * rows // left for i in range(left)]


FEWER_AND_FEWER = [kept(ended) for ended in [(), (0, 9), (), tuple(range(14)), (1,), (0, 1, 2), (0,), ()]]


@pytest.mark.usefixtures("inference")
@pytest.mark.parametrize(
    ("completions", "stays", "widths"),
    [
        (8, FEWER_AND_FEWER, [32, 32, 32, 8, 8, 8, 8, 8]),  # 24, 22, 22, 8, 7, 4, 3, 3 rows
        (20, [spread(left) for left in (60, 60, 30, 30, 12, 12)], [64, 64, 32, 32, 16, 16]),  # rows of every tile stay
    ],
    ids=["to one of 8", "tile by tile"],
)
def test_rows_that_end_leave_the_others_as_they_were(tiny_policy, completions, stays, widths):
    policy = tiny_policy("llama")
    expected, taken = both(policy, completions, most=40)
    slots = list(range(3 * completions))
    fused = policy.fused_forward()
    lanes = Lanes(fused, taken, slots, 40)
    found = []
    for step, stay in enumerate(stays):
        still = stay(len(slots))
        lanes.keep(still)
        slots = [slots[i] for i in still]
        tokens = read(step, len(slots))
        torch.testing.assert_close(
            lanes.hidden(fused, tokens), by_torch(policy, expected, slots, tokens), atol=2e-5, rtol=2e-5
        )
        found.append(len(lanes._groups))
    assert found == widths
    lanes.keep([])


@pytest.mark.usefixtures("inference")
def test_a_row_does_not_depend_on_the_others(tiny_policy):
    """Bit by bit, also where its block of lanes has the rows of another prompt in it, or none."""
    policy = tiny_policy("llama")
    first, second = both(policy, 3, most=8)
    fused = policy.fused_forward()
    together, alone = Lanes(fused, first, list(range(9)), 8), Lanes(fused, second, [2, 3], 8)
    for step in range(4):
        tokens = read(step, 9)
        assert torch.equal(together.hidden(fused, tokens)[2:4], alone.hidden(fused, tokens[2:4]))


@pytest.mark.usefixtures("inference")
@pytest.mark.parametrize("few", [[], [1, 9, 10]], ids=str)  # all twelve; or of the first and the last group
@pytest.mark.parametrize(("width", "size", "heads", "kv_heads"), [(24, 16, 3, 1), (40, 24, 2, 2), (64, 8, 8, 2)])
def test_other_sizes_after_the_cache_was_packed(tiny_policy, width, size, heads, kv_heads, few):
    from transformers import LlamaConfig, LlamaForCausalLM

    policy = tiny_policy("llama")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=259, hidden_size=width, intermediate_size=56, num_hidden_layers=2, head_dim=size,
        num_attention_heads=heads, num_key_value_heads=kv_heads, initializer_range=0.2,
    )  # fmt: skip
    with torch.inference_mode(mode=False):
        policy = type(policy)(LlamaForCausalLM(config).eval(), policy.chat, source="other sizes")
    expected, taken = both(policy, 4, most=12)
    slots = list(range(12))
    for step in range(3):
        for cache in (expected, taken):
            by_torch(policy, cache, slots, read(step, 12))
    left = few or list(range(12))
    packed = (taken.pack(left) if few else None) or left
    fused = policy.fused_forward()
    assert fit_for_lanes(fused, taken, 12)
    lanes = Lanes(fused, taken, packed, 12)
    for step in range(3, 12):
        tokens = read(step, len(left))
        torch.testing.assert_close(
            lanes.hidden(fused, tokens), by_torch(policy, expected, left, tokens), atol=2e-5, rtol=2e-5
        )
    with pytest.raises(ValueError, match="room for 12 own tokens, and number 13 came"):
        lanes.hidden(fused, read(12, len(left)))


@pytest.mark.usefixtures("inference")
def test_where_kernels_do_not_serve(tiny_policy):
    def fits(family: str = "llama", dtype=None, change=lambda module: None) -> bool:
        policy = tiny_policy(family, dtype=dtype)
        cache = GroupCache(prefill(policy, PROMPTS), 2, 8)
        with torch.inference_mode(mode=False):
            change(policy.module.model)
        return fit_for_lanes(policy.fused_forward(), cache, 8)

    def transposed(model):
        weight = model.layers[1].mlp.down_proj.weight
        weight.data = weight.data.T.contiguous().T

    def precise(model):
        model.layers[1].post_attention_layernorm.double()

    def longrope(model):
        model.rotary_emb.rope_type = "longrope"

    assert fits()
    assert not fits("qwen3")  # norms over each head
    assert not fits("mistral")  # a window of 7
    assert not fits(dtype=torch.float64)
    assert not fits(change=transposed)
    assert not fits(change=precise)
    assert not fits(change=longrope)
    with torch.inference_mode(mode=False), torch.no_grad():
        assert not fits()


@pytest.mark.parametrize(("rows", "expected"), [(1, False), (2, True), (64, True), (65, False)])
def test_how_many_rows_become_lanes(tiny_policy, monkeypatch, counted, rows, expected):
    monkeypatch.setattr(local, "loops_for", lambda rows, device: 1)
    policy = tiny_policy("llama")
    policy.chat.eos_ids = frozenset()
    sampled(policy, 1, group_size=rows, max_new_tokens=3)
    assert counted == [rows] * (2 if expected else 0)


def test_weights_that_are_replaced_between_two_turns_are_read(tiny_policy, monkeypatch):
    policy = tiny_policy("llama")
    policy.chat.eos_ids = frozenset()
    own, other = (
        {name: weight.clone() for name, weight in tiny_policy("llama", seed=seed).module.state_dict().items()}
        for seed in (0, 7)
    )
    turns, advance = [], decoding.Decoding._advance

    def replacing(self, *words, **named):
        turns.append(None)
        if len(turns) == 5:
            policy.module.load_state_dict(other, assign=True)
        return advance(self, *words, **named)

    monkeypatch.setattr(decoding.Decoding, "_advance", replacing)
    by_kernels = sampled(policy, 1)
    policy.module.load_state_dict(own, assign=True)
    turns.clear()
    monkeypatch.setattr(decoding, "fit_for_lanes", lambda *_: False)
    assert sampled(policy, 1) == by_kernels


@pytest.fixture
def counted(monkeypatch):
    """Rows of each step by kernels."""
    taken: list[int] = []

    class Counted(Lanes):
        def hidden(self, fused, tokens):
            taken.append(len(tokens))
            return super().hidden(fused, tokens)

    monkeypatch.setattr(decoding, "Lanes", Counted)
    return taken


def sampled(policy, count: int = 3, *, max_rows: int = 512, **other) -> list[list[tuple[int, ...]]]:
    settings = SimpleNamespace(**{"group_size": 6, "max_new_tokens": 30, "temperature": 1.0, "top_p": 1.0, "top_k": 0,
                                  **other})  # fmt: skip
    prompts = [Prompt(id=f"p{i}", messages=({"role": "user", "content": "x" * i},)) for i in range(count)]

    async def run():
        groups = [group async for group in LocalSampler(policy, seed=3, max_rows=max_rows).sample(prompts, settings, 1)]
        return [[rollout.tokens for rollout in group.rollouts] for group in sorted(groups, key=lambda g: g.prompt.id)]

    return asyncio.run(run())


def test_the_same_tokens_with_and_without(tiny_policy, monkeypatch, counted):
    policy = tiny_policy("llama")
    policy.chat.eos_ids = frozenset(range(0, 259, 12))  # rows end at different times
    by_kernels = sampled(policy)
    assert sum(counted) == sum(len(row) - 1 for group in by_kernels for row in group)
    assert len({len(row) for group in by_kernels for row in group}) > 4
    monkeypatch.setattr(decoding, "fit_for_lanes", lambda *_: False)
    assert sampled(policy) == by_kernels


def test_rows_become_lanes_once_nothing_waits(tiny_policy, monkeypatch, counted):
    monkeypatch.setattr(local, "loops_for", lambda rows, device: 1)
    policy = tiny_policy("llama")
    policy.chat.eos_ids = frozenset(range(0, 259, 12))
    in_turns = sampled(policy, 5, max_rows=12)  # two groups at once, others follow as those end
    written = sum(len(row) - 1 for group in in_turns for row in group)
    assert 0 < sum(counted) < written
    assert sampled(policy, 5) == in_turns


@pytest.mark.parametrize("name", ["q_proj", "v_proj"])
def test_weights_that_are_not_finite_are_noticed(tiny_policy, monkeypatch, counted, name):
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
    assert counted
