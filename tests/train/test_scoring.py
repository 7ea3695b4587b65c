"""Scoring while sampling: what waits is bounded, what is hopeless is stopped, what is broken is named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from charter.errors import RewardError
from charter.recipe import GrpoTable, SamplingTable
from charter.reward import Rubric
from charter.reward.composition import Rule
from charter.reward.runtime import NamedReward, Verdict, failed, scored
from charter.reward.schedule import WeightSchedule
from charter.run.metrics import describe_groups, unknown_metrics
from charter.sampler.scripted import ScriptedSampler
from charter.train.batch import Credit
from charter.train.grpo import grpo
from charter.train.scoring import refuse_failures, score_as_they_finish, score_unless_hopeless
from charter.types import Group, Prompt, Rollout, Score, Scored


def group(name: str, size: int = 4, step: int = 1) -> Group:
    prompt = Prompt(id=name, messages=({"role": "text", "content": name},))
    rollouts = tuple(
        Rollout(prompt_id=name, index=i, tokens=(1,), logprobs=(0.0,), text="t", stop="eos", version=0)
        for i in range(size)
    )
    return Group(prompt=prompt, rollouts=rollouts, prompt_tokens=(1,), step=step)


class Slow:
    """A reward that answers when it is told to."""

    name = "slow"

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.running = self.most = self.cancelled = 0

    async def score(self, group: Group) -> Sequence[Score]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return [Score(value=1.0) for _ in group.rollouts]

    async def close(self) -> None:
        pass


def test_sampling_waits_while_too_many_groups_wait_for_their_scores() -> None:
    reward = Slow(0.02)
    ahead = 0

    async def groups() -> AsyncIterator[Group]:
        nonlocal ahead
        for i in range(12):
            yield group(f"p{i}")
            ahead = max(ahead, reward.running)
            await asyncio.sleep(0)

    async def go() -> list[Scored]:
        return [item async for item in score_as_they_finish(groups(), reward, most_waiting=3)]

    found = asyncio.run(go())
    assert sorted(item.group.prompt.id for item in found) == sorted(f"p{i}" for i in range(12))
    assert reward.most == 3
    assert ahead <= 3


def test_leaving_early_cancels_what_is_pending_and_closes_the_sampler() -> None:
    reward = Slow(30.0)
    closed: list[bool] = []

    async def groups() -> AsyncIterator[Group]:
        try:
            for i in range(5):
                yield group(f"p{i}")
            raise RuntimeError("the sampler broke")
        finally:
            closed.append(True)

    async def go() -> None:
        async for _ in score_as_they_finish(groups(), reward):
            pass

    with pytest.raises(RuntimeError, match="the sampler broke"):
        asyncio.run(go())
    assert (reward.running, reward.cancelled, closed) == (0, 0, [True])  # never begun, so nothing to cancel

    async def stop_in_the_middle() -> None:
        async def some() -> AsyncIterator[Group]:
            for i in range(3):
                yield group(f"p{i}")
                await asyncio.sleep(0)

        task = asyncio.ensure_future(anext(score_as_they_finish(some(), reward)))
        while reward.running < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    began = time.monotonic()
    asyncio.run(stop_in_the_middle())
    assert (reward.running, reward.cancelled) == (0, 3)
    assert time.monotonic() - began < 5


class Breaking(Slow):
    """Fails at once for the first prompt and hangs for the others."""

    async def score(self, group: Group) -> Sequence[Score]:
        if group.prompt.id != "p0":
            return await super().score(group)
        return [Score(value=None, status="failed", note="boom", failures={"slow": "boom"})] * len(group.rollouts)


def test_a_hopeless_step_is_not_waited_for() -> None:
    """4 of 32 completions have failed, more than 10 %, whatever the others will say; they would take a minute."""
    reward = Breaking(60.0)

    async def groups() -> AsyncIterator[Group]:
        for i in range(8):
            yield group(f"p{i}")

    began = time.monotonic()
    with pytest.raises(RewardError, match=r"the reward 'slow' failed for 4 of 4 completions of a step"):
        asyncio.run(score_unless_hopeless(groups(), reward, 0.1, 32))
    assert time.monotonic() - began < 10
    assert (reward.running, reward.cancelled) == (0, 7)


def test_a_step_with_few_failures_is_waited_for() -> None:
    async def groups() -> AsyncIterator[Group]:
        for i in range(8):
            yield group(f"p{i}")

    found = asyncio.run(score_unless_hopeless(groups(), Breaking(1.2), 0.125, 32))  # 4 of 32 is not more than 12.5 %
    assert len(found) == 8


def test_one_broken_reward_of_five_is_named_with_its_own_examples() -> None:
    class Named(NamedReward):
        def __init__(self, name: str, breaks_on: set[int]) -> None:
            super().__init__(name, 1.0)
            self.breaks_on = breaks_on

        async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
            return [
                failed(f"{self.name} broke on {r.index}") if r.index in self.breaks_on else scored(1.0)
                for r in rollouts
            ]

    breaks = {"a": set(), "b": {0}, "c": {1, 2, 3, 4}, "d": set(), "e": set()}
    rubric = Rubric([(Named(name, on), 1.0) for name, on in breaks.items()])
    one = group("p0", 10)
    item = Scored(group=one, scores=tuple(asyncio.run(rubric.score(one))))
    with pytest.raises(RewardError) as caught:
        refuse_failures([item], 0.1)
    text = str(caught.value)
    assert "the reward 'c' failed for 4 of 10 completions of a step ('b' for 1; 5 completions in all)" in text
    assert [f"c broke on {i}" in text for i in range(1, 5)] == [True, True, True, False]
    assert "b broke" not in text
    refuse_failures([item], 0.5)
    metrics = describe_groups([item], ())
    rates = {name: metrics[f"reward/{name}/error_rate"] for name in breaks}
    assert rates == {"a": 0.0, "b": 0.1, "c": 0.4, "d": 0.0, "e": 0.0}
    assert {metrics[f"reward/{name}/abstain_rate"] for name in breaks} == {0.0}
    assert unknown_metrics(metrics) == []


def test_metrics_of_a_reward_by_hand() -> None:
    """Seconds 1, 2 and 3; one abstained, one broke; a reward that does not say what it took is left out."""
    scores = (
        Score(value=1.0, parts={"a": 1.0, "q": 1.0}, seconds={"a": 1.0}),
        Score(value=None, status="abstained", parts={"a": None}, seconds={"a": 2.0}),
        Score(value=None, status="failed", parts={"a": None}, failures={"a": "x"}, seconds={"a": 3.0}),
        Score(value=1.0, parts={"q": 1.0}),
    )
    metrics = describe_groups([Scored(group=group("p"), scores=scores)], ())
    assert metrics["reward/a/seconds"] == 2.0
    assert metrics["reward/a/error_rate"] == metrics["reward/a/abstain_rate"] == pytest.approx(1 / 3)
    assert "reward/q/seconds" not in metrics


class Values(NamedReward):
    """Values by the completion's index."""

    def __init__(self, name: str, *values: float) -> None:
        super().__init__(name, 1.0)
        self.values = values

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        return [scored(self.values[r.index]) for r in rollouts]


def advantages(rubric: Rubric, step: int, combine: str) -> tuple[float | None, ...]:
    one = group("p", 4, step)
    item = Scored(group=one, scores=tuple(asyncio.run(rubric.score(one))))
    credit = Credit(config=GrpoTable(combine=combine), max_new_tokens=4, part_weights=rubric.weights)
    return credit.advantages([item])[0]


def test_gates_caps_and_the_steps_weight_reach_the_advantages() -> None:
    """form is 1 1 0 0; right is 9 0 9 0, so 1 0 0 0 behind cap and gate; its weight is 2 at step 1 and 4 at step 2."""
    course = WeightSchedule(start=2.0, end=4.0, steps=1)
    rubric = Rubric(
        [
            (Values("form", 1.0, 1.0, 0.0, 0.0), 1.0),
            (Values("right", 9.0, 0.0, 9.0, 0.0), Rule(weight=course, gate="form", cap=(0.0, 1.0))),
        ]
    )
    # step 1: 1 + 2, 1, 0, 0 less their mean of 1; step 2: 1 + 4, 1, 0, 0 less 1.5
    assert advantages(rubric, 1, "sum") == (2.0, 0.0, -1.0, -1.0)
    assert advantages(rubric, 2, "sum") == (3.5, -0.5, -1.5, -1.5)
    # per_reward: form standardised is (1, 1, −1, −1)·√3/2; right (3, −1, −1, −1)/2; weights 1 and 2, then over the std
    half = 3**0.5 / 2
    total = [half + 3, half - 1, -half - 1, -half - 1]
    spread = (sum(v * v for v in total) / 3) ** 0.5
    assert advantages(rubric, 1, "per_reward") == pytest.approx([v / spread for v in total], rel=1e-3)
    total = [half + 6, half - 2, -half - 2, -half - 2]
    spread = (sum(v * v for v in total) / 3) ** 0.5
    assert advantages(rubric, 2, "per_reward") == pytest.approx([v / spread for v in total], rel=1e-3)


def test_a_mapping_of_weights_is_as_good_as_a_function_of_the_step() -> None:
    scores = tuple(Score(value=v, parts={"a": v}) for v in (1.0, 0.0, 0.0, 1.0))
    item = Scored(group=group("p"), scores=scores)
    by_name: Any = {"a": 2.0}
    config = GrpoTable(combine="per_reward")
    rows = [
        Credit(config=config, max_new_tokens=4, part_weights=w).advantages([item])
        for w in (by_name, lambda step: by_name)
    ]
    assert rows[0] == rows[1]


class Prompts:
    def steps(self, prompts_per_step: int, *, start: int = 1) -> Any:
        for step in range(start, start + 10):
            yield step, tuple(group(f"s{step}p{i}").prompt for i in range(prompts_per_step))


class Learner:
    version = 0

    def step(self, batch: Any, objective: Any) -> dict[str, float]:
        self.version += 1
        return {"loss": 0.0, "tokens/forwarded": 1.0}

    def weights(self) -> Any:
        return self


def test_a_resumed_run_weighs_as_one_that_never_stopped() -> None:
    course = WeightSchedule(start=1.0, end=0.0, steps=4, shape="cosine")
    sampling = SamplingTable(group_size=4, max_new_tokens=10)

    def updates(start: int, count: int) -> list[Any]:
        rubric = Rubric(
            [
                (Values("a", 1.0, 2.0, 3.0, 4.0), Rule(weight=course)),
                (Values("b", 0.0, 1.0, 0.0, 1.0), Rule(normalize=True)),
            ]
        )

        async def go() -> list[Any]:
            found: list[Any] = []
            stream = grpo(
                Prompts(), ScriptedSampler(["a", "b", "c", "d"]), rubric, Learner(), GrpoTable(prompts_per_step=1),
                sampling, part_weights=rubric.weights, start=start,
            )  # fmt: skip
            async for update in stream:
                found.append(update)
                if len(found) == count:
                    await stream.aclose()
                    break
            return found

        return asyncio.run(go())

    whole = updates(1, 6)
    assert [u.scored[0].group.step for u in whole] == [1, 2, 3, 4, 5, 6]
    resumed = updates(4, 3)
    assert [u.advantages for u in resumed] == [u.advantages for u in whole[3:]]
    assert len({u.advantages for u in whole}) == 5  # five weights: the last two steps have the final one
    assert {"reward/a/seconds", "reward/b/error_rate"} <= whole[0].metrics.keys()


def test_an_evaluation_is_no_step_of_training() -> None:
    sampling = SamplingTable(group_size=2, max_new_tokens=5)

    async def steps(stream: str) -> list[int]:
        sampler = ScriptedSampler(["a"])
        prompts = [group("p").prompt]
        return [g.step async for g in sampler.sample(prompts, sampling, 7, stream=stream)]

    assert asyncio.run(steps("train")) == [7]
    assert asyncio.run(steps("eval")) == [0]
    assert replace(group("p"), step=0).step == 0
