"""Killed with SIGKILL at random instants, the supervised stage asks nothing twice and ends with the same files."""

from __future__ import annotations

import json
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("killed_revision.py")
KILLS = 5
FILES = ("redteam.jsonl", "sft.jsonl", "sft.parquet", "funnel.json", "recipe.toml")
RECIPE = """
method = "cai"
model = "nobody"
seed = 5
[redteam]
prompts = "prompts.txt"
helpful = "helpful.txt"
count = 8
held_out = 2
write = 6
helpful_count = 3
[revise]
steps = 2
few_shot = 0
accept = "judge"
[constitution]
file = "two.toml"
"""
CONSTITUTION = """
name = "two"
version = "1"
prose = ""
[[principle]]
id = "kind"
text = "Be kind."
reason = "People matter."
[[principle]]
id = "true"
text = "Be true."
reason = "Trust matters."
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "prompts.txt").write_text("".join(f"Do harm number {i} {'abcdefghij'[i] * 3}\n" for i in range(10)))
    (tmp_path / "helpful.txt").write_text("".join(f"What is {i} and {i}?\n" for i in range(5)))
    (tmp_path / "two.toml").write_text(CONSTITUTION)
    path = tmp_path / "quick.toml"
    path.write_text(RECIPE)
    return path


def start(recipe: Path, folder: Path, log: Path, delay_s: float) -> subprocess.Popen[bytes]:
    words = [sys.executable, str(CHILD), str(recipe), str(folder), str(log), str(delay_s)]
    with (recipe.parent / "stderr").open("w") as stderr:
        return subprocess.Popen(words, cwd=recipe.parent, stderr=stderr)


def asked(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def recorded(folder: Path) -> set[str]:
    """Ids of the replies on whole lines of the journal."""
    path = folder / "records.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return {row["id"] for row in map(json.loads, lines) if row["kind"] == "reply"}


def test_a_killed_stage_asks_nothing_twice_and_ends_the_same(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    stage = runpy.run_path(str(CHILD))["main"]
    monkeypatch.chdir(tmp_path)
    stage(recipe, whole, tmp_path / "whole.log", "0")
    total = len(asked(tmp_path / "whole.log"))
    assert total > 14 + 6 + 14  # written, drafts, helpful replies and at least a critique of each

    rng = random.Random(7)
    folder, log, kills = tmp_path / "killed", tmp_path / "killed.log", 0
    known: set[str] = set()
    while kills < KILLS:
        before = asked(log)
        child = start(recipe, folder, log, 0.003)
        wanted = len(before) + rng.randint(1, max(1, (total - len(known)) // (KILLS - kills)))
        deadline = time.monotonic() + 60
        while len(asked(log)) < wanted and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        code = child.wait(60)
        assert code == -signal.SIGKILL, (tmp_path / "stderr").read_text()
        kills += 1
        assert known.isdisjoint(asked(log)[len(before) :])  # what was recorded is not asked again
        assert known <= recorded(folder)  # and is never lost
        known = recorded(folder)
    assert 0 < len(known) < total
    before = asked(log)
    child = start(recipe, folder, log, 0)
    assert child.wait(60) == 0, (tmp_path / "stderr").read_text()
    assert known.isdisjoint(asked(log)[len(before) :])
    # one answer at most was under way at each kill
    assert total <= len(asked(log)) <= total + KILLS
    assert set(asked(log)) == set(asked(tmp_path / "whole.log"))
    for name in FILES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    # a finished stage that is run again asks nothing and changes nothing
    stamps = {name: (folder / name).read_bytes() for name in (*FILES, "records.jsonl")}
    ended = asked(log)
    stage(recipe, folder, log, "0")
    assert asked(log) == ended
    assert {name: (folder / name).read_bytes() for name in stamps} == stamps
