"""Gates, caps, normalisation and changing weights in a recipe: read, refused by line, explained, written back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.cli.explain import explain, facts
from charter.errors import RecipeError
from charter.recipe import Recipe, RewardTable, dump_recipe, load_recipe
from charter.recipe.rewards import reward_part_names
from charter.reward import build_rubric
from charter.reward.rubric import unique_names

HEAD = 'method = "grpo"\nmodel = "m"\n[data]\nprompts = "arithmetic:addition"\n'
WHOLE = """
[[rewards]]
name = "format"
weight = { start = 0.5, end = 0.0, steps = 10, shape = "cosine", from = 2 }
[[rewards]]
name = "math"
gate = "format"
[[rewards]]
name = "length"
target = 20
weight = 0.2
gate = "math"
gate_at_least = 0.5
cap = [-inf, 0.5]
normalize = "group"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "r.toml"
    path.write_text(HEAD + text, "utf-8")
    return path


def problems(path: Path, *overrides: str) -> dict[str, str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return {problem.where: f"{problem.found}. {problem.fix}" for problem in caught.value.problems}


def test_a_recipe_comes_back_as_it_was_written(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, WHOLE))
    text = dump_recipe(recipe)
    assert 'weight = {start = 0.5, end = 0.0, steps = 10, shape = "cosine", from = 2}' in text
    (tmp_path / "again.toml").write_text(text, "utf-8")
    assert load_recipe(tmp_path / "again.toml") == recipe


def test_the_explained_sum_has_every_number(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, WHOLE))
    expression = facts(recipe)["formulas"]["sum of the rewards"]["expression"]
    assert expression == (
        "r = w_format(t) · format + 1 · (math if format ≥ 1 or format abstains else 0) + 0.2 · "
        "z((min(0.5, length) if (math ≥ 0.5 or math abstains) and (format ≥ 1 or format abstains) else 0)), "
        "over those that answered; "
        "w_format(t) = 0.5 → 0 over steps 2 to 12, cosine, its end in evaluations; "
        "z(v) = (v − mean of the group) / (std of the group + 1e-4), 0 where all are equal"
    )
    assert expression in explain(recipe)


def test_a_plain_sum_is_explained_plainly(tmp_path: Path) -> None:
    rules = tmp_path / "rules.py"
    rules.write_text("def brief(completions):\n    return [0.0 for _ in completions]\n")
    recipe = load_recipe(
        write(tmp_path, f'[[rewards]]\nname = "math"\n[[rewards]]\nname = "{rules}:brief"\nweight = -0.5\n')
    )
    assert facts(recipe)["formulas"]["sum of the rewards"]["expression"] == (
        "r = 1 · math + -0.5 · brief, over those that answered"
    )
    brief = facts(recipe)["rewards"][1]
    assert (brief["name"], brief["weight"], brief["timeout_s"]) == (f"{rules}:brief", -0.5, 10.0)
    assert brief["called_as"].startswith("trl")


def test_an_unknown_gate_is_told_by_line_with_the_nearest_name(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE.replace('gate = "format"', 'gate = "formt"'))
    (where, said), *rest = problems(path).items()
    assert rest == []
    assert where == f"{path}:11 rewards.1.gate"
    assert (
        said
        == "the gate 'formt' is no other reward of this recipe. Did you mean 'format'? Name one of 'format', 'length'"
    )


def test_a_circle_of_gates_is_told_once(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE.replace('name = "format"', 'name = "format"\ngate = "length"'))
    assert problems(path) == {
        f"{path}:8 rewards.0.gate": "the gates go in a circle: format → length → math → format. "
        "Leave one of these gates out"
    }
    path = write(tmp_path, WHOLE.replace('gate = "math"', 'gate = "length"'))
    assert "in a circle: length → length" in problems(path)[f"{path}:16 rewards.2.gate"]


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE.replace('gate = "math"\n', "").replace("[-inf, 0.5]", "[1, 0.5]"))
    found = problems(path, "grpo.combine=per_reward")
    assert found[f"{path}:16 rewards.2.gate_at_least"].startswith("gate_at_least has no effect without a gate")
    assert found[f"{path}:17 rewards.2.cap"].startswith("the cap from 1 to 0.5 leaves no room")
    assert "this would be twice" in found[f"{path}:18 rewards.2.normalize"]
    assert len(found) == 3


@pytest.mark.parametrize(
    "changed", ["cap = [0.0, 1.0]", 'normalize = "group"', "weight = {start = 1, end = 1, steps = 3}"]
)
def test_max_rl_refuses_what_is_no_longer_0_or_1(tmp_path: Path, changed: str) -> None:
    path = write(tmp_path, f'[[rewards]]\nname = "math"\n{changed}\n[grpo]\nadvantage = "max_rl"\n')
    assert "max_rl is defined for rewards of 0 or 1" in next(iter(problems(path).values()))


def test_a_wrong_weight_is_told_by_its_key(tmp_path: Path) -> None:
    path = write(tmp_path, '[[rewards]]\nname = "math"\nweight = { start = 1, ende = 0, steps = 0 }\n')
    found = problems(path)
    assert found[f"{path}:7 rewards.0.weight.end"].startswith("this key is required and missing")
    assert "Did you mean 'end'?" in found[f"{path}:7 rewards.0.weight.ende"]
    assert found[f"{path}:7 rewards.0.weight.steps"] == "found the number 0. Expected whole number ≥ 1"
    path = write(tmp_path, '[[rewards]]\nname = "math"\nweight = "high"\n')
    assert problems(path) == {f"{path}:7 rewards.0.weight": "found the text 'high'. Expected number or table"}


def test_a_course_can_be_set_from_the_command_line(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path, WHOLE), ["rewards.0.weight.steps=7", "rewards.2.weight={start=0,end=1,steps=2}"]
    )
    assert [getattr(r.weight, "steps", None) for r in recipe.rewards] == [7, None, 2]


@given(st.lists(st.sampled_from(["math", "exact", "a.py:f", "b.py:f", "pkg.mod:deep.f", "f_2"]), max_size=6))
def test_recipes_and_rubrics_agree_on_names(sources: list[str]) -> None:
    tables = [RewardTable.model_validate({"name": name}) for name in sources]
    short = [name.rpartition(":")[2].rpartition(".")[2] for name in sources]
    assert reward_part_names(tables) == unique_names(short)


def test_a_recipe_and_its_rubric_name_the_same_parts(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text("def brief(completions):\n    return [1.0 for _ in completions]\n")
    names: list[dict[str, Any]] = [{"name": "math"}, {"name": "math"}, {"name": f"{tmp_path}/rules.py:brief"}]
    recipe = Recipe.model_validate({"method": "grpo", "model": "m", "rewards": names})
    rubric = build_rubric(recipe.rewards)
    assert list(rubric.rules) == reward_part_names(recipe.rewards) == ["math", "math_2", "brief"]
    asyncio.run(rubric.close())
