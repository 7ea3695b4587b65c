"""Abstaining and failing, by every path there is: none of them is ever a 0, and none is remembered."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charter.objectives.advantages import group_advantages
from charter.recipe import GrpoTable
from charter.reward import Rubric, as_group, load_reward
from charter.reward.runtime import NamedReward, Verdict, abstained, checked, failed, scored
from charter.train.batch import Credit
from charter.train.scoring import score_as_they_finish
from charter.types import Group, Prompt, Rollout, Score, Scored

PROMPT = Prompt(id="p", messages=({"role": "text", "content": "?"},), fields={"answer": "a"})

FUNCTION = """
import math, os, time
import numpy as np

def answers(completions):
    made = {
        "raise": lambda: 1 / 0,
        "exit": lambda: os._exit(3),
        "system exit": lambda: exit(0),
        "nan": lambda: math.nan,
        "inf": lambda: -math.inf,
        "numpy nan": lambda: np.float32("nan"),
        "numpy inf": lambda: np.float64("inf"),
        "text": lambda: "1.0",
        "bytes": lambda: b"1",
        "list": lambda: [1.0],
        "complex": lambda: 1j,
        "hang": lambda: time.sleep(60),
        "none": lambda: None,
        "true": lambda: True,
        "false": lambda: False,
        "numpy": lambda: np.float32(0.5),
        "numpy bool": lambda: np.bool_(True),
        "numpy array of one": lambda: np.array(0.25),
        "int": lambda: 3,
        "fine": lambda: 0.75,
    }
    return [made[text]() for text in completions]

def too_few(completions):
    return [1.0] * (len(completions) - 1) if len(completions) > 1 else []

def too_many(completions):
    return [1.0] * (len(completions) + 1)

def a_number(completions):
    return 1.0

def nothing(completions):
    return None
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.py"
    path.write_text(FUNCTION, "utf-8")
    return path


def run(source: Path, name: str, *texts: str, timeout_s: float = 1.0) -> list[Score]:
    reward = load_reward(f"{source}:{name}", timeout_s=timeout_s)

    async def go() -> list[Score]:
        try:
            return list(await reward.score(as_group(PROMPT, texts)))
        finally:
            await reward.close()

    return asyncio.run(go())


BROKEN = [
    ("raise", "ZeroDivisionError"),
    ("exit", "ended with exit code 3"),
    ("system exit", "SystemExit"),
    ("nan", "returned nan"),
    ("inf", "returned -inf"),
    ("numpy nan", "returned nan"),
    ("numpy inf", "returned inf"),
    ("text", "returned '1.0', a str"),
    ("bytes", "a bytes"),
    ("list", "a list"),
    ("complex", "a complex"),
]


def test_every_way_a_function_breaks_for_one_completion(source: Path) -> None:
    reward = load_reward(f"{source}:answers")

    async def go() -> list[list[Score]]:
        try:
            return [list(await reward.score(as_group(PROMPT, ["fine", text]))) for text, _ in BROKEN]
        finally:
            await reward.close()

    for (text, said), (fine, broken) in zip(BROKEN, asyncio.run(go()), strict=True):
        assert (fine.value, fine.status) == (0.75, "scored"), text
        assert (broken.value, broken.status) == (None, "failed"), text
        assert said in broken.note, text
        assert broken.failures == {"answers": broken.note}, text


def test_a_function_that_hangs_loses_only_what_hangs(source: Path) -> None:
    fine, hung, fine_too = run(source, "answers", "fine", "hang", "true", timeout_s=0.8)
    assert (fine.value, fine_too.value) == (0.75, 1.0)
    assert (hung.value, hung.status, hung.note) == (None, "failed", "took longer than 0.8 s")


def test_what_a_function_may_return(source: Path) -> None:
    texts = ["none", "true", "false", "numpy", "numpy bool", "numpy array of one", "int"]
    scores = run(source, "answers", *texts)
    assert [s.value for s in scores] == [None, 1.0, 0.0, 0.5, 1.0, 0.25, 3.0]
    assert [s.status for s in scores] == ["abstained"] + ["scored"] * 6


@pytest.mark.parametrize("name", ["too_few", "too_many", "a_number", "nothing"])
def test_a_wrong_shape_fails_every_completion(source: Path, name: str) -> None:
    scores = run(source, name, "x", "y")
    assert [(s.value, s.status) for s in scores] == [(None, "failed")] * 2
    assert all("returned" in s.note for s in scores)


class Given(NamedReward):
    """A reward that answers with whatever it was made with."""

    pure = True

    def __init__(self, answer: Any) -> None:
        super().__init__("given", 1.0)
        self.answer = answer
        self.asked = 0

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        self.asked += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


BAD_ANSWERS = [
    ValueError("broke"),
    None,
    3,
    [],
    [scored(1.0)] * 2,
    [None],
    [1.0],
    ["1.0"],
    [Verdict(value=math.nan)],
    [Verdict(value=math.inf)],
    [Verdict(value=None)],
    [Verdict(value="1.0")],  # type: ignore[arg-type]
    [Verdict(value=1.0, status="failed")],
    [Verdict(value=1.0, status="abstained")],
    [scored(-math.inf)],
    [failed("said so")],
]


@pytest.mark.parametrize("answer", BAD_ANSWERS, ids=repr)
def test_a_built_in_that_breaks_its_promise_fails_and_is_asked_again(answer: Any) -> None:
    reward = Given(answer)
    rubric = Rubric([(reward, 2.0)])
    for times in (1, 2):  # nothing of it is remembered
        (score,) = asyncio.run(rubric.score(as_group(PROMPT, ["x"])))
        assert (score.value, score.status, dict(score.parts)) == (None, "failed", {"given": None})
        assert score.failures["given"]
        assert reward.asked == times


@pytest.mark.parametrize("value", [True, np.float32(0.5), np.int64(2), Fraction(1, 2)])
def test_any_real_number_is_a_value(value: Any) -> None:
    assert checked(Verdict(value=value)).value == value


class Seam:
    """A Reward that only keeps to the protocol, or does not."""

    name = "seam"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def score(self, group: Group) -> Sequence[Score]:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        pass


SEAM_ANSWERS = [
    OSError("disk"),
    None,
    [],
    [Score(value=1.0)] * 2,
    [3.0],
    [Score(value=math.nan)],
    [Score(value=math.inf)],
]


@pytest.mark.parametrize("answer", SEAM_ANSWERS, ids=repr)
def test_a_foreign_reward_in_a_rubric(answer: Any) -> None:
    (score,) = asyncio.run(Rubric([(Seam(answer), 1.0)]).score(as_group(PROMPT, ["x"])))
    assert (score.value, score.status) == (None, "failed")
    (score,) = asyncio.run(
        Rubric([(Seam([Score(value=None, status="abstained")]), 1.0)]).score(as_group(PROMPT, ["x"]))
    )
    assert (score.value, score.status) == (None, "abstained")


@pytest.mark.parametrize("answer", [OSError("disk"), None, [], [Score(value=math.nan)]], ids=repr)
def test_a_foreign_reward_given_to_the_trainer_alone(answer: Any) -> None:
    async def groups() -> Any:
        yield as_group(PROMPT, ["x"])

    async def go() -> list[Scored]:
        return [item async for item in score_as_they_finish(groups(), Seam(answer))]

    ((item,),) = [asyncio.run(go())]
    assert [(s.value, s.status) for s in item.scores] == [(None, "failed")]


def test_none_of_them_is_a_0_in_an_advantage() -> None:
    """Rewards 1, 3, abstained, failed: the baseline is 2, not 1."""
    rubric = Rubric([(Given([scored(1.0), scored(3.0), abstained(), failed("x")]), 1.0)])
    group = as_group(PROMPT, list("wxyz"))
    scores = tuple(asyncio.run(rubric.score(group)))
    item = Scored(group=group, scores=scores)
    for combine in ("sum", "per_reward"):
        credit = Credit(config=GrpoTable(combine=combine), max_new_tokens=4, part_weights=rubric.weights)
        (row,) = credit.advantages([item])
        assert row[2:] == (None, None)
        assert [row[0]] == pytest.approx([-(row[1] or 0.0)])
        assert row[1]
    credit = Credit(config=GrpoTable(), max_new_tokens=4, part_weights=rubric.weights)
    assert credit.advantages([item]) == ((-1.0, 1.0, None, None),)


def test_the_cache_is_keyed_by_the_row_and_belongs_to_one_set_of_options() -> None:
    plain, blind = load_reward("exact"), load_reward("exact", case=False)
    for _ in range(2):
        assert asyncio.run(plain.score(as_group(PROMPT, ["A"])))[0].value == 0.0
        assert asyncio.run(blind.score(as_group(PROMPT, ["A"])))[0].value == 1.0
    long = [np.arange(5000), np.arange(5000)]
    long[1][2500] = 7  # numpy's repr leaves the middle out
    reward = Given([scored(1.0)])
    for column in (*long, *long):
        asyncio.run(reward.score(as_group(Prompt(id="p", messages=(), fields={"column": column}), ["x"])))
    assert reward.asked == 2


def test_advantages_of_a_group_without_any_reward() -> None:
    import torch

    mask = torch.zeros(1, 3, dtype=torch.bool)
    assert group_advantages(torch.zeros(1, 3), mask=mask).tolist() == [[0.0, 0.0, 0.0]]
