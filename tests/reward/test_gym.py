"""`reasoning_gym`: the data set's own scorer on its own entries."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import pytest

from charter.errors import MissingExtra
from charter.reward import as_group, load_reward, probe
from charter.reward.gym import GymReward, extract_answer
from charter.reward.gym_scorer import open_judge
from charter.types import Prompt, Score


@pytest.fixture(scope="module")
def reward() -> Iterator[GymReward]:
    made = load_reward("reasoning_gym", timeout_s=5.0)
    assert isinstance(made, GymReward)
    yield made
    made.shut_down()


SUM = {"question": "Calculate 5 - 3 - 6.", "answer": "-4", "metadata": {"difficulty": {"num_terms": [2, 6]}}}


def prompt(**fields: Any) -> Prompt:
    return Prompt(id="g1", messages=(), fields=fields)


def scores(reward: GymReward, given: Prompt, *texts: str) -> list[Score]:
    return list(asyncio.run(reward.score(as_group(given, texts))))


def test_the_scorers_own_value(reward: GymReward) -> None:
    # The scorer gives 1 for the answer itself and len("-4") / len(text) for a text that contains it: 2 / 4.
    got = scores(reward, prompt(**SUM, task="basic_arithmetic"), "-4", " -4\n", "x -4", "4", "")
    assert [s.value for s in got] == [1.0, 1.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_gym": {"task": "basic_arithmetic", "entry": SUM}},
        {**SUM, "task": "basic_arithmetic", "metadata": json.dumps(SUM["metadata"])},
    ],
)
def test_other_forms_of_a_row(reward: GymReward, fields: dict[str, Any]) -> None:
    assert [s.value for s in scores(reward, prompt(**fields), "-4", "4")] == [1.0, 0.0]


def test_rows_that_are_none(reward: GymReward) -> None:
    (score,) = scores(reward, prompt(question="q", answer="-4"), "-4")
    assert score.status == "failed"
    assert "row g1 is no reasoning-gym entry" in score.note
    (score,) = scores(reward, prompt(**SUM, task="no_such_task"), "-4")
    assert score.status == "failed"
    assert "no task 'no_such_task'" in score.note


def test_columns(reward: GymReward) -> None:
    assert reward.required_columns() == ("question", "answer", "metadata", "task")
    assert reward.check_columns(["reasoning_gym"], "d") == []
    (problem,) = reward.check_columns(["question", "answer", "metadata"], "d.jsonl")
    assert "needs the column 'task', which d.jsonl does not have" in str(problem)


@pytest.mark.parametrize(
    ("text", "extract", "answer"),
    [
        (" a b \n", "text", "a b"),
        ("<answer>1</answer> then <answer> 2 </answer>", "tag", "2"),
        ("2", "tag", None),
        ("<answer>2", "tag", None),
        ("so\n\n 7 \n\n", "last_line", "7"),
        ("", "last_line", None),
    ],
)
def test_where_the_answer_is(text: str, extract: str, answer: str | None) -> None:
    assert extract_answer(text, extract) == answer


def test_real_entries_score_their_own_answers(reward: GymReward) -> None:
    import reasoning_gym

    prompts = []
    for task in ("chain_sum", "leg_counting", "countdown"):
        for i, entry in enumerate(reasoning_gym.create_dataset(task, seed=3, size=2)):
            fields = json.loads(json.dumps({**entry, "task": task}, default=str))
            prompts.append(Prompt(id=f"{task}-{i}", messages=(), fields=fields))
    assert asyncio.run(probe(reward, prompts)) == []


def test_text_that_breaks_a_scorer_is_wrong_and_an_entry_that_does_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    import reasoning_gym

    def brittle(answer: str, entry: dict[str, Any]) -> float:
        return 1.0 / float(answer) * entry["metadata"]["scale"]  # breaks on text, on 0, and on a row without a scale

    monkeypatch.setattr(reasoning_gym, "get_score_answer_fn", lambda task: brittle)
    judge, _ = open_judge({})
    entry = {"question": "q", "answer": "2", "metadata": {"scale": 1.5}}
    assert judge({"task": "t", "entry": entry, "answer": "2"}) == {"value": 0.75, "note": ""}
    junk = judge({"task": "t", "entry": entry, "answer": "two"})
    assert junk["value"] == 0.0
    assert junk["note"].startswith("the scorer of 't' cannot read the completion: ValueError: could not convert")
    broken = judge({"task": "t", "entry": {**entry, "metadata": {}}, "answer": "2"})
    assert broken == {"failed": "the scorer of 't' breaks on this entry: KeyError: 'scale'"}


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(MissingExtra, match=r"pip install 'charter\[gym\]'"):
        load_reward("reasoning_gym")
