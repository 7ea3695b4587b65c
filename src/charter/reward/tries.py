"""The second try, one completion at a time, after a call on a whole group broke or overran."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from charter.reward.runtime import Verdict, failed
from charter.types import Rollout


def most_overruns(completions: int) -> int:
    """Completions of a group that may overrun before the rest is not tried: a quarter, and two at least."""
    return max(2, completions // 4)


async def one_by_one(
    rollouts: Sequence[Rollout], alone: Callable[[Rollout], Awaitable[tuple[Verdict, bool]]], at_once: int
) -> list[Verdict]:
    """One verdict per rollout, in order.

    alone: the verdict on one completion, and whether it overran its limit. at_once: how many are tried side by side.
    When as many as `most_overruns` have overrun, the others have failed without being tried: a function that hangs
    would cost its whole limit for each of them. Those that came back before keep their verdict.
    """
    turns = asyncio.Semaphore(at_once)
    most, overran = most_overruns(len(rollouts)), 0

    async def one(rollout: Rollout) -> Verdict:
        nonlocal overran
        async with turns:
            if overran >= most:
                return failed(f"not tried: {overran} other completions of its group took longer than the limit")
            verdict, late = await alone(rollout)
            overran += late
            return verdict

    tasks = [asyncio.ensure_future(one(rollout)) for rollout in rollouts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
