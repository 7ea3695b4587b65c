"""Killed at a random moment and resumed: is the result the uninterrupted one, byte for byte?

    python benchmarks/kill_resume.py [--json] [--store] [--kills 5] [--methods grpo,sft] [--seed 0]
                                     [--model smollm2-135m] [--steps 6]

For each method one uninterrupted run, then --kills runs, each killed with SIGKILL at a random moment (a step drawn
uniformly, the first evaluation among them, and a time within it) and resumed until it is finished. Compared by SHA-256:
the weights, the optimizer state and every stored rollout; and metrics.jsonl without its timings. Exit code 1 on any
difference. Without --model the policy is a tiny random one that is made on the fly.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import as_json, child_environment, facts, store, table

GRPO = """\
method = "grpo"
model = {model}
seed = 3
[data]
prompts = "arithmetic:addition"
template = "{{question}}="
held_out = 8
size = 80
options = {{ digits = 1 }}
[sampling]
group_size = 4
max_new_tokens = {tokens}
[[rewards]]
name = "length"
unit = "characters"
target = 20
[grpo]
prompts_per_step = 4
updates_per_step = 2
[optimizer]
learning_rate = {rate}
[run]
steps = {steps}
save_every = 2
[eval]
prompts = 4
"""

SFT = """\
method = "sft"
model = {model}
seed = 3
[data]
examples = "examples.jsonl"
[sft]
examples_per_step = 4
[optimizer]
learning_rate = {rate}
[run]
steps = {steps}
save_every = 2
"""

UNTIMED = ("time/", "tokens_per_s/")
UNTIMED_ENDS = ("/seconds",)
"""Metrics that say how long something took; the others must be equal."""
LIMIT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Of the uninterrupted run, in seconds from its start: when its folder was a run, and when it ended."""

    born_s: float
    ended_s: float


def write_recipe(folder: Path, method: str, model: str, steps: int, *, tiny: bool) -> Path:
    """The recipe of a method, with the examples it imitates."""
    rows = [
        {"messages": [{"role": "user", "content": f"{i}"}, {"role": "assistant", "content": f"n{i * i}"}]}
        for i in range(12)
    ]
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = {"grpo": GRPO, "sft": SFT}[method].format(
        model=json.dumps(model), steps=steps, tokens=6 if tiny else 16, rate="1e-3" if tiny else "1e-5"
    )
    path = folder / f"{method}.toml"
    path.write_text(text)
    return path


def start(recipe: Path, run: Path) -> subprocess.Popen[str]:
    """`charter train`, with --resume where the folder holds a run."""
    resume = ["--resume"] if (run / "recipe.toml").is_file() else []
    words = [sys.executable, "-m", "charter.cli.app", "train", recipe.name, "--run-dir", run, "--plain", *resume]
    return subprocess.Popen(
        [str(word) for word in words], cwd=recipe.parent, env={**child_environment(), "CI": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=LIMIT_S)
    if process.returncode:
        raise SystemExit(f"charter train ended with {process.returncode}:\n{errors[-2000:]}")


def born(run: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the folder holds a run, or the process is over."""
    deadline = time.monotonic() + LIMIT_S
    while not (run / "recipe.toml").is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def uninterrupted(recipe: Path, run: Path) -> Timing:
    began = time.monotonic()
    process = start(recipe, run)
    born(run, process)
    at = time.monotonic() - began
    finish(process)
    return Timing(at, time.monotonic() - began)


def killed_and_resumed(recipe: Path, run: Path, steps: int, step_s: float, rng: random.Random) -> dict[str, Any]:
    """One run with a SIGKILL in it, `after` seconds into a random step; steps, because a machine's speed varies.

    A run that ends before its kill is drawn again, with a shorter wait.
    """
    for attempt in range(8):
        chosen = run.with_name(f"{run.name}-{attempt}") if attempt else run
        process = start(recipe, chosen)
        began = time.monotonic()
        born(chosen, process)
        target = rng.randrange(steps)
        while recorded(chosen) < target and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, step_s * 0.5**attempt))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        after = time.monotonic() - began
        _, errors = process.communicate()
        if process.returncode == -signal.SIGKILL:
            left = _left_behind(chosen)
            finish(start(recipe, chosen))
            return {"run": str(chosen), "killed_after_s": round(after, 2), **left}
        if process.returncode:
            raise SystemExit(f"charter train ended by itself with {process.returncode}:\n{errors[-2000:]}")
    raise SystemExit(f"{run} ended before its kill eight times; the run is too short to be killed: raise --steps")


def recorded(run: Path) -> int:
    """Rows of metrics.jsonl that are whole."""
    try:
        return (run / "metrics.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _left_behind(run: Path) -> dict[str, Any]:
    """Where the kill hit: rows and checkpoints that were there, and whether a file was half-written."""
    return {
        "rows_recorded": recorded(run),
        "checkpoints": len(list(run.glob("checkpoints/step-*"))),
        "half_written": len(list(run.rglob(".tmp-*"))),
    }


def digests(run: Path) -> dict[str, str]:
    """SHA-256 by relative name: final weights, final optimizer state, rollouts; metrics without timings."""
    files = [
        *run.glob("latest/model/*.safetensors"),
        *run.glob("latest/state/*.safetensors"),
        *run.glob("rollouts/*.parquet"),
    ]
    found = {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
    kinds = {name.split("/")[0] + "/" + name.split("/")[1] for name in found if name.startswith("latest/")}
    if kinds != {"latest/model", "latest/state"}:
        raise SystemExit(f"{run} has no final weights or optimizer state to compare; found {sorted(found)}")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    timeless = [
        {k: v for k, v in row.items() if not k.startswith(UNTIMED) and not k.endswith(UNTIMED_ENDS)} for row in rows
    ]
    found["metrics.jsonl"] = hashlib.sha256(json.dumps(timeless, sort_keys=True).encode()).hexdigest()
    return found


def measure(methods: Sequence[str], model: str | None, steps: int, kills: int, seed: int) -> list[dict[str, Any]]:
    """A row per killed run."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="charter-kill-") as name:
        folder = Path(name)
        if model is None:
            subprocess.run(
                [sys.executable, "-c", "import sys, pathlib, tiny; tiny.save_folder(pathlib.Path(sys.argv[1]))",
                 str(folder / "tiny")],
                check=True, cwd=Path(__file__).parent, env=child_environment(), stdout=sys.stderr,
            )  # fmt: skip
        for method in methods:
            rng = random.Random(f"{method}/{seed}")
            recipe = write_recipe(folder, method, model or str(folder / "tiny"), steps, tiny=model is None)
            timing = uninterrupted(recipe, folder / f"{method}-whole")
            whole = digests(folder / f"{method}-whole")
            for number in range(kills):
                print(f"{method}: kill {number + 1} of {kills} …", file=sys.stderr, flush=True)
                step_s = (timing.ended_s - timing.born_s) / (steps + 1)
                row = killed_and_resumed(recipe, folder / f"{method}-{number}", steps, step_s, rng)
                cut = digests(Path(row.pop("run")))
                different = sorted(key for key in whole.keys() | cut.keys() if whole.get(key) != cut.get(key))
                rows.append(
                    {"method": method, "kill": number + 1, "whole_run_s": round(timing.ended_s, 2)}
                    | row
                    | {"files_compared": len(whole), "different": different, "identical": not different}
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/kill_resume.json")
    parser.add_argument("--kills", type=int, default=5, help="killed runs per method")
    parser.add_argument("--methods", default="grpo,sft", help="comma-separated")
    parser.add_argument("--model", help="asset or folder; a tiny random model when left out")
    parser.add_argument("--steps", type=int, default=8, help="steps of each run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which runs are killed")
    asked = parser.parse_args()
    model = asked.model
    if model is not None and Path(model).is_dir():
        model = os.path.abspath(model)  # runs start in another folder
    rows = measure(asked.methods.split(","), model, asked.steps, asked.kills, asked.seed)
    data = {
        **facts(),
        "model": asked.model or "tiny random llama",
        "steps": asked.steps,
        "rows": rows,
        "identical": sum(row["identical"] for row in rows),
        "runs": len(rows),
    }
    if asked.store:
        name = "kill_resume" if asked.model is None else f"kill_resume_{Path(asked.model).name}"
        print(f"stored {store(name, data)}", file=sys.stderr)
    if asked.json:
        print(as_json(data))
    else:
        head = ("method", "kill", "killed after s", "rows", "checkpoints", "half-written", "files", "identical")
        keys = ("method", "kill", "killed_after_s", "rows_recorded", "checkpoints", "half_written", "files_compared")
        print(table([[*(row[k] for k in keys), "yes" if row["identical"] else "NO"] for row in rows], head))
        print(f"{data['identical']} of {data['runs']} killed runs ended in the uninterrupted run's bytes")
        for row in rows:
            if row["different"]:
                print(f"{row['method']} kill {row['kill']} differs in {', '.join(row['different'])}")
    raise SystemExit(0 if data["identical"] == data["runs"] else 1)


if __name__ == "__main__":
    main()
