"""From prompts to scored groups, the rewards running while other groups are still being sampled."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from charter.errors import RewardError
from charter.protocols import Reward
from charter.types import Group, Prompt, Rollout, Score, Scored

MOST_WAITING = 64
"""Groups that may wait for their scores at a time; sampling pauses when there are more."""
GRACE_S = 1.0
"""How long a step that is sure to be refused waits for scores that are nearly there (seconds)."""


async def score_as_they_finish(
    groups: AsyncIterator[Group], reward: Reward, *, most_waiting: int = MOST_WAITING
) -> AsyncGenerator[Scored]:
    """Start scoring each group the moment it is complete; yield in the order in which scores arrive.

    most_waiting: groups being scored at a time; the next is not asked for before one of them has its scores. Closing
    the generator, or an exception in it, cancels what is pending and waits until that has let go of its processes.
    """
    tasks: list[asyncio.Task[Scored]] = []
    try:
        async for group in groups:
            tasks.append(asyncio.create_task(_score(group, reward)))
            if len(tasks) >= most_waiting:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ready = [task for task in tasks if task.done()]
            tasks = [task for task in tasks if task not in ready]
            for task in ready:
                yield task.result()
        while tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ready = [task for task in tasks if task.done()]
            tasks = [task for task in tasks if task not in ready]
            for task in ready:
                yield task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(groups, AsyncGenerator):
            await groups.aclose()


async def _score(group: Group, reward: Reward) -> Scored:
    """The group with its scores; a reward that does not keep its promise fails the group, in words."""
    count = len(group.rollouts)
    try:
        scores = list(await reward.score(group))
    except Exception as error:  # noqa: BLE001 - the seam promises Scores, and one group must not take the step along
        return _all_failed(group, reward, f"{type(error).__name__}: {error}")
    if len(scores) != count:
        return _all_failed(group, reward, f"{len(scores)} scores for {count} completions")
    return Scored(group=group, scores=tuple(_finite(score, reward.name) for score in scores))


def _all_failed(group: Group, reward: Reward, cause: str) -> Scored:
    one = Score(value=None, status="failed", note=cause, failures={reward.name: cause})
    return Scored(group=group, scores=(one,) * len(group.rollouts))


def _finite(score: Score, name: str) -> Score:
    if score.value is None or math.isfinite(score.value):
        return score
    cause = f"the value is {score.value}; a reward is a finite number"
    return replace(score, value=None, status="failed", note=cause, failures={**score.failures, name: cause})


def in_prompt_order(scored: Sequence[Scored], prompts: Sequence[Prompt]) -> tuple[Scored, ...]:
    """The groups in the order of their prompts, so that a step does not depend on who finished first."""
    place = {prompt.id: i for i, prompt in enumerate(prompts)}
    return tuple(sorted(scored, key=lambda s: place[s.group.prompt.id]))


async def score_unless_hopeless(
    groups: AsyncIterator[Group], reward: Reward, max_error_rate: float, completions: int
) -> list[Scored]:
    """All groups with their scores, in the order in which these arrive.

    A reward that hangs or is broken is not waited for: as soon as more than max_error_rate of the step's completions
    have failed, whatever the rest will say, what is pending is cancelled and the step refused.

    completions: most the step can have. Raises RewardError as `refuse_failures` does.
    """
    finished: list[Scored] = []
    async with aclosing(score_as_they_finish(groups, reward)) as arriving:
        limit = asyncio.timeout(None)
        try:
            async with limit:
                async for item in arriving:
                    finished.append(item)
                    if limit.when() is None and len(_failed(finished)) > max_error_rate * completions:
                        limit.reschedule(asyncio.get_running_loop().time() + GRACE_S)
        except TimeoutError:
            if limit.expired():
                refuse_failures(finished, max_error_rate)
            raise
    return finished


def refuse_failures(scored: Sequence[Scored], max_error_rate: float) -> None:
    """Raise RewardError, with three examples, if too large a share of a step's rewards broke.

    A completion without a reward is lost whichever of its rewards broke, so all of them count together; the message
    names each with its own number, and the examples are of the one that broke most.
    """
    failed = _failed(scored)
    total = sum(len(item.scores) for item in scored)
    if len(failed) <= max_error_rate * total:
        return
    by_reward = Counter(name for _, _, score in failed for name in score.failures)
    worst = by_reward.most_common(1)[0][0] if by_reward else None
    who = "the reward" if worst is None else f"the reward {worst!r}"
    count = len(failed) if worst is None else by_reward[worst]
    others = [f"{name!r} for {number}" for name, number in by_reward.most_common()[1:]]
    also = f" ({', '.join(others)}; {len(failed)} completions in all)" if others else ""
    chosen = [each for each in failed if worst is None or worst in each[2].failures][:3]
    examples = "\n".join(
        f"  prompt {group.prompt.id}, completion {rollout.index} ({_short(rollout.text)}): "
        f"{score.failures.get(worst or '', '') or score.note or 'no cause'}"
        for group, rollout, score in chosen
    )
    raise RewardError(
        f"{who} failed for {count} of {total} completions of a step{also} "
        f"(allowed: max_error_rate = {max_error_rate:g}); a failed reward is never counted as 0. Examples:\n"
        f"{examples}\n"
        "Repair the reward (charter reward test NAME --data F.jsonl runs it alone), then go on with --resume"
    )


def _failed(scored: Sequence[Scored]) -> list[tuple[Group, Rollout, Score]]:
    return [
        (item.group, rollout, score)
        for item in scored
        for rollout, score in zip(item.group.rollouts, item.scores, strict=True)
        if score.status == "failed"
    ]


def _short(text: str, limit: int = 60) -> str:
    line = repr(text)
    return line if len(line) <= limit else line[: limit - 1] + "…"
