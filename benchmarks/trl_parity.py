"""Charter's loss, gradient and advantages against those of TRL's GRPOTrainer, on the same tokens and rewards.

    python benchmarks/trl_parity.py [--json] [--store] [--env DIR] [--trl 1.16]

TRL lives in an environment of its own, made here with pip under Charter's cache folder (or --env) and never imported by
Charter. Both sides get the same tiny random Llama, prompts, completions of unequal length, rewards and old
log-probabilities; Charter goes its whole way (credit, collation, shared prefixes, `LocalLearner`), TRL goes its own
(`_generate_and_score_completions` with given tokens, then `_compute_loss`).

    Charter            TRL 1.16
    token              loss_type="dapo" (and "bnpo" when nothing is accumulated): Σ ℓ·m / Σ m
    sequence           loss_type="grpo": mean over completions of each one's token mean
    constant           loss_type="dr_grpo": Σ ℓ·m / (completions · max_completion_length)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from gradients import compute, logprobs_of, make_objective, relative_difference
from harness import as_json, facts, run_child, store, table, worst
from peers import trl_python
from safetensors.torch import load_file
from tiny import make_policy, make_tokenizer

from charter.model.load import Policy
from charter.objectives.advantages import group_advantages
from charter.recipe import GrpoTable
from charter.train.batch import Credit, collate
from charter.types import Branch, Group, Prompt, Rollout, Score, Scored, Tree

TEMPERATURE = 0.9
MAX_NEW_TOKENS = 16
CLIP = {"clip_low": 0.2, "clip_high": 0.28}
TRL_CLIP = {"epsilon": 0.2, "epsilon_high": 0.28}
KL = 0.1
K2 = "clip token + k2 = dapo, TRL's default KL (gradient alone)"
"""TRL's default weighs k3 by the ratio: ∇(ρ·k3) at ρ = 1 is (1 − e⁻ᵈ + k3) ∇lp = d ∇lp = ∇(d²/2), the gradient of
Charter's default k2. The values differ, the gradients on policy must not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One setting said in both languages. old: "own" (ratio 1) or "given" (log-probabilities that differ)."""

    name: str
    what: str
    dtype: str
    old: str
    charter: dict[str, Any]
    trl: dict[str, Any]


def make_cases() -> list[Case]:
    """Aggregations × old log-probabilities × KL × dtype for `clip`; one aggregation for the other losses."""
    spoken: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for kl in (0.0, KL):
        for how, kind in (("token", "dapo"), ("token", "bnpo"), ("sequence", "grpo"), ("constant", "dr_grpo")):
            ours: dict[str, Any] = {"loss": "clip", "aggregation": how, "kl_coef": kl, **CLIP}
            theirs: dict[str, Any] = {"loss_type": kind, "beta": kl, **TRL_CLIP}
            if kl:  # TRL multiplies k3 by the ratio unless told not to; see `K2` for its default
                ours["kl_estimator"], theirs["use_bias_correction_kl"] = "k3", False
            spoken.append((f"clip {how}{' + k3' if kl else ''} = {kind}", ours, theirs))
    spoken += [
        (
            "gspo sequence = grpo, sequence level",
            {"loss": "gspo", "aggregation": "sequence", "clip_low": 0.05, "clip_high": 0.06},
            {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05, "epsilon_high": 0.06},
        ),
        # TRL caps the weight at epsilon_high, Charter at 1 + clip_high: 1.25 on both sides
        ("cispo token = cispo", {"loss": "cispo", "aggregation": "token", "clip_high": 0.25},
         {"loss_type": "cispo", "epsilon_high": 1.25}),
        ("sapo sequence = sapo", {"loss": "sapo", "aggregation": "sequence"}, {"loss_type": "sapo"}),
    ]  # fmt: skip
    return [
        Case(
            name=f"{number}-{old}-{dtype}", what=what, dtype=dtype, old=old, charter=ours,
            # sums of eighths are exact in float32, so center and "none" give both sides the very same advantages
            trl={"beta": 0.0, "scale_rewards": "none"} | theirs,
        )
        for number, (what, ours, theirs) in enumerate(spoken)
        for old in (("own",) if what == K2 else ("own", "given"))
        for dtype in ("float64", "float32")
    ]  # fmt: skip


def advantage_cases() -> list[Case]:
    """One per estimator that both have."""
    return [
        Case(
            name=f"advantages-{estimator}", what=f"{estimator} = scale_rewards {scale!r}", dtype="float32", old="own",
            charter={"advantage": estimator}, trl={"beta": 0.0, "loss_type": "dapo", "scale_rewards": scale},
        )
        for estimator, scale in (("standardize", "group"), ("center", "none"), ("batch_std", "batch"))
    ]  # fmt: skip


def make_policies(folder: Path) -> None:
    """model/ and, a little away from it so that the KL is neither 0 nor absurd, reference/."""
    policy = make_policy("llama", 0)
    policy.save(folder / "model")
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    policy.save(folder / "reference")


def load(folder: Path, dtype: str) -> Policy:
    from transformers import AutoModelForCausalLM

    from charter.model.chat import ChatFormat

    module = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    return Policy(module, ChatFormat(make_tokenizer(), [2]), source=folder.name)


def make_groups(policy: Policy, *, groups: int = 5, size: int = 4, seed: int = 3) -> list[dict[str, Any]]:
    """Prompts and completions of unequal length; rewards in eighths, one group all equal; old log-probabilities 0.3
    away from the policy's own, so that about half of the ratios leave the clip range."""
    rng = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [rng.randrange(3, 259) for _ in range(rng.randint(low, high))]

    made: list[dict[str, Any]] = []
    for number in range(groups):
        rewards = [rng.randrange(0, 9) / 8 for _ in range(size)]
        made.append(
            {
                "prompt": ids(1, 20),
                "completions": [ids(1, MAX_NEW_TOKENS) for _ in range(size)],
                "rewards": [0.625] * size if number == 1 else [1.0, 0.0, 0.0, 0.0] if number == 2 else rewards,
            }
        )
    trees = [
        Tree(
            prefix=tuple(group["prompt"]),
            branches=tuple(Branch(tokens=tuple(c), mask=(True,) * len(c)) for c in group["completions"]),
        )
        for group in made
    ]
    for group, rows in zip(made, logprobs_of(policy, trees, TEMPERATURE), strict=True):
        group["old_logprobs"] = [[lp + rng.gauss(0, 0.3) for lp in row] for row in rows]
    return made


def as_scored(groups: Sequence[dict[str, Any]]) -> list[Scored]:
    """What Charter's sampler and rewards would have handed to the trainer."""
    return [
        Scored(
            group=Group(
                prompt=Prompt(id=f"p{number}", messages=({"role": "text", "content": ""},)),
                prompt_tokens=tuple(group["prompt"]),
                rollouts=tuple(
                    Rollout(
                        prompt_id=f"p{number}", index=i, tokens=tuple(tokens), logprobs=tuple(old),
                        text="", stop="length", version=0,
                    )
                    for i, (tokens, old) in enumerate(zip(group["completions"], group["old_logprobs"], strict=True))
                ),
            ),
            scores=tuple(Score(value=value) for value in group["rewards"]),
        )
        for number, group in enumerate(groups)
    ]  # fmt: skip


def compare(folder: Path, case: Case, groups: Sequence[dict[str, Any]], theirs: dict[str, Any]) -> dict[str, Any]:
    """One case, computed by Charter and laid beside TRL's answer."""
    table_ = GrpoTable(**case.charter)
    scored = as_scored(groups)
    credit = Credit(config=table_, max_new_tokens=MAX_NEW_TOKENS, part_weights={"given": 1.0})
    batch = collate(scored, credit.advantages(scored), table_)
    objective = make_objective(
        max_new_tokens=MAX_NEW_TOKENS, temperature=TEMPERATURE, anchored=case.old == "given", **case.charter
    )
    policy = load(folder / "model", case.dtype)
    reference = load(folder / "reference", case.dtype) if case.charter.get("kl_coef") else None
    # a budget that cuts the step into several micro-batches, as a real one is
    ours = compute(policy, batch, objective, budget=100, reference=reference)
    gradient = load_file(folder / f"gradient-{case.name}.safetensors")
    return {
        "case": case.what,
        "old_logprobs": case.old,
        "dtype": case.dtype,
        "charter_loss": ours.loss,
        "trl_loss": theirs["loss"],
        "loss_difference": None if case.what == K2 else abs(ours.loss - theirs["loss"]),
        "max_relative_gradient_difference": relative_difference(ours.gradient, gradient),
        "trl_clipped_share": theirs["clipped"],
    }


def compare_advantages(case: Case, groups: Sequence[dict[str, Any]], theirs: dict[str, Any]) -> dict[str, Any]:
    rewards = torch.tensor([group["rewards"] for group in groups], dtype=torch.float64)
    ours = group_advantages(rewards, case.charter["advantage"])
    peer = torch.tensor(theirs["advantages"], dtype=torch.float64)
    return {
        "case": case.what,
        "max_difference": float((ours - peer).abs().max()),
        "largest_advantage": float(ours.abs().max()),
        "equal_group_charter": ours[1].abs().max().item(),
        "equal_group_trl": peer[1].abs().max().item(),
    }


def measure(python: Path) -> dict[str, Any]:
    """Both sides on every case."""
    losses, advantages = make_cases(), advantage_cases()
    with tempfile.TemporaryDirectory(prefix="charter-trl-") as name:
        folder = Path(name)
        make_policies(folder)
        groups = make_groups(load(folder / "model", "float64"))
        request = {
            "temperature": TEMPERATURE,
            "max_new_tokens": MAX_NEW_TOKENS,
            "groups": groups,
            "cases": [{"name": c.name, "dtype": c.dtype, "old": c.old, "trl": c.trl} for c in losses + advantages],
        }
        (folder / "request.json").write_text(json.dumps(request))
        run_child([python, Path(__file__).with_name("trl_peer.py"), folder])
        answer = json.loads((folder / "answer.json").read_text())
        return {
            "peer": answer["versions"],
            "losses": [compare(folder, case, groups, answer["answers"][case.name]) for case in losses],
            "advantages": [compare_advantages(c, groups, answer["answers"][c.name]) for c in advantages],
        }


def summary(data: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for dtype in ("float64", "float32"):
        rows = [row for row in data["losses"] if row["dtype"] == dtype]
        found[f"trl_loss_difference_{dtype}"] = worst(row["loss_difference"] or 0.0 for row in rows)
        found[f"trl_gradient_difference_{dtype}"] = worst(row["max_relative_gradient_difference"] for row in rows)
    found["trl_advantage_difference"] = worst(row["max_difference"] for row in data["advantages"])
    return found


def report(data: dict[str, Any]) -> str:
    keys = ("case", "old_logprobs", "dtype", "charter_loss")
    head = ("Charter = TRL", "old", "dtype", "loss", "|Δ loss|", "gradient", "clipped")
    rows = [
        [
            *(row[key] for key in keys),
            "–" if row["loss_difference"] is None else f"{row['loss_difference']:.1e}",
            row["max_relative_gradient_difference"],
            "–" if row["trl_clipped_share"] is None else f"{row['trl_clipped_share']:.2f}",
        ]
        for row in data["losses"]
    ]
    advantages = [[r["case"], r["max_difference"], r["largest_advantage"]] for r in data["advantages"]]
    return "\n\n".join(
        [
            "against " + ", ".join(f"{name} {version}" for name, version in data["peer"].items()),
            table(rows, head),
            table(advantages, ("advantages: Charter = TRL", "max difference", "largest")),
            "\n".join(f"{name}: {value:.3g}" for name, value in data["summary"].items()),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of tables")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/trl_parity.json")
    parser.add_argument("--env", type=Path, help="folder of TRL's environment; peers/trl-VERSION in Charter's cache")
    parser.add_argument("--trl", default="1.16", help="version of TRL, major.minor")
    asked = parser.parse_args()
    python = trl_python(asked.trl, asked.env)
    data = {**facts(), **measure(python)}
    data["summary"] = summary(data)
    if asked.store:
        print(f"stored {store('trl_parity', data)}", file=sys.stderr)
    print(as_json(data) if asked.json else report(data))


if __name__ == "__main__":
    main()
