"""Recipes on a tiny random model, and runs of them in processes of their own."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
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


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of the final weights and optimizer state and of every stored rollout."""
    files = [*run.glob("rollouts/*.parquet"), *run.glob("latest/*/*.safetensors")]
    assert files
    return {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(files)}


def rows(run: Path) -> list[dict[str, Any]]:
    """The metrics of every step."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def timeless(run: Path) -> list[dict[str, Any]]:
    """The metrics of every step, without how long anything took."""
    timed = ("time/", "tokens_per_s/")
    return [{k: v for k, v in r.items() if not k.startswith(timed) and not k.endswith("/seconds")} for r in rows(run)]


def last_step(run: Path) -> int:
    """The newest step in the metrics, -1 before the first."""
    try:
        return rows(run)[-1]["step"]
    except (OSError, ValueError, IndexError):
        return -1


@pytest.fixture(scope="session")
def left() -> SimpleNamespace:
    """Readers of what a run leaves."""
    return SimpleNamespace(digests=digests, rows=rows, timeless=timeless, last_step=last_step)


@pytest.fixture
def kill_and_resume(charter, charter_process, tmp_path) -> Callable[..., Path]:
    """Run a recipe once whole and once killed a little after each of `after`, and compare; the folder of the second.

    steps: of the recipe; every kill must land before the last.
    """

    def run(recipe: Path, steps: int, after: tuple[int, ...], seed: object) -> Path:
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        assert charter("train", recipe, "--run-dir", whole, cwd=tmp_path).returncode == 0
        rng = random.Random(str(seed))
        for step in after:
            process = charter_process("train", recipe, "--run-dir", cut, "--resume", cwd=tmp_path)
            deadline = time.monotonic() + 120
            while last_step(cut) < step and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            assert step <= last_step(cut) < steps
        done = charter("train", recipe, "--run-dir", cut, "--resume", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert digests(cut) == digests(whole)
        assert timeless(cut) == timeless(whole)
        return cut

    return run
