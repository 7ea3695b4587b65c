"""Recipes on a tiny random model, and runs of them in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

GRPO = """
method = "grpo"
model = "{model}"
seed = 3
[data]
prompts = "arithmetic:addition"
template = "{{question}}="
held_out = 8
size = 80
options = {{digits = 1}}
[sampling]
group_size = 4
max_new_tokens = 6
[[rewards]]
name = "{reward}"
[grpo]
prompts_per_step = 4
[optimizer]
learning_rate = 1e-3
[run]
steps = 6
save_every = 2
[eval]
prompts = 4
temperatures = [0.0, 1.0]
"""

SFT = """
method = "sft"
model = "{model}"
seed = 3
[data]
examples = "{examples}"
[sft]
examples_per_step = 4
[optimizer]
learning_rate = 3e-3
[run]
steps = 8
save_every = 3
"""

EARLY = """
def early(completions, **columns):
    return [sum(c.isdigit() for c in text[0]["content"]) / 6 for text in completions]
"""


@pytest.fixture
def grpo_recipe(tmp_path: Path, tiny_folder: Callable[..., Path]) -> Path:
    """A recipe whose reward is the number of digits: a random model can learn it in a few steps."""
    (tmp_path / "rewards.py").write_text(EARLY)
    file = tmp_path / "tiny.toml"
    file.write_text(GRPO.format(model=tiny_folder("llama"), reward="rewards.py:early"))
    return file


@pytest.fixture
def sft_recipe(tmp_path: Path, tiny_folder: Callable[..., Path]) -> Path:
    """Twelve short conversations to imitate."""
    rows = tmp_path / "examples.jsonl"
    rows.write_text(
        "".join(
            f'{{"messages": [{{"role": "user", "content": "{i}"}}, {{"role": "assistant", "content": "n{i * i}"}}]}}\n'
            for i in range(12)
        )
    )
    file = tmp_path / "sft.toml"
    file.write_text(SFT.format(model=tiny_folder("llama"), examples=rows))
    return file


@pytest.fixture
def charter(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run `charter …` in this process (importing torch takes longer than most tests): returncode, stdout, stderr."""
    from typer.testing import CliRunner

    from charter.cli.app import app
    from charter.errors import CharterError

    def run(*words: str | Path, cwd: Path) -> SimpleNamespace:
        monkeypatch.chdir(cwd)
        monkeypatch.setenv("CI", "1")
        result = CliRunner().invoke(app, [str(word) for word in words])
        code, stderr = result.exit_code, result.stderr
        if isinstance(result.exception, CharterError):  # what main() prints
            code, stderr = result.exception.exit_code, stderr + str(result.exception)
        elif result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return SimpleNamespace(returncode=code, stdout=result.stdout, stderr=stderr)

    return run


@pytest.fixture
def charter_process() -> Callable[..., subprocess.Popen[str]]:
    """Start `charter …` in a process of its own, to be signalled."""

    def start(*words: str | Path, cwd: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "charter.cli.app", *map(str, words)],
            cwd=cwd,
            env={**os.environ, "CI": "1", "OMP_NUM_THREADS": str(torch.get_num_threads())},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
