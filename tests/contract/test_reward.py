"""What every Reward must keep to, run on every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from charter.protocols import Reward
from charter.recipe import RewardTable
from charter.reward import Rubric, build_rubric, load_reward
from charter.types import Group, Prompt, Rollout, Score

SOURCE = "def right(completions, answer, **columns):\n    return [float(c == a) for c, a in zip(completions, answer)]\n"


def right(completions: list[str], answer: list[str]) -> list[float]:
    """1 for the answer itself."""
    return [float(c == a) for c, a in zip(completions, answer, strict=True)]


def make_rubric(_: Path) -> Reward:
    tables = [{"name": "math", "weight": 0.75}, {"name": "exact", "weight": 0.25}]
    return build_rubric([RewardTable.model_validate(table) for table in tables])


def make_from_path(folder: Path) -> Reward:
    (folder / "rules.py").write_text(SOURCE, "utf-8")
    return load_reward(f"{folder / 'rules.py'}:right")


def make_composed(_: Path) -> Reward:
    """Right only behind its gate, which itself adds nothing; the weight's course is over."""
    course = {"start": 0.0, "end": 1.0, "steps": 5}
    tables = [{"name": "math", "gate": "exact", "weight": course, "cap": [0.0, 1.0]}, {"name": "exact", "weight": 0.0}]
    return build_rubric([RewardTable.model_validate(table) for table in tables])


MAKERS: dict[str, Callable[[Path], Reward]] = {
    "rubric": make_rubric,
    "composed rubric": make_composed,
    "math": lambda _: load_reward("math"),
    "exact": lambda _: load_reward("exact"),
    "regex": lambda _: load_reward("regex", pattern="122", match="fullmatch"),
    "nested rubric": lambda _: Rubric([(Rubric([(load_reward("exact"), 1.0)], name="inner"), 1.0)]),
    "function from a path": make_from_path,
    "function object": lambda _: load_reward(right),
}


@pytest.fixture(params=MAKERS)
def reward(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reward]:
    made = MAKERS[request.param](tmp_path)
    yield made
    asyncio.run(made.close())


def group(*texts: str, name: str = "p") -> Group:
    prompt = Prompt(id=name, messages=({"role": "text", "content": "59+63="},), fields={"answer": "122"})
    rollouts = tuple(
        Rollout(prompt_id=name, index=i, tokens=(1, 2), logprobs=(0.0, 0.0), text=text, stop="eos", version=0)
        for i, text in enumerate(texts)
    )
    return Group(prompt=prompt, rollouts=rollouts)


def test_it_is_a_reward_with_a_name(reward: Reward) -> None:
    assert isinstance(reward, Reward)
    assert reward.name


def test_one_score_per_rollout_in_order_however_many_groups_are_scored_at_once(reward: Reward) -> None:
    async def score_all() -> list[list[Score]]:
        groups = [group(*["122" if (i >> bit) & 1 else "7" for bit in range(3)], name=f"p{i}") for i in range(8)]
        return [list(s) for s in await asyncio.gather(*(reward.score(g) for g in groups))]

    for i, scores in enumerate(asyncio.run(score_all())):
        assert [s.value for s in scores] == [float((i >> bit) & 1) for bit in range(3)]
        assert all(s.status == "scored" and s.parts for s in scores)


def test_the_same_question_has_the_same_answer_in_another_event_loop(reward: Reward) -> None:
    texts = ("122", "123", "", "122", "\ud800 é", "x" * 100_000)
    first = asyncio.run(reward.score(group(*texts)))
    assert list(asyncio.run(reward.score(group(*texts)))) == list(first)
    assert [s.value for s in first] == [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]


def test_an_empty_group_has_no_scores(reward: Reward) -> None:
    assert list(asyncio.run(reward.score(group()))) == []


def test_a_row_it_cannot_read_fails_without_an_exception(reward: Reward) -> None:
    if reward.name == "regex":
        pytest.skip("a pattern reads no columns")
    bare = Group(prompt=Prompt(id="p9", messages=(), fields={"other": 1}), rollouts=group("122", "7").rollouts)
    scores = asyncio.run(reward.score(bare))
    assert [(s.value, s.status) for s in scores] == [(None, "failed")] * 2
    assert all("row p9 has no column 'answer'" in s.note for s in scores)


def test_closing_twice_is_harmless(reward: Reward) -> None:
    asyncio.run(reward.score(group("122")))
    asyncio.run(reward.close())
    asyncio.run(reward.close())
