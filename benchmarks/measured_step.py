"""One GRPO step by Charter, timed part by part, in a process of its own whose peak memory is its ru_maxrss.

    python benchmarks/measured_step.py SHAPE-AS-JSON OUT.json       (`measured` runs it)

The step: prompts × group completions of exactly `tokens` tokens (no end id, so counts are fixed), scored by a trivial
rule on their ids, learnt from in full (every completion has an advantage), one AdamW update. One warm-up step, then
`repeats`; then, where asked, the rates of the machine.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floors import Model, Rates, floors, measured_rates, model_of, peak_bytes, waiter
from harness import median, read_child
from workload import exact_prompts, model_folder

if TYPE_CHECKING:
    from charter.model.load import Policy
    from charter.types import Group, Prompt, Score

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
PARTS = ("sample", "score", "credit", "forward_backward", "optimizer")
COUNTED = {"sample": "sampled_tokens", "score": "sampled_tokens", "forward_backward": "forwarded_tokens"}
"""Which of a step's counts is the work of a part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The step that is measured.

    tokens: of each completion. prompt: exact tokens of each prompt; questions in the chat format when None.
    repeats: measured steps after one warm-up. rates: whether the machine's are measured at the end.
    sampling: further keys of the recipe's [sampling].
    """

    model: str
    prompts: int
    group: int
    tokens: int
    repeats: int
    prompt: int | None = None
    device: str = "cpu"
    dtype: str = "auto"
    rates: bool = True
    sampling: Mapping[str, Any] = field(default_factory=dict)


def measured(shape: Shape, *, threads: int | None = None) -> dict[str, Any]:
    """Run the child; everything that it measured, as numbers."""
    return read_child([sys.executable, Path(__file__).resolve(), json.dumps(asdict(shape))], threads=threads)


def step_floors(raw: Mapping[str, Any], rates: Rates) -> dict[str, float]:
    """Least seconds of each part of a measured step."""
    sizes = raw["sizes"]
    return floors(Model(**raw["model"]), sizes["prompt_tokens"], sizes["group"], sizes["tokens"], rates)


def parts_of(steps: Sequence[Mapping[str, Any]], least: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Median seconds of each part with its throughput and its distance from the floor."""
    parts: dict[str, dict[str, Any]] = {}
    for name in PARTS:
        every = [step[f"{name}_s"] for step in steps]
        seconds = median(every)
        parts[name] = {"seconds": seconds, "all_seconds": every}
        if name in COUNTED:
            tokens = steps[0][COUNTED[name]]
            parts[name] |= {"tokens": tokens, "tokens_per_s": tokens / seconds}
        if name in least:
            parts[name] |= {"floor_s": least[name], "of_limit": least[name] / seconds}
    return parts


# ── the child ───────────────────────────────────────────────────────────────────────────────────────────────────────


class IdsRule:
    """A reward that differs within any group: (sum of the ids mod 1009) / 1009. TRL's side has the same rule."""

    name = "ids"

    async def score(self, group: Group) -> list[Score]:
        from charter.types import Score

        return [Score(value=(sum(rollout.tokens) % 1009) / 1009) for rollout in group.rollouts]

    async def close(self) -> None:
        """Nothing is held."""


def child(shape: Shape) -> dict[str, Any]:
    """Run the steps, then measure the rates; everything that the parent needs, as numbers."""
    import torch

    from charter.model.load import load_policy

    held = peak_bytes()
    folder = model_folder(shape.model)
    policy = load_policy(folder, device=shape.device, dtype=shape.dtype)  # type: ignore[arg-type]
    policy.chat.eos_ids = frozenset()
    peaks = {"imports": held, "load": peak_bytes()}
    steps = asyncio.run(_steps(policy, _prompts(folder, shape), shape, peaks))
    on_cuda = policy.device.type == "cuda"
    return {
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(policy.device) if on_cuda else "cpu",
        "model": asdict(model_of(policy)),
        "sizes": {"prompt_tokens": steps[-1]["prompt_tokens"], "group": shape.group, "tokens": shape.tokens},
        "steps": steps,
        "peak_bytes_after": peaks,
        "peak_bytes": peak_bytes(),  # before the rates are measured, whose matrices are no part of a step
        "device_peak_bytes": torch.cuda.max_memory_allocated(policy.device) if on_cuda else None,
        "rates": measured_rates(policy) if shape.rates else None,
    }


def _prompts(folder: Path, shape: Shape) -> list[Prompt]:
    from charter.types import Prompt

    if shape.prompt is None:
        asked = [({"role": "user", "content": QUESTIONS[i % len(QUESTIONS)]},) for i in range(shape.prompts)]
    else:
        texts = exact_prompts(folder, [shape.prompt] * shape.prompts)
        asked = [({"role": "text", "content": given.text},) for given in texts]
    return [Prompt(id=f"p{i}", messages=messages) for i, messages in enumerate(asked)]  # type: ignore[arg-type]


async def _steps(
    policy: Policy, prompts: Sequence[Prompt], shape: Shape, peaks: dict[str, int]
) -> list[dict[str, Any]]:
    """Warm-up and repeats, each timed part by part."""
    from charter.learner.local import LocalLearner
    from charter.recipe import GrpoTable, OptimizerTable, SamplingTable
    from charter.sampler.local import LocalSampler
    from charter.train.batch import Credit, collate, has_signal
    from charter.train.grpo import GrpoObjective
    from charter.types import Scored

    sampling = SamplingTable(group_size=shape.group, max_new_tokens=shape.tokens, **shape.sampling)
    mismatch = "none" if sampling.precision == "model" else "truncate"
    config = GrpoTable(prompts_per_step=shape.prompts, mismatch=mismatch)
    learner = LocalLearner(policy, OptimizerTable(), total_steps=shape.repeats + 1)
    sampler = LocalSampler(policy, seed=0, precision=sampling.precision)
    reward = IdsRule()
    objective = GrpoObjective(config=config, max_new_tokens=shape.tokens, temperature=sampling.temperature)
    credit = Credit(config=config, max_new_tokens=shape.tokens, part_weights={reward.name: 1.0})
    wait, timed_apply = waiter(policy.device), timed(learner)
    done: list[dict[str, Any]] = []

    def now() -> float:
        wait()
        return time.perf_counter()

    for step in range(shape.repeats + 1):
        began = now()
        groups = await _all(sampler.sample(prompts, sampling, step))
        sampled = now()
        peaks.setdefault("sample", peak_bytes())
        scored = [Scored(group=group, scores=tuple(await reward.score(group))) for group in groups]
        judged = now()
        advantages = credit.advantages(scored)
        batch = collate(scored, advantages, config)
        collated = now()
        metrics = learner.step(batch, objective)
        await sampler.load(learner.weights())
        learnt = now()
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


def timed(learner: Any) -> Callable[[], float]:
    """Time what the learner does after its last backward: clipping and AdamW. Returns what takes the seconds."""
    spent = [0.0]
    apply, wait = learner.updater.apply, waiter(learner.policy.device)

    def apply_timed(*given: Any) -> Any:
        wait()
        began = time.perf_counter()
        answer = apply(*given)
        wait()
        spent[0] += time.perf_counter() - began
        return answer

    learner.updater.apply = apply_timed

    def take() -> float:
        seconds, spent[0] = spent[0], 0.0
        return seconds

    return take


def main() -> None:
    Path(sys.argv[2]).write_text(json.dumps(child(Shape(**json.loads(sys.argv[1])))))


if __name__ == "__main__":
    main()
