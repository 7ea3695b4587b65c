"""DPO's batches, loss and gradient: an independent implementation, whole pairs, soft labels, pairs out of rewards."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charter.errors import DataError
from charter.learner.local import LocalLearner
from charter.recipe import DpoTable, OptimizerTable, SamplingTable
from charter.sampler.scripted import ScriptedSampler
from charter.train.preference import PairObjective, best_and_worst, dpo, online_dpo, pair_batch, pair_tree
from charter.types import Batch, Branch, Group, Pair, Prompt, Rollout, Score, Scored, Tree

STILL = OptimizerTable(learning_rate=1e-12)


def ids(rng: random.Random, low: int, high: int) -> tuple[int, ...]:
    return tuple(rng.randint(3, 258) for _ in range(rng.randint(low, high)))


def make_pairs(seed: int, count: int = 5) -> list[Tree]:
    rng = random.Random(seed)
    trees = []
    for _ in range(count):
        a, b, p = ids(rng, 1, 12), ids(rng, 1, 12), rng.choice([1.0, 0.0, 0.8, 0.5])
        trees.append(
            Tree(
                prefix=ids(rng, 1, 20),
                branches=tuple(Branch(tokens=t, mask=(True,) * len(t), preferred=q) for t, q in ((a, p), (b, 1 - p))),
            )
        )
    return trees


def step_of(policy: Any, batch: Batch, config: DpoTable, budget: int = 10_000) -> tuple[dict[str, float], torch.Tensor]:
    """Metrics of a step, and the gradient caught just before the optimizer."""
    learner = LocalLearner(policy, STILL, total_steps=1, microbatch_tokens=budget)
    caught: list[torch.Tensor] = []
    apply = learner.updater.apply

    def catch(*arguments: Any) -> dict[str, float]:
        caught.append(torch.cat([p.grad.flatten().clone() for p in policy.module.parameters() if p.grad is not None]))
        return apply(*arguments)

    learner.updater.apply = catch  # type: ignore[method-assign]
    return learner.step(batch, PairObjective(config=config)), caught[0]


def with_reference(trees: list[Tree], reference: Any) -> Batch:
    learner = LocalLearner(reference, STILL, total_steps=1, reference=reference)
    return pair_batch(trees, learner.reference_logprobs(trees, 1.0))


def plain_logprobs(module: Any, tree: Tree) -> list[torch.Tensor]:
    """Σ log p of each branch, in a padding-free forward of its own for each."""
    sums = []
    for branch in tree.branches:
        logits = module(torch.tensor([[*tree.prefix, *branch.tokens]])).logits[0].double()
        told = torch.log_softmax(logits, -1)
        at = len(tree.prefix) - 1
        sums.append(sum(told[at + t, token] for t, token in enumerate(branch.tokens)))
    return sums


def plain_loss(module: Any, reference: Any, trees: list[Tree], config: DpoTable) -> torch.Tensor:
    """The loss as the papers write it, a pair at a time, with exponentials and logarithms alone."""
    total = torch.zeros((), dtype=torch.float64)
    for tree in trees:
        a, b = plain_logprobs(module, tree)
        with torch.no_grad():
            ref_a, ref_b = plain_logprobs(reference, tree)
        ratio_a, ratio_b = a - ref_a, b - ref_b
        if config.kind == "length_normalized":
            ratio_a, ratio_b = ratio_a / len(tree.branches[0].tokens), ratio_b / len(tree.branches[1].tokens)
        h, p, e = ratio_a - ratio_b, tree.branches[0].preferred, config.label_smoothing
        q = p * (1 - e) + (1 - p) * e
        if config.kind == "ipo":
            total = total + q * (h - 0.5 / config.beta) ** 2 + (1 - q) * (h + 0.5 / config.beta) ** 2
        else:
            up = torch.log(1 + torch.exp(-config.beta * h))
            down = torch.log(1 + torch.exp(config.beta * h))
            total = total + q * up + (1 - q) * down
    return total / len(trees)


VARIANTS: list[dict[str, Any]] = [
    {"beta": 0.1},
    {"beta": 0.5, "label_smoothing": 0.2},
    {"kind": "cdpo", "beta": 0.1, "label_smoothing": 0.1},
    {"kind": "ipo", "beta": 0.3},
    {"kind": "length_normalized", "beta": 2.0, "label_smoothing": 0.1},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_loss_and_gradient_are_those_of_a_plain_implementation(tiny_policy, tiny_module, variant):
    config = DpoTable(**variant)
    policy, trees = tiny_policy("llama", dtype=torch.float64), make_pairs(1)
    batch = with_reference(trees, tiny_policy("llama", seed=1, dtype=torch.float64))
    metrics, gradient = step_of(policy, batch, config)

    module, reference = tiny_module("llama", dtype=torch.float64), tiny_module("llama", seed=1, dtype=torch.float64)
    for each in (module, reference):
        each.set_attn_implementation("eager")
    loss = plain_loss(module, reference, trees, config)
    loss.backward()
    plain = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert float((gradient - plain).abs().max() / plain.abs().max()) < 1e-5
    assert plain.abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float32, 1e-4)])
def test_any_cut_and_order_give_the_same_loss_and_gradient(tiny_policy, variant, dtype, tolerance):
    config, policy = DpoTable(**variant), tiny_policy("llama", dtype=dtype)
    batch = with_reference(make_pairs(2), tiny_policy("llama", seed=1, dtype=dtype))
    whole, gradient = step_of(policy, batch, config)
    turned = replace(batch, trees=tuple(replace(t, branches=t.branches[::-1]) for t in batch.trees[::-1]))
    for other in (batch, turned):
        for budget in (1, 60):
            metrics, cut = step_of(policy, other, config, budget)
            assert metrics["loss"] == pytest.approx(whole["loss"], rel=tolerance)
            assert float((cut - gradient).abs().max() / gradient.abs().max()) < tolerance
            for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"):
                if not any(b.preferred == 0.5 for t in batch.trees for b in t.branches) or name == "rewards/accuracies":
                    assert metrics[name] == pytest.approx(whole[name], rel=1e-3, abs=1e-4)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.integers(1, 120))
def test_no_pair_is_ever_cut(tiny_policy, seed, budget):
    policy = tiny_policy("llama")
    metrics, _ = step_of(policy, with_reference(make_pairs(seed, 3), policy), DpoTable(), budget)
    # the policy is its own reference: h = 0 for every pair, so every loss is log 2 whatever the label
    assert metrics["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics["rewards/margins"] == pytest.approx(0, abs=1e-4)


def test_a_cut_pair_is_refused(tiny_policy):
    batch = replace(with_reference(make_pairs(3, 2), tiny_policy("llama")), whole=False)
    with pytest.raises(ValueError, match="a pair was cut"):
        step_of(tiny_policy("llama"), batch, DpoTable(), budget=1)


def test_metrics_by_hand(tiny_policy):
    """β = 0.5; reference log-probabilities lp − 1 per token for a (3 tokens) and lp + 1 for b (1 token), p = 1:
    rewards 0.5 · 3 = 1.5 and 0.5 · (−1) = −0.5, margin 2, loss log(1 + e⁻²) = 0.126928. A second pair with p = 0.2 and
    a and b in each other's place: its better answer is the second, so the rewards are the same, and
    loss = 0.2 log(1 + e²) + 0.8 log(1 + e⁻²) = 0.2 · 2.126928 + 0.8 · 0.126928 = 0.526928."""
    policy = tiny_policy("llama")

    def tree(prefix: tuple[int, ...], p: float, turned: bool) -> Tree:
        long = Branch(tokens=(20, 21, 22), mask=(True,) * 3, preferred=1 - p if turned else p)
        short = Branch(tokens=(30,), mask=(True,), preferred=p if turned else 1 - p)
        return Tree(prefix=prefix, branches=(short, long) if turned else (long, short))

    trees = [tree((5, 6), 1.0, False), tree((7,), 0.2, True)]
    own = LocalLearner(policy, STILL, total_steps=1, reference=policy).reference_logprobs(trees, 1.0)
    reference = [[[lp - 1 if len(row) == 3 else lp + 1 for lp in row] for row in rows] for rows in own]
    metrics, _ = step_of(policy, pair_batch(trees, reference), DpoTable(beta=0.5))
    assert metrics["rewards/chosen"] == pytest.approx(1.5, abs=1e-4)
    assert metrics["rewards/rejected"] == pytest.approx(-0.5, abs=1e-4)
    assert metrics["rewards/margins"] == pytest.approx(2.0, abs=1e-4)
    assert metrics["rewards/accuracies"] == 1.0
    assert metrics["loss"] == pytest.approx((0.126928 + 0.526928) / 2, abs=1e-4)
    chosen = [sum(own[0][0]), sum(own[1][1])]
    assert metrics["logps/chosen"] == pytest.approx(sum(chosen) / 2, rel=1e-4)


def encode(messages: Any) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """A template of bytes: each turn's text, the assistant's closed by 2, and then a 9 that nobody wrote."""
    tokens: list[int] = []
    written: list[bool] = []
    for message in messages:
        own = message["role"] == "assistant"
        text = [ord(c) for c in message["content"]]
        tokens += [7, *text, *([2, 9] if own else [])]
        written += [False, *[own] * len(text), *([True, False] if own else [])]
    return tuple(tokens), tuple(written)


def test_a_pair_shares_its_prompt_and_ends_with_the_closing_token():
    asked = (
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "b"},
    )
    pair = Pair(id="1", prompt=Prompt(id="1", messages=asked), a="yes", b="n", p=0.75)
    tree = pair_tree(pair, encode, 100)
    assert tree.prefix == (7, 97, 7, 120, 2, 9, 7, 98, 7)  # the earlier assistant turn belongs to the prompt
    assert [b.tokens for b in tree.branches] == [(121, 101, 115, 2), (110, 2)]
    assert [b.preferred for b in tree.branches] == [0.75, 0.25]
    assert all(all(b.mask) for b in tree.branches)
    with pytest.raises(DataError, match=r"pair 1 has 13 tokens with its longer answer, more than dpo\.max_tokens = 12"):
        pair_tree(pair, encode, 12)


def test_the_trees_of_a_real_template_hold_the_prompt_that_is_sampled_from(tiny_policy):
    chat = tiny_policy("llama").chat
    asked = ({"role": "user", "content": "2+2?"},)
    tree = pair_tree(Pair(id="1", prompt=Prompt(id="1", messages=asked), a="4", b="five"), chat.encode_example, 100)
    assert tree.prefix == chat.encode_prompt(asked)
    assert [chat.decode(b.tokens) for b in tree.branches] == ["4", "five"]
    assert all(b.tokens[-1] in chat.eos_ids for b in tree.branches)
    plain = ({"role": "text", "content": "2+2="},)
    tree = pair_tree(Pair(id="1", prompt=Prompt(id="1", messages=plain), a="4", b="5"), chat.encode_example, 100)
    assert tree.prefix == chat.encode_prompt(plain)


def scored(*values: float | None) -> Scored:
    rollouts = tuple(
        Rollout(prompt_id="p", index=i, tokens=(10 + i, 2), logprobs=(-1.0, -1.0), text="", stop="eos", version=0)
        for i in range(len(values))
    )
    prompt = Prompt(id="p", messages=({"role": "text", "content": "p"},))
    return Scored(
        group=Group(prompt=prompt, rollouts=rollouts, prompt_tokens=(5,)),
        scores=tuple(Score(value=v, status="scored" if v is not None else "abstained") for v in values),
    )


def test_a_sampled_pair_is_the_best_and_the_worst():
    tree = best_and_worst(scored(0.5, 1.0, None, 0.0, 1.0, 0.0), "hard")
    assert tree is not None
    assert [(b.tokens[0], b.preferred) for b in tree.branches] == [(11, 1.0), (13, 0.0)]
    soft = best_and_worst(scored(0.0, 2.0), "bradley_terry")
    assert soft is not None
    # 1 / (1 + e⁻²) = 0.880797
    assert [b.preferred for b in soft.branches] == pytest.approx([0.880797, 0.119203], abs=1e-6)


@pytest.mark.parametrize("values", [(0.3, 0.3, 0.3), (None, 0.3), (None, None)])
def test_ties_and_lonely_completions_make_no_pair(values):
    assert best_and_worst(scored(*values), "hard") is None


class Recorder:
    """A learner that keeps what it is given; its reference says −1 of every token."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.version = 0

    def step(self, batch: Batch, objective: Any) -> dict[str, float]:
        self.batches.append(batch)
        self.version += 1
        return {"tokens/forwarded": 1.0}

    def reference_logprobs(self, trees: Any, temperature: float) -> Any:
        assert temperature == 0.7
        return [[[-1.0] * len(b.tokens) for b in t.branches] for t in trees]

    def weights(self) -> Any:
        return self


class Prompts:
    def steps(self, count: int, *, start: int = 1) -> Any:
        for step in range(start, start + 9):
            yield (
                step,
                tuple(Prompt(id=f"s{step}p{i}", messages=({"role": "text", "content": "q"},)) for i in range(count)),
            )


class Long:
    """Longer is better, but every completion of the first prompt is worth the same."""

    name = "long"

    async def score(self, group: Group) -> list[Score]:
        tie = group.prompt.id.endswith("p0")
        return [Score(value=0.0 if tie else float(len(r.text)), parts={"long": 0.0}) for r in group.rollouts]

    async def close(self) -> None: ...


def test_online_pairs_come_from_the_policy_and_ties_are_left_out():
    async def go() -> Any:
        learner = Recorder()
        sampling = SamplingTable(group_size=3, max_new_tokens=9, temperature=0.7)
        sampler: Any = ScriptedSampler(["a", "ccc", "bb"])
        stream = online_dpo(
            Prompts(), sampler, Long(), learner, DpoTable(pairs_per_step=3, online=True), sampling, start=4
        )  # type: ignore[arg-type]
        update = await anext(stream)
        await stream.aclose()
        return learner, update

    learner, update = asyncio.run(go())
    (batch,) = learner.batches
    assert update.step == 4
    assert len(update.scored) == 3
    assert update.metrics["pairs"] == 2
    assert (batch.whole, batch.totals.prompts, batch.totals.completions) == (True, 2, 4)
    for tree in batch.trees:
        assert [len(b.tokens) for b in tree.branches] == [4, 2]  # ccc and a, each with its end
        assert all(b.reference_logprobs == (-1.0,) * len(b.tokens) for b in tree.branches)
    assert update.metrics["reward"] == pytest.approx((0 + 0 + 0 + 6 + 6) / 9)


def test_offline_steps_carry_what_the_reference_said():
    pairs = [
        Pair(id=str(i), prompt=Prompt(id=str(i), messages=({"role": "user", "content": "q"},)), a="yes", b="no")
        for i in range(2)
    ]

    class Source:
        def steps(self, count: int, *, start: int = 1) -> Any:
            yield start, tuple(pairs[:count])

    async def go() -> Any:
        learner = Recorder()
        reference = lambda trees: [[[-2.0] * len(b.tokens) for b in t.branches] for t in trees]  # noqa: E731
        stream = dpo(Source(), encode, reference, learner, DpoTable(pairs_per_step=2), start=7)  # type: ignore[arg-type]
        return learner, await anext(stream)

    learner, update = asyncio.run(go())
    assert update.step == 7
    assert update.metrics["pairs"] == 2
    branch = learner.batches[0].trees[0].branches[0]
    assert branch.reference_logprobs == (-2.0,) * 4
    assert branch.preferred == 1.0
