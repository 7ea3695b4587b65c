"""A constitution as a reward: values by hand, and what a broken judge leaves: failures, never numbers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from charter.constitution.rewards import JudgeOptions, JudgeReward, PrinciplesOptions, PrinciplesReward
from charter.errors import DataError, UsageError
from charter.protocols import Reward
from charter.sampler.scripted import ScriptedChat
from charter.types import ChatRequest, ChoiceRequest, Group, Message, Prompt, Rollout, Score

CONSTITUTION = """
name = "two"
version = "1"

[[principle]]
id = "kind"
text = "Be kind."
tags = ["tone"]

[[principle]]
id = "calm"
text = "Be calm."
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "two.toml"
    path.write_text(CONSTITUTION)
    return str(path)


def group(*texts: str, id: str = "p") -> Group:
    prompt = Prompt(id=id, messages=(Message(role="user", content="Hello?"),))
    rollouts = [
        Rollout(prompt_id=id, index=i, tokens=(), logprobs=(), text=text, stop="eos", version=0)
        for i, text in enumerate(texts)
    ]
    return Group(prompt=prompt, rollouts=tuple(rollouts))


@dataclass
class Told:
    value: float | None


def judge_reward(file: str, model: ScriptedChat, **options: Any) -> JudgeReward:
    return JudgeReward(
        "judge", 10.0, JudgeOptions(constitution=file, **options), lambda: model,
        refuses=lambda text: text.startswith("Sorry"), decide=lambda check, messages, reply: None,
    )  # fmt: skip


def scores(reward: Reward, *texts: str) -> Sequence[Score]:
    async def one() -> Sequence[Score]:
        try:
            return await reward.score(group(*texts))
        finally:
            await reward.close()

    return asyncio.run(one())


def test_the_expected_score_is_the_reward(file: str):
    def choices(request: ChoiceRequest) -> dict[str, float]:
        good = "Good day" in request.messages[-1]["content"]
        return {" 8": math.log(0.5), " 6": math.log(0.5)} if good else {" 1": 0.0}

    model = ScriptedChat(["x"], choices, name="n")
    good, bad, again = scores(judge_reward(file, model), "Good day", "Go away", "Good day")
    # E = 7: (7 − 1)/9 · 2 − 1 = 1/3; the worst is −1
    assert good.value == again.value == pytest.approx(1 / 3)
    assert bad.value == pytest.approx(-1.0)
    assert model.usage.requests == 2


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("Lorem ipsum", "its answer cannot be read: Lorem ipsum"),
        ("Sorry, I will not.", "it refused: Sorry"),
        (None, "it"),
    ],
)
def test_a_broken_judge_fails_and_is_asked_again(file: str, said, why):
    model = ScriptedChat(lambda request: said, name="n")
    reward = judge_reward(file, model)
    for _ in range(2):
        (score,) = asyncio.run(reward.score(group("Good day")))
        assert (score.value, score.status) == (None, "failed")
        assert why in score.note
    assert model.usage.requests + model.usage.failures == 2


def test_one_principle_for_all_completions_of_a_prompt_and_all_of_them_with_ensemble_all(file: str):
    asked: list[str] = []

    def reply(request: ChatRequest) -> str:
        asked.append("kind" if "Be kind." in request.messages[-1]["content"] else "calm")
        return "10" if asked[-1] == "kind" else "1"

    reward = judge_reward(file, ScriptedChat(reply, name="n"))
    for n in range(12):
        asyncio.run(reward.score(group("a", "b", "c", id=f"p{n}")))
        assert len(set(asked[-3:])) == 1
    assert set(asked) == {"kind", "calm"}
    (score,) = scores(judge_reward(file, ScriptedChat(reply, name="n"), ensemble="all"), "a")
    assert score.value == pytest.approx(0.0)  # the mean of 1 and −1
    (tagged,) = scores(judge_reward(file, ScriptedChat(reply, name="n"), ensemble="all", tags=["tone"]), "a")
    assert tagged.value == 1.0


def test_a_rubric_needs_checks(file: str):
    with pytest.raises(UsageError, match=r"'two' has none"):
        judge_reward(file, ScriptedChat(["x"], name="n"), mode="rubric")


def test_programs_decide_a_share_or_nothing(file: str):
    def score(constitution: Any, messages: Any, reply: str) -> Told:
        assert constitution.ids == ("kind", "calm")
        assert messages[0]["content"] == "Hello?"
        return Told(None if reply == "?" else 0.25)

    reward = PrinciplesReward("principles", 10.0, PrinciplesOptions(constitution=file), score=score)
    told, nothing = scores(reward, "Good day", "?")
    assert (told.value, told.status) == (0.25, "scored")
    assert (nothing.value, nothing.status) == (None, "abstained")


def test_a_constitution_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.toml"):
        PrinciplesReward(
            "principles", 10.0, PrinciplesOptions(constitution=str(tmp_path / "none.toml")), score=lambda *_: Told(1.0)
        )
