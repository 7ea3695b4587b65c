"""Tokens per second of forward and backward: Charter's shared prefixes against the padded G-fold forward.

    python benchmarks/learn.py [--json] [--store] [--groups 4,8,16,64] [--ratios 1:4,1:1,4:1,16:1] [--tokens 64]
                               [--rounds 5] [--model smollm2-135m] [--device cpu]

A cell is one group of G completions of --tokens tokens after a prompt of ratio · tokens, all with an advantage. Sides,
in turn, each in a process of its own over all cells, medians over rounds:

    charter   `LocalLearner.step` less clipping and AdamW: the prompt once, log-probabilities without a logits tensor
    padded    the same model as transformers runs it (sdpa): the prompt G times, logits of the completion positions,
              log-softmax of the drawn ids, the same loss, backward; in batches of at most --batch-tokens tokens

Of a cell whose padded form is longer than one such batch, one batch is timed and the time multiplied: all its batches
have the same shape. `of_limit` is floor / seconds (`floors.py`) with the rates measured in the same run. tokens_per_s
counts completion tokens. Results go to benchmarks/results/learn.json with --store.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floors import Model, best_rates, learn, measured_rates, model_of, waiter
from harness import as_json, facts, median, read_child, sample_quiet, store, table, validity, watching
from measured_step import timed
from sample import numbers
from workload import model_folder

if TYPE_CHECKING:
    from charter.model.load import Policy

SIDES = ("charter", "padded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One group. prompt: its tokens. tokens: of each completion."""

    group: int
    prompt: int
    tokens: int

    @property
    def padded_tokens(self) -> int:
        return self.group * (self.prompt + self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is compared. batch_tokens: most of one padded forward."""

    model: str
    cells: Sequence[Cell]
    rounds: int
    batch_tokens: int
    device: str = "cpu"
    dtype: str = "float32"


def make_cells(groups: Sequence[int], ratios: Sequence[tuple[int, int]], tokens: int) -> list[Cell]:
    """Every combination. Exits with a sentence where a ratio leaves no prompt."""
    cells = [Cell(group=g, prompt=tokens * over // under, tokens=tokens) for over, under in ratios for g in groups]
    if any(cell.prompt < 1 for cell in cells):
        raise SystemExit(f"completions of {tokens} tokens leave no prompt at the ratios asked for")
    return cells


def padded_rows(cell: Cell, batch_tokens: int) -> int:
    """Completions of one padded forward: the most that divide the group and stay within batch_tokens; at least one."""
    width = cell.prompt + cell.tokens
    return max(n for n in range(1, cell.group + 1) if cell.group % n == 0 and (n == 1 or n * width <= batch_tokens))


# ── the child ───────────────────────────────────────────────────────────────────────────────────────────────────────


def child(side: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    """All cells of one side, after a warm-up on the first."""
    import torch

    from charter.model.load import load_policy

    policy = load_policy(model_folder(plan["model"]), device=plan["device"], dtype=plan["dtype"])
    work = _charter(policy) if side == "charter" else _padded(policy, plan["batch_tokens"])
    cells = [Cell(**cell) for cell in plan["cells"]]
    work(cells[0])
    return {
        "threads": torch.get_num_threads(),
        "model": asdict(model_of(policy)),
        "cells": [work(cell) for cell in cells],
        "rates": measured_rates(policy) if side == "charter" else None,
    }


def _ids(policy: Policy, cell: Cell) -> tuple[list[int], list[list[int]]]:
    """A prompt and its completions of random ids, the same on both sides."""
    draw, most = random.Random(7), policy.head.weight.shape[0]
    prompt = [draw.randrange(most) for _ in range(cell.prompt)]
    return prompt, [[draw.randrange(most) for _ in range(cell.tokens)] for _ in range(cell.group)]


def _advantage(row: int) -> float:
    return 1.0 if row % 2 else -1.0


def _charter(policy: Policy) -> Callable[[Cell], dict[str, Any]]:
    from charter.learner.local import LocalLearner
    from charter.recipe import GrpoTable, OptimizerTable
    from charter.train.grpo import GrpoObjective
    from charter.types import Batch, Branch, Totals, Tree

    learner = LocalLearner(policy, OptimizerTable(), total_steps=10_000)
    take, wait = timed(learner), waiter(policy.device)

    def work(cell: Cell) -> dict[str, Any]:
        prompt, completions = _ids(policy, cell)
        branches = tuple(
            Branch(tokens=tuple(ids), mask=(True,) * len(ids), advantage=_advantage(row))
            for row, ids in enumerate(completions)
        )
        batch = Batch(
            trees=(Tree(prefix=tuple(prompt), branches=branches),),
            totals=Totals(tokens=cell.group * cell.tokens, sequences=cell.group, completions=cell.group, prompts=1),
        )
        objective = GrpoObjective(config=GrpoTable(), max_new_tokens=cell.tokens, temperature=1.0)
        take()
        wait()
        began = time.perf_counter()
        metrics = learner.step(batch, objective)
        wait()
        return {
            "seconds": time.perf_counter() - began - take(),
            "forwarded_tokens": int(metrics["tokens/forwarded"]),
            "rows_timed": cell.group,
        }

    return work


def _padded(policy: Policy, batch_tokens: int) -> Callable[[Cell], dict[str, Any]]:
    import torch

    module: Any = policy.module
    module.set_attn_implementation("sdpa")
    wait = waiter(policy.device)

    def work(cell: Cell) -> dict[str, Any]:
        prompt, completions = _ids(policy, cell)
        rows = padded_rows(cell, batch_tokens)
        ids = torch.tensor([prompt + one for one in completions[:rows]], device=policy.device)
        advantages = torch.tensor([[_advantage(row)] for row in range(rows)], device=policy.device)
        module.zero_grad(set_to_none=True)
        wait()
        began = time.perf_counter()
        with policy.arithmetic():
            told = module(ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=cell.tokens + 1)
        logits, drawn = told.logits[:, :-1].float(), ids[:, cell.prompt :]
        logprobs = logits.gather(-1, drawn[..., None])[..., 0] - logits.logsumexp(-1)
        ratio = (logprobs - logprobs.detach()).exp()
        loss = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).sum() / (cell.group * cell.tokens)
        loss.backward()
        wait()
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds * (cell.group // rows),
            "forwarded_tokens": cell.padded_tokens,
            "rows_timed": rows,
        }

    return work


# ── the parent ──────────────────────────────────────────────────────────────────────────────────────────────────────


def measure(plan: Plan) -> dict[str, Any]:
    """All rounds, watched."""
    said: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    before = sample_quiet()
    with watching() as during:
        for number in range(plan.rounds):
            for side in SIDES:
                print(f"round {number + 1} of {plan.rounds}: {side} …", file=sys.stderr, flush=True)
                words = [sys.executable, Path(__file__).resolve(), "--child", side, json.dumps(asdict(plan))]
                said[side].append(read_child(words))
    return {**facts(), **summary(plan, said), **validity(before, during)}


def summary(plan: Plan, said: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The figures of all cells out of what the processes said."""
    rates = best_rates([one["rates"] for one in said["charter"]])
    model = Model(**said["charter"][0]["model"])
    rows: list[dict[str, Any]] = []
    for number, cell in enumerate(plan.cells):
        floor = learn(model, [cell.prompt], cell.group, cell.tokens).seconds(rates)
        sides: dict[str, dict[str, Any]] = {}
        for side in SIDES:
            every = [one["cells"][number] for one in said[side]]
            seconds = median(row["seconds"] for row in every)
            sides[side] = {
                "seconds": seconds,
                "tokens_per_s": cell.group * cell.tokens / seconds,
                "of_limit": floor / seconds,
                "forwarded_tokens": every[0]["forwarded_tokens"],
                "rows_timed": every[0]["rows_timed"],
                "rounds_s": [row["seconds"] for row in every],
            }
        ratio = sides["charter"]["seconds"] / sides["padded"]["seconds"]
        rows.append({**asdict(cell), "floor_s": floor, "sides": sides, "ratio": ratio})
    return {
        "model": plan.model,
        "device": plan.device,
        "dtype": plan.dtype,
        "rounds": plan.rounds,
        "batch_tokens": plan.batch_tokens,
        "threads": said["charter"][0]["threads"],
        "cells": rows,
        "rates": rates,
    }


def report(data: Mapping[str, Any]) -> str:
    rows: list[list[object]] = []
    for cell in data["cells"]:
        ours, theirs = cell["sides"]["charter"], cell["sides"]["padded"]
        rows.append([cell["group"], cell["prompt"], cell["tokens"], f"{ours['tokens_per_s']:.0f}",
                     f"{theirs['tokens_per_s']:.0f}", f"{cell['ratio']:.3f}", f"{cell['floor_s']:.2f}",
                     f"{ours['of_limit']:.2f}"])  # fmt: skip
    head = ("G", "prompt", "tokens", "Charter tokens/s", "padded tokens/s", "time ratio", "floor s", "of limit")
    rates = data["rates"]
    lines = [
        f"{data['model']}, {data['threads']} threads, {data['rounds']} rounds",
        table(rows, head),
        f"machine: {rates['gemm_flops'] / 1e9:.0f} GFLOP/s, {rates['bandwidth_bytes'] / 1e9:.1f} GB/s",
        "valid" if data["valid"] else "NOT VALID: " + "; ".join(data["disturbed_by"]),
    ]
    return "\n".join(lines)


def ratios(text: str) -> list[tuple[int, int]]:
    """ "1:4,16:1" as pairs (prompt, completion). Raises argparse.ArgumentTypeError for anything else."""
    found: list[tuple[int, int]] = []
    for word in text.split(","):
        over, colon, under = word.partition(":")
        if not (colon and over.isdecimal() and under.isdecimal() and int(over) and int(under)):
            raise argparse.ArgumentTypeError(f"{word!r} is no ratio of prompt to completion like 4:1")
        found.append((int(over), int(under)))
    return found


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/learn.json")
    parser.add_argument("--name", default="learn", help="name to store under")
    parser.add_argument("--model", default="smollm2-135m", help="asset, folder, or random:SPEC (random_models.py)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default=None, choices=("float32", "bfloat16"))
    parser.add_argument("--groups", type=numbers, default=[4, 8, 16, 64], help="completions per prompt")
    parser.add_argument("--ratios", type=ratios, default=ratios("1:4,1:1,4:1,16:1"), help="prompt:completion")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each completion")
    parser.add_argument("--batch-tokens", type=int, default=4096, help="most tokens of one padded forward")
    parser.add_argument("--rounds", type=int, default=5, help="times that each side runs, alternated")
    return parser


def plan_of(asked: argparse.Namespace) -> Plan:
    dtype = asked.dtype or ("bfloat16" if asked.device.startswith("cuda") else "float32")
    cells = make_cells(asked.groups, asked.ratios, asked.tokens)
    return Plan(
        model=asked.model, cells=cells, rounds=asked.rounds, batch_tokens=asked.batch_tokens, device=asked.device,
        dtype=dtype,
    )  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    if words is None and sys.argv[1:2] == ["--child"]:
        Path(sys.argv[4]).write_text(json.dumps(child(sys.argv[2], json.loads(sys.argv[3]))))
        return
    asked = make_parser().parse_args(words)
    data = measure(plan_of(asked))
    if asked.store:
        print(f"stored {store(asked.name, data)}", file=sys.stderr)
    print(as_json(data) if asked.json else report(data))


if __name__ == "__main__":
    main()
