"""A step's sampling: prompts to scored groups in prompt order, and where the step's time went."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence

from charter.protocols import Reward, Sampler, SamplingSettings
from charter.train.scoring import in_prompt_order, score_unless_hopeless
from charter.types import Group, Prompt, Scored

PROCESSOR_PARTS = {"time/sample_s": "time/processor_sample_s", "time/learn_s": "time/processor_learn_s"}
"""Parts of a step whose processor time is told too."""


class StepClock:
    """Where a step's time went, in seconds: by the clock on the wall, and of this process's processors."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._processor = self._told = time.process_time()
        self._spent: dict[str, float] = {}

    def add(self, name: str, seconds: float) -> None:
        """Wall time of a part of the step. Call it where the part ends: the processor time since the last part is its
        own too."""
        now = time.process_time()
        processor = PROCESSOR_PARTS.get(name)
        if processor is not None:
            self._spent[processor] = self._spent.get(processor, 0.0) + now - self._told
        self._told = now
        self._spent[name] = self._spent.get(name, 0.0) + seconds

    def metrics(self, scored: Sequence[Scored], learned: Mapping[str, float]) -> dict[str, float]:
        """The metrics `time/…` and `tokens_per_s/…`, of sampling too where there was any."""
        found = self._spent | {
            "time/step_s": time.perf_counter() - self._began,
            "time/processor_s": time.process_time() - self._processor,
            "tokens_per_s/learn": learned["tokens/forwarded"] / max(self._spent["time/learn_s"], 1e-9),
        }
        if "time/sample_s" in self._spent:
            sampled = sum(len(rollout.tokens) for item in scored for rollout in item.group.rollouts)
            found["tokens/sampled"] = float(sampled)
            found["tokens_per_s/sample"] = sampled / max(self._spent["time/sample_s"], 1e-9)
        return found


async def sample_and_score(
    prompts: Sequence[Prompt],
    sampler: Sampler,
    reward: Reward,
    sampling: SamplingSettings,
    step: int,
    clock: StepClock,
    *,
    max_error_rate: float,
    most: int,
) -> tuple[Scored, ...]:
    """Completions of these prompts with their scores, in the order of the prompts.

    most: completions the whole step can have, of which max_error_rate may fail before the step is refused.
    Raises RewardError as `score_unless_hopeless` does.
    """
    began = time.perf_counter()
    sampled = began

    async def noting_the_time() -> AsyncIterator[Group]:
        nonlocal sampled
        async for group in sampler.sample(prompts, sampling, step):
            sampled = time.perf_counter()
            yield group

    finished = await score_unless_hopeless(noting_the_time(), reward, max_error_rate, most)
    clock.add("time/sample_s", sampled - began)
    clock.add("time/score_s", time.perf_counter() - sampled)
    return in_prompt_order(finished, prompts)
