"""From prompts to scored groups, the rewards running while other groups are still being sampled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from charter.errors import RewardError
from charter.protocols import Reward
from charter.types import Group, Prompt, Scored


async def score_as_they_finish(groups: AsyncIterator[Group], reward: Reward) -> AsyncIterator[Scored]:
    """Start scoring each group the moment it is complete; yield in the order in which scores arrive."""
    tasks: set[asyncio.Task[Scored]] = set()
    try:
        async for group in groups:
            tasks.add(asyncio.create_task(_score(group, reward)))
            ready = {task for task in tasks if task.done()}
            tasks -= ready
            for task in ready:
                yield task.result()
        for finished in asyncio.as_completed(list(tasks)):
            yield await finished
    finally:
        for task in tasks:
            task.cancel()


async def _score(group: Group, reward: Reward) -> Scored:
    return Scored(group=group, scores=tuple(await reward.score(group)))


def in_prompt_order(scored: Sequence[Scored], prompts: Sequence[Prompt]) -> tuple[Scored, ...]:
    """The groups in the order of their prompts, so that a step does not depend on who finished first."""
    place = {prompt.id: i for i, prompt in enumerate(prompts)}
    return tuple(sorted(scored, key=lambda s: place[s.group.prompt.id]))


def refuse_failures(scored: Sequence[Scored], max_error_rate: float) -> None:
    """Raise RewardError, with three examples, if too large a share of a step's rewards broke."""
    failed = [
        (item.group, rollout, score)
        for item in scored
        for rollout, score in zip(item.group.rollouts, item.scores, strict=True)
        if score.status == "failed"
    ]
    total = sum(len(item.scores) for item in scored)
    if len(failed) <= max_error_rate * total:
        return
    examples = "\n".join(
        f"  prompt {group.prompt.id}, completion {rollout.index} ({_short(rollout.text)}): {score.note or 'no cause'}"
        for group, rollout, score in failed[:3]
    )
    raise RewardError(
        f"the reward failed for {len(failed)} of {total} completions of a step "
        f"(allowed: grpo.max_error_rate = {max_error_rate:g}); a failed reward is never counted as 0. Examples:\n"
        f"{examples}\n"
        "Repair the reward (charter reward test NAME --data F.jsonl runs it alone), then go on with --resume"
    )


def _short(text: str, limit: int = 60) -> str:
    line = repr(text)
    return line if len(line) <= limit else line[: limit - 1] + "…"
