"""Where the time and memory of one GRPO step go, and how far each part is from what the machine could do.

    python benchmarks/step_parts.py [--json] [--store] [--model smollm2-135m] [--prompts 4] [--group 8] [--tokens 64]

The step: --prompts × --group completions of exactly --tokens tokens (no end id, so counts are fixed), scored by a
trivial rule, learnt from in full (every completion has an advantage), one AdamW update. It runs in a child process of
its own, whose peak memory is its ru_maxrss: one warm-up step, then --repeats, medians of each part.

    of_limit = floor / measured        1 is the machine's limit; it cannot be passed

    floor    = Σ over phases of max(FLOPs / GEMM rate, bytes / bandwidth)

FLOPs count once what the mathematics needs: prompt tokens once per group; 2 N per token forward and 4 N backward, N
without the embedding table; the output head where log-probabilities are needed; attention added. The rates are the best
of the model's own GEMM shapes at 2,048 rows and of a large copy, measured in the same run and threads.

The run is marked invalid when another process takes more than a tenth of a core, before or during.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import as_json, facts, median, read_child, sample_quiet, store, table, validity, watching

if TYPE_CHECKING:
    from charter.model.load import Policy
    from charter.types import Scored

# The parent imports no torch: a child's ru_maxrss starts at what its parent held when it was forked.

QUESTIONS = (
    "What is 17 + 25? Reply with only the number.",
    "Name three colours and say of each where it is found in nature.",
    "A train leaves at noon and travels at 80 km/h. When has it gone 200 km?",
    "Write two lines about the sea in winter.",
    "Why is the sky blue? Explain it to a child.",
    "List the first five prime numbers.",
    "What is the difference between a list and a tuple in Python?",
    "Give a recipe for bread in three sentences.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The step that is measured. tokens: of each completion. repeats: measured steps after one warm-up."""

    model: str
    prompts: int
    group: int
    tokens: int
    repeats: int


# ── the child ───────────────────────────────────────────────────────────────────────────────────────────────────────


def peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(shape: Shape) -> dict[str, Any]:
    """Run the steps, then measure the rates; everything that the parent needs, as numbers."""
    import torch

    from charter import assets
    from charter.model.load import load_policy

    folder = assets.get(shape.model) if assets.is_asset(shape.model) else shape.model
    policy = load_policy(folder, device="cpu")
    policy.chat.eos_ids = frozenset()
    peaks = {"load": peak_bytes()}
    steps = asyncio.run(_steps(policy, shape, peaks))
    return {
        "threads": torch.get_num_threads(),
        "sizes": _sizes(policy, shape, steps[-1]["prompt_tokens"]),
        "steps": steps,
        "peak_bytes_after": peaks,
        "peak_bytes": peak_bytes(),  # before the rates are measured, whose matrices are no part of a step
        "rates": measured_rates(policy),
    }


async def _steps(policy: Policy, shape: Shape, peaks: dict[str, int]) -> list[dict[str, Any]]:
    """Warm-up and repeats, each timed part by part."""
    from charter.learner.local import LocalLearner
    from charter.recipe import GrpoTable, OptimizerTable, SamplingTable
    from charter.reward import load_reward
    from charter.sampler.local import LocalSampler
    from charter.train.batch import Credit, collate, has_signal
    from charter.train.grpo import GrpoObjective
    from charter.types import Prompt

    config = GrpoTable(prompts_per_step=shape.prompts)
    sampling = SamplingTable(group_size=shape.group, max_new_tokens=shape.tokens)
    learner = LocalLearner(policy, OptimizerTable(), total_steps=shape.repeats + 1)
    sampler = LocalSampler(policy, seed=0)
    # a graded rule, so that no two completions of a group are likely to earn the same and all of them teach
    reward = load_reward("length", unit="characters", target=1000)
    objective = GrpoObjective(config=config, max_new_tokens=shape.tokens, temperature=sampling.temperature)
    credit = Credit(config=config, max_new_tokens=shape.tokens, part_weights={"length": 1.0})
    prompts = [
        Prompt(id=f"p{i}", messages=({"role": "user", "content": QUESTIONS[i % len(QUESTIONS)]},))
        for i in range(shape.prompts)
    ]
    timed_apply = _timed(learner)
    done: list[dict[str, Any]] = []
    for step in range(shape.repeats + 1):
        began = time.perf_counter()
        groups = await _all(sampler.sample(prompts, sampling, step))
        sampled = time.perf_counter()
        peaks.setdefault("sample", peak_bytes())
        scored: list[Scored] = [_with_scores(group, await reward.score(group)) for group in groups]
        judged = time.perf_counter()
        advantages = credit.advantages(scored)
        batch = collate(scored, advantages, config)
        collated = time.perf_counter()
        metrics = learner.step(batch, objective)
        learnt = time.perf_counter()
        peaks["learn"] = peak_bytes()  # higher in the second step, when AdamW has its moments
        optimizer_s = timed_apply()
        done.append(
            {
                "sample_s": sampled - began,
                "score_s": judged - sampled,
                "credit_s": collated - judged,
                "forward_backward_s": learnt - collated - optimizer_s,
                "optimizer_s": optimizer_s,
                "step_s": learnt - began,
                "sampled_tokens": sum(len(r.tokens) for s in scored for r in s.group.rollouts),
                "learnt_tokens": sum(len(b.tokens) for t in batch.trees for b in t.branches),
                "forwarded_tokens": int(metrics["tokens/forwarded"]),
                "prompt_tokens": [len(s.group.prompt_tokens) for s in scored],
                "groups_with_signal": sum(map(has_signal, advantages)),
                "microbatch_tokens": learner.microbatch_tokens,
            }
        )
    await reward.close()
    return done[1:]


async def _all(groups: AsyncIterator[Any]) -> list[Any]:
    return [group async for group in groups]


def _with_scores(group: Any, scores: Any) -> Scored:
    from charter.types import Scored

    return Scored(group=group, scores=tuple(scores))


def _timed(learner: Any) -> Callable[[], float]:
    """Time what the learner does after its last backward: clipping and AdamW."""
    spent = [0.0]
    apply = learner.updater.apply

    def timed(*given: Any) -> Any:
        began = time.perf_counter()
        answer = apply(*given)
        spent[0] += time.perf_counter() - began
        return answer

    learner.updater.apply = timed

    def take() -> float:
        seconds, spent[0] = spent[0], 0.0
        return seconds

    return take


def _sizes(policy: Policy, shape: Shape, prompt_tokens: list[int]) -> dict[str, Any]:
    """The numbers the floor is made of."""
    config = policy.config
    parameters = sum(p.numel() for p in policy.module.parameters())
    embedding = policy.module.get_input_embeddings().weight
    head = policy.head.weight
    tied = embedding.data_ptr() == head.data_ptr()
    return {
        "parameters": parameters,
        "body": parameters - embedding.numel() - (0 if tied else head.numel()),
        "head": head.numel(),
        "layers": config.num_hidden_layers,
        "attention_width": config.num_attention_heads * policy.head_dim,
        "kv_width": policy.kv_heads * policy.head_dim,
        "element_bytes": head.element_size(),
        "prompt_tokens": prompt_tokens,
        "group": shape.group,
        "tokens": shape.tokens,
    }


def measured_rates(policy: Policy, rows: int = 2048) -> dict[str, Any]:
    """Best GEMM rate over the model's own shapes (FLOP/s) and copy bandwidth (bytes/s, read and written counted)."""
    import torch

    shapes = {tuple(p.shape) for p in policy.module.parameters() if p.ndim == 2}
    found: dict[str, float] = {}
    with torch.inference_mode():
        for out, wide in sorted(shapes):
            left, right = torch.randn(rows, wide), torch.randn(wide, out)
            result = torch.empty(rows, out)
            flops = 2 * rows * wide * out
            found[f"{rows}x{wide}x{out}"] = flops / _best(
                lambda a=left, b=right, c=result: torch.mm(a, b, out=c), flops
            )
        source = torch.randn(64 * 2**20)
        target = torch.empty_like(source)
        moved = 2 * source.numel() * source.element_size()
        bandwidth = moved / _best(lambda: target.copy_(source), moved)
    return {"gemm_flops": max(found.values()), "bandwidth_bytes": bandwidth, "gemm_by_shape": found}


def _best(work: Callable[[], Any], size: int) -> float:
    """Shortest of several runs; more of them for small work, whose single run says little."""
    work()
    times: list[float] = []
    for _ in range(max(3, min(50, int(2e10 / size)))):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


# ── the floor ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Work:
    """What a phase needs at least. bytes_: weights, optimizer state or cache that must be moved."""

    flops: float
    bytes_: float

    def seconds(self, rates: dict[str, Any]) -> float:
        return max(self.flops / rates["gemm_flops"], self.bytes_ / rates["bandwidth_bytes"])


def floors(sizes: dict[str, Any], rates: dict[str, Any]) -> dict[str, float]:
    """Least seconds of each part.

    Attention of one token over n visible ones, all layers: 4 · n · width · layers (scores and weighted sum).
    Prompt: P tokens, each once. Decoding: the first token of a completion comes from its prompt's last state, so
    tokens − 1 passes of prompts · group rows, each reading all weights and the cache so far. Learning: the same
    positions forward and backward (twice the forward's FLOPs), the head at every completion token. AdamW: read weight,
    gradient and two moments, write weight and moments, and read the gradient once for its norm: 8 numbers a parameter.
    """
    body, head, layers = sizes["body"], sizes["head"], sizes["layers"]
    width, kv, size = sizes["attention_width"], sizes["kv_width"], sizes["element_bytes"]
    prompts, group, tokens = sizes["prompt_tokens"], sizes["group"], sizes["tokens"]
    rows, passes = len(prompts) * group, tokens - 1
    weights = (body + head) * size

    def attention(visible: float) -> float:
        return 4 * visible * width * layers

    prompt_attention = attention(sum(p * (p + 1) / 2 for p in prompts))
    own_attention = attention(group * sum(passes * p + passes * (passes + 1) / 2 for p in prompts))
    prefill = Work(2 * body * sum(prompts) + 2 * head * len(prompts) + prompt_attention, weights)
    # a decoding pass reads each group's prompt once and each row's own tokens
    cache = sum(2 * kv * layers * size * (sum(prompts) + rows * t) for t in range(1, passes + 1))
    decode = Work(2 * (body + head) * rows * passes + own_attention, passes * weights + cache)
    forward = 2 * body * (sum(prompts) + rows * passes) + 2 * head * rows * tokens + prompt_attention + own_attention
    learn = Work(3 * forward, 3 * weights)
    optimizer = Work(0.0, 8 * sizes["parameters"] * size)
    return {
        "sample": prefill.seconds(rates) + decode.seconds(rates),
        "forward_backward": learn.seconds(rates),
        "optimizer": optimizer.seconds(rates),
    }


# ── the parent ──────────────────────────────────────────────────────────────────────────────────────────────────────


def measure(shape: Shape) -> dict[str, Any]:
    """One child, watched."""
    before = sample_quiet()
    with watching() as during:
        raw = read_child([sys.executable, Path(__file__).resolve(), "--child", json.dumps(asdict(shape))])
    steps = raw["steps"]
    least = floors(raw["sizes"], raw["rates"])
    parts: dict[str, dict[str, Any]] = {}
    counted = {"sample": "sampled_tokens", "score": "sampled_tokens", "credit": None,
               "forward_backward": "forwarded_tokens", "optimizer": None}  # fmt: skip
    for name, tokens in counted.items():
        seconds = median(step[f"{name}_s"] for step in steps)
        parts[name] = {"seconds": seconds, "all_seconds": [step[f"{name}_s"] for step in steps]}
        if tokens:
            parts[name] |= {"tokens": steps[0][tokens], "tokens_per_s": steps[0][tokens] / seconds}
        if name in least:
            parts[name] |= {"floor_s": least[name], "of_limit": least[name] / seconds}
    whole = median(step["step_s"] for step in steps)
    floor = sum(least.values())
    return {
        **facts(),
        "case": asdict(shape),
        "threads": raw["threads"],
        "parts": parts,
        "step_s": whole,
        "floor_s": floor,
        "of_limit": floor / whole,
        "tokens_per_s": steps[0]["sampled_tokens"] / whole,
        "groups_with_signal": [step["groups_with_signal"] for step in steps],
        "microbatch_tokens": steps[0]["microbatch_tokens"],
        "peak_bytes": raw["peak_bytes"],
        "peak_bytes_after": raw["peak_bytes_after"],
        "rates": raw["rates"],
        "sizes": raw["sizes"],
        **validity(before, during),
    }


def report(data: dict[str, Any]) -> str:
    rows: list[list[object]] = []
    for name, part in data["parts"].items():
        limit = f"{part['of_limit']:.2f}" if "of_limit" in part else "–"
        floor = f"{part['floor_s']:.2f}" if "floor_s" in part else "–"
        speed = f"{part['tokens_per_s']:.0f}" if "tokens_per_s" in part else "–"
        rows.append([name, f"{part['seconds']:.3f}", speed, floor, limit])
    rows.append(["step", f"{data['step_s']:.3f}", f"{data['tokens_per_s']:.0f}", f"{data['floor_s']:.2f}",
                 f"{data['of_limit']:.2f}"])  # fmt: skip
    case, rates = data["case"], data["rates"]
    peaks = ", ".join(f"{name} {value / 1e9:.2f}" for name, value in data["peak_bytes_after"].items())
    lines = [
        f"{case['model']}: {case['prompts']} prompts × {case['group']} completions × {case['tokens']} tokens, "
        f"{data['threads']} threads, median of {case['repeats']} after one warm-up",
        table(rows, ("part", "seconds", "tokens/s", "floor s", "of limit")),
        f"peak memory {data['peak_bytes'] / 1e9:.2f} GB (after {peaks})",
        f"machine: {rates['gemm_flops'] / 1e9:.0f} GFLOP/s, {rates['bandwidth_bytes'] / 1e9:.1f} GB/s",
        "valid" if data["valid"] else "NOT VALID: " + "; ".join(data["disturbed_by"]),
    ]
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        Path(sys.argv[3]).write_text(json.dumps(child(Shape(**json.loads(sys.argv[2])))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/step_parts.json")
    parser.add_argument("--model", default="smollm2-135m", help="asset or folder")
    parser.add_argument("--prompts", type=int, default=4, help="prompts per step")
    parser.add_argument("--group", type=int, default=8, help="completions per prompt")
    parser.add_argument("--tokens", type=int, default=64, help="tokens per completion")
    parser.add_argument("--repeats", type=int, default=3, help="measured steps after one warm-up")
    asked = parser.parse_args()
    names = ("model", "prompts", "group", "tokens", "repeats")
    data = measure(Shape(**{name: getattr(asked, name) for name in names}))
    if asked.store:
        print(f"stored {store('step_parts', data)}", file=sys.stderr)
    print(as_json(data) if asked.json else report(data))


if __name__ == "__main__":
    main()
