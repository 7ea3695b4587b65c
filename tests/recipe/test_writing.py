"""A recipe written is the recipe read; what changed is known; the documents come from the tables."""

from __future__ import annotations

import datetime
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.errors import RecipeError
from charter.recipe import (
    DataTable,
    GrpoTable,
    LoraTable,
    OptimizerTable,
    Recipe,
    RewardTable,
    RunTable,
    differences,
    dump_recipe,
    json_schema,
    load_any,
    load_recipe,
    matters_for_resume,
    recipe_hash,
    recipe_keys,
    recipe_reference,
)
from charter.recipe.writing import toml_value

ROOT = Path(__file__).parents[2]

options = st.recursive(
    st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=8,
)


def recipe(**tables: Any) -> Recipe:
    return Recipe.model_validate({"method": "grpo", "model": "m", **tables})


@given(value=options)
def test_values_come_back_from_toml(value: Any) -> None:
    read = tomllib.loads(f"v = {toml_value(value)}")["v"]
    assert read == value
    assert repr(read) == repr(value)


@given(
    option=options,
    seed=st.integers(0, 2**31),
    rate=st.floats(1e-12, 1),
    lora=st.none() | st.builds(LoraTable, rank=st.integers(1, 64)),
    template=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
)
def test_a_dumped_recipe_is_equal_and_has_the_same_hash(
    option: Any, seed: int, rate: float, lora: LoraTable | None, template: str | None
) -> None:
    made = Recipe(
        method="grpo",
        model="m",
        seed=seed,
        data=DataTable(template=template, options={"o": option}),
        rewards=[RewardTable.model_validate({"name": "a", "deep": option}), RewardTable(name="b", weight=-1.5)],
        optimizer=OptimizerTable(learning_rate=rate),
        lora=lora,
    )
    read = Recipe.model_validate(tomllib.loads(dump_recipe(made)))
    assert read == made
    assert recipe_hash(read) == recipe_hash(made)


def test_a_dump_has_every_key_and_loads(tmp_path: Path) -> None:
    made = recipe(rewards=[{"name": "math"}], data={"prompts": "arithmetic:addition"}, lora={})
    text = dump_recipe(made)
    for key in recipe_keys():
        name = key.key.rpartition(".")[2]
        if key.table == "rewards.N.weight":
            continue  # the weight is a number here
        assert f"\n{name} = " in f"\n{text}" or f"\n# {name} is left out" in text, key.key
    path = tmp_path / "r.toml"
    path.write_text(text, encoding="utf-8")
    assert load_recipe(path) == made


def test_an_option_that_toml_cannot_hold_is_an_error() -> None:
    made = recipe(rewards=[{"name": "math", "fn": print}])
    with pytest.raises(RecipeError, match=r"rewards\.fn: TOML has no form for"):
        dump_recipe(made)


def test_dates_have_a_form() -> None:
    assert toml_value(datetime.date(2026, 1, 2)) == "2026-01-02"


def test_the_hash_sees_every_change_and_no_order() -> None:
    base = recipe()
    assert recipe_hash(base) == recipe_hash(recipe(grpo={"loss": "clip"}))
    assert recipe_hash(base) != recipe_hash(recipe(grpo={"loss": "sapo"}))
    one = recipe(rewards=[{"name": "x", "a": 1, "b": 2}])
    two = recipe(rewards=[{"name": "x", "b": 2, "a": 1}])
    assert recipe_hash(one) == recipe_hash(two)


def test_differences_name_the_key_and_both_values() -> None:
    old = recipe(rewards=[{"name": "math"}], data={"options": {"digits": 2}})
    new = recipe(
        rewards=[{"name": "math", "weight": 2.0}, {"name": "length"}],
        data={"options": {"digits": 3}},
        grpo=GrpoTable(loss="gspo"),
        run=RunTable(steps=5),
    )
    assert differences(old, new) == [
        ("data.options.digits", 2, 3),
        ("rewards.0.weight", 1.0, 2.0),
        ("grpo.loss", "clip", "gspo"),
        ("run.steps", 100, 5),
        ("rewards.1.name", None, "length"),
        ("rewards.1.weight", None, 1.0),
        ("rewards.1.normalize", None, "none"),
        ("rewards.1.only", None, {}),
        ("rewards.1.timeout_s", None, 10.0),
    ]
    assert differences(new, new) == []


def test_a_table_that_comes_or_goes_is_a_difference() -> None:
    found = differences(recipe(), recipe(lora={"rank": 4}))
    assert ("lora.rank", None, 4) in found


def test_what_a_resumed_run_may_change() -> None:
    free = {k.key for k in recipe_keys() if not matters_for_resume(k.key)}
    assert free == {
        "run.name",
        "run.steps",
        "run.save_every",
        "run.eval_every",
        "run.keep_checkpoints",
        "learner.max_microbatch_tokens",
        "monitors.patience",
        "monitors.max_boilerplate_rise",
        "monitors.min_distinct_2",
        "monitors.max_length_drift",
        "monitors.max_refusal_rate",
        "monitors.max_gap",
    }
    assert matters_for_resume("rewards.0.weight")


def test_every_key_has_a_meaning_and_every_count_a_unit() -> None:
    keys = recipe_keys()
    assert len({k.key for k in keys}) == len(keys) > 50
    for key in keys:
        assert key.meaning.endswith("."), key.key
        assert key.kind, key.key
    units = {k.key: k.unit for k in keys}
    assert units["sampling.max_new_tokens"] == "tokens"
    assert units["rewards.N.timeout_s"] == "s"
    per_table = [sum(k.table == table for k in keys) for table in {k.table for k in keys}]
    assert max(per_table) <= 22


def test_the_reference_is_what_the_tables_say() -> None:
    assert (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8") == recipe_reference(), (
        "run: python -m charter.recipe > docs/recipe.md"
    )
    assert "| `temperature` | number ≥ 0 | `1.0` | – |" in recipe_reference()


def test_the_schema_accepts_what_loads_and_refuses_what_does_not() -> None:
    check = jsonschema.Draft202012Validator(json_schema())
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert check.is_valid({"method": "grpo", "model": "m", "grpo": {"loss": "gspo"}})
    assert not check.is_valid({"method": "grpo", "model": "m", "grpo": {"los": "gspo"}})
    assert not check.is_valid({"method": "grpo", "model": "m", "sampling": {"group_size": 0}})


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.name)
def test_the_recipes_that_are_shipped_load(path: Path) -> None:
    assert load_any(path).model


def test_recipes_need_no_torch() -> None:
    code = "import sys, charter.recipe; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
