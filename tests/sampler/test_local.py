"""The in-process sampler: the same rollout alone and in any batch, exact log-probabilities, every end honoured."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
import torch

from charter.errors import DataError
from charter.learner.local import SharedWeights
from charter.model import few_rows, native
from charter.sampler import decoding, local
from charter.sampler.decoding import Decoding, SideBySide
from charter.sampler.local import LocalSampler
from charter.sampler.prefill import Recording
from charter.types import Group, Prompt


def how(**changed):
    return SimpleNamespace(
        **({"group_size": 4, "max_new_tokens": 24, "temperature": 1.0, "top_p": 1.0, "top_k": 0} | changed)
    )


PROMPTS = [Prompt(id=f"p{i}", messages=({"role": "user", "content": "word " * i},)) for i in range(1, 8)]


def draw(
    policy, prompts, settings=None, *, step=1, stream="train", max_rows=512, seed=0, precision="model"
) -> dict[str, Group]:
    async def run() -> dict[str, Group]:
        sampler = LocalSampler(policy, seed, max_rows=max_rows, precision=precision)
        return {g.prompt.id: g async for g in sampler.sample(prompts, settings or how(), step, stream=stream)}

    return asyncio.run(run())


def tokens(groups: dict[str, Group]) -> dict[str, list[tuple[int, ...]]]:
    return {name: [r.tokens for r in group.rollouts] for name, group in groups.items()}


def test_a_rollout_is_the_same_alone_in_a_batch_of_seven_and_in_another_order(tiny_policy, family):
    policy = tiny_policy(family)
    together = tokens(draw(policy, PROMPTS))
    assert tokens(draw(policy, PROMPTS[::-1])) == together
    assert tokens(draw(policy, PROMPTS, max_rows=8)) == together
    for prompt in PROMPTS[2:4]:
        assert tokens(draw(policy, [prompt])) == {prompt.id: together[prompt.id]}
    alone = draw(policy, PROMPTS[:1], how(group_size=1))
    assert tokens(alone)["p1"][0] == together["p1"][0]


def test_logprobs_are_those_of_the_models_own_forward(tiny_policy, family):
    policy = tiny_policy(family)
    groups = draw(policy, PROMPTS[:3], how(temperature=0.7))
    policy.module.set_attn_implementation("eager")
    with torch.inference_mode():
        for group in groups.values():
            for rollout in group.rollouts:
                ids = torch.tensor([[*group.prompt_tokens, *rollout.tokens]])
                expected = torch.log_softmax(policy.module(ids).logits[0] / 0.7, -1)
                start = len(group.prompt_tokens) - 1
                for t, (token, logprob) in enumerate(zip(rollout.tokens, rollout.logprobs, strict=True)):
                    assert logprob == pytest.approx(expected[start + t, token].item(), abs=2e-5)


def test_kernels_draw_what_torch_draws(tiny_policy, monkeypatch):
    """Padded prompts, rows that end, caches that are packed and that grow: through the kernels, and without them."""
    policy = tiny_policy("llama")
    ran: list[int] = []
    kernels = few_rows._products()

    def counted(lanes):
        def count(*words):
            ran.append(lanes)
            kernels[lanes](*words)

        return count

    monkeypatch.setattr(few_rows, "_products", lambda: {lanes: counted(lanes) for lanes in kernels})
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        by_kernels = draw(policy, PROMPTS, how(max_new_tokens=70))
        assert ran.count(16) > 100
        assert 8 in ran  # when few rows are left
        so_far = list(ran)
        monkeypatch.setattr(native, "_compiles", lambda: False)
        by_torch = draw(policy, PROMPTS, how(max_new_tokens=70))
    finally:
        torch.set_num_threads(before)
    assert ran == so_far
    assert tokens(by_kernels) == tokens(by_torch)
    assert len({len(r.tokens) for group in by_torch.values() for r in group.rollouts}) >= 5


@pytest.mark.parametrize(
    ("prompts", "completions", "loops", "shares"),
    [
        (4, 8, 2, [[(0, range(8)), (2, range(8))], [(1, range(8)), (3, range(8))]]),
        (1, 16, 2, [[(0, range(8))], [(0, range(8, 16))]]),
        (1, 6, 4, [[(0, range(2))], [(0, range(2, 4))], [(0, range(4, 6))]]),  # 6 has no 4 equal parts
        (2, 4, 4, [[(0, range(2))], [(0, range(2, 4))], [(1, range(2))], [(1, range(2, 4))]]),
        (3, 5, 4, [[(0, range(5))], [(1, range(5))], [(2, range(5))]]),
        (0, 4, 2, [[]]),
    ],
)
def test_what_each_loop_writes(prompts, completions, loops, shares):
    assert local.shares_of(prompts, completions, loops) == shares


@pytest.mark.parametrize("loops", [2, 3])
def test_a_group_that_is_written_by_several_loops_is_the_same_and_comes_whole(tiny_policy, monkeypatch, loops):
    policy = tiny_policy("llama")
    monkeypatch.setattr(local, "loops_for", lambda rows, device: 1)
    alone = draw(policy, PROMPTS[:1], how(group_size=6))
    monkeypatch.setattr(local, "loops_for", lambda rows, device: loops)
    assert draw(policy, [], how()) == {}
    ran: list[int] = []
    run = Decoding.run
    monkeypatch.setattr(Decoding, "run", lambda self, *words: (ran.append(len(words[1][0])), run(self, *words))[1])
    read: list[int] = []
    real = decoding.prefill
    monkeypatch.setattr(decoding, "prefill", lambda policy, ids: (read.append(len(ids)), real(policy, ids))[1])
    together = draw(policy, PROMPTS[:1], how(group_size=6))
    assert ran == [6 // loops] * loops
    assert read == [1]  # once for all loops
    assert tokens(together) == tokens(alone)
    assert [rollout.index for rollout in together["p1"].rollouts] == [*range(6)]


def test_step_stream_and_seed_change_what_is_drawn(tiny_policy):
    policy = tiny_policy("llama")
    base = tokens(draw(policy, PROMPTS[:2]))
    assert tokens(draw(policy, PROMPTS[:2])) == base
    for changed in ({"step": 2}, {"stream": "eval"}, {"seed": 1}):
        assert tokens(draw(policy, PROMPTS[:2], **changed)) != base


def test_completions_end_at_every_end_id_and_at_the_limit(tiny_policy):
    policy = tiny_policy("llama")
    with torch.no_grad():
        policy.module.lm_head.weight.zero_()  # every token equally likely: ends come often
    policy.chat.eos_ids = frozenset({2, *range(100, 140)})
    rollouts = [r for g in draw(policy, PROMPTS, how(max_new_tokens=12)).values() for r in g.rollouts]
    ended = [r for r in rollouts if r.stop == "eos"]
    assert ended
    assert len({r.tokens[-1] for r in ended}) > 1
    for rollout in rollouts:
        assert all(t not in policy.chat.eos_ids for t in rollout.tokens[:-1])
        if rollout.stop == "eos":
            assert rollout.tokens[-1] in policy.chat.eos_ids
        else:
            assert (rollout.stop, len(rollout.tokens)) == ("length", 12)
            assert rollout.tokens[-1] not in policy.chat.eos_ids


def test_frequencies_follow_the_models_distribution(tiny_policy):
    policy = tiny_policy("llama")
    group = draw(policy, PROMPTS[:1], how(group_size=512, max_new_tokens=1))["p1"]
    logits = policy.module.set_attn_implementation("eager") or policy.module(torch.tensor([group.prompt_tokens])).logits
    probs = torch.softmax(logits[0, -1].detach(), -1)
    for token in probs.topk(5).indices.tolist():
        share = sum(r.tokens[0] == token for r in group.rollouts) / 512
        assert abs(share - probs[token].item()) < 5 * (probs[token].item() / 512) ** 0.5


def test_the_cache_grows_past_its_first_capacity(tiny_policy):
    policy = tiny_policy("gpt2")
    policy.chat.eos_ids = frozenset()
    group = draw(policy, PROMPTS[:1], how(group_size=2, max_new_tokens=100))["p1"]
    assert [len(r.tokens) for r in group.rollouts] == [100, 100]
    policy.module.set_attn_implementation("eager")
    rollout = group.rollouts[1]
    with torch.inference_mode():
        logits = policy.module(torch.tensor([[*group.prompt_tokens, *rollout.tokens]])).logits[0]
    last = torch.log_softmax(logits[-2], -1)[rollout.tokens[-1]].item()
    assert rollout.logprobs[-1] == pytest.approx(last, abs=2e-5)


def test_the_version_is_that_of_the_loaded_weights(tiny_policy):
    policy = tiny_policy("llama")

    async def run():
        sampler = LocalSampler(policy, 0)
        await sampler.load(SharedWeights(7, policy))
        return [g async for g in sampler.sample(PROMPTS[:1], how(max_new_tokens=2), 1)]

    assert {r.version for g in asyncio.run(run()) for r in g.rollouts} == {7}


def test_a_prompt_that_leaves_no_room_is_named(tiny_policy):
    with pytest.raises(
        DataError, match=r"prompt long .* has \d+ tokens; with sampling.max_new_tokens = 24 .* 256 positions"
    ):
        draw(tiny_policy("llama"), [Prompt(id="long", messages=({"role": "user", "content": "x" * 240},))])


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="torch has no FBGEMM here")
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
def test_in_8_bits_a_rollout_is_the_same_in_any_batch_and_its_logprobs_are_those_it_was_drawn_with(tiny_policy, family):
    policy = tiny_policy(family)
    together = draw(policy, PROMPTS[:4], precision="int8")
    assert tokens(draw(policy, PROMPTS[3::-1], precision="int8", max_rows=4)) == tokens(together)
    exact = draw(policy, PROMPTS[:4])
    differences = []
    for name, group in together.items():
        for rollout, own in zip(group.rollouts, exact[name].rollouts, strict=True):
            for i, (token, logprob) in enumerate(zip(rollout.tokens, rollout.logprobs, strict=True)):
                if token != own.tokens[i]:
                    break  # from here on another text
                differences.append(abs(logprob - own.logprobs[i]))
                if i == 0:
                    assert logprob == own.logprobs[0]  # the prompt went through the policy itself
    assert 1e-6 < sum(differences) / len(differences) < 0.1
    assert draw(policy, PROMPTS[:2], precision="int8", stream="eval") == draw(policy, PROMPTS[:2], stream="eval")


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="torch has no FBGEMM here")
def test_in_8_bits_new_weights_are_drawn_from_when_they_are_loaded(tiny_policy):
    policy = tiny_policy("llama")
    sampler = LocalSampler(policy, 0, precision="int8")

    async def run() -> list[tuple[int, ...]]:
        return [r.tokens async for g in sampler.sample(PROMPTS[:2], how(), 1) for r in g.rollouts]

    async def both() -> tuple[list[tuple[int, ...]], ...]:
        await sampler.load(SharedWeights(1, policy))
        first, again = await run(), await run()
        with torch.no_grad():
            for parameter in policy.module.parameters():
                parameter.mul_(1.5)
        await sampler.load(SharedWeights(2, policy))
        return first, again, await run()

    first, again, changed = asyncio.run(both())
    assert first == again
    assert changed != first


def test_groups_are_admitted_while_others_decode_and_the_room_is_kept(tiny_policy, monkeypatch):
    policy = tiny_policy("llama")
    with torch.no_grad():
        policy.module.lm_head.weight.zero_()  # every token equally likely: completions end at different times
    policy.chat.eos_ids = frozenset({2, *range(100, 160)})
    prompts = [Prompt(id=f"p{i}", messages=({"role": "user", "content": f"{i}"},)) for i in range(12)]
    settings = how(group_size=2, max_new_tokens=40)
    together = tokens(draw(policy, prompts, settings))
    batches: list[int] = []
    own = policy.hidden

    def hidden(tokens, positions, layout):
        if not isinstance(layout, Recording):  # a turn of decoding, no prefill
            batches.append(len(tokens))
        return own(tokens, positions, layout)

    monkeypatch.setattr(policy, "hidden", hidden)
    monkeypatch.setattr(decoding, "fit_for_lanes", lambda *_: False)
    monkeypatch.setattr(local, "loops_for", lambda rows, device: 1)
    assert tokens(draw(policy, prompts, settings, max_rows=8)) == together
    assert max(batches) <= 8
    longest = [max(map(len, together[f"p{i}"])) for i in range(12)]
    in_turns = sum(max(longest[at : at + 4]) - 1 for at in range(0, 12, 4))  # four groups fit; the first token is free
    assert len(batches) < in_turns
    assert sum(batches) == sum(len(row) - 1 for rows in together.values() for row in rows)


def test_side_by_side_each_layout_sees_its_own_tokens():
    class Sums:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def attend(self, query, key, value, spec):
            return (self.factor * (query + key.sum(1, keepdim=True) + value.sum(1, keepdim=True))).transpose(0, 1)

    query, key, value = (torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(i)) for i in range(3))
    both = SideBySide([Sums(1), Sums(10)], [2, 3]).attend(query, key, value, None)
    assert both.shape == (5, 2, 3)
    assert torch.equal(both[:2], Sums(1).attend(query[:, :2], key[:, :2], value[:, :2], None))
    assert torch.equal(both[2:], Sums(10).attend(query[:, 2:], key[:, 2:], value[:, 2:], None))
