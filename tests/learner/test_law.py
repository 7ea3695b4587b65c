"""The law: one step has one loss and one gradient, for any cut, order, packing and padding."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charter.learner import plan
from charter.learner.local import LocalLearner
from charter.recipe import GrpoTable, OptimizerTable
from charter.train.grpo import GrpoObjective
from charter.types import Batch, Branch, Totals, Tree

STILL = OptimizerTable(learning_rate=1e-12)


def make_batch(seed: int, groups: int = 4, completions: int = 4) -> Batch:
    rng = random.Random(seed)
    trees = []
    for _ in range(groups):
        prefix = tuple(rng.randint(3, 258) for _ in range(rng.randint(1, 20)))
        branches = []
        for _ in range(completions):
            length = rng.randint(1, 12)
            tokens = tuple(rng.randint(3, 258) for _ in range(length))
            branches.append(
                Branch(
                    tokens=tokens,
                    mask=(True,) * length,
                    advantage=rng.uniform(-1, 1),
                    sampler_logprobs=tuple(rng.uniform(-6, -4) for _ in range(length)),
                )
            )
        trees.append(Tree(prefix=prefix, branches=tuple(branches)))
    return Batch(trees=tuple(trees), totals=totals(trees))


def totals(trees: list[Tree]) -> Totals:
    lengths = [sum(b.mask) for t in trees for b in t.branches]
    return Totals(tokens=sum(lengths), sequences=len(lengths), completions=len(lengths), prompts=len(trees))


def loss_and_gradient(
    policy: Any, batch: Batch, budget: int, objective: GrpoObjective, reference: Any = None
) -> tuple[float, torch.Tensor]:
    """The gradient a learner accumulates, caught just before the optimizer's step."""
    learner = LocalLearner(policy, STILL, total_steps=1, microbatch_tokens=budget, reference=reference)
    caught: list[torch.Tensor] = []
    apply = learner.updater.apply

    def catch(*arguments: Any) -> dict[str, float]:
        caught.append(torch.cat([p.grad.flatten().clone() for p in policy.module.parameters() if p.grad is not None]))
        return apply(*arguments)

    learner.updater.apply = catch  # type: ignore[method-assign]
    return learner.step(batch, objective)["loss"], caught[0]


def objective(**changed: Any) -> GrpoObjective:
    return GrpoObjective(config=GrpoTable(**changed), max_new_tokens=12, temperature=0.9)


VARIANTS = [
    {"aggregation": "token"},
    {"aggregation": "sequence"},
    {"aggregation": "constant"},
    {"aggregation": "prompt"},
    {"loss": "gspo", "aggregation": "sequence"},
    {"loss": "cispo", "mismatch": "truncate"},
    {"loss": "sapo", "mismatch": "mask"},
    {"kl_coef": 0.1, "kl_estimator": "k3"},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float32, 1e-4)])
def test_any_cut_gives_the_same_loss_and_gradient(tiny_policy, variant, dtype, tolerance):
    policy = tiny_policy("llama", dtype=dtype)
    reference = tiny_policy("llama", seed=1, dtype=dtype) if "kl_coef" in variant else None
    batch = make_batch(3)
    whole_loss, whole = loss_and_gradient(policy, batch, 10_000, objective(**variant), reference)
    assert whole.abs().max() > 1e-4
    for budget in (1, 40, 90):  # single branches; part trees; a few trees
        loss, gradient = loss_and_gradient(policy, batch, budget, objective(**variant), reference)
        assert loss == pytest.approx(whole_loss, rel=tolerance, abs=1e-9)
        assert float((gradient - whole).abs().max() / whole.abs().max()) < tolerance


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.integers(1, 120), st.sampled_from(["token", "sequence", "constant", "prompt"]))
def test_order_and_cut_do_not_matter(tiny_policy, seed, budget, how):
    policy = tiny_policy("llama", dtype=torch.float64)
    batch = make_batch(seed, groups=3, completions=3)
    rng = random.Random(seed)
    shuffled = [
        Tree(prefix=t.prefix, branches=tuple(rng.sample(t.branches, len(t.branches))))
        for t in rng.sample(batch.trees, len(batch.trees))
    ]
    loss, gradient = loss_and_gradient(policy, batch, 10_000, objective(aggregation=how))
    other_loss, other = loss_and_gradient(
        policy, Batch(trees=tuple(shuffled), totals=batch.totals), budget, objective(aggregation=how)
    )
    assert other_loss == pytest.approx(loss, rel=1e-5, abs=1e-9)
    assert float((gradient - other).abs().max() / gradient.abs().max()) < 1e-5


@pytest.mark.parametrize("how", ["token", "sequence", "constant", "prompt"])
def test_leaving_out_what_carries_no_gradient_changes_nothing(tiny_policy, how):
    policy = tiny_policy("llama", dtype=torch.float64)
    batch = make_batch(5)
    silent = [
        Tree(prefix=t.prefix, branches=tuple(Branch(tokens=b.tokens, mask=b.mask) for b in t.branches))
        for t in batch.trees[:2]
    ]
    full = Batch(trees=(*silent, *batch.trees[2:]), totals=batch.totals)
    lean = Batch(trees=batch.trees[2:], totals=batch.totals)
    # the loss of a ratio of 1 is −A, so rows with A = 0 add nothing to value or gradient
    loss, gradient = loss_and_gradient(policy, full, 10_000, objective(aggregation=how))
    lean_loss, lean_gradient = loss_and_gradient(policy, lean, 10_000, objective(aggregation=how))
    assert lean_loss == pytest.approx(loss, rel=1e-9)
    # not 1e-15: transformers keeps norms and rotary angles in float32 whatever the dtype
    assert float((gradient - lean_gradient).abs().max() / gradient.abs().max()) < 1e-6


def test_unequal_micro_batches_give_the_token_mean_not_the_mean_of_means(tiny_policy):
    """One token of advantage −1 and four of −0.25: at ratio 1 the losses are 1.0 and 0.25, the token mean
    (1.0 + 4 · 0.25) / 5 = 0.4; a mean of micro-batch means would give 0.625."""
    trees = [
        Tree(prefix=(5, 6), branches=(Branch(tokens=(7,), mask=(True,), advantage=-1.0),)),
        Tree(prefix=(5, 6), branches=(Branch(tokens=(7, 8, 9, 10), mask=(True,) * 4, advantage=-0.25),)),
    ]
    batch = Batch(trees=tuple(trees), totals=totals(trees))
    for budget in (1, 1000):
        loss, _ = loss_and_gradient(tiny_policy("llama"), batch, budget, objective())
        assert loss == pytest.approx(0.4, abs=1e-6)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("variant", [{}, {"updates_per_step": 2}, {"kl_coef": 0.1}])
@pytest.mark.parametrize("opened", [False, True])
def test_two_micro_batches_at_once_change_no_bit(
    tiny_policy: Any,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    kind: str,
    variant: dict[str, Any],
    opened: bool,
) -> None:
    monkeypatch.setattr(plan, "ENOUGH_TOKENS", 20 if opened else 70)
    monkeypatch.setattr(plan, "PART_TOKENS", 12)
    batch = make_batch(5, groups=6)
    found: list[tuple[dict[str, float], list[torch.Tensor]]] = []
    before = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(before))
    # the last runs two micro-batches at once; a prefix is read by all threads, and their number may round otherwise
    for threads in (2, 2) if opened else (1, 2):
        torch.set_num_threads(threads)
        policy = tiny_policy(kind)
        reference = tiny_policy(kind, seed=1) if variant.get("kl_coef") else None
        learner = LocalLearner(policy, STILL, total_steps=1, microbatch_tokens=140, reference=reference)
        cut = learner._cut(batch.trees)
        assert max(len(stretch.batches) for stretch in cut) > 2
        assert any(stretch.prefix for stretch in cut) == opened
        names: set[str] = set()
        weight = next(policy.module.parameters())
        weight.register_hook(lambda _, names=names: names.add(threading.current_thread().name))
        caught: list[torch.Tensor] = []
        apply = learner.updater.apply

        def catch(*given: Any, policy=policy, caught=caught, apply=apply) -> dict[str, float]:
            caught += [p.grad.clone() for p in policy.module.parameters() if p.grad is not None]
            return apply(*given)

        learner.updater.apply = catch  # type: ignore[method-assign]
        found.append((learner.step(batch, objective(**variant)), caught))
        assert len(names - {"MainThread"}) == (2 if threads == 2 else 0)
    assert found[0][0] == found[1][0]
    assert all(map(torch.equal, found[0][1], found[1][1]))
    assert len(found[0][1]) > 10
