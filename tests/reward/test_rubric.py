"""Rubrics, the cache, the probe, and the making of rewards from names and tables."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.errors import RecipeError, UsageError
from charter.recipe import RewardTable
from charter.reward import Rubric, as_group, build_rubric, load_reward, options_model, probe, reward_names
from charter.reward import runtime as runtime_module
from charter.reward.composition import Rule
from charter.reward.rubric import unique_names
from charter.reward.runtime import NamedReward, Verdict, abstained, failed, scored
from charter.types import Group, Prompt, Rollout, Score


class Fixed(NamedReward):
    """Answers from a list, and counts how often it is asked."""

    def __init__(self, name: str, verdicts: Sequence[Verdict], *, pure: bool = False) -> None:
        super().__init__(name, 1.0)
        self.answers = verdicts
        self.pure = pure
        self.asked: list[str] = []

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        self.asked += [r.text for r in rollouts]
        return self.answers[: len(rollouts)]


class Seam:
    """A Reward that only keeps to the protocol."""

    name = "seam"

    def __init__(self, answer: Sequence[Score] | Exception) -> None:
        self.answer = answer
        self.closed = False

    async def score(self, group: Group) -> Sequence[Score]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        self.closed = True


PROMPT = Prompt(id="p", messages=(), fields={"answer": "a"})


def score(reward: Any, *texts: str) -> list[Score]:
    return list(asyncio.run(reward.score(as_group(PROMPT, texts or ("x",)))))


def test_the_sum_and_its_parts() -> None:
    rubric = Rubric([(Fixed("a", [scored(0.5)]), 2.0), (Fixed("b", [scored(3.0, "three")]), -1.0)])
    (one,) = score(rubric)
    assert one == Score(value=-2.0, parts={"a": 0.5, "b": 3.0}, note="b: three")  # 2 x 0.5 - 1 x 3


def test_abstaining_parts_are_left_out() -> None:
    rubric = Rubric([(Fixed("a", [abstained("no gold"), scored(1.0)]), 2.0), (Fixed("b", [scored(0.25)] * 2), 4.0)])
    first, second = score(rubric, "x", "y")
    assert first == Score(value=1.0, parts={"a": None, "b": 0.25}, note="a: no gold")
    assert second.value == 3.0
    (none,) = score(Rubric([(Fixed("a", [abstained()]), 1.0), (Fixed("b", [abstained()]), 1.0)]))
    assert none == Score(value=None, parts={"a": None, "b": None}, note="every reward abstained", status="abstained")


def test_a_failed_part_fails_the_score_and_is_named() -> None:
    rubric = Rubric(
        [(Fixed("a", [scored(1.0)]), 1.0), (Fixed("b", [failed("boom")]), 1.0), (Fixed("c", [abstained()]), 1.0)]
    )
    (one,) = score(rubric)
    assert one == Score(
        value=None, parts={"a": 1.0, "b": None, "c": None}, note="reward 'b' failed: boom", status="failed"
    )


def test_numbers_that_are_not_finite_fail() -> None:
    assert scored(math.nan).status == "failed"
    (one,) = score(Rubric([(Fixed("a", [scored(1e308)]), 10.0)]))
    assert (one.value, one.status, one.note) == (None, "failed", "the weighted sum is not finite")
    with pytest.raises(ValueError, match="must be finite"):
        Rubric([(Fixed("a", []), math.nan)])
    with pytest.raises(ValueError, match="at least one"):
        Rubric([])


@given(st.lists(st.tuples(st.floats(-10, 10), st.none() | st.floats(-10, 10)), min_size=1, max_size=6))
def test_the_sum_is_over_those_that_answered(parts: list[tuple[float, float | None]]) -> None:
    rewards = [(Fixed("r", [abstained() if v is None else scored(v)]), w) for w, v in parts]
    (one,) = score(Rubric(rewards))
    answered = [w * v for w, v in parts if v is not None]
    assert one.value == (pytest.approx(sum(answered), abs=1e-9) if answered else None)
    assert len(one.parts) == len(parts)


def test_names_are_made_unique() -> None:
    assert unique_names(["a", "a", "b", "a", "a_2"]) == ["a", "a_2", "b", "a_3", "a_2_2"]


def test_foreign_rewards_only_keep_to_the_seam() -> None:
    seam = Seam([Score(value=2.0, note="n")])
    rubric = Rubric([(seam, 3.0), (Fixed("a", [scored(1.0)]), 1.0)])
    assert score(rubric)[0].value == 7.0
    asyncio.run(rubric.close())
    assert seam.closed
    (one,) = score(Rubric([(Seam(KeyError("k")), 1.0)]))
    assert (one.status, one.note) == ("failed", "reward 'seam' failed: KeyError: 'k'")
    (one, two) = score(Rubric([(Seam([Score(value=2.0)]), 1.0)]), "x", "y")
    assert one.note == two.note == "reward 'seam' failed: 1 scores for 2 completions"


def test_a_score_says_what_each_reward_took_broke_on_and_counted() -> None:
    slow = [replace(scored(1.0), seconds=2.0), replace(failed("x"), seconds=3.0), abstained(), scored(0.5)]
    rubric = Rubric([(Fixed("a", slow), 2.0), (Fixed("b", [scored(4.0)] * 4), 1.0)])
    one, two, three, four = score(rubric, "1", "2", "3", "4")
    assert [s.seconds for s in (one, two)] == [{"a": 2.0, "b": 0.0}, {"a": 3.0, "b": 0.0}]
    assert [s.failures for s in (one, two, three)] == [{}, {"a": "x"}, {}]
    assert [dict(s.counted) for s in (one, two, three, four)] == [
        {"a": 1.0, "b": 4.0},
        {},
        {"b": 4.0},
        {"a": 0.5, "b": 4.0},
    ]


def test_identical_completions_are_looked_at_once_and_remembered() -> None:
    reward = Fixed("a", [scored(1.0), scored(0.5)], pure=True)
    assert [s.value for s in score(reward, "x", "y", "x", "x")] == [1.0, 0.5, 1.0, 1.0]
    assert reward.asked == ["x", "y"]
    assert [s.value for s in score(reward, "y", "x")] == [0.5, 1.0]
    assert reward.asked == ["x", "y"]
    other = Prompt(id="p", messages=(), fields={"answer": "b"})  # the same id with another reference
    asyncio.run(reward.score(as_group(other, ["x"])))
    assert reward.asked == ["x", "y", "x"]


def test_only_lasting_verdicts_are_remembered_and_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "CACHE_SIZE", 2)
    slow = Fixed("a", [Verdict(value=0.0, note="too slow", lasting=False)], pure=True)
    score(slow, "x")
    score(slow, "x")
    assert slow.asked == ["x", "x"]
    reward = Fixed("b", [scored(1.0)], pure=True)
    for text in ("1", "2", "1", "3", "1", "2"):  # 2 is the one least lately used when 3 comes
        score(reward, text)
    assert reward.asked == ["1", "2", "3", "2"]


def test_a_judge_that_breaks_is_a_failure() -> None:
    class Broken(Fixed):
        async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
            raise OSError("disk")

    assert score(Broken("a", []))[0].note == "OSError: disk"
    assert score(Fixed("a", [scored(1.0)]), "x", "y")[1].note == "1 verdicts for 2 completions"


def test_the_probe_finds_a_reference_that_loses_and_an_empty_text_that_wins() -> None:
    class Upside(Fixed):
        def reference(self, prompt: Prompt) -> str | None:
            return str(prompt.fields["answer"])

    upside = Upside("up", [scored(0.0, "not it"), scored(1.0)])
    sentences = asyncio.run(probe(Rubric([(upside, 1.0), (Fixed("silent", [abstained()] * 2), 1.0)]), [PROMPT]))
    assert sentences == [
        "reward 'up' gives the reference answer of prompt p 0, not 1 (not it). "
        "Check the reference column and the reward's options",
        "reward 'up' gives an empty completion of prompt p its maximum, 1",
    ]
    assert asyncio.run(probe(load_reward("exact"), [PROMPT])) == []
    wordy = Fixed("wordy", [scored(0.0), scored(1.0)])
    assert asyncio.run(probe(wordy, [PROMPT] * 5))[3:] == ["reward 'wordy': and 2 more like these"]
    broken = Upside("up", [failed("no disk"), failed("no disk")])
    assert asyncio.run(probe(broken, [PROMPT])) == [
        "reward 'up' fails on the reference answer of prompt p: no disk. "
        "Check the reference column and the reward's options"
    ]
    (sentence,) = asyncio.run(probe(load_reward("exact", answer="missing"), [PROMPT]))
    assert sentence.startswith("reward 'exact' fails on an empty completion of prompt p: row p has no column 'missing'")


@dataclass
class Table:
    name: str
    weight: float = 1.0
    timeout_s: float = 5.0
    options: dict[str, Any] = field(default_factory=dict)


def test_rubrics_from_tables() -> None:
    tables = [
        RewardTable.model_validate({"name": "exact", "weight": 2.0, "case": False}),
        RewardTable.model_validate({"name": "exact", "weight": 0.5}),
        RewardTable.model_validate({"name": "format", "tags": ["t"]}),
    ]
    rubric = build_rubric(tables)
    (one,) = score(rubric, "A")
    assert one.value == 2.0
    assert dict(one.parts) == {"exact": 1.0, "exact_2": 0.0, "format": 0.0}
    assert rubric.required_columns() == ("answer",)
    problems = rubric.check_columns(["anwser"], "data.jsonl")
    assert len(problems) == 2
    assert "Did you mean 'anwser'?" in str(problems[0])
    asyncio.run(rubric.close())


def test_every_problem_of_every_table_at_once(tmp_path: Path) -> None:
    tables = [
        Table("exat"),
        Table("regex", options={"pattern": "("}),
        Table("exact", options={"anwser": "x"}),
        Table("regex"),
        Table(f"{tmp_path}/none.py:f"),
        Table("exact", weight=math.inf),
        Table("exact", timeout_s=math.nan),
    ]
    with pytest.raises(RecipeError) as caught:
        build_rubric(tables)
    said = [str(p) for p in caught.value.problems]
    assert len(said) == 7
    assert said[0].startswith("rewards[0]: there is no reward 'exat'. Did you mean 'exact'?")
    assert said[1].startswith("rewards[1].pattern: '(' is not a regular expression")
    assert (
        said[2] == "rewards[2].anwser: there is no option 'anwser'. Did you mean 'answer'? Options: answer, strip, case"
    )
    assert said[3].startswith("rewards[3].pattern: the option is missing. Set it: Python regular expression")
    assert "there is no file" in said[4]
    assert said[5].startswith("rewards[5].weight: it is inf")
    assert said[6].startswith("rewards[6]: timeout_s is nan")
    with pytest.raises(RecipeError, match="there is none"):
        build_rubric([])


def test_one_reward_with_a_weight() -> None:
    reward = load_reward("exact", weight=3.0)
    (one,) = score(reward, "a")
    assert (reward.name, one.value, dict(one.parts)) == ("exact", 3.0, {"exact": 1.0})
    with pytest.raises(UsageError, match="weight is inf"):
        load_reward("exact", weight=math.inf)
    with pytest.raises(UsageError, match="3 is no reward"):
        load_reward(3)  # type: ignore[arg-type]


def test_every_option_is_described() -> None:
    assert {"math", "exact", "regex", "format", "length", "schema", "reasoning_gym"} <= set(reward_names())
    for name in reward_names():
        for option, info in options_model(name).model_fields.items():
            assert info.description, f"{name}.{option}"


def test_a_reward_for_some_prompts_only_is_not_asked_about_the_others() -> None:
    harmless, helpful = Fixed("harmless", [scored(1.0)]), Fixed("helpful", [scored(0.5)])
    rules = [(harmless, Rule(only={"purpose": "redteam"})), (helpful, Rule(weight=2.0, only={"purpose": "helpful"}))]
    rubric = Rubric(rules)

    def of(purpose: str) -> Score:
        prompt = Prompt(id=purpose, messages=(), fields={"purpose": purpose})
        return asyncio.run(rubric.score(as_group(prompt, ["x"])))[0]

    assert (of("redteam").value, dict(of("redteam").parts)) == (1.0, {"harmless": 1.0, "helpful": None})
    assert of("helpful").value == 1.0  # 2 · 0.5
    assert of("neither").status == "abstained"
    assert (harmless.asked, helpful.asked) == (["x", "x"], ["x"])
    assert rubric.check_columns(["purpose"], "rows") == []
    assert "'harmless'" in rubric.check_columns(["kind"], "rows")[0].where


def test_a_recipe_says_for_which_prompts_a_reward_is() -> None:
    table = RewardTable(name="exact", only={"purpose": "helpful"})
    rubric = build_rubric([table])
    assert rubric.rules["exact"].only == {"purpose": "helpful"}
    assert str(rubric.rules["exact"]) == "1 only on prompts with purpose = helpful"
