"""The names of `import charter`, on a tiny model."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import charter
from charter.errors import RecipeError, StoreError, UsageError
from charter.protocols import Reward
from charter.types import Group, Prompt, Rollout

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "recipes" / "quickstart.toml"

TINY = """
method = "grpo"
model = "{model}"
[data]
prompts = "arithmetic:addition"
template = "{{question}}="
size = 20
held_out = 4
options = {{digits = 1}}
[sampling]
group_size = 2
max_new_tokens = 4
[[rewards]]
name = "length"
unit = "characters"
target = 2
[grpo]
prompts_per_step = 2
[run]
steps = 1
"""


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "1")
    file = tmp_path / "tiny.toml"
    file.write_text(TINY.format(model=tiny_folder("llama")))
    return file


def group(text: str, **fields: object) -> Group:
    prompt = Prompt(id="p", messages=({"role": "text", "content": "1+1="},), fields=fields)
    rollout = Rollout(prompt_id="p", index=0, tokens=(5,), logprobs=(0.0,), text=text, stop="eos", version=0)
    return Group(prompt=prompt, rollouts=(rollout,))


def test_import_charter_loads_nothing_heavy():
    code = (
        "import sys, charter, json;"
        "print(json.dumps([m for m in ('torch', 'transformers', 'pydantic', 'numpy', 'pyarrow', 'typer', 'asyncio')"
        " if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_names_and_parameters_of_the_contract():
    def parameters(function: Callable[..., object]) -> list[tuple[str, object]]:
        return [(p.name, p.kind) for p in inspect.signature(function).parameters.values()]

    kind = inspect.Parameter
    assert parameters(charter.load_recipe) == [("path", kind.POSITIONAL_OR_KEYWORD), ("overrides", kind.VAR_KEYWORD)]
    assert parameters(charter.train) == [
        ("recipe", kind.POSITIONAL_OR_KEYWORD), ("run_dir", kind.KEYWORD_ONLY), ("resume", kind.KEYWORD_ONLY),
    ]  # fmt: skip
    assert parameters(charter.load_reward)[-1] == ("options", kind.VAR_KEYWORD)
    assert parameters(charter.open_run) == [("dir", kind.POSITIONAL_OR_KEYWORD)]
    assert all(hasattr(charter, name) for name in charter.__all__)


def test_train_is_callable_whether_or_not_its_namesake_package_is_imported():
    import charter.train.grpo

    assert callable(charter.train)
    assert inspect.isasyncgenfunction(charter.train.grpo.grpo)
    code = "import charter; print(callable(charter.train))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_the_version_is_the_packages():
    import tomllib

    assert charter.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_overrides_nested_dotted_and_plain_say_the_same():
    nested = charter.load_recipe(QUICKSTART, run={"steps": 5}, seed=7)
    dotted = charter.load_recipe(QUICKSTART, **{"run.steps": 5, "seed": 7})
    assert nested == dotted
    as_written = charter.load_recipe(QUICKSTART).run.save_every
    assert (nested.run.steps, nested.run.save_every, nested.seed) == (5, as_written, 7)
    assert charter.load_recipe(QUICKSTART, **{"rewards.0.weight": 2.5}).rewards[0].weight == 2.5


def test_a_wrong_override_is_refused_by_its_key():
    with pytest.raises(RecipeError, match=r"override run\.stepz.*run\.steps|override run\.stepz.*steps"):
        charter.load_recipe(QUICKSTART, run={"stepz": 5})


def test_load_reward_by_name_and_by_function():
    async def both() -> list[float | None]:
        def short(completions: list[str], limit: int, **columns: object) -> list[float]:
            return [1.0 if len(text) <= limit else -1.0 for text in completions]

        values: list[float | None] = []
        for reward, answer in (
            (charter.load_reward("exact"), {"answer": "2"}),
            (charter.load_reward("exact", weight=3.0), {"answer": "2"}),
            (charter.load_reward(short, limit=0), {}),
        ):
            assert isinstance(reward, Reward)
            values.append((await reward.score(group(" 2 ", **answer)))[0].value)
            await reward.close()
        return values

    assert asyncio.run(both()) == [1.0, 3.0, -1.0]
    with pytest.raises(UsageError, match="Did you mean 'exact'"):
        charter.load_reward("exacct")


def test_train_returns_the_run_it_wrote(tiny_recipe):
    run = charter.train(charter.load_recipe(tiny_recipe), run_dir="r")
    assert [row["step"] for row in run.metrics] == [0, 1]
    assert run.rollouts(1).num_rows == 4  # 2 prompts × 2 completions
    assert charter.open_run("r").summary["steps"] == 1
    with pytest.raises(StoreError, match="--resume"):
        charter.train(charter.load_recipe(tiny_recipe), run_dir="r")
    longer = charter.train(charter.load_recipe(tiny_recipe, run={"steps": 2}), run_dir="r", resume=True)
    assert [row["step"] for row in longer.metrics] == [0, 1, 2]


def test_train_works_where_a_loop_is_running(tiny_recipe):
    async def notebook() -> int:
        return charter.train(charter.load_recipe(tiny_recipe, **{"run.name": "n"})).summary["steps"]

    assert asyncio.run(notebook()) == 1
    assert (tiny_recipe.parent / "runs" / "n" / "summary.json").is_file()


def test_open_run_refuses_what_is_no_run(tmp_path):
    with pytest.raises(StoreError, match="is not a run"):
        charter.open_run(tmp_path)
