"""Killed with SIGKILL at random instants, the feedback stage asks nothing twice and ends with the same files."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

CHILD = Path(__file__).with_name("killed_label.py")
KILLS = 4
FILES = ("preferences.jsonl", "preferences.parquet", "label.json")
RECIPE = """
method = "cai"
model = "nobody"
seed = 3
[constitution]
file = "two.toml"
[redteam]
prompts = "prompts.txt"
count = 10
held_out = 2
helpful_count = 0
[judge]
ensemble = "all"
[label]
completions = 3
allow_uncalibrated = true
[arena]
helpful = 0
"""
CONSTITUTION = """
name = "two"
version = "1"
[[principle]]
id = "kind"
text = "Be kind."
[[principle]]
id = "calm"
text = "Be calm."
"""


def start(recipe: Path, folder: Path, log: Path, delay_s: float) -> subprocess.Popen[bytes]:
    words = [sys.executable, str(CHILD), str(recipe), str(folder), str(log), str(delay_s)]
    with (recipe.parent / "stderr").open("w") as stderr:
        return subprocess.Popen(words, cwd=recipe.parent, stderr=stderr)


def asked(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def recorded(folder: Path) -> set[str]:
    """Ids of the answers on whole lines of the journal."""
    path = folder / "records.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return {row["id"] for row in map(json.loads, lines) if row["kind"] in ("reply", "choice")}


def test_a_killed_label_asks_nothing_twice_and_ends_the_same(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("".join(f"Do harm {'abcdefghijkl'[n] * 4}\n" for n in range(12)))
    (tmp_path / "two.toml").write_text(CONSTITUTION)
    recipe = tmp_path / "quick.toml"
    recipe.write_text(RECIPE)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(recipe, whole, tmp_path / "whole.log", 0).wait(60) == 0, (tmp_path / "stderr").read_text()
    total = len(asked(tmp_path / "whole.log"))
    # 10 prompts × 3 replies, then 10 pairs × 2 principles × 2 orders
    assert total == 10 * 3 + 10 * 2 * 2

    rng = random.Random(1)
    log = tmp_path / "parts.log"
    for kill in range(KILLS):
        known = recorded(parts)
        before = len(asked(log))
        child = start(recipe, parts, log, 0.02)
        target = before + rng.randrange(2, total // KILLS)
        while child.poll() is None and len(asked(log)) < target:
            time.sleep(0.002)
        assert child.poll() is None, f"start {kill} ended by itself: {(tmp_path / 'stderr').read_text()}"
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not known & set(asked(log)[before:])
    known, before = recorded(parts), len(asked(log))
    assert start(recipe, parts, log, 0).wait(60) == 0, (tmp_path / "stderr").read_text()
    assert not known & set(asked(log)[before:])
    assert recorded(parts) == recorded(whole)
    # only an answer that was under way at a kill may be asked for again
    assert total <= len(asked(log)) <= total + KILLS
    for name in FILES:
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
