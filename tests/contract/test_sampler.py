"""What every Sampler promises, run on every implementation."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from charter.protocols import Sampler
from charter.sampler.local import LocalSampler
from charter.sampler.scripted import ScriptedSampler
from charter.types import Prompt

SETTINGS = SimpleNamespace(group_size=3, max_new_tokens=5, temperature=1.0, top_p=1.0, top_k=0)
PROMPTS = [Prompt(id=f"p{i}", messages=({"role": "user", "content": f"{i}?"},)) for i in range(3)]


@pytest.fixture(params=["local", "scripted", "scripted function", "scripted without tokens"])
def sampler(request, tiny_policy) -> Sampler:
    policy = tiny_policy("llama")
    return {
        "local": lambda: LocalSampler(policy, 0),
        "scripted": lambda: ScriptedSampler(["one", "a longer text", ""], policy.chat),
        "scripted function": lambda: ScriptedSampler(lambda p, i, step: f"{p.id}{i}{step}", policy.chat),
        "scripted without tokens": lambda: ScriptedSampler(["one", "two"]),
    }[request.param]()


def groups(sampler, prompts=PROMPTS, step=1):
    async def run():
        await sampler.load(SimpleNamespace(version=4))
        return [g async for g in sampler.sample(prompts, SETTINGS, step)]

    return asyncio.run(run())


def test_it_is_a_sampler(sampler):
    assert isinstance(sampler, Sampler)


def test_one_group_per_prompt_with_every_index_once(sampler):
    got = groups(sampler)
    assert sorted(g.prompt.id for g in got) == ["p0", "p1", "p2"]
    for group in got:
        assert [r.index for r in group.rollouts] == [0, 1, 2]
        assert {r.prompt_id for r in group.rollouts} == {group.prompt.id}


def test_tokens_and_logprobs_belong_together_and_keep_the_limit(sampler):
    for group in groups(sampler):
        for rollout in group.rollouts:
            assert len(rollout.tokens) == len(rollout.logprobs) <= 5
            assert rollout.stop in ("eos", "length")
            assert rollout.stop == "eos" or len(rollout.tokens) == 5
            assert all(logprob <= 0 for logprob in rollout.logprobs)
            assert rollout.version == 4


def test_the_same_question_gets_the_same_answer(sampler):
    def texts(got):
        return {g.prompt.id: [(r.tokens, r.text, r.stop) for r in g.rollouts] for g in got}

    first = texts(groups(sampler))
    assert texts(groups(sampler)) == first
    assert texts(groups(sampler, PROMPTS[1:2])) == {"p1": first["p1"]}
