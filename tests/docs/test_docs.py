"""What the README, the documentation and the examples say is executed, on a tiny model.

In the first line of a code block, `run` means that its commands are executed, and `file=NAME` that it is written to
NAME before anything of its page is. Every other command is parsed; a TOML block without `method` is laid over the
quickstart's recipe. The pages' model is replaced by a tiny one, and 128 held-out prompts by 16.
"""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import charter
from charter.recipe import Recipe
from charter.recipe.roots import load_any

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
KNOWN_PROGRAMS = {"charter", "make", "pip", "pytest", "ruff", "lint-imports", "pyright", "pre-commit", "python"}
STEPS = 3


@dataclass(frozen=True)
class Block:
    """A code block: its language, the words after it, its text, and the line it begins in."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int

    @property
    def file(self) -> str | None:
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text("utf-8")
    found = [
        Block(m[1], tuple(m[2].split()), m[3], text.count("\n", 0, m.start()) + 1)
        for m in re.finditer(r"^```(\w*)([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]
    return [block for block in found if not languages or block.language in languages]


def commands(text: str) -> list[list[str]]:
    """The words of each command of a shell block; comments are left out."""
    joined = text.replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def pages_with(*languages: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, *languages)]


def name(page: object) -> str:
    return str(page.relative_to(ROOT)) if isinstance(page, Path) else str(page)


@pytest.fixture(scope="module")
def base(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[..., Path]
) -> tuple[Path, Callable[[str], str]]:
    """A folder with the recipes, the examples and a finished tiny run; and what replaces the pages' model."""
    folder, model = tmp_path_factory.mktemp("docs"), tiny_folder("llama")

    def made_small(text: str) -> str:
        return text.replace('"smollm2-135m"', f'"{model}"').replace("held_out = 128", "held_out = 16")

    shutil.copytree(ROOT / "recipes", folder / "recipes")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    for recipe in (folder / "recipes").glob("*.toml"):
        recipe.write_text(made_small(recipe.read_text()))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CI", "1")
        recipe = charter.load_recipe("recipes/quickstart.toml", run={"steps": STEPS, "name": "quickstart"})
        charter.train(recipe)
    return folder, made_small


@pytest.fixture
def workplace(
    base: tuple[Path, Callable[[str], str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], Path]:
    """A fresh copy of that folder, entered, with the files of a page in it."""
    folder, made_small = base

    def enter(page: Path) -> Path:
        here = tmp_path / "here"
        shutil.copytree(folder, here, symlinks=True)
        for block in blocks(page):
            if block.file:
                (here / block.file).write_text(made_small(block.text), "utf-8")
        monkeypatch.chdir(here)
        monkeypatch.setenv("CI", "1")
        return here

    return enter


def run_charter(words: list[str]) -> tuple[int, str]:
    """`charter …` in this process: exit code and output."""
    from typer.testing import CliRunner

    from charter.cli.app import app
    from charter.errors import CharterError

    result = CliRunner().invoke(app, words)
    if isinstance(result.exception, CharterError):
        return result.exception.exit_code, f"{result.output}{result.exception}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def parse(words: list[str]) -> None:
    """Read a `charter …` command as the command line would, without running it."""
    import typer.main

    from charter.cli.app import app

    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"there is no verb {rest[0]!r} in charter {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    if rest:
        command.make_context("charter", rest)


@pytest.mark.parametrize("page", pages_with("sh", "bash", "toml", "python"), ids=name)
def test_commands_of_blocks_parse_and_their_keys_exist(page: Path, workplace: Callable[[Path], Path]):
    here = workplace(page)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in blocks(page, "sh", "bash"):
        for words in [part for line in commands(block.text) for part in split_at(line, "&&")]:
            where = f"{name(page)}:{block.line}: {' '.join(words)}"
            while "=" in words[0]:  # an environment variable for one command
                words = words[1:]
            assert words[0] in KNOWN_PROGRAMS, where
            if words[0] == "make":
                assert set(words[1:]) <= targets, where
            if words[0] in ("pytest", "python"):
                assert all((ROOT / word).exists() for word in words[1:] if "/" in word and "::" not in word), where
            if words[0] == "charter":
                parse(words[1:])
                takes_recipe = words[1] in ("train", "explain", "eval", "compare") and len(words) > 2
                if takes_recipe and (here / words[2]).is_file():
                    overrides = [w for w in words[3:] if re.match(r"[a-z][\w.]*=", w)]
                    load_any(words[2], overrides)


def split_at(words: list[str], mark: str) -> Iterator[list[str]]:
    start = 0
    for end in [*(i for i, word in enumerate(words) if word == mark), len(words)]:
        yield words[start:end]
        start = end + 1


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_named_in_the_text_exist(page: Path):
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for found in re.findall(r"`charter ([a-z][^`\n]*)`", text):
        parse(shlex.split(found))


@pytest.mark.parametrize("page", [p for p in PAGES if any("run" in b.words for b in blocks(p))], ids=name)
def test_blocks_marked_run_succeed(page: Path, workplace: Callable[[Path], Path]):
    workplace(page)
    for block in blocks(page, "sh"):
        if "run" in block.words:
            for words in commands(block.text):
                assert words[0] == "charter", words
                code, output = run_charter(words[1:])
                assert code == 0, f"{name(page)}:{block.line}: {' '.join(words)}\n{output}"


@pytest.mark.parametrize("page", [p for p in PAGES if any(not b.file for b in blocks(p, "python"))], ids=name)
def test_python_blocks_run(page: Path, workplace: Callable[[Path], Path]):
    workplace(page)
    space: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page, "python"):
        if not block.file:
            exec(compile("\n" * block.line + block.text, str(page), "exec"), space)


@pytest.mark.parametrize("page", pages_with("toml"), ids=name)
def test_toml_blocks_are_recipes_whose_data_and_rewards_can_be_made(page: Path, workplace: Callable[[Path], Path]):
    from charter.cli.compose import read_inputs

    here = workplace(page)
    for block in blocks(page, "toml"):
        values = tomllib.loads(block.text)
        if "method" in values:
            (here / "block.toml").write_text(block.text, "utf-8")
            recipe = load_any("block.toml")
            if not isinstance(recipe, Recipe):
                continue  # a recipe of recipes: its data is what an earlier stage of it writes
        else:
            recipe = charter.load_recipe("recipes/quickstart.toml", **values)
        inputs = read_inputs(recipe)
        if inputs.rubric is not None:
            asyncio.run(inputs.rubric.close())


@pytest.mark.parametrize("page", pages_with("jsonl"), ids=name)
def test_json_lines_are_objects(page: Path):
    for block in blocks(page, "jsonl"):
        assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines())


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_named_tests_exist(page: Path):
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{name(page)} links to {target}"
    for file, test in re.findall(r"\b(tests/[\w/]+\.py)(?:::(\w+))?", text):
        assert (ROOT / file).is_file(), f"{name(page)} names {file}"
        assert not test or f"def {test}(" in (ROOT / file).read_text(), f"{name(page)} names {file}::{test}"


def test_the_readme_begins_with_the_two_commands():
    first = blocks(ROOT / "README.md")[0]
    assert first.line == 1
    assert commands(first.text) == [["make", "quickstart"], ["make", "test"]]


def test_the_readme_names_every_recipe():
    named = set(re.findall(r"\]\(recipes/([\w-]+\.toml)\)", (ROOT / "README.md").read_text()))
    assert named == {recipe.name for recipe in (ROOT / "recipes").glob("*.toml")}


def test_every_built_in_reward_and_option_is_documented():
    from charter.reward import options_model, reward_names

    table = (ROOT / "docs/rewards.md").read_text().split("## Try one")[0]
    rows = {m[1]: m[0] for m in re.finditer(r"^\| `(\w+)` \|.*$", table, re.MULTILINE)}
    assert tuple(rows) == reward_names()
    for reward in reward_names():
        for key, field in options_model(reward).model_fields.items():
            assert f"`{field.alias or key}`" in rows[reward], (reward, key)


def test_every_finding_is_documented():
    from charter.run.diagnose import CHECKS

    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/running.md").read_text(), re.MULTILINE)
    assert table == list(CHECKS)


def test_generated_pages_are_current_and_their_commands_print_them():
    for module, page in (("charter.recipe", "recipe.md"), ("charter.run.metrics", "metrics.md")):
        done = subprocess.run([sys.executable, "-m", module], capture_output=True, encoding="utf-8", check=True)
        assert done.stdout == (ROOT / "docs" / page).read_text("utf-8"), "make docs"
        assert f"-m {module}" in (ROOT / "Makefile").read_text()


def test_every_number_that_a_run_writes_is_documented(base: tuple[Path, Callable[[str], str]]):
    from charter.run.metrics import unknown_metrics

    rows = charter.open_run(base[0] / "runs" / "quickstart").metrics
    assert "eval/accuracy@1" in rows[0]
    assert unknown_metrics({key for row in rows for key in row}) == []


def test_the_reward_scores_that_the_page_states(workplace: Callable[[Path], Path]):
    workplace(ROOT / "docs/rewards.md")
    code, output = run_charter(["reward", "test", "math", "--data", "answers.jsonl", "--json"])
    assert code == 0
    assert [json.loads(line)["score"] for line in output.splitlines()] == [1.0, 0.0, 0.0]


def run_example(file: str, *words: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [file, *words])
        return runpy.run_path(file, run_name="__main__")


def test_example_custom_reward(workplace: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]):
    here = workplace(ROOT / "README.md")
    run_example("examples/custom_reward.py")
    # right alone: 1 + 0.5; right in a sentence: 1; wrong: 0
    assert re.findall(r"[\d.]+$", capsys.readouterr().out, re.MULTILINE) == ["1.5", "1.0", "0.0"]
    run_example("examples/custom_reward.py", "--train", "run.steps=2")
    run = charter.open_run(here / "runs" / "custom-reward")
    assert run.summary["steps"] == 2
    assert "reward/right_and_short" in run.rollouts(2).column_names


def test_example_read_rollouts(workplace: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]):
    workplace(ROOT / "README.md")
    run_example("examples/read_rollouts.py", "runs/quickstart")
    printed = capsys.readouterr().out
    assert re.findall(r"^step-00000(\d)  64 completions", printed, re.MULTILINE) == ["1", "2", "3"]
    with pytest.raises(SystemExit, match="no rollouts"):
        run_example("examples/read_rollouts.py", "recipes")


def test_example_objectives_alone():
    space = runpy.run_path(str(ROOT / "examples" / "objectives_alone.py"))
    final = space["main"]()
    assert final.argmax() == 2  # the arm that pays most often
    assert final[2] > 0.9


def test_the_picture_has_a_point_for_every_step(workplace: Callable[[Path], Path]):
    here = workplace(ROOT / "README.md")
    run_example(str(ROOT / "docs" / "images" / "draw_run.py"), "runs/quickstart", "run.svg")
    tree = ElementTree.parse(here / "run.svg")
    circles = tree.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 3 + STEPS  # the buttons of the window, and the steps
    words = " ".join("".join(t.itertext()) for t in tree.iter("{http://www.w3.org/2000/svg}text"))
    assert f"step {STEPS}" in words
    assert "held-out accuracy, temperature 1" in words
    (here / "imitation").mkdir()
    (here / "imitation" / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(SystemExit, match="no rewards"):
        run_example(str(ROOT / "docs" / "images" / "draw_run.py"), "imitation", "run.svg")
