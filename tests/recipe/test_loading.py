"""What a wrong recipe says: every problem at once, where it stands, and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from charter.errors import Problem, RecipeError
from charter.recipe import check_recipe, load_recipe
from charter.recipe.lines import key_lines
from charter.recipe.tables import Recipe

GOOD = """method = "grpo"
model = "some-model"
[data]
prompts = "arithmetic:addition"
[[rewards]]
name = "math"
"""


def write(folder: Path, text: str, name: str = "recipe.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path, *overrides: str) -> list[Problem]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return list(caught.value.problems)


def test_every_problem_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """method = "grpo"
model = "m"
[sampling]
group_size = 1
max_new_tokens = "64"
[grpo]
loss = "cispoo"
advantge = "center"
[data]
prompts = "p.jsonl"
[[rewards]]
name = "math"
weight = true
""",
    )
    found = {p.where: (p.found, p.fix) for p in problems_of(path)}
    assert found == {
        f"{path}:4 sampling.group_size": (
            "the estimator 'center' compares the completions of one prompt, and a group of 1 has none to compare with: "
            "every advantage would be 0",
            "Use a group_size of 2 or more (8 is usual)",
        ),
        f"{path}:5 sampling.max_new_tokens": ("found the text '64'", "Expected whole number ≥ 1"),
        f"{path}:7 grpo.loss": (
            "found the text 'cispoo'",
            'Expected "reinforce" or "clip" or "gspo" or "cispo" or "sapo" or "dppo_tv"; did you mean \'cispo\'?',
        ),
        f"{path}:8 grpo.advantge": ("there is no key 'advantge' in [grpo]", "Did you mean 'advantage'?"),
        f"{path}:13 rewards.0.weight": ("found true", "Expected number or table"),
    }


def test_a_key_in_the_wrong_table_is_sent_to_its_own(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, "steps = 5\n" + GOOD))
    assert problem.where.endswith("recipe.toml:1 steps")
    assert problem.fix == "Did you mean 'run.steps'?"


def test_a_key_like_no_other_lists_what_there_is(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, GOOD + "[eval]\nzzz = 1\n"))
    assert problem.found == "there is no key 'zzz' in [eval]"
    assert problem.fix == "It knows prompts, samples, temperatures, threshold, k"


def test_syntax_errors_name_line_and_column(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "seed = = 1\n")
    (problem,) = problems_of(path)
    # `seed = = 1` is line 7; the value should begin at its eighth character
    assert problem.where == f"{path}:7:8"
    assert "not valid TOML" in problem.found


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "there is no such file"), (b"method = \xff", "it is not UTF-8 text (byte 9)")],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes | None, found: str) -> None:
    path = tmp_path / "r.toml"
    if content is not None:
        path.write_bytes(content)
    (problem,) = problems_of(path)
    assert problem.found == found


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_recipe(path).model == "some-model"


def test_missing_keys_are_named(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, GOOD.replace('model = "some-model"\n', "")))
    assert problem.where.endswith("recipe.toml model")
    assert problem.found == "this key is required and missing"


@pytest.mark.parametrize(
    ("override", "where", "part"),
    [
        ("run.steps=abc", "override run.steps", "found the text 'abc'"),
        ("run.steps=5.0", "override run.steps", "found the number 5.0"),
        ("run.steps=true", "override run.steps", "found true"),
        ("run.stps=5", "override run.stps", "there is no key 'stps' in [run]"),
        ("run", "override 'run'", "not of the form key=value"),
        ("rewards.2.name=x", "override rewards.2.name", "2 is not the index of an entry (0 to 0)"),
        ("model.name=x", "override model.name", "model is the value 'some-model', not a table"),
        ("optimizer.betas=[0.9, 1.0]", "override optimizer.betas", "found the number 1.0"),
        ("optimizer.learning_rate=inf", "override optimizer.learning_rate", "found the number inf"),
        ("rewards.0=3", "override rewards.0", "found the number 3"),
        ("model=", "override model", "the model's name is empty"),
        ("data=3", "override data", "found the number 3"),
    ],
)
def test_a_wrong_override_is_named_as_one(tmp_path: Path, override: str, where: str, part: str) -> None:
    (problem,) = problems_of(write(tmp_path, GOOD), override)
    assert problem.where == where
    assert part in problem.found


def test_overrides_read_as_toml_and_else_as_text(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path, GOOD),
        [
            "run.steps=7",
            "grpo.loss=gspo",
            "run.name=2024",
            'data.template="{question}=?"',
            "data.options.digits=3",
            "optimizer.betas=[0.8, 0.95]",
            "rewards.0.weight=2",
            "rewards.1.name=length",
            "lora.rank=4",
            "model=a=b",
        ],
    )
    assert recipe.run.steps == 7
    assert recipe.grpo.loss == "gspo"
    assert recipe.run.name == "2024"
    assert recipe.data.template == "{question}=?"
    assert recipe.data.options == {"digits": 3}
    assert recipe.optimizer.betas == (0.8, 0.95)
    assert [(r.name, r.weight) for r in recipe.rewards] == [("math", 2.0), ("length", 1.0)]
    assert recipe.lora is not None
    assert recipe.lora.rank == 4
    assert recipe.model == "a=b"


def test_overrides_from_python(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    recipe = load_recipe(path, {"sampling": {"group_size": 4}, "run.steps": 3, "seed": "11"})
    assert (recipe.sampling.group_size, recipe.sampling.temperature) == (4, 1.0)
    assert (recipe.run.steps, recipe.seed) == (3, 11)


def test_reward_options_are_kept(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD + 'pattern = "a+"\nlimits = {low = 1}\n'))
    assert recipe.rewards[0].options == {"pattern": "a+", "limits": {"low": 1}}


@pytest.mark.parametrize(
    ("overrides", "key", "part"),
    [
        (["sampling.group_size=1"], "sampling.group_size", "'center'"),
        (["sampling.group_size=1", "grpo.advantage=max_rl"], "sampling.group_size", "'max_rl'"),
        (["grpo.loss=cispo", "grpo.clip_high=-0.5"], "grpo.clip_high", "1 + clip_high = 0.5, and a cap below 1 scales"),
        (["grpo.loss=cispo", "grpo.clip_low=0.2"], "grpo.clip_low", "has no such bound"),
        (["grpo.loss=gspo", "grpo.clip_low=0.1"], "grpo.clip_low", "would never clip"),
        (["grpo.loss=gspo", "grpo.clip_high=0.2"], "grpo.clip_high", "would never clip"),
        (["grpo.clip_high=0"], "grpo.clip_high", "leaves no room"),
        (["grpo.clip_low=1"], "grpo.clip_low", "which no ratio reaches"),
        (["sampling.top_p=0.9"], "sampling.top_p", "cuts the distribution"),
        (["sampling.top_k=50"], "sampling.top_k", "cuts the distribution"),
        (["sampling.temperature=0"], "sampling.temperature", "the same completion every time"),
        (["grpo.soft_window=300"], "grpo.soft_window", "300 tokens does not fit into completions of at most 256"),
        (["grpo.truncated=penalize"], "grpo.truncated", "soft_window"),
        (["optimizer.warmup_steps=101"], "optimizer.warmup_steps", "101 steps and the run has 100"),
        (["grpo.loss=gspo", "grpo.dual_clip=3"], "grpo.dual_clip", "no meaning with 'gspo'"),
        (["grpo.dual_clip=1"], "grpo.dual_clip", "on-policy"),
        (["grpo.kl_estimator=k3"], "grpo.kl_estimator", "no effect while kl_coef is 0"),
        (["grpo.kl_in=reward"], "grpo.kl_in", "no effect while kl_coef is 0"),
        (["eval.k=[1, 4]"], "eval.k", "pass@4 needs 4 completions per prompt and eval.samples is 1"),
        (["learner.device=gpu"], "learner.device", "'gpu'"),
        (["method=sft"], "method", "no examples to imitate"),
        (["method=ppo", "ppo.minibatches=65"], "ppo.minibatches", "cannot be made of 64 completions"),
        (["method=ppo", "lora.rank=2"], "lora.rank", "freezes the policy"),
        (["method=dpo"], "method", "no pairs to learn from"),
        (["method=dpo", "data.pairs=p.jsonl", "dpo.online=true"], "data.pairs", "would not be read"),
        (["method=dpo", "data.pairs=p.jsonl", "dpo.online_label=bradley_terry"], "dpo.online_label", "were sampled"),
        (["method=dpo", "data.pairs=p.jsonl", "dpo.kind=cdpo"], "dpo.kind", "is plain DPO"),
        (["method=dpo", "dpo.online=true", "sampling.group_size=1"], "sampling.group_size", "the best and the worst"),
        (["sampling.precision=int8"], "sampling.precision", 'mismatch = "none" does not correct for it'),
        (["sampling.precision=fp8", "method=ppo"], "sampling.precision", "PPO has no weights that correct for it"),
        (["sampling.precision=int8", "grpo.mismatch=mask", "lora.rank=4"], "sampling.precision", "[lora] adds others"),
        (
            ["sampling.precision=int8", "grpo.mismatch=mask", "grpo.kl_coef=0.1", "grpo.kl_in=reward"],
            "sampling.precision",
            "measures the KL by what the sampler said",
        ),
    ],
)
def test_numbers_that_make_no_sense_together(tmp_path: Path, overrides: list[str], key: str, part: str) -> None:
    (problem,) = problems_of(write(tmp_path, GOOD), *overrides)
    assert problem.where.startswith(f"override {key}")
    assert part in problem.found


@pytest.mark.parametrize(
    "overrides",
    [
        ["sampling.top_p=0.9", "sampling.allow_truncated_sampling=true"],
        ["sampling.precision=int8", "grpo.mismatch=truncate"],
        ["sampling.precision=int8", "method=rejection_sft"],
        ["grpo.loss=cispo", "grpo.clip_high=0.2"],
        ["grpo.loss=gspo", "grpo.clip_high=0.0999"],
        ["grpo.dual_clip=3"],
        ["grpo.kl_coef=0.1", "grpo.kl_estimator=k1", "grpo.kl_in=reward"],
        ["grpo.truncated=penalize", "grpo.soft_window=256"],
        ["optimizer.warmup_steps=100"],
        ["sampling.group_size=2"],
        ["learner.device=cuda:1"],
        ["method=sft", "data.examples=e.jsonl", "sampling.group_size=1"],
        ["method=dpo", "data.pairs=p.jsonl", "sampling.group_size=1"],
        ["method=ppo", "ppo.minibatches=8", "sampling.group_size=1"],
        ["method=dpo", "data.pairs=p.jsonl", "dpo.kind=cdpo", "dpo.label_smoothing=0.1"],
        ["method=dpo", "dpo.online=true", "dpo.online_label=bradley_terry"],
    ],
)
def test_their_neighbours_on_the_right_side_pass(tmp_path: Path, overrides: list[str]) -> None:
    load_recipe(write(tmp_path, GOOD), overrides)


def test_grpo_without_prompts_or_rewards(tmp_path: Path) -> None:
    found = problems_of(write(tmp_path, 'method = "grpo"\nmodel = "m"\n'))
    assert [p.where.rpartition(" ")[2] for p in found] == ["data.prompts", "rewards"]


def test_a_misspelt_key_is_not_reported_as_missing_too(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, GOOD.replace("prompts =", "promts =")))
    assert problem.fix == "Did you mean 'prompts'?"


def test_recipes_made_in_python_are_checked_too() -> None:
    with pytest.raises(RecipeError, match=r"data\.prompts.*\n.*rewards"):
        check_recipe(Recipe(method="grpo", model="m"))


def test_files_are_found_beside_the_recipe_then_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
        (folder / "both.jsonl").touch()
    (home / "rule.py").touch()
    (home / "schema.json").touch()
    (here / "only-here.jsonl").touch()
    (home / "model").mkdir()
    (home / "model" / "config.json").touch()
    monkeypatch.chdir(here)
    path = write(
        home,
        'method = "grpo"\nmodel = "model"\n[data]\nprompts = "both.jsonl"\nexamples = "only-here.jsonl"\n'
        '[[rewards]]\nname = "rule.py:score"\n[[rewards]]\nname = "schema"\nschema = "schema.json"\n'
        '[[rewards]]\nname = "nowhere.py:score"\n',
    )
    recipe = load_recipe(path)
    assert recipe.data.prompts == str(home / "both.jsonl")
    assert recipe.data.examples == "only-here.jsonl"
    assert recipe.rewards[0].name == f"{home / 'rule.py'}:score"
    assert recipe.rewards[1].options == {"schema": str(home / "schema.json")}
    assert recipe.rewards[2].name == "nowhere.py:score"
    assert recipe.model == str(home / "model")
    # a name given on the command line is meant from where it was typed
    assert load_recipe(path, ["data.prompts=both.jsonl"]).data.prompts == "both.jsonl"
    # inside the current folder no absolute path is written, so that the folder may move
    monkeypatch.chdir(tmp_path)
    assert load_recipe(path).data.prompts == "home/both.jsonl"


def test_lines_of_keys() -> None:
    text = '''a = 1
# b = 2
[t]
"quoted key" = """
[not.a.table]
x = 1 \\"""
"""
list = [
  1, # ]
  "]",
]
d.e = 5
[[r]]
n = 1
[[r]]
n = 2
[r.o]
z = {p = 1}
s = '#'
'''
    assert key_lines(text) == {
        ("a",): 1,
        ("t",): 3,
        ("t", "quoted key"): 4,
        ("t", "list"): 8,
        ("t", "d"): 12,
        ("t", "d", "e"): 12,
        ("r",): 13,
        ("r", 0): 13,
        ("r", 0, "n"): 14,
        ("r", 1): 15,
        ("r", 1, "n"): 16,
        ("r", 1, "o"): 17,
        ("r", 1, "o", "z"): 18,
        ("r", 1, "o", "s"): 19,
    }
