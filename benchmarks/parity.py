"""Figures of exactness: is the fast way the same as the plain way?

    python benchmarks/parity.py [--json] [--only gradients,invariance,sampler] [--model smollm2-135m] [--store]

gradients   shared-prefix forward against transformers' own attention over G padded copies, per family and dtype
invariance  one step cut, ordered and packed in other ways, for every loss and aggregation
sampler     rollouts alone, in a batch of 7 and in another order; its log-probabilities against the learner's

Every error is relative to the largest entry of the reference gradient, or an absolute difference of log-probabilities
in nats. Nothing here is timed, so a busy machine does not matter.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from gradients import (
    anchored_near,
    compute,
    logprobs_of,
    make_objective,
    random_trees,
    relative_difference,
    totals_of,
)
from harness import as_json, facts, store, table, worst
from tiny import FAMILIES, make_policy
from torch import Tensor

from charter.model.load import Policy, load_policy
from charter.model.logprobs import token_logprobs
from charter.model.prefix import PackedTrees
from charter.objectives.settings import AGGREGATIONS, POLICY_KINDS
from charter.recipe import SamplingTable
from charter.sampler.local import LocalSampler
from charter.types import Batch, Branch, Group, Prompt, Tree

DTYPES = {"float64": torch.float64, "float32": torch.float32}
LIMITS = {"float64": 1e-5, "float32": 1e-4}
"""What the law allows: relative gradient difference."""

Row = dict[str, Any]


# ── gradients of shared prefixes ────────────────────────────────────────────────────────────────────────────────────


def shared_logprobs(policy: Policy, trees: Sequence[Tree]) -> list[Tensor]:
    """Charter's way: every prefix goes through the model once."""
    packed = PackedTrees.pack(trees)
    hidden = policy.hidden(packed.tokens, packed.positions, packed.layout())
    return [
        token_logprobs(hidden[packed.source[row][keep]], policy.head, packed.targets[row][keep])[0]
        for row, keep in enumerate(packed.present)
    ]


def repeated_logprobs(module: Any, trees: Sequence[Tree], *, padded: bool) -> list[Tensor]:
    """The plain way: each completion is a sequence of its own, prompt and all, right-padded into one batch."""
    sequences = [(tree.prefix, branch.tokens) for tree in trees for branch in tree.branches]
    if not padded:
        return [_row(module(torch.tensor([[*p, *c]])).logits[0], p, c) for p, c in sequences]
    longest = max(len(p) + len(c) for p, c in sequences)
    filler = [longest - len(p) - len(c) for p, c in sequences]
    ids = torch.tensor([[*p, *c, *[0] * n] for (p, c), n in zip(sequences, filler, strict=True)])
    attended = torch.tensor([[1] * (longest - n) + [0] * n for n in filler])
    logits = module(ids, attention_mask=attended).logits
    return [_row(logits[i], p, c) for i, (p, c) in enumerate(sequences)]


def _row(logits: Tensor, prefix: Sequence[int], completion: Sequence[int]) -> Tensor:
    predicting = torch.log_softmax(logits[len(prefix) - 1 : len(prefix) + len(completion) - 1], -1)
    return predicting.gather(1, torch.tensor(completion)[:, None])[:, 0]


def _gradient(module: Any, rows: list[Tensor]) -> dict[str, Tensor]:
    """Of a weighted sum in which every token has another weight, so that no two errors cancel by symmetry."""
    flat = torch.cat(rows)
    module.zero_grad()
    (flat * torch.linspace(-1, 1, len(flat), dtype=flat.dtype)).sum().backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def gradient_parity(seeds: int) -> list[Row]:
    """Per family and dtype, the worst over `seeds` random models with random trees."""
    rows: list[Row] = []
    for family in FAMILIES:
        # transformers' eager attention takes its softmax in float32 whatever the dtype, so sdpa is the sharper
        # reference; Gemma 2's softcap exists in eager alone, where a fully padded row is NaN in float64
        reference = "eager" if family == "gemma2" else "sdpa"
        for name, dtype in DTYPES.items():
            padded = not (family == "gemma2" and dtype == torch.float64)
            gradient_errors: list[float] = []
            logprob_errors: list[float] = []
            for seed in range(seeds):
                policy = make_policy(family, seed, dtype)
                trees = random_trees(seed, groups=3, completions=(1, 5), prefix=(1, 24), length=(1, 12))
                ours = shared_logprobs(policy, trees)
                our_gradient = _gradient(policy.module, ours)
                policy.module.set_attn_implementation(reference)
                theirs = repeated_logprobs(policy.module, trees, padded=padded)
                their_gradient = _gradient(policy.module, theirs)
                gradient_errors.append(relative_difference(our_gradient, their_gradient))
                logprob_errors.append(
                    worst(float((a - b).detach().abs().max()) for a, b in zip(ours, theirs, strict=True))
                )
            rows.append(
                {
                    "family": family,
                    "dtype": name,
                    "reference": f"{reference}, {'padded' if padded else 'unpadded'}",
                    "max_relative_gradient_error": worst(gradient_errors),
                    "max_logprob_error": worst(logprob_errors),
                    "seeds": seeds,
                }
            )
    return rows


# ── the invariance law ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Change:
    """A way in which the same step may be computed. rearrange: of the batch. budget: tokens per forward."""

    name: str
    budget: int = 1 << 30
    rearrange: Callable[[Batch], Batch] = lambda batch: batch


def _trees_shuffled(batch: Batch) -> Batch:
    return replace(batch, trees=tuple(random.Random(1).sample(batch.trees, len(batch.trees))))


def _completions_shuffled(batch: Batch) -> Batch:
    rng = random.Random(2)
    return replace(
        batch, trees=tuple(replace(t, branches=tuple(rng.sample(t.branches, len(t.branches)))) for t in batch.trees)
    )


def _padded_wide(batch: Batch) -> Batch:
    """A masked completion far longer than the others, in a tree of its own: it may widen tensors and nothing else."""
    silent = Branch(tokens=(7,) * 60, mask=(False,) * 60, sampler_logprobs=(-1.0,) * 60)
    return replace(batch, trees=(*batch.trees, Tree(prefix=(5, 6), branches=(silent,))))


CHANGES = (
    Change("budget 1: one completion per forward, nothing shared", budget=1),
    Change("budget 40: groups cut", budget=40),
    Change("budget 90: few trees per forward", budget=90),
    Change("trees in another order", rearrange=_trees_shuffled),
    Change("completions in another order", rearrange=_completions_shuffled),
    Change("all of it, budget 64", budget=64, rearrange=lambda b: _completions_shuffled(_trees_shuffled(b))),
    Change("padded to five times the width", rearrange=_padded_wide),
)
EXTRA = {"dual_clip": {"loss": "clip", "dual_clip": 3.0}, "kl k3": {"kl_coef": 0.1, "kl_estimator": "k3"}}


def invariance() -> list[Row]:
    """Per loss, aggregation, dtype, anchor and family, the worst of all changes; `change` names the one it was.

    Llama is what is usually trained; GPT-2, whose norms follow the dtype, shows what float64 leaves when nothing in
    the model is rounded to float32.
    """
    variants = [(kind, {"loss": kind}) for kind in POLICY_KINDS] + list(EXTRA.items())
    rows: list[Row] = []
    for family, (dtype_name, dtype) in itertools.product(("llama", "gpt2"), DTYPES.items()):
        policy, reference = make_policy(family, 0, dtype), make_policy(family, 1, dtype)
        trees = random_trees(3, groups=4, completions=(4, 4), prefix=(1, 20), length=(1, 12))
        trees = anchored_near(policy, trees, 0.9, spread=0.3, seed=4)
        batch = Batch(trees=trees, totals=totals_of(trees))
        for anchored in (False, True):
            for name, given in variants:
                for how in AGGREGATIONS:
                    objective = make_objective(
                        max_new_tokens=12, temperature=0.9, anchored=anchored, aggregation=how, **given
                    )
                    rows.append(
                        {"family": family, "dtype": dtype_name, "loss": name, "aggregation": how}
                        | {"old_logprobs": "given" if anchored else "own"}
                        | _worst_change(policy, batch, objective, reference)
                    )
    return rows


def _worst_change(policy: Policy, batch: Batch, objective: Any, reference: Policy) -> Row:
    anchor = reference if objective.needs_reference else None
    whole = compute(policy, batch, objective, reference=anchor)
    found: list[tuple[float, float, str]] = []
    for change in CHANGES:
        other = compute(policy, change.rearrange(batch), objective, budget=change.budget, reference=anchor)
        of_gradient = relative_difference(other.gradient, whole.gradient)
        found.append((of_gradient, abs(other.loss - whole.loss) / max(abs(whole.loss), 1e-3), change.name))
    error, _, name = max(found)
    return {
        "max_relative_gradient_difference": worst(e for e, _, _ in found),
        "max_relative_loss_difference": worst(e for _, e, _ in found),
        "largest_gradient": max(float(g.abs().max()) for g in whole.gradient.values()),
        "change": name if error > 0 else "none differs",
    }


# ── the sampler ─────────────────────────────────────────────────────────────────────────────────────────────────────

TEXTS = (
    "Hi",
    "What is 17 + 25? Reply with only the number.",
    "Name a colour.",
    "A train leaves at noon and travels at 80 km/h. Another leaves an hour later at 100 km/h from the same place. "
    "When does the second catch up with the first? Explain in two sentences.",
    "Write one line about the sea.",
    "List the first five prime numbers and say of each why it is one.",
    "Why is the sky blue?",
)
"""Seven prompts, from one word to a paragraph."""


def sample(policy: Policy, prompts: Sequence[Prompt], settings: SamplingTable) -> dict[str, Group]:
    """The groups of one step, by prompt."""

    async def collect() -> dict[str, Group]:
        sampler = LocalSampler(policy, seed=11)
        return {group.prompt.id: group async for group in sampler.sample(prompts, settings, step=1)}

    return asyncio.run(collect())


def sampler_row(name: str, policy: Policy, prompts: Sequence[Prompt], settings: SamplingTable) -> Row:
    """How far a rollout depends on what else is in the batch, and the sampler's probabilities on the learner's."""
    alone: dict[str, Group] = {}
    for prompt in prompts:
        alone |= sample(policy, [prompt], settings)
    together = sample(policy, prompts, settings)
    reordered = sample(policy, random.Random(5).sample(prompts, len(prompts)), settings)
    trees = [
        Tree(
            prefix=group.prompt_tokens,
            branches=tuple(Branch(tokens=r.tokens, mask=(True,) * len(r.tokens)) for r in group.rollouts),
        )
        for group in together.values()
    ]
    learnt = logprobs_of(policy, trees, settings.temperature)
    gaps = [
        abs(a - b)
        for group, rows in zip(together.values(), learnt, strict=True)
        for rollout, row in zip(group.rollouts, rows, strict=True)
        for a, b in zip(rollout.logprobs, row, strict=True)
    ]
    rollouts = len(prompts) * settings.group_size
    return {
        "model": name,
        "rollouts": rollouts,
        "tokens": len(gaps),
        "prompt_tokens": sorted(len(g.prompt_tokens) for g in together.values()),
        "identical_alone_and_in_batch": _identical(alone, together) / rollouts,
        "identical_in_another_order": _identical(together, reordered) / rollouts,
        "max_logprob_difference": worst(gaps),
        "mean_logprob_difference": sum(gaps) / len(gaps),
    }


def _identical(a: dict[str, Group], b: dict[str, Group]) -> int:
    return sum(
        x.tokens == y.tokens for key in a for x, y in zip(a[key].rollouts, b[key].rollouts, strict=True)
    )  # fmt: skip


def sampler_parity(model: str | None, tokens: int) -> list[Row]:
    """Every tiny family, and the embedded model unless `model` is None."""
    plain = [Prompt(id=f"p{i}", messages=({"role": "text", "content": text},)) for i, text in enumerate(TEXTS)]
    short = SamplingTable(group_size=4, max_new_tokens=24, temperature=0.9)
    rows = [sampler_row(family, make_policy(family, 0), plain, short) for family in FAMILIES]
    if model is not None:
        from charter import assets

        folder = assets.get(model) if assets.is_asset(model) else model
        asked = [Prompt(id=f"p{i}", messages=({"role": "user", "content": text},)) for i, text in enumerate(TEXTS)]
        settings = SamplingTable(group_size=4, max_new_tokens=tokens, temperature=1.0)
        rows.append(sampler_row(model, load_policy(folder, device="cpu"), asked, settings))
    return rows


# ── the report ──────────────────────────────────────────────────────────────────────────────────────────────────────


def summary(data: Row) -> Row:
    """The acceptance figures in one line each."""
    found: Row = {}
    for name in DTYPES:
        if "gradients" in data:
            rows = [r for r in data["gradients"] if r["dtype"] == name]
            found[f"gradient_parity_{name}"] = worst(r["max_relative_gradient_error"] for r in rows)
        if "invariance" in data:
            rows = [r for r in data["invariance"] if r["dtype"] == name]
            found[f"invariance_{name}"] = worst(r["max_relative_gradient_difference"] for r in rows)
            found[f"invariance_{name}_limit"] = LIMITS[name]
    if "sampler" in data:
        found["sampler_identical_in_batch"] = min(r["identical_alone_and_in_batch"] for r in data["sampler"])
        found["sampler_identical_in_another_order"] = min(r["identical_in_another_order"] for r in data["sampler"])
        found["sampler_max_logprob_difference"] = worst(r["max_logprob_difference"] for r in data["sampler"])
    return found


def report(data: Row) -> str:
    parts: list[str] = []
    if "gradients" in data:
        head = ("family", "dtype", "reference", "gradient error", "logprob error", "seeds")
        parts.append(
            "shared prefixes against the G-fold forward\n" + table([[*r.values()] for r in data["gradients"]], head)
        )
    if "invariance" in data:
        head = ("family", "dtype", "loss", "gradient", "loss value", "worst change")
        kinds = sorted({(r["family"], r["dtype"], r["loss"]) for r in data["invariance"]}, reverse=True)
        lines: list[list[object]] = []
        for kind in kinds:
            same = [r for r in data["invariance"] if (r["family"], r["dtype"], r["loss"]) == kind]
            least = max(same, key=lambda r: r["max_relative_gradient_difference"])
            of_loss = worst(r["max_relative_loss_difference"] for r in same)
            lines.append([*kind, least["max_relative_gradient_difference"], of_loss, least["change"]])
        parts.append("one step, computed in other ways: the worst of all aggregations\n" + table(lines, head))
    if "sampler" in data:
        head = ("model", "rollouts", "tokens", "same in batch", "same in other order", "max |Δ logprob|", "mean")
        keys = ("model", "rollouts", "tokens", "identical_alone_and_in_batch", "identical_in_another_order",
                "max_logprob_difference", "mean_logprob_difference")  # fmt: skip
        parts.append("the sampler\n" + table([[r[k] for k in keys] for r in data["sampler"]], head))
    parts.append("\n".join(f"{name}: {value:.3g}" for name, value in data["summary"].items()))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of tables")
    parser.add_argument("--only", default="gradients,invariance,sampler", help="parts to measure, comma-separated")
    parser.add_argument("--seeds", type=int, default=5, help="random models and trees per family and dtype")
    parser.add_argument("--model", default="smollm2-135m", help='asset or folder for the sampler; "none" leaves it out')
    parser.add_argument("--tokens", type=int, default=32, help="tokens per completion of that model")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/parity.json")
    asked = parser.parse_args()
    parts: dict[str, Callable[[], list[Row]]] = {
        "gradients": lambda: gradient_parity(asked.seeds),
        "invariance": invariance,
        "sampler": lambda: sampler_parity(None if asked.model == "none" else asked.model, asked.tokens),
    }
    chosen = asked.only.split(",")
    if unknown := [name for name in chosen if name not in parts]:
        raise SystemExit(f"--only {','.join(unknown)}: choose from {', '.join(parts)}")
    data: Row = {**facts(), **{name: parts[name]() for name in chosen}}
    data["summary"] = summary(data)
    if asked.store:
        print(f"stored {store('parity', data)}", file=sys.stderr)
    print(as_json(data) if asked.json else report(data))


if __name__ == "__main__":
    main()
