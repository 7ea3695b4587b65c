"""The learner: its optimizer step against a plain one, skipping, several updates, state, adapters, checkpointing."""

from __future__ import annotations

import dataclasses
import gc
import math
import weakref
from types import SimpleNamespace

import pytest
import torch

from charter.learner import local, plan
from charter.learner.abreast import run_in_turn
from charter.learner.local import LocalLearner
from charter.learner.open_prefix import OpenPrefix
from charter.learner.plan import microbatches, stretches
from charter.learner.schedule import learning_rate
from charter.model.adapters import Adapters
from charter.model.logprobs import Head
from charter.model.prefix import forwarded_tokens
from charter.recipe import GrpoTable, OptimizerTable
from charter.train.grpo import GrpoObjective
from charter.types import Batch, Branch, Totals, Tree

TREES = (
    Tree(
        prefix=(10, 11, 12),
        branches=(
            Branch(tokens=(20, 21, 22), mask=(True,) * 3, advantage=0.5),
            Branch(tokens=(30, 31), mask=(True,) * 2, advantage=-0.5),
        ),
    ),
)
BATCH = Batch(trees=TREES, totals=Totals(tokens=5, sequences=2, completions=2, prompts=1))
OBJECTIVE = GrpoObjective(config=GrpoTable(), max_new_tokens=4, temperature=1.0)


def copies(policy):
    return {n: p.detach().clone() for n, p in policy.module.named_parameters()}


def test_a_step_is_adamw_on_the_padded_reinforce_gradient(tiny_policy, tiny_module):
    """At ratio 1 the gradient of the clipped loss is that of −A · log p, token mean: 5 tokens."""
    settings = OptimizerTable(learning_rate=1e-3, weight_decay=0.1, max_grad_norm=0.05)
    policy = tiny_policy("llama", dtype=torch.float64)
    metrics = LocalLearner(policy, settings, total_steps=10).step(BATCH, OBJECTIVE)

    other = tiny_module("llama", dtype=torch.float64)
    other.set_attn_implementation("sdpa")
    loss = torch.zeros((), dtype=torch.float64)
    for branch in TREES[0].branches:
        ids = torch.tensor([[*TREES[0].prefix, *branch.tokens]])
        logprobs = torch.log_softmax(other(ids).logits[0], -1)
        for t, token in enumerate(branch.tokens):
            loss = loss - branch.advantage * logprobs[2 + t, token] / 5
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(other.parameters(), 0.05)
    matrices = [p for p in other.parameters() if p.ndim > 1]
    vectors = [p for p in other.parameters() if p.ndim == 1]
    torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=1e-3
    ).step()
    assert metrics["grad_norm"] == pytest.approx(float(norm), rel=1e-5)
    for (name, ours), theirs in zip(policy.module.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


def test_metrics_of_a_step(tiny_policy):
    metrics = LocalLearner(tiny_policy("llama"), OptimizerTable(), total_steps=10).step(BATCH, OBJECTIVE)
    # at ratio 1 the loss is Σ −A / tokens = −(3 · 0.5 − 2 · 0.5) / 5
    assert metrics["loss"] == pytest.approx(-0.1, abs=1e-6)
    assert metrics["tokens/forwarded"] == 3 + 2 + 1
    assert 0 < metrics["entropy"] < math.log(259)
    assert metrics["skipped"] == 0


def test_an_empty_batch_changes_nothing(tiny_policy):
    policy = tiny_policy("llama")
    learner = LocalLearner(policy, OptimizerTable(learning_rate=1e-2), total_steps=10)
    learner.step(BATCH, OBJECTIVE)
    before = copies(policy)
    metrics = learner.step(Batch(trees=(), totals=Totals(tokens=9, sequences=2, completions=2, prompts=1)), OBJECTIVE)
    assert learner.version == 1
    assert metrics["tokens/forwarded"] == 0
    assert all(torch.equal(before[n], p) for n, p in policy.module.named_parameters())


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_skipped_and_leaves_no_trace(tiny_policy, broken):
    policy = tiny_policy("llama")
    learner = LocalLearner(policy, OptimizerTable(learning_rate=1e-2), total_steps=10)
    before = copies(policy)
    poisoned = Branch(tokens=(20, 21), mask=(True, True), advantage=broken)
    batch = Batch(trees=(Tree(prefix=(10, 11), branches=(poisoned,)),), totals=BATCH.totals)
    assert learner.step(batch, OBJECTIVE)["skipped"] == 1
    assert learner.version == 0
    assert all(torch.equal(before[n], p) for n, p in policy.module.named_parameters())
    # the next good step is what it would have been as the first one
    learner.step(BATCH, OBJECTIVE)
    fresh = tiny_policy("llama")
    LocalLearner(fresh, OptimizerTable(learning_rate=1e-2), total_steps=10).step(BATCH, OBJECTIVE)
    for a, b in zip(policy.module.parameters(), fresh.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_several_updates_anchor_the_ratio_at_the_first(tiny_policy):
    """Two updates on one batch: in the second the ratio has moved, and the clip range is measured against it."""
    objective = GrpoObjective(config=GrpoTable(updates_per_step=2), max_new_tokens=4, temperature=1.0)
    policy = tiny_policy("llama")
    learner = LocalLearner(policy, OptimizerTable(learning_rate=3e-2, max_grad_norm=100.0), total_steps=10)
    metrics = learner.step(BATCH, objective)
    assert learner.version == 2
    assert abs(metrics["ratio/mean"] - 1) > 0.001
    assert metrics["clip_ratio/low"] + metrics["clip_ratio/high"] > 0
    assert metrics["tokens/forwarded"] == 2 * 6


@pytest.mark.parametrize(
    "grpo",
    [
        *({"loss": loss} for loss in ("clip", "cispo", "sapo", "reinforce", "dppo_tv", "gspo")),
        {"dual_clip": 3.0, "updates_per_step": 2},
        {"kl_coef": 0.5, "kl_estimator": "k3", "aggregation": "sequence"},
        {"mismatch": "truncate", "aggregation": "prompt"},
    ],
    ids=str,
)
def test_logits_are_computed_once_and_the_gradient_is_that_of_the_backward(tiny_policy, monkeypatch, grpo):
    """Against the same objective when it announces nothing; a ratio of sequences cannot be announced."""
    settings = OptimizerTable(learning_rate=1e-3, max_grad_norm=1e9)
    drawn = tuple(
        dataclasses.replace(tree, branches=tuple(
            dataclasses.replace(branch, sampler_logprobs=tuple(-5.5 + 0.3 * t for t in range(len(branch.tokens))))
            for branch in tree.branches
        ))
        for tree in TREES
    )  # fmt: skip
    objective = GrpoObjective(config=GrpoTable(**grpo), max_new_tokens=4, temperature=0.8)
    rows = []
    own = Head.logits
    monkeypatch.setattr(Head, "logits", lambda head, hidden: (rows.append(len(hidden)), own(head, hidden))[1])

    def gradients(announced):
        monkeypatch.setattr(GrpoObjective, "per_token", property(lambda _: announced))
        rows.clear()
        policy = tiny_policy("llama", dtype=torch.float64)
        reference = tiny_policy("llama", seed=1, dtype=torch.float64) if "kl_coef" in grpo else None
        learner = LocalLearner(policy, settings, total_steps=10, reference=reference)
        seen = []
        apply = learner.updater.apply

        def kept(*given):
            seen.extend(p.grad.clone() for p in policy.module.parameters())
            return apply(*given)

        learner.updater.apply = kept
        learner.step(Batch(trees=drawn, totals=BATCH.totals), objective)
        return seen, sum(rows)

    updates, of_reference = grpo.get("updates_per_step", 1), 5 if "kl_coef" in grpo else 0
    per_token = objective.per_token
    found, once = gradients(per_token)
    expected, twice = gradients(False)
    assert per_token == (grpo.get("loss") != "gspo")
    assert twice == 2 * 5 * updates + of_reference
    assert once == (5 * updates + of_reference if per_token else twice)
    assert any(gradient.abs().max() > 0 for gradient in expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_the_kl_pulls_back_to_the_reference(tiny_policy):
    objective = GrpoObjective(config=GrpoTable(kl_coef=10.0), max_new_tokens=4, temperature=1.0)
    silent = tuple(
        Tree(prefix=t.prefix, branches=tuple(Branch(tokens=b.tokens, mask=b.mask) for b in t.branches)) for t in TREES
    )
    batch = Batch(trees=silent, totals=BATCH.totals)
    policy, reference = tiny_policy("llama", seed=0), tiny_policy("llama", seed=0)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    learner = LocalLearner(policy, OptimizerTable(learning_rate=3e-3), total_steps=50, reference=reference)
    kls = [learner.step(batch, objective)["kl"] for _ in range(30)]
    assert kls[-1] < 0.3 * kls[0]


def test_reference_logprobs_come_back_per_tree_and_branch_for_any_cut(tiny_policy):
    reference = tiny_policy("llama", seed=2)
    rows = {
        budget: LocalLearner(
            tiny_policy("llama"), OptimizerTable(), total_steps=1, reference=reference, microbatch_tokens=budget
        ).reference_logprobs((*TREES, *TREES), 1.0)
        for budget in (1, 1000)
    }
    assert [[len(row) for row in tree] for tree in rows[1]] == [[3, 2], [3, 2]]
    assert rows[1][0] == rows[1][1]
    torch.testing.assert_close(torch.tensor(rows[1][0][0]), torch.tensor(rows[1000][0][0]), rtol=1e-5, atol=1e-6)


def test_activation_checkpointing_gives_the_same_step(tiny_policy, family):
    settings = OptimizerTable(learning_rate=1.0, eps=1.0)  # so large that a step is about the gradient
    policies = [tiny_policy(family) for _ in range(2)]
    for policy, recompute in zip(policies, (False, True), strict=True):
        learner = LocalLearner(policy, settings, total_steps=1, activation_checkpointing=recompute)
        learner.step(BATCH, OBJECTIVE)
    for a, b in zip(*(p.module.parameters() for p in policies), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_learner_that_goes_on_from_its_state_is_the_one_that_never_stopped(tiny_policy):
    settings = OptimizerTable(learning_rate=1e-3, schedule="cosine", warmup_steps=2)
    through = tiny_policy("llama")
    learner = LocalLearner(through, settings, total_steps=6)
    for _ in range(3):
        learner.step(BATCH, OBJECTIVE)
    state, weights = learner.state(), copies(through)
    saved = {name: value.clone() for name, value in state.tensors.items()}
    for _ in range(3):
        learner.step(BATCH, OBJECTIVE)

    resumed = tiny_policy("llama", seed=5)
    resumed.module.load_state_dict(weights, strict=False)
    again = LocalLearner(resumed, settings, total_steps=6)
    again.load_state(type(state)(saved, state.scalars))
    for _ in range(3):
        again.step(BATCH, OBJECTIVE)
    assert again.version == 6
    for a, b in zip(through.module.parameters(), resumed.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_lora_trains_adapters_alone_and_saves_a_plain_model(tiny_policy, tmp_path):
    from transformers import AutoModelForCausalLM

    policy = tiny_policy("llama")
    base = copies(policy)
    adapters = Adapters.inject(policy, rank=4, alpha=8.0, targets="all-linear", seed=0)
    learner = LocalLearner(policy, OptimizerTable(learning_rate=1e-2), total_steps=9, adapters=adapters)
    for _ in range(5):
        learner.step(BATCH, OBJECTIVE)
    for name, parameter in policy.module.named_parameters():
        plain = name.replace(".base_layer", "")
        if plain in base:
            assert torch.equal(parameter, base[plain]), name
    learner.save_model(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert set(loaded.state_dict()) == set(base) | {"lm_head.weight"}
    ids = torch.tensor([[10, 11, 12, 20, 21]])
    policy.module.set_attn_implementation("eager")
    loaded.set_attn_implementation("eager")
    with torch.inference_mode():
        torch.testing.assert_close(loaded(ids).logits, policy.module(ids).logits, rtol=1e-4, atol=1e-4)
        with adapters.disabled():
            away = policy.module(ids).logits
        assert (away - loaded(ids).logits).abs().max() > 1e-3


def test_schedule_by_hand():
    cosine = OptimizerTable(learning_rate=1.0, schedule="cosine", warmup_steps=2, final_fraction=0.1)
    # warm-up 1/2, 1; then 0.1 + 0.9 (1 + cos(π k/8)) / 2 for k = 1 … 8
    assert [learning_rate(cosine, u, 10) for u in (1, 2)] == [0.5, 1.0]
    assert learning_rate(cosine, 6, 10) == pytest.approx(0.55)
    assert learning_rate(cosine, 10, 10) == pytest.approx(0.1)
    linear = OptimizerTable(learning_rate=2.0, schedule="linear")
    assert [learning_rate(linear, u, 4) for u in (1, 2, 3, 4)] == [1.5, 1.0, 0.5, 0.0]
    assert learning_rate(OptimizerTable(learning_rate=3.0), 7, 9) == 3.0


def test_on_a_cpu_a_forward_takes_up_no_more_trees_than_are_enough(tiny_policy, monkeypatch):
    learner = LocalLearner(tiny_policy("llama"), OptimizerTable(), total_steps=1)
    trees = [*TREES, *TREES, *TREES]  # 6 tokens each
    (stretch,) = learner._cut(trees)
    assert len(stretch.batches) == 1
    monkeypatch.setattr(plan, "ENOUGH_TOKENS", 13)
    (stretch,) = learner._cut(trees)
    assert [[piece.group for piece in pieces] for pieces in stretch.batches] == [[0, 1], [2]]
    assert (stretch.first, stretch.prefix, stretch.sizes) == (0, None, [12, 6])
    assert plan.enough_tokens(torch.device("cuda")) is None


def test_micro_batches_hold_whole_trees_and_cut_only_what_is_too_large():
    plan = microbatches([*TREES, *TREES, *TREES], 12)  # 6 tokens each
    assert [[p.group for p in pieces] for pieces in plan] == [[0, 1], [2]]
    apart = microbatches([*TREES, *TREES, *TREES], 12, enough=11)
    assert [[p.group for p in pieces] for pieces in apart] == [[0], [1], [2]]
    larger_than_enough = microbatches([*TREES, *TREES], 12, enough=5)
    assert [[forwarded_tokens(p.tree) for p in pieces] for pieces in larger_than_enough] == [[6], [6]]
    assert microbatches([*TREES, *TREES, *TREES], 12, enough=99) == plan
    cut = microbatches(TREES, 5)  # 3 + 2 and 3 + 1
    assert [[forwarded_tokens(p.tree) for p in pieces] for pieces in cut] == [[5], [4]]
    assert [p.group for pieces in cut for p in pieces] == [0, 0]


def test_a_tree_of_more_than_enough_tokens_is_cut_after_its_prefix(monkeypatch):
    def sizes(branches, budget, **given):
        tree = Tree(prefix=(1,) * 10, branches=(Branch(tokens=(2,) * 5, mask=(True,) * 5),) * branches)  # 10 + 4 · n
        small = Tree(prefix=(1,) * 3, branches=())
        batches = microbatches([small, tree, small], budget, enough=30, opened=True, **given)
        return [(s.first, s.prefix and len(s.prefix), s.sizes) for s in stretches(batches, opened=True)]

    monkeypatch.setattr(plan, "PART_TOKENS", 16)
    assert sizes(4, 99) == [(0, None, [29, 3])]  # 26 and the first 3 make less than 30 together
    assert sizes(7, 99) == [(0, None, [3]), (1, 10, [12, 16]), (3, None, [3])]  # 38: the parts count without the prefix
    assert sizes(16, 99) == [(0, None, [3]), (1, 10, [16] * 4), (5, None, [3])]
    assert sizes(16, 20) == [(0, None, [3]), (1, 10, [8] * 8), (9, None, [3])]  # one part and the prefix fit into 20
    assert sizes(16, 99, whole=True) == [(0, None, [3, 74, 3])]
    monkeypatch.setattr(plan, "PART_TOKENS", 32)
    assert sizes(7, 99) == [(0, None, [3, 38, 3])]  # its branches are one part: nothing is gained


def test_prefixes_stay_open_where_a_whole_tree_would_only_take_memory(tiny_policy):
    policy = tiny_policy("llama")
    assert plan.opens_prefixes(policy)
    assert not plan.opens_prefixes(policy, checkpointing=True)
    policy.compute = torch.bfloat16
    assert not plan.opens_prefixes(policy)
    policy = tiny_policy("llama")
    policy.module.base_model.rotary_emb.rope_type = "dynamic"  # angles of a prefix by itself are others
    assert not plan.opens_prefixes(policy)
    policy = SimpleNamespace(device=torch.device("cuda"), compute=policy.head.weight.dtype, head=policy.head)
    assert not plan.opens_prefixes(policy)


def test_a_closed_prefix_is_gone_before_the_next_is_read(tiny_policy, monkeypatch):
    monkeypatch.setattr(plan, "ENOUGH_TOKENS", 5)
    monkeypatch.setattr(plan, "PART_TOKENS", 2)
    read, alive = OpenPrefix.__init__, []
    leaves: list[weakref.ref[torch.Tensor]] = []

    def counted(self, policy, prefix):
        gc.collect()
        alive.append(sum(leaf() is not None for leaf in leaves))
        read(self, policy, prefix)
        leaves.extend(map(weakref.ref, self.leaves))

    monkeypatch.setattr(OpenPrefix, "__init__", counted)
    learner = LocalLearner(tiny_policy("llama"), OptimizerTable(), total_steps=1)
    learner.step(
        Batch(trees=(*TREES, *TREES), totals=Totals(tokens=10, sequences=4, completions=4, prompts=2)), OBJECTIVE
    )
    assert alive == [0, 0]
    assert len(leaves) == 2 * 5


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_open_prefix_gives_the_step_of_the_whole_tree(tiny_policy, monkeypatch, request, threads, adapted):
    """Two updates with a reference; parts at once or one after another; the reference beside or under adapters."""
    monkeypatch.setattr(plan, "PART_TOKENS", 12)
    before = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(before))
    torch.set_num_threads(threads)
    branches = tuple(
        Branch(tokens=tuple(range(20 + i, 25 + i)), mask=(True,) * 5, advantage=(-1.0) ** i) for i in range(8)
    )
    trees = (Tree(prefix=tuple(range(40, 60)), branches=branches), *TREES)
    batch = Batch(trees=trees, totals=Totals(tokens=45, sequences=10, completions=10, prompts=2))
    objective = GrpoObjective(config=GrpoTable(updates_per_step=2, kl_coef=0.1), max_new_tokens=5, temperature=1.0)
    added_to: list[int] = []

    def in_turn(count, work, weights, *, at_once):
        added_to.append(len(weights))
        return run_in_turn(count, work, weights, at_once=at_once)

    monkeypatch.setattr(local, "run_in_turn", in_turn)
    found = []
    for enough in (30, 1000):
        monkeypatch.setattr(plan, "ENOUGH_TOKENS", enough)
        policy = tiny_policy("llama")
        reference = None if adapted else tiny_policy("llama", seed=1)
        adapters = Adapters.inject(policy, rank=2, alpha=4.0, targets=("q_proj", "v_proj"), seed=0) if adapted else None
        for place, weight in enumerate(p for p in policy.module.parameters() if adapted and p.requires_grad):
            torch.nn.init.constant_(weight, 0.05 * (place + 1))  # fresh ones change nothing
        learner = LocalLearner(
            policy, OptimizerTable(learning_rate=1.0, eps=1.0),  # steps about as large as the gradient
            total_steps=1, reference=reference, adapters=adapters,
        )  # fmt: skip
        assert [stretch.prefix is None for stretch in learner._cut(trees)] == ([True] if enough > 30 else [False, True])
        found.append((learner.step(batch, objective), copies(policy)))
    # keys and values of two layers and the last state are added to in turn as well
    own = len(learner.updater.named)
    assert added_to == [own + 5, own] * 2 + [own] * 2
    (opened, ours), (whole, theirs) = found
    assert opened["tokens/forwarded"] == whole["tokens/forwarded"] == 2 * (20 + 8 * 4 + 6)
    assert opened["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert opened["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-5)
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, atol=1e-6, rtol=1e-5, msg=name)
