"""Recipes of the other kinds: refused, found, written and hashed with the same care as a training recipe."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.errors import Problem, RecipeError
from charter.recipe import (
    PipelineRecipe,
    Recipe,
    differences,
    dump_recipe,
    json_schema,
    load_any,
    load_cai_recipe,
    load_pipeline,
    load_recipe,
    matters_for_resume,
    recipe_hash,
    recipe_keys,
)
from charter.recipe.cai import CaiRecipe
from charter.recipe.pipeline import model_before, stage_recipe
from charter.recipe.roots import ROOTS, load_training

CAI = """method = "cai"
model = "m"
[stages.sft.optimizer]
learning_rate = 1e-5
[stages.preference]
[stages.policy.run]
steps = 3
"""
PIPELINE = """method = "pipeline"
model = "m"
[data]
prompts = "arithmetic:addition"
held_out = 5
[[rewards]]
name = "math"
[[stages]]
name = "cold"
kind = "sft"
[stages.data]
examples = "e.jsonl"
[[stages]]
name = "rules"
kind = "grpo"
[stages.grpo]
loss = "gspo"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "r.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(load: Any, path: Path, *overrides: str) -> dict[str, tuple[str, str]]:
    with pytest.raises(RecipeError) as caught:
        load(path, overrides)
    found: list[Problem] = list(caught.value.problems)
    return {p.where.removeprefix(str(path)): (p.found, p.fix) for p in found}


def test_keys_inside_stages_are_located_and_explained(tmp_path):
    text = CAI.replace("learning_rate = 1e-5", 'learning_rat = 1e-5\neps = "x"').replace("steps = 3", "steps = 0")
    text += '[stages.policy]\nlearning_rate = 2.0\n[judge]\nmode = "logprobs"\n'
    assert problems(load_cai_recipe, write(tmp_path, text)) == {
        ":4 stages.sft.optimizer.learning_rat": (
            "there is no key 'learning_rat' in [stages.sft.optimizer]", "Did you mean 'learning_rate'?",
        ),
        ":5 stages.sft.optimizer.eps": ("found the text 'x'", "Expected number > 0"),
        ":8 stages.policy.run.steps": ("found the number 0", "Expected whole number ≥ 1"),
        ":10 stages.policy.learning_rate": (
            "there is no key 'learning_rate' in [stages.policy]",
            "Did you mean 'stages.policy.optimizer.learning_rate'?",
        ),
        ":12 judge.mode": (
            "found the text 'logprobs'",
            'Expected "logprob" or "cot" or "score" or "rubric"; did you mean \'logprob\'?',
        ),
    }  # fmt: skip


def test_keys_of_listed_stages_are_located_by_their_number(tmp_path):
    text = PIPELINE.replace('loss = "gspo"', 'loss = "gspo"\nprompts = 2\n[[stages.rewards]]\nname = 3')
    text = text.replace('kind = "sft"', 'kind = "sfft"')
    assert problems(load_pipeline, write(tmp_path, text)) == {
        ":10 stages.0.kind": (
            "found the text 'sfft'",
            'Expected "sft" or "grpo" or "dpo" or "ppo" or "preference" or "rejection"; did you mean \'sft\'?',
        ),
        ":18 stages.1.grpo.prompts": (
            "there is no key 'prompts' in [stages.1.grpo]", "Did you mean 'prompts_per_step'?",
        ),
        ":20 stages.1.rewards.0.name": ("found the number 3", "Expected text"),
    }  # fmt: skip


def test_a_stage_without_its_name_and_a_list_that_is_none(tmp_path):
    assert problems(load_pipeline, write(tmp_path, PIPELINE.replace('name = "rules"\n', ""))) == {
        ":13 stages.1.name": (
            "this key is required and missing",
            "Add name = … (Its folder in the run, and how other stages refer to it: @name.)",
        )
    }
    text = PIPELINE.split("[[stages]]")[0]
    assert problems(load_pipeline, write(tmp_path, text), "stages=3") == {
        "override stages": ("found the number 3", "Expected a list of tables [[stages]]")
    }


@pytest.mark.parametrize(
    ("load", "text", "found", "fix"),
    [
        (load_recipe, CAI, 'this is a constitutional recipe (method = "cai"), and a training recipe is wanted', "cai"),
        (load_recipe, PIPELINE, 'this is a pipeline (method = "pipeline"), and a training recipe is wanted', "train"),
        (load_cai_recipe, PIPELINE, "this is a pipeline (method = \"pipeline\"), and a constitutional recipe", "train"),
        (load_training, CAI, 'this is a constitutional recipe (method = "cai"), and a training recipe', "cai"),
        (load_training, 'method = "compare"', 'this is a comparison (method = "compare")', "compare"),
        (load_pipeline, 'method = "grpo"', 'this is a training recipe (method = "grpo"), and a pipeline', "train"),
    ],
)  # fmt: skip
def test_a_recipe_of_another_kind_is_sent_to_its_verb(tmp_path, load, text, found, fix):
    path = write(tmp_path, text)
    ((where, (said, way)),) = problems(load, path).items()
    assert where == ":1 method"
    assert said.startswith(found)
    assert way == f"Run: charter {fix} {path}"


def test_a_method_that_no_kind_has_is_an_ordinary_error(tmp_path):
    ((where, (found, fix)),) = problems(load_cai_recipe, write(tmp_path, CAI.replace('"cai"', '"kai"'))).items()
    assert (where, found, fix) == (":1 method", "found the text 'kai'", "Expected \"cai\"; did you mean 'cai'?")


def test_overrides_reach_into_stages_by_number_and_by_name(tmp_path):
    path = write(tmp_path, PIPELINE)
    made = load_pipeline(path, ["stages.1.run.steps=7", "stages.cold.run.name=2024", "rewards.math.weight=2"])
    assert made.stages[1].run.steps == 7
    assert made.stages[0].run.name == "2024"  # a text, though it reads like a number
    assert made.rewards[0].weight == 2
    assert load_cai_recipe(write(tmp_path, CAI), {"stages.policy": {"run.steps": 9}}).stages.policy.run.steps == 9
    path = write(tmp_path, PIPELINE)
    assert problems(load_pipeline, path, "stages.warm.run.steps=7", "stages.cold.run.steps=x") == {
        "override stages.warm.run.steps": (
            "'warm' is not the index of an entry (0 to 1, or cold, rules)", "Use 0 to 2",
        ),
        "override stages.0.run.steps": ("found the text 'x'", "Expected whole number ≥ 1"),
    }  # fmt: skip


def test_files_are_found_beside_the_recipe_in_every_table(tmp_path, monkeypatch):
    (tmp_path / "beside").mkdir()
    (tmp_path / "here").mkdir()
    for name in ("p.jsonl", "h.jsonl", "pairs.jsonl", "c.toml", "s.jsonl", "x.jsonl"):
        (tmp_path / "beside" / name).write_text("")
    (tmp_path / "here" / "x.jsonl").write_text("")
    (tmp_path / "beside" / "small").mkdir()
    (tmp_path / "beside" / "small" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "here")
    text = """method = "cai"
model = "small"
[constitution]
file = "c.toml"
[author]
backend = "scripted"
script = "s.jsonl"
[redteam]
prompts = "p.jsonl"
helpful = "h.jsonl"
[label]
human = "harm-ratings"
[calibrate]
data = "pairs.jsonl"
[arena]
models = ["small", "smollm2-135m"]
[stages.sft]
model = "small"
data.examples = "x.jsonl"
[[stages.sft.rewards]]
name = "preference"
model = "small"
"""
    (tmp_path / "beside" / "r.toml").write_text(text)
    made = load_cai_recipe("../beside/r.toml")
    beside = str(tmp_path / "beside")
    assert made.model == f"{beside}/small"
    assert made.constitution.file == f"{beside}/c.toml"
    assert made.author.script == f"{beside}/s.jsonl"
    assert (made.redteam.prompts, made.redteam.helpful) == (f"{beside}/p.jsonl", f"{beside}/h.jsonl")
    assert (made.label.human, made.calibrate.data) == ("harm-ratings", f"{beside}/pairs.jsonl")
    assert made.arena.models == [f"{beside}/small", "smollm2-135m"]
    assert made.stages.sft is not None
    assert (made.stages.sft.model, made.stages.sft.data.examples) == (f"{beside}/small", f"{beside}/x.jsonl")
    assert made.stages.sft.rewards[0].options["model"] == f"{beside}/small"
    assert made.stages.sft.model_fields_set == {"model", "data", "rewards"}  # nothing is set by having been looked at
    over = load_cai_recipe("../beside/r.toml", ["stages.sft.data.examples=x.jsonl"])
    assert over.stages.sft is not None
    assert over.stages.sft.data.examples == "x.jsonl"  # an override is meant from here


@pytest.mark.parametrize(
    ("text", "where", "found"),
    [
        ('[author]\nbackend = "openai"\nmodel = "x"', "author.backend and author.url", 'backend = "openai" needs url'),
        ('[judge]\nbackend = "openai"\nurl = "u"', "judge.backend and judge.model", 'backend = "openai" needs model'),
        ('[judge]\nbackend = "scripted"', "judge.backend and judge.script", 'backend = "scripted" needs script'),
        ('[author]\nurl = "u"', "author.url", 'url has no effect with backend = "local"'),
        ("[judge]\nbudget = 2.0", "judge.budget", "nothing is ever spent of a budget"),
        ("[judge]\nclamp = [0.6, 0.4]", "judge.clamp", "a clamp from 0.6 to 0.4 leaves no room around 1/2"),
        ('[revise]\nsft_on = "last"', "revise.sft_on", "'last' names no revisions of 4 steps"),
        ('[revise]\nsft_on = "upto:5"', "revise.sft_on", "'upto:5' names no revisions of 4 steps"),
        ('[revise]\nsft_on = "upto:0"', "revise.sft_on", "'upto:0' names no revisions of 4 steps"),
        ("[revise]\nmargin = 0.5", "revise.margin", "no revision is ever better than its draft by 0.5"),
        ('[revise]\naccept = "always"\nmargin = 0.1', "revise.margin", 'accept = "always" asks nobody'),
        ('[label]\nif_refused = "human"', "label.if_refused", "there are no human pairs to go on with"),
        ('[label]\nhuman = "h.jsonl"\nhuman_weight = 0.0', "label.human_weight", "a share of 0 leaves the human pairs"),
        ("[redteam]\nheld_out = 0", "redteam.held_out", "the arena asks for 64 held-out red-team prompts"),
        ('[revise]\ncontrol = "draft"', "revise.control", "there is no [stages.sft]"),
        ("[stages.policy]", "stages.policy and stages.policy.rewards", "the policy has nothing to learn from"),
        ('[stages.sft]\nmethod = "grpo"', "stages.sft.method", '[stages.sft] cannot be of the method "grpo"'),
        (
            '[stages.policy]\nrewards = [{name = "math"}]\nsampling.group_size = 1',
            "stages.policy.sampling.group_size",
            "a group of 1 has none to compare with",
        ),
    ],
)  # fmt: skip
def test_values_of_a_constitutional_recipe_that_cannot_be_meant(tmp_path, text, where, found):
    ((place, (said, _)),) = problems(load_cai_recipe, write(tmp_path, f'method = "cai"\nmodel = "m"\n{text}\n')).items()
    assert place.partition(" ")[2].replace(str(tmp_path / "r.toml"), "") == where
    assert found in said


@pytest.mark.parametrize(
    "text",
    [
        '[revise]\nsft_on = "upto:4"',
        '[stages.policy]\nmethod = "dpo"',  # learns from the labels themselves
        '[redteam]\nheld_out = 0\n[arena]\nharmful = 0',
        '[label]\nif_refused = "human"\nhuman = "harm-ratings"',
        '[stages.preference]\n[stages.policy]\nmethod = "ppo"',
    ],
)  # fmt: skip
def test_values_of_a_constitutional_recipe_that_can_be_meant(tmp_path, text):
    assert load_cai_recipe(write(tmp_path, f'method = "cai"\nmodel = "m"\n{text}\n')).model == "m"


@pytest.mark.parametrize(
    ("change", "where", "found"),
    [
        (('model = "m"\n', 'model = " "\n'), "model", "the model's name is empty"),
        (('name = "rules"', 'name = "cold"'), "stages.1.name", "two stages are called 'cold'"),
        (('name = "rules"', 'name = "a b"'), "stages.1.name", "'a b' cannot be the name of a stage"),
        (('kind = "grpo"', 'kind = "grpo"\nmodel = "@late"'), "stages.1.model", "@late is no stage before this one"),
        (('kind = "grpo"', 'kind = "grpo"\nmethod = "ppo"'), "stages.1.method", 'kind "grpo" and its method is "ppo"'),
        (('examples = "e.jsonl"', 'examples = "@rules"'), "stages.0.data.examples", "@rules is no stage before this"),
        (('loss = "gspo"', "kl_in = 'reward'"), "stages.1.grpo.kl_in", 'kl_in = "reward" has no effect'),
        (
            ('loss = "gspo"', '[stages.rejection]\nkeep = 2'), "stages.1.rejection",
            '[stages.rejection] has no effect on a stage of kind "grpo"',
        ),
        (('kind = "grpo"', 'kind = "rejection"'), "stages.1.grpo", 'kind = "rejection" trains nothing'),
    ],
)  # fmt: skip
def test_values_of_a_pipeline_that_cannot_be_meant(tmp_path, change, where, found):
    text = PIPELINE.replace(*change)
    assert text != PIPELINE
    told = problems(load_pipeline, write(tmp_path, text))
    assert any(place.partition(" ")[2].endswith(where) and found in said for place, (said, _) in told.items()), told


def test_a_stage_takes_from_its_pipeline_what_it_leaves_out(tmp_path):
    text = (
        PIPELINE
        + """[[stages]]
name = "sample"
kind = "rejection"
rejection.keep = 2
[[stages]]
name = "imitate"
kind = "sft"
data.held_out = 2
[[stages]]
name = "taste"
kind = "preference"
model = "@start"
data.pairs = "p.jsonl"
[[stages]]
name = "last"
kind = "grpo"
seed = 4
rewards = [{name = "preference", model = "@taste"}]
"""
    )
    made = load_pipeline(write(tmp_path, text))
    assert [model_before(made, i) for i in range(6)] == ["@start", "@cold", "@rules", "@rules", "@start", "@imitate"]
    recipes = [stage_recipe(made, i, lambda name: f"/out/{name}") for i in range(6)]
    assert [r.model for r in recipes] == ["m", "/out/cold", "/out/rules", "/out/rules", "m", "/out/imitate"]
    assert [r.method for r in recipes] == ["sft", "grpo", "rejection_sft", "sft", "preference", "grpo"]
    assert [r.data.examples for r in recipes] == ["e.jsonl", None, None, "/out/sample", None, None]
    assert [r.data.held_out for r in recipes] == [5, 5, 5, 2, None, 5]
    assert [[w.name for w in r.rewards] for r in recipes] == [["math"]] * 4 + [[], ["preference"]]
    assert recipes[5].rewards[0].options == {"model": "/out/taste"}
    assert [r.seed for r in recipes] == [0, 0, 0, 0, 0, 4]


@pytest.mark.parametrize("text", [CAI, PIPELINE])
def test_a_dump_loads_to_an_equal_recipe_with_the_same_hash(tmp_path, text):
    made = load_any(write(tmp_path, text))
    dumped = dump_recipe(made)
    again = load_any(write(tmp_path, dumped))
    assert again == made
    assert recipe_hash(again) == recipe_hash(made)
    assert dump_recipe(again) == dumped
    assert differences(made, again) == []


def test_a_stage_is_written_with_what_it_sets_and_nothing_else():
    text = PIPELINE.replace('kind = "grpo"', 'kind = "grpo"\nrewards = []')
    made = PipelineRecipe.model_validate(tomllib.loads(text))
    values = tomllib.loads(dump_recipe(made))
    assert values["stages"][1] == {"name": "rules", "kind": "grpo", "rewards": [], "grpo": {"loss": "gspo"}}
    assert values["sampling"]["temperature"] == 1.0  # a table of the pipeline is written whole


@given(
    rate=st.floats(1e-9, 1),
    steps=st.integers(1, 9),
    names=st.lists(st.text("abc-_", min_size=1, max_size=4), min_size=1, max_size=3),
    weight=st.floats(-3, 3) | st.just({"start": 0.0, "end": 1.0, "steps": 3, "from": 2}),
)
def test_any_pipeline_survives_its_dump(rate: float, steps: int, names: list[str], weight: Any) -> None:
    stages = [
        {"name": n, "kind": "grpo", "optimizer": {"learning_rate": rate}, "rewards": [{"name": "x", "weight": weight}]}
        for n in names
    ]
    made = PipelineRecipe.model_validate({"method": "pipeline", "model": "m", "stages": stages, "seed": steps})
    read = PipelineRecipe.model_validate(tomllib.loads(dump_recipe(made)))
    assert read == made
    assert recipe_hash(read) == recipe_hash(made)
    assert [s.model_fields_set for s in read.stages] == [s.model_fields_set for s in made.stages]


def test_differences_name_keys_inside_stages_and_which_may_change(tmp_path):
    old = load_pipeline(write(tmp_path, PIPELINE))
    new = load_pipeline(
        write(tmp_path, PIPELINE), ["stages.rules.run.steps=9", "stages.rules.grpo.loss=clip", "name=x"]
    )
    found = differences(old, new)
    assert found == [
        ("name", None, "x"),
        ("stages.1.grpo.loss", "gspo", "clip"),
        ("stages.1.run.steps", None, 9),
    ]
    assert [matters_for_resume(key) for key, _, _ in found] == [False, True, False]
    assert matters_for_resume("stages.1.name")


@pytest.mark.parametrize("kind", sorted(ROOTS))
def test_every_kind_has_a_schema(kind):
    schema = json_schema(ROOTS[kind])
    jsonschema.Draft202012Validator.check_schema(schema)
    texts = {"cai": CAI, "pipeline": PIPELINE, "train": 'method = "grpo"\nmodel = "m"', "compare": ""}
    if texts[kind]:
        check = jsonschema.Draft202012Validator(schema)
        values = tomllib.loads(texts[kind])
        assert check.is_valid(values)
        assert not check.is_valid({**values, "sed": 1})


def test_no_key_of_a_pipeline_is_dead():
    """As tests/test_architecture.py has it for a training recipe: every key is read outside charter.recipe."""
    import ast

    source = Path(__file__).resolve().parents[2] / "src" / "charter"
    read = {
        node.attr
        for file in source.rglob("*.py")
        if file.parent.name != "recipe"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    keys = [key.key for key in recipe_keys(PipelineRecipe)]
    assert "stages.N.rejection.at_least" in keys
    assert [key for key in keys if key.rpartition(".")[2] not in {*read, "from"}] == [
        "sampling.allow_truncated_sampling"  # lets a check pass, and nothing else
    ]


def test_load_any_reads_the_kind_that_is_written(tmp_path):
    assert isinstance(load_any(write(tmp_path, CAI)), CaiRecipe)
    assert isinstance(load_any(write(tmp_path, PIPELINE)), PipelineRecipe)
    text = 'model = "m"\n[data]\nexamples = "e.jsonl"\n'
    assert isinstance(load_any(write(tmp_path, text), ["method=sft"]), Recipe)
