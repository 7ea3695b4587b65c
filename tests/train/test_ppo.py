"""PPO's rewards, advantages, minibatches, loss and gradient: by hand, by a plain implementation, under any cut."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from charter.learner.local import LocalLearner
from charter.model.heads import Critic
from charter.recipe import OptimizerTable, PpoTable
from charter.train.ppo import PpoObjective, minibatches, rewarded_trees, with_courses
from charter.types import Batch, Branch, Course, Group, Prompt, Rollout, Score, Scored, Totals, Tree

STILL = OptimizerTable(learning_rate=1e-12)


def course_of(rng: random.Random, length: int) -> Course:
    def numbers(low: float, high: float) -> tuple[float, ...]:
        return tuple(rng.uniform(low, high) for _ in range(length))

    return Course(
        old_logprobs=numbers(-7, -4), old_values=numbers(-1, 1), advantages=numbers(-2, 2), returns=numbers(-1, 2)
    )


def make_batch(seed: int, groups: int = 3, completions: int = 3) -> Batch:
    rng = random.Random(seed)
    trees = []
    for _ in range(groups):
        branches = []
        for _ in range(completions):
            tokens = tuple(rng.randint(3, 258) for _ in range(rng.randint(1, 10)))
            branches.append(Branch(tokens=tokens, mask=(True,) * len(tokens), course=course_of(rng, len(tokens))))
        prefix = tuple(rng.randint(3, 258) for _ in range(rng.randint(1, 15)))
        trees.append(Tree(prefix=prefix, branches=tuple(branches)))
    return Batch(trees=tuple(trees), totals=totals(trees))


def totals(trees: Any) -> Totals:
    lengths = [len(b.tokens) for t in trees for b in t.branches]
    return Totals(tokens=sum(lengths), sequences=len(lengths), completions=len(lengths), prompts=len(trees))


def make_critic(policy: Any, own: Any | None) -> Critic:
    """A critic whose head is not 0, so that its gradient reaches the backbone."""
    critic = Critic(own or policy, shared=own is None)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        critic.scalar.weight.copy_(torch.randn(critic.scalar.weight.shape, generator=generator) * 0.1)
        critic.scalar.bias.fill_(0.3)
    return critic


def gradients_of(learner: LocalLearner, batch: Batch, config: PpoTable) -> tuple[dict[str, float], dict[str, Any]]:
    caught: list[dict[str, Any]] = []
    apply = learner.updater.apply

    def catch(*arguments: Any) -> dict[str, float]:
        caught.append({n: p.grad.detach().clone() for n, p in learner.updater.named.items() if p.grad is not None})
        return apply(*arguments)

    learner.updater.apply = catch  # type: ignore[method-assign]
    metrics = learner.learn([batch], PpoObjective(config=config, temperature=0.9))
    return metrics, caught[0]


def learner_of(tiny_policy: Any, dtype: Any, kind: str, budget: int = 10_000) -> LocalLearner:
    policy = tiny_policy("llama", dtype=dtype)
    own = tiny_policy("llama", seed=2, dtype=dtype) if kind == "separate" else None
    critic = make_critic(policy, own)
    return LocalLearner(policy, STILL, total_steps=1, microbatch_tokens=budget, critic=critic)


def difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    assert a.keys() == b.keys()
    scale = max(float(x.abs().max()) for x in b.values())
    return max(float((a[n] - b[n]).abs().max()) for n in b) / scale


@pytest.mark.parametrize("kind", ["head", "separate"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float32, 1e-4)])
def test_any_cut_and_order_give_the_same_loss_and_gradient(tiny_policy, kind, dtype, tolerance):
    batch, config = make_batch(1), PpoTable()
    whole, gradient = gradients_of(learner_of(tiny_policy, dtype, kind), batch, config)
    assert gradient["critic.scalar.weight"].abs().max() > 1e-4
    turned = Batch(trees=tuple(replace(t, branches=t.branches[::-1]) for t in batch.trees[::-1]), totals=batch.totals)
    for other, budget in ((batch, 1), (batch, 50), (turned, 10_000), (turned, 40)):
        metrics, cut = gradients_of(learner_of(tiny_policy, dtype, kind, budget), other, config)
        for name in ("loss", "value/loss", "policy/loss", "grad_norm"):
            assert metrics[name] == pytest.approx(whole[name], rel=tolerance)
        assert difference(cut, gradient) < tolerance


@pytest.mark.parametrize("kind", ["head", "separate"])
@pytest.mark.parametrize("value_clip", [0.2, 0.0])
def test_loss_and_gradient_are_those_of_a_plain_implementation(tiny_policy, tiny_module, kind, value_clip):
    config = PpoTable(value_clip=value_clip, value_coef=0.7, clip=0.1)
    batch = make_batch(2)
    learner = learner_of(tiny_policy, torch.float64, kind)
    metrics, gradient = gradients_of(learner, batch, config)

    module = tiny_module("llama", dtype=torch.float64)
    own = module if kind == "head" else tiny_module("llama", seed=2, dtype=torch.float64)
    head = make_critic(tiny_policy("llama", dtype=torch.float64), None).scalar
    for each in {module, own}:
        each.set_attn_implementation("eager")
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for tree in batch.trees:
        for branch in tree.branches:
            course = branch.course
            assert course is not None
            ids = torch.tensor([[*tree.prefix, *branch.tokens]])
            logprobs = torch.log_softmax(module(ids).logits[0].double() / 0.9, -1)
            values = head(own.base_model(ids).last_hidden_state[0])[:, 0]
            for t, token in enumerate(branch.tokens):
                at = len(tree.prefix) - 1 + t
                ratio = torch.exp(logprobs[at, token] - course.old_logprobs[t])
                bounded = min(max(ratio.item(), 0.9), 1.1)
                a, v, r = course.advantages[t], values[at], course.returns[t]
                # the smaller of two: a constant has no gradient
                total = total - (ratio * a if (ratio * a).item() <= bounded * a else bounded * a)
                error = (v - r) ** 2
                if value_clip:
                    old = course.old_values[t]
                    kept = old + min(max(v.item() - old, -0.2), 0.2)
                    inside = abs(v.item() - old) < 0.2
                    cut = (v - r) ** 2 if inside else torch.tensor((kept - r) ** 2, dtype=torch.float64)
                    error = torch.maximum(error, cut)
                total = total + 0.7 * error / 2
                tokens += 1
    loss = total / tokens
    loss.backward()
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-6)
    plain = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    plain |= {f"critic.scalar.{n}": p.grad for n, p in head.named_parameters()}
    if kind == "separate":
        plain |= {f"critic.backbone.{n}": p.grad for n, p in own.base_model.named_parameters()}
    assert difference(gradient, plain) < 1e-5


def scored(tokens: tuple[int, ...], *values: float | None) -> Scored:
    rollouts = tuple(
        Rollout(
            prompt_id="p",
            index=i,
            tokens=tuple(range(10, 10 + n)),
            logprobs=(-1.0,) * n,
            text="",
            stop="eos",
            version=0,
        )
        for i, n in enumerate(tokens)
    )  # fmt: skip
    prompt = Prompt(id="p", messages=({"role": "text", "content": "p"},))
    return Scored(
        group=Group(prompt=prompt, rollouts=rollouts, prompt_tokens=(5,)),
        scores=tuple(Score(value=v, status="scored" if v is not None else "abstained") for v in values),
    )


def test_the_reward_is_on_the_last_token_and_the_kl_on_every_one():
    """Two completions of 2 and 1 tokens, rewards 1 and 0; c = 0.1, γ = 1, λ = 0.5, no whitening.
    d = lp − lp_ref = (0.5, −1) and (2): r = (−0.05, 0.1 + 1) and (−0.2).
    V = (0.2, 0.4) and (0.1): δ₁ = 1.1 − 0.4 = 0.7, δ₀ = −0.05 + 0.4 − 0.2 = 0.15, A = (0.15 + 0.35, 0.7) = (0.5, 0.7),
    R = A + V = (0.7, 1.1); the other: A = −0.2 − 0.1 = −0.3, R = −0.2. kl = (0.5 − 1 + 2) / 3 = 0.5.
    Var(R) over (0.7, 1.1, −0.2): mean 8/15; R − V = A: mean 0.3."""
    trees, rewards = rewarded_trees([scored((2, 3, 1), 1.0, None, 0.0)])
    assert rewards == ((1.0, 0.0),)
    assert [len(b.tokens) for b in trees[0].branches] == [2, 1]
    config = PpoTable(kl_coef=0.1, lam=0.5, whiten=False)
    guided, metrics = with_courses(
        trees, rewards, [[[-1.0, -2.0], [-1.0]]], [[[0.2, 0.4], [0.1]]], [[[-1.5, -1.0], [-3.0]]], config
    )
    first, second = (branch.course for branch in guided[0].branches)
    assert first is not None
    assert second is not None
    assert first.advantages == pytest.approx((0.5, 0.7))
    assert first.returns == pytest.approx((0.7, 1.1))
    assert second.advantages == pytest.approx((-0.3,))
    assert second.returns == pytest.approx((-0.2,))
    assert first.old_logprobs == (-1.0, -2.0)
    assert first.old_values == (0.2, 0.4)
    assert metrics["kl"] == pytest.approx(0.5)
    variance = [sum((x - sum(xs) / 3) ** 2 for x in xs) / 3 for xs in ((0.7, 1.1, -0.2), (0.5, 0.7, -0.3))]
    assert metrics["value/explained_variance"] == pytest.approx(1 - variance[1] / variance[0])
    assert metrics["returns/mean"] == pytest.approx(1.6 / 3)


def test_whitening_is_over_the_tokens_of_the_step_and_leaves_the_returns_alone():
    """A = (0.5, 0.7, −0.3) as above: mean 0.3, std with N − 1 = √((0.04 + 0.16 + 0.36) / 2) = √0.28."""
    trees, rewards = rewarded_trees([scored((2, 1), 1.0, 0.0)])
    config = PpoTable(kl_coef=0.1, lam=0.5)
    guided, _ = with_courses(
        trees, rewards, [[[-1.0, -2.0], [-1.0]]], [[[0.2, 0.4], [0.1]]], [[[-1.5, -1.0], [-3.0]]], config
    )
    courses = [branch.course for branch in guided[0].branches]
    whitened = [x for course in courses if course for x in course.advantages]
    assert whitened == pytest.approx([0.2 / 0.28**0.5, 0.4 / 0.28**0.5, -0.6 / 0.28**0.5])
    assert courses[0] is not None
    assert courses[0].returns == pytest.approx((0.7, 1.1))


def test_every_epoch_visits_every_completion_once_in_an_order_of_its_own():
    trees = make_batch(3, groups=4, completions=3).trees
    config = PpoTable(epochs=3, minibatches=5)
    batches = minibatches(trees, config, step=7)
    assert len(batches) == 15
    everything = sorted(b.tokens for t in trees for b in t.branches)
    orders = []
    for epoch in range(3):
        mine = batches[5 * epoch : 5 * epoch + 5]
        assert sorted(b.tokens for batch in mine for t in batch.trees for b in t.branches) == everything
        assert {sum(len(t.branches) for t in batch.trees) for batch in mine} == {2, 3}
        assert all(batch.totals == totals(batch.trees) for batch in mine)
        orders.append([b.tokens for batch in mine for t in batch.trees for b in t.branches])
    assert orders[0] != orders[1] != orders[2]
    assert minibatches(trees, config, step=7) == batches
    assert minibatches(trees, config, step=8) != batches
    assert minibatches(trees[:1], PpoTable(epochs=1, minibatches=5), 1)[0].totals.completions == 1


def test_a_minibatch_is_an_update_and_the_ratio_is_anchored_before_the_first(tiny_policy):
    policy = tiny_policy("llama")
    learner = LocalLearner(
        policy, OptimizerTable(learning_rate=1e-2), total_steps=4, critic=Critic(policy, shared=True)
    )
    trees, rewards = rewarded_trees([scored((4, 3, 5), 1.0, 0.0, 0.5)])
    logprobs, values = learner.assess(trees, 0.9)
    assert values == [[[0.0] * 4, [0.0] * 3, [0.0] * 5]]  # a fresh critic expects nothing
    config = PpoTable(kl_coef=0.0, epochs=4, minibatches=1)
    guided, told = with_courses(trees, rewards, logprobs, values, logprobs, config)
    assert "kl" not in told
    batches = minibatches(guided, config, 1)
    objective = PpoObjective(config=config, temperature=0.9)
    first = learner.learn(batches[:1], objective)
    assert first["ratio/mean"] == pytest.approx(1.0, abs=1e-5)
    later = learner.learn(batches[1:], objective)
    assert learner.version == 4
    assert abs(later["ratio/mean"] - 1) > 1e-3
    assert later["tokens/forwarded"] == 3 * (1 + 3 + 2 + 4)
    _, learnt = learner.assess(trees, 0.9)
    assert learnt != values


def test_the_critics_own_rate_and_norm_leave_the_policy_alone(tiny_policy):
    """A critic of its own: its gradient neither moves the policy nor shares the limit on the policy's norm."""
    batch, config = make_batch(4), PpoTable()
    moved = {}
    for rate in (1e-3, 1e-2):
        policy, own = tiny_policy("llama"), tiny_policy("llama", seed=2)
        critic = make_critic(policy, own)
        learner = LocalLearner(
            policy, OptimizerTable(learning_rate=1e-3), total_steps=1, critic=critic, critic_learning_rate=rate
        )
        before = critic.scalar.weight.detach().clone()
        learner.learn([batch], PpoObjective(config=config, temperature=1.0))
        moved[rate] = ([p.detach().clone() for p in policy.module.parameters()], critic.scalar.weight - before)
    assert all(torch.equal(a, b) for a, b in zip(moved[1e-3][0], moved[1e-2][0], strict=True))
    # the first step of AdamW is the rate times the gradient's sign
    torch.testing.assert_close(moved[1e-2][1], 10 * moved[1e-3][1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["head", "separate"])
def test_a_learner_goes_on_from_its_state(tiny_policy, kind):
    config = PpoTable()
    objective = PpoObjective(config=config, temperature=1.0)

    def fresh() -> LocalLearner:
        policy = tiny_policy("llama")
        own = tiny_policy("llama", seed=2) if kind == "separate" else None
        critic = Critic(own or policy, shared=own is None)
        return LocalLearner(policy, OptimizerTable(learning_rate=1e-2), total_steps=9, critic=critic)

    whole, first, second = fresh(), fresh(), fresh()
    for learner in (whole, first):
        learner.learn([make_batch(5)], objective)
    state = first.state()
    second.policy.module.load_state_dict(first.policy.module.state_dict())
    second.load_state(state)
    assert any(name.startswith("weight/critic.scalar") for name in state.tensors)
    for learner in (whole, second):
        learner.learn([make_batch(6)], objective)
    for name, parameter in whole.updater.named.items():
        assert torch.equal(parameter, second.updater.named[name]), name


def test_an_update_that_is_not_finite_changes_neither_policy_nor_critic(tiny_policy):
    learner = learner_of(tiny_policy, torch.float32, "separate")
    before = {n: p.detach().clone() for n, p in learner.updater.named.items()}
    branch = Branch(
        tokens=(20,), mask=(True,),
        course=Course(old_logprobs=(-5.0,), old_values=(0.0,), advantages=(1.0,), returns=(float("inf"),)),
    )  # fmt: skip
    trees = (Tree(prefix=(10,), branches=(branch,)),)
    told = learner.learn([Batch(trees=trees, totals=totals(trees))], PpoObjective(config=PpoTable(), temperature=1.0))
    assert told["skipped"] == 1
    assert learner.version == 0
    assert all(torch.equal(before[n], p) for n, p in learner.updater.named.items())


def test_without_a_critic_there_is_no_ppo(tiny_policy):
    learner = LocalLearner(tiny_policy("llama"), STILL, total_steps=1)
    with pytest.raises(ValueError, match="without a critic"):
        learner.assess(make_batch(1).trees, 1.0)
    with pytest.raises(ValueError, match="PPO needs a critic"):
        learner.learn([make_batch(1)], PpoObjective(config=PpoTable(), temperature=1.0))
