"""Evaluation over the seams alone: a scripted sampler and reward, counts by hand, injected faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import pytest

from charter.errors import RewardError, RunError, UsageError
from charter.evaluate.accuracy import Accuracy, accuracy_of, compare_accuracy, evaluate, wilson
from charter.protocols import SamplingSettings, Weights
from charter.run.metrics import unknown_metrics
from charter.types import Group, Prompt, Rollout, Score, Scored


@dataclass
class Settings:
    group_size: int = 2
    max_new_tokens: int = 4
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


class Replies:
    """Answers prompts in reverse order with the texts it was given."""

    def __init__(self, texts: dict[str, list[str]], stop: str = "eos") -> None:
        self.texts, self.stop = texts, stop
        self.asked: list[tuple[int, str]] = []

    async def sample(
        self, prompts: Sequence[Prompt], settings: SamplingSettings, step: int, *, stream: str = "train"
    ) -> AsyncIterator[Group]:
        self.asked.append((step, stream))
        for prompt in reversed(prompts):
            await asyncio.sleep(0)
            if prompt.id in self.texts:
                yield group(prompt, self.texts[prompt.id])

    async def load(self, weights: Weights) -> None:
        pass


class Judge:
    name = "judge"

    def __init__(self, score: Callable[[str], Score]) -> None:
        self._score = score

    async def score(self, group: Group) -> Sequence[Score]:
        await asyncio.sleep(0)
        return [self._score(rollout.text) for rollout in group.rollouts]

    async def close(self) -> None:
        pass


def group(prompt: Prompt, texts: list[str]) -> Group:
    rollouts = tuple(
        Rollout(
            prompt_id=prompt.id, index=i, tokens=(1,), logprobs=(0.0,), text=text,
            stop="failed" if text == "undrawn" else "eos", version=0,
        )
        for i, text in enumerate(texts)
    )  # fmt: skip
    return Group(prompt=prompt, rollouts=rollouts)


def verdict(text: str) -> Score:
    if text == "broken":
        return Score(value=None, status="failed", note="KeyError: 'x'")
    if text == "silent":
        return Score(value=None, status="abstained")
    return Score(value={"right": 1.0, "nearly": 0.5}.get(text, 0.0))


def prompts(*names: str) -> list[Prompt]:
    return [Prompt(id=name, messages=({"role": "user", "content": name},)) for name in names]


def run(texts: dict[str, list[str]], **options: object) -> tuple[Accuracy, tuple[Scored, ...]]:
    size = max(len(each) for each in texts.values())
    return asyncio.run(
        evaluate(prompts(*texts), Replies(texts), Judge(verdict), Settings(group_size=size), **options)  # type: ignore[arg-type]
    )


def test_counts_by_hand() -> None:
    got, scored = run(
        {"a": ["right", "wrong"], "b": ["right", "right"], "c": ["nearly", "broken"], "d": ["silent", "undrawn"]},
        ks=(1, 2),
    )
    # scored: a 1 0, b 1 1, c .5 (below the threshold), d none
    assert (got.n, got.prompts, got.abstained, got.failed) == (5, 3, 1, 2)
    assert got.accuracy == 3 / 5
    assert got.reward == pytest.approx(3.5 / 5)
    assert got.pass_at_k[1] == pytest.approx((0.5 + 1 + 0) / 3)
    assert got.pass_at_k[2] == 1.0  # a and b alone have two: each has one that is right
    assert got.interval[0] < got.accuracy < got.interval[1]
    assert [each.group.prompt.id for each in scored] == ["a", "b", "c", "d"]  # though answered backwards


def test_the_threshold_decides() -> None:
    got, _ = run({"a": ["nearly"], "b": ["wrong"]}, threshold=0.5)
    assert got.accuracy == 0.5


def test_one_completion_each_gives_wilson() -> None:
    got, _ = run({"a": ["right"], "b": ["wrong"], "c": ["right"], "d": ["right"]})
    assert got.interval == wilson(3, 4)


@pytest.mark.parametrize(("text", "expected"), [("right", 1.0), ("wrong", 0.0)])
def test_all_alike_is_not_certain(text: str, expected: float) -> None:
    got, _ = run({"a": [text] * 3, "b": [text] * 3})
    assert got.accuracy == expected
    assert got.interval == wilson(2 * expected, 2)  # two prompts, not six completions


def test_the_record_has_the_keys_of_the_contract() -> None:
    got, _ = run({"a": ["right"], "b": ["wrong"]})
    assert got.record() == {"accuracy": 0.5, "interval": list(wilson(1, 2)), "pass_at_k": {"1": 0.5}, "n": 2}
    assert got.metrics()["eval/accuracy"] == 0.5
    assert unknown_metrics(got.metrics()) == []


def test_step_and_stream_reach_the_sampler() -> None:
    sampler = Replies({"a": ["right", "right"]})
    asyncio.run(evaluate(prompts("a"), sampler, Judge(verdict), Settings(), 7, "held-out"))
    assert sampler.asked == [(7, "held-out")]


def test_nothing_to_evaluate() -> None:
    with pytest.raises(UsageError, match=r"data\.held_out"):
        asyncio.run(evaluate([], Replies({}), Judge(verdict), Settings()))
    with pytest.raises(UsageError, match=r"pass@3 needs 3 completions per prompt and 2 are drawn"):
        run({"a": ["right", "right"]}, ks=(1, 3))
    with pytest.raises(RewardError, match=r"none of the 2 completions .* the first says: KeyError: 'x'"):
        run({"a": ["broken", "silent"]})


def test_a_sampler_that_breaks_its_promise() -> None:
    with pytest.raises(RunError, match="left out 1 of 2 prompts, the first is 'b'"):
        asyncio.run(evaluate(prompts("a", "b"), Replies({"a": ["right"]}), Judge(verdict), Settings()))
    twice = prompts("a") * 2
    with pytest.raises(RunError, match="'a', which was not open"):
        asyncio.run(evaluate(twice, Replies({"a": ["right"]}), Judge(verdict), Settings()))


def test_a_reward_that_breaks_its_promise() -> None:
    class Short(Judge):
        async def score(self, group: Group) -> Sequence[Score]:
            return []

    with pytest.raises(RewardError, match="the reward 'judge' broke its promise: 0 scores for the 2 completions of b"):
        asyncio.run(evaluate(prompts("b"), Replies({"b": ["x", "y"]}), Short(verdict), Settings()))


def test_an_exception_ends_it_and_leaves_no_task_behind() -> None:
    def explode(text: str) -> Score:
        raise OSError("gone")

    async def main() -> set[object]:
        with pytest.raises(OSError, match="gone"):
            await evaluate(prompts("a", "b"), Replies({"a": ["x"], "b": ["y"]}), Judge(explode), Settings())
        return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    assert asyncio.run(main()) == set()


def scored_as(rows: dict[str, list[str]]) -> list[Scored]:
    return [
        Scored(group=group(prompt, rows[prompt.id]), scores=tuple(verdict(text) for text in rows[prompt.id]))
        for prompt in prompts(*rows)
    ]


def test_before_and_after_are_paired_by_prompt_whatever_their_order() -> None:
    before = scored_as({"a": ["wrong"], "b": ["right"], "c": ["wrong"]})
    after = scored_as({"c": ["right"], "a": ["right"], "b": ["right"]})
    got = compare_accuracy(before, after)
    assert got.mean == pytest.approx(2 / 3)
    assert got.interval[0] >= 0.0
    with pytest.raises(UsageError, match="not the same ones"):
        compare_accuracy(before, after[:2])


def test_accuracy_of_does_not_depend_on_the_order_of_completions() -> None:
    one = accuracy_of(scored_as({"a": ["right", "wrong", "wrong"], "b": ["wrong", "right", "right"]}), ks=(1, 2))
    two = accuracy_of(scored_as({"a": ["wrong", "wrong", "right"], "b": ["right", "right", "wrong"]}), ks=(1, 2))
    assert one == two
