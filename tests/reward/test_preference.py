"""The reward `preference`: values, scale, failures, names, and what stands behind it."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Sequence
from typing import Any

import pytest

import charter
from charter.cli.reward_builders import open_scorer, reward_builders, scorer_folder
from charter.errors import RecipeError, UsageError
from charter.recipe.tables import RewardTable
from charter.reward import as_group, build_rubric, load_reward, reward_names
from charter.reward.bag_of_words import BagOfWords
from charter.reward.preference import PreferenceOptions, PreferenceReward
from charter.types import Message, Pair, Prompt, Score

ASKED = Prompt(id="q", messages=({"role": "user", "content": "?"},))


class Lengths:
    """A scorer whose score is the number of letters."""

    def __init__(self, mean: float = 3.0, std: float = 2.0) -> None:
        self.mean, self.std = mean, std
        self.asked: list[tuple[str, ...]] = []
        self.threads: set[str] = set()

    def score_replies(self, messages: Sequence[Message], replies: Sequence[str]) -> list[float | str]:
        self.asked.append(tuple(replies))
        self.threads.add(threading.current_thread().name)
        assert messages == ASKED.messages
        return ["it is too long" if len(text) > 9 else float(len(text)) for text in replies]


def reward_of(scorer: Any, scale: str = "standard") -> PreferenceReward:
    return PreferenceReward("preference", 5.0, PreferenceOptions(model="m", scale=scale), lambda: scorer)


def scores(reward: PreferenceReward, *texts: str) -> list[Score]:
    return list(asyncio.run(reward.score(as_group(ASKED, texts))))


def test_values_by_hand_and_a_group_is_one_question():
    scorer = Lengths()
    reward = reward_of(scorer)
    found = scores(reward, "a", "abcde", "a", "0123456789")
    assert [score.value for score in found] == [-1.0, 1.0, -1.0, None]  # (n − 3) / 2
    assert found[3].status == "failed"
    assert found[3].note == "it is too long"
    assert scorer.asked == [("a", "abcde", "0123456789")]
    assert scorer.threads == {"charter-preference_0"}
    again = scores(reward, "abcde")  # known: not asked again
    assert again[0].value == 1.0
    assert len(scorer.asked) == 1
    assert [score.value for score in scores(reward_of(Lengths(), "none"), "a", "abcde")] == [1.0, 5.0]
    reward.shut_down()


@pytest.mark.parametrize("std", [0.0, math.nan])
def test_without_a_spread_there_is_no_scale(std):
    (found,) = scores(reward_of(Lengths(std=std)), "a")
    assert found.status == "failed"
    assert 'use scale = "none"' in found.note
    (plain,) = scores(reward_of(Lengths(std=std), "none"), "a")
    assert plain.value == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_finite_fails(bad):
    class Broken(Lengths):
        def score_replies(self, messages, replies):
            return [bad for _ in replies]

    (found,) = scores(reward_of(Broken()), "a")
    assert (found.status, found.value) == ("failed", None)
    assert "finite" in found.note


def test_a_scorer_that_breaks_is_a_failure_of_each_completion():
    class Broken(Lengths):
        def score_replies(self, messages, replies):
            raise RuntimeError("no memory")

    found = scores(reward_of(Broken()), "a", "b")
    assert [(s.status, s.note) for s in found] == [("failed", "RuntimeError: no memory")] * 2


@pytest.fixture
def words(tmp_path) -> Any:
    pairs = [
        Pair(id=str(i), prompt=ASKED, a=f"sorry, no {name}", b=f"sure, {name} it")
        for i, name in enumerate(["do", "make", "take", "break"])
    ]
    BagOfWords.fit(pairs).save(tmp_path / "words")
    return tmp_path / "words"


def test_a_recipe_names_it_and_a_bag_of_words_answers(words):
    tables = [
        RewardTable.model_validate({"name": "preference", "model": str(words), "weight": 2.0}),
        RewardTable.model_validate({"name": "length", "max": 1, "unit": "characters", "weight": 0.5}),
    ]
    rubric = build_rubric(tables, reward_builders())
    good, bad = asyncio.run(rubric.score(as_group(ASKED, ["sorry, no", "sure, it"])))
    model = BagOfWords.load(words)
    standard = (model.score_reply("sorry, no") - model.mean) / model.std
    assert good.parts["preference"] == pytest.approx(standard)
    assert good.value == pytest.approx(2 * standard)  # both are 8 or 9 letters: the other reward gives 0
    assert good.value is not None
    assert bad.value is not None
    assert bad.value < 0 < good.value
    asyncio.run(rubric.close())


def test_every_mistake_is_told_before_anything_is_loaded(tmp_path):
    tables = [
        {"name": "prefrence", "model": "x"},
        {"name": "preference"},
        {"name": "preference", "model": "x", "scal": "none"},
        {"name": "preference", "model": str(tmp_path)},
        {"name": "preference", "model": str(tmp_path / "nowhere")},
    ]
    with pytest.raises(RecipeError) as caught:
        build_rubric([RewardTable.model_validate(table) for table in tables], reward_builders())
    said = [str(problem) for problem in caught.value.problems]
    assert said[0].startswith("rewards[0]: there is no reward 'prefrence'. Did you mean 'preference'?")
    assert said[1].startswith("rewards[1].model: the option is missing. Set it: Folder of a preference model")
    assert said[2].startswith("rewards[2].scal: there is no option 'scal'. Did you mean 'scale'?")
    assert "it holds neither" in said[3]
    assert "there is no such folder" in said[4]


def test_without_builders_the_name_is_unknown():
    with pytest.raises(UsageError, match="there is no reward 'preference'"):
        load_reward("preference", model="x")
    assert "preference" not in reward_names()
    assert "preference" in reward_names(reward_builders())


def test_every_option_of_every_builder_is_described():
    for name, builder in reward_builders().items():
        assert builder.content, name
        for option, info in builder.options.model_fields.items():
            assert info.description, f"{name}.{option}"


def test_the_public_function_and_the_command_know_it(words, tmp_path):
    from typer.testing import CliRunner

    from charter.cli.app import app

    reward = charter.load_reward("preference", model=str(words), scale="none")
    (found,) = asyncio.run(reward.score(as_group(ASKED, ["sorry"])))
    assert found.value == pytest.approx(BagOfWords.load(words).score_reply("sorry"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "?", "completion": "sorry"}\n{"prompt": "?", "completion": "sure"}\n')
    done = CliRunner().invoke(
        app, ["reward", "test", "preference", "--data", str(rows), "--option", f"model={words}", "--json"]
    )
    assert done.exit_code == 0, done.output
    first, second = (json.loads(line)["score"] for line in done.stdout.splitlines())
    assert first > 0 > second


def test_the_folder_of_a_run_means_its_newest_checkpoint(words, tmp_path):
    (tmp_path / "run" / "latest").mkdir(parents=True)
    words.rename(tmp_path / "run" / "latest" / "model")
    assert scorer_folder(str(tmp_path / "run")) == tmp_path / "run" / "latest" / "model"
    assert open_scorer(scorer_folder(str(tmp_path / "run"))).std > 0
