"""The house rules, each as a test: who may import whom, sizes, names, the tree in the README, keys that are read."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "charter"
FILES = sorted(SOURCE.rglob("*.py"))

MAY_IMPORT = {
    "types": "",
    "errors": "",
    "objectives": "",
    "protocols": "types",
    "recipe": "errors",
    "data": "types errors model.chat",
    "assets": "types errors model.chat",
    "model": "types errors objectives",
    "sampler": "types protocols errors model",
    "sandbox": "errors",
    "reward": "types protocols errors sandbox",
    "run": "types protocols errors",
    "constitution": "types protocols errors reward run.records",
    "learner": "types protocols errors objectives model",
    "train": "types protocols errors recipe objectives run.metrics data",
    "evaluate": "types protocols errors objectives run train",
}
"""Room → the rooms it may import, besides itself; `cli` and the package's face may import every room."""

PERMISSIONS = {"sampling.allow_truncated_sampling"}
"""Recipe keys whose only meaning is that a check of the recipe lets something pass."""

PUBLIC = {
    "objectives.advantages.group_advantages": "rewards, estimator='center', *, mask=None, eps=0.0001",
    "objectives.policy.policy_loss": "logprobs, old_logprobs, advantages, mask, *, kind='clip', clip_low, clip_high, "
    "dual_clip=None, **named",
    "objectives.aggregation.aggregate": "loss, mask, *, how='token', groups=None, max_tokens=None, normalizer=None",
    "objectives.kl.kl_estimate": "logprobs, ref_logprobs, kind='k3'",
    "objectives.preference.bradley_terry_loss": "score_a, score_b, p=1.0",
    "objectives.preference.dpo_loss": "policy_a, policy_b, ref_a, ref_b, p=1.0, *, beta=0.1, kind='dpo', "
    "label_smoothing=0.0",
    "objectives.value.gae": "rewards, values, mask, *, gamma=1.0, lam=0.95",
}
"""The stable functions and the parameters they must have, defaults where they are promised."""


def room_of(file: Path) -> str:
    """`types` for types.py, `run` for run/store.py, "" for the package's face."""
    first = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported(text: str, package: str) -> Iterator[str]:
    """The modules of Charter that a file imports, anywhere in it; `from a import b` counts as a.b."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("charter.") for name in names if name.startswith("charter."))


def trespasses(room: str, names: Iterator[str]) -> list[str]:
    allowed = [room, *MAY_IMPORT[room].split()]
    return [name for name in names if not any(name == one or name.startswith(f"{one}.") for one in allowed)]


def package_of(file: Path) -> str:
    return ".".join(["charter", *file.relative_to(SOURCE).parts[:-1]])


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_what_it_may(room):
    files = [file for file in FILES if room_of(file) == room]
    assert files, f"the rule names a room that is not there: {room}"
    found = {
        str(file.relative_to(SOURCE)): bad
        for file in files
        if (bad := trespasses(room, imported(file.read_text(), package_of(file))))
    }
    assert found == {}


def test_every_room_has_a_rule():
    assert {room_of(file) for file in FILES} - {"", "cli"} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("from charter.sampler.local import LocalSampler", ["sampler.local.LocalSampler"]),
        ("def f():\n    import charter.reward", ["reward"]),
        ("from ..learner import local", ["learner.local"]),
        ("from charter import model", ["model"]),
        ("from charter.run import store", ["run.store"]),
        ("from charter.run.metrics import describe_groups", []),
        ("from . import batch", []),
    ],
)
def test_the_rule_sees_every_way_to_import(line, bad):
    assert trespasses("train", imported(line, "charter.train")) == bad


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter with the repository's contracts on the package in `folder`."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    shutil.copy(ROOT / "pyproject.toml", folder)
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_import_linter_keeps_the_contracts_and_breaks_on_a_trespass(tmp_path):
    shutil.copytree(SOURCE, tmp_path / "charter", ignore=shutil.ignore_patterns("__pycache__"))
    sound = lint_imports(tmp_path)
    assert sound.returncode == 0, sound.stdout
    assert "0 broken" in sound.stdout
    with (tmp_path / "charter" / "train" / "batch.py").open("a") as file:
        file.write("\nimport charter.sampler.local\n")
    broken = lint_imports(tmp_path)
    assert broken.returncode == 1
    assert "1 broken" in broken.stdout


def test_no_source_file_is_longer_than_400_lines():
    long = {str(f.relative_to(ROOT)): n for f in FILES if (n := len(f.read_text().splitlines())) > 400}
    assert long == {}


def test_nothing_is_left_undone():
    word = re.compile(r"NotImplementedError|\b(TODO|FIXME|XXX)\b")
    found = [f"{f.relative_to(ROOT)}: {m[0]}" for f in FILES for m in word.finditer(f.read_text())]
    assert found == []


def test_no_room_or_module_has_a_name_that_says_nothing():
    nothing = {"utils", "util", "common", "helpers", "helper", "core", "misc", "base"}
    assert [str(f) for f in FILES if nothing & {part.removesuffix(".py") for part in f.relative_to(SOURCE).parts}] == []


def test_only_the_learner_calls_backward():
    found = {room_of(f) for f in FILES if re.search(r"\.backward\(", f.read_text())}
    assert found == {"learner"}


def tree_of(text: str) -> set[str]:
    """The first names of the lines of the tree in a README, below the line `src/charter/`."""
    block = re.search(r"^```text\nsrc/charter/\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert block, "the README has no tree that begins with src/charter/"
    return {line.split()[0] for line in block[1].splitlines() if re.match(r"  \S", line)}


def test_the_tree_in_the_readme_is_the_tree_there_is():
    rooms = {f"{file.relative_to(SOURCE).parts[0]}/" for file in FILES if file.parent != SOURCE}
    assert tree_of((ROOT / "README.md").read_text()) == rooms | {file.name for file in SOURCE.glob("*.py")}


def attributes_read(files: list[Path]) -> set[str]:
    return {
        node.attr
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def test_no_recipe_key_is_dead():
    from charter.recipe import recipe_keys

    outside = attributes_read([f for f in FILES if room_of(f) != "recipe"])
    called = {"from": "first"}  # a word of Python's own, so the attribute has another name
    names = {key.key: key.key.rpartition(".")[2] for key in recipe_keys()}
    dead = {key for key, name in names.items() if called.get(name, name) not in outside}
    assert dead == PERMISSIONS
    checks = attributes_read([SOURCE / "recipe" / "checks.py"])
    assert {key.rpartition(".")[2] for key in PERMISSIONS} <= checks


HEAVY = {"torch", "transformers", "pydantic", "numpy", "pyarrow", "math_verify", "rich"}


def test_the_first_help_loads_nothing_heavy():
    code = (
        "import contextlib, io, json, sys\n"
        "from charter.cli.app import app\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    app(['--help'])\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout))
    assert "charter.cli.train" in modules
    assert HEAVY.isdisjoint(modules)


def test_help_of_every_verb_loads_nothing_heavy():
    code = """
import contextlib, io, json, sys
from charter.cli.app import app
import typer.main
group = typer.main.get_command(app)
shown = {}
def walk(command, words):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        app([*words, "--help"], prog_name="charter")
    shown[" ".join(words)] = out.getvalue()
    for name, child in getattr(command, "commands", {}).items():
        walk(child, [*words, name])
walk(group, [])
print(json.dumps([sorted(sys.modules), shown]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules, shown = json.loads(done.stdout)
    # pydantic is not among them: typer itself loads it to read the options of a single verb
    assert (HEAVY - {"pydantic"}).isdisjoint(modules)
    assert {
        "",
        "train",
        "explain",
        "eval",
        "show",
        "doctor",
        "reward test",
        "assets get",
        "assets list",
    } <= shown.keys()
    assert all(text.startswith("Usage: charter") for text in shown.values()), shown


def promised(text: str) -> dict[str, tuple[bool, str]]:
    """Parameter → (keyword only, default as text or "")."""
    found: dict[str, tuple[bool, str]] = {}
    keyword = False
    for word in text.split(", "):
        if word == "*":
            keyword = True
            continue
        name, _, default = word.partition("=")
        found[name] = (keyword, default)
    return found


@pytest.mark.parametrize("place", sorted(PUBLIC))
def test_public_functions_have_the_parameters_they_promise(place):
    module, _, name = place.rpartition(".")
    function = getattr(importlib.import_module(f"charter.{module}"), name)
    parameters = inspect.signature(function).parameters
    order = [f"**{p.name}" if p.kind is p.VAR_KEYWORD else p.name for p in parameters.values()]
    wanted = promised(PUBLIC[place])
    assert [one for one in order if one in wanted] == list(wanted)
    for one, (keyword, default) in wanted.items():
        parameter = parameters[one.removeprefix("**")]
        assert (parameter.kind is parameter.KEYWORD_ONLY) or not keyword or one.startswith("**"), one
        assert not default or repr(parameter.default) == default, one
    required = {p.name for p in parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
    assert required <= wanted.keys(), "a parameter beyond the promised ones must have a default"


def test_the_default_clip_range_is_a_fifth_on_both_sides():
    import torch

    from charter.objectives.policy import policy_loss

    new, old = torch.tensor([[0.5, -0.5, 0.1]]), torch.zeros(1, 3)
    mask = torch.ones(1, 3)
    for advantage in (1.0, -1.0):
        given = policy_loss(new, old, torch.tensor([advantage]), mask, clip_low=0.2, clip_high=0.2)
        assert torch.equal(policy_loss(new, old, torch.tensor([advantage]), mask), given)
    # A = 1: ρ = e^0.5 is cut at 1.2, ρ = e^-0.5 is the smaller of the two, ρ = e^0.1 is inside
    expected = torch.tensor([[-1.2, -0.60653066, -1.10517092]])
    assert torch.allclose(policy_loss(new, old, torch.tensor([1.0]), mask), expected)
