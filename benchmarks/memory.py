"""Peak memory of a GRPO step: Charter against TRL's GRPOTrainer, and against what `charter explain` foretells.

    python benchmarks/memory.py [--json] [--store] [--cases S,L] [--trl default,best] [--rounds 1]

The steps are those of `step.py`, in processes of their own: a warm-up step and one more, so that AdamW has its moments.
Peaks are ru_maxrss, the largest over --rounds; `own_bytes` leaves out what the process held before a model was there
(interpreter and libraries), which no estimate of a training's memory counts. `explain` reads a recipe with the same
model, group, lengths and prompts per step. Its estimate has no prompts in it, so `estimate_with_prompts_bytes` adds
what their tokens take, by its own activations per token, where they fit into the same micro-batch.
`of_limit` is what no AdamW in fp32 does without (weights, gradients, two moments: 16 bytes a parameter) over own_bytes.
Results go to benchmarks/results/memory.json with --store.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from floors import Model
from harness import as_json, facts, sample_quiet, store, table, validity, watching
from measured_step import Shape, measured
from peers import trl_python
from step import trl_settings, trl_side
from workload import CASES, exact_prompts, model_folder

from charter.cli.estimate import peak_bytes

ENOUGH_TOKENS, PART_TOKENS = 1024, 512
"""As in `charter.learner.plan`, which needs torch; this process stays without it."""

RECIPE = """
method = "grpo"
model = {model}
[data]
prompts = "prompts.jsonl"
held_out = 0
[sampling]
group_size = {group}
max_new_tokens = {tokens}
[[rewards]]
name = "length"
target = 100
[grpo]
prompts_per_step = {prompts}
[run]
steps = 1
"""


def estimate(shape: Shape) -> dict[str, Any]:
    """What `charter explain` says of the memory of this step."""
    folder = model_folder(shape.model)
    with tempfile.TemporaryDirectory(prefix="charter-memory-") as name:
        place = Path(name)
        given = exact_prompts(folder, [shape.prompt or 1] * shape.prompts)
        (place / "prompts.jsonl").write_text("".join(json.dumps({"prompt": g.text}) + "\n" for g in given))
        sizes = {"group": shape.group, "tokens": shape.tokens, "prompts": shape.prompts}
        (place / "recipe.toml").write_text(RECIPE.format(model=json.dumps(str(folder)), **sizes))
        words = [sys.executable, "-m", "charter.cli.app", "explain", str(place / "recipe.toml"), "--json"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=place)
        if done.returncode:
            raise SystemExit(f"charter explain ended with {done.returncode}: {done.stderr}")
    memory = json.loads(done.stdout)["memory"]
    return memory | {"with_prompts_bytes": with_prompts(memory, shape)}


def with_prompts(memory: Mapping[str, Any], shape: Shape) -> int:
    """The estimate with the prompts' activations and cache.

    explain counts min(micro-batch, completion tokens) of activations. Together are as many whole groups as make enough
    for a forward, twice; or, of a group that goes through in parts, its prompt and two of them.
    """
    parts, completions = memory["bytes"], shape.prompts * shape.group * shape.tokens
    prompt, replies, most = shape.prompt or 0, shape.group * shape.tokens, memory["micro-batch tokens"]
    if prompt + replies > ENOUGH_TOKENS and replies > PART_TOKENS and shape.group > 1:
        there = prompt + min(replies, 2 * max(PART_TOKENS, shape.tokens))
    else:
        group = prompt + replies
        forward = group * max(1, min(ENOUGH_TOKENS, most) // group)
        there = min(group * shape.prompts, 2 * forward if 2 * forward <= most else forward)
    counted = min(most, completions)
    activations = parts["activations of a micro-batch"] * there // counted
    cache = parts["sampler cache"] * (completions + shape.prompts * (shape.prompt or 0)) // completions
    return peak_bytes(parts | {"activations of a micro-batch": activations, "sampler cache": cache})


def least_bytes(model: Model) -> int:
    """What no AdamW in fp32 does without: weights, gradients and two moments."""
    return 16 * model.parameters


def _row(peaks: Sequence[Mapping[str, Any]], least: int) -> dict[str, Any]:
    failed = next((one["failed"] for one in peaks if "failed" in one), None)
    if failed:
        return {"failed": failed}
    peak = max(one["peak_bytes"] for one in peaks)
    held = min(one["peak_bytes_after"]["imports"] for one in peaks)
    return {
        "peak_bytes": peak,
        "before_model_bytes": held,
        "own_bytes": peak - held,
        "of_limit": least / (peak - held),
        "device_peak_bytes": max((one["device_peak_bytes"] or 0 for one in peaks), default=0) or None,
        "rounds_bytes": [one["peak_bytes"] for one in peaks],
    }


def measure_case(
    shape: Shape, rounds: int, settings: Mapping[str, Mapping[str, Any]], python: Path | None
) -> dict[str, Any]:
    """One case: both sides and the estimate."""
    ours: list[dict[str, Any]] = []
    theirs: dict[str, list[dict[str, Any]]] = {name: [] for name in settings}
    for _ in range(rounds):
        ours.append(measured(shape))
        for name, words in settings.items():
            if python is not None:
                theirs[name].append(trl_side(python, shape, words))
    told = estimate(shape)
    least = least_bytes(Model(**ours[0]["model"]))
    charter = _row(ours, least)
    trl = {name: _row(rows, least) for name, rows in theirs.items()}
    ratios = {name: charter["peak_bytes"] / row["peak_bytes"] for name, row in trl.items() if "peak_bytes" in row}
    return {
        "charter": charter | {"after_bytes": ours[-1]["peak_bytes_after"]},
        "trl": trl,
        "ratio": ratios,
        "smallest_trl": min((row["peak_bytes"] for row in trl.values() if "peak_bytes" in row), default=None),
        "estimate_bytes": told["peak_bytes"],
        "estimate_parts": told["bytes"],
        "estimate_with_prompts_bytes": told["with_prompts_bytes"],
        "measured_of_estimate": charter["own_bytes"] / told["peak_bytes"],
        "measured_of_estimate_with_prompts": charter["own_bytes"] / told["with_prompts_bytes"],
        "microbatch_tokens": ours[0]["steps"][0]["microbatch_tokens"],
        "least_bytes": least,
    }


def report(data: Mapping[str, Any]) -> str:
    rows: list[list[object]] = []
    for name, case in data["cases"].items():
        told = f"{case['estimate_with_prompts_bytes'] / 1e9:.2f}"
        for side, one in (("Charter", case["charter"]), *((f"TRL {n}", row) for n, row in case["trl"].items())):
            if "failed" in one:
                rows.append([name, side, one["failed"], "", "", "", ""])
                continue
            ratio = case["charter"]["peak_bytes"] / one["peak_bytes"]
            own = told if side == "Charter" else "–"
            rows.append([name, side, f"{one['peak_bytes'] / 1e9:.2f}", f"{one['own_bytes'] / 1e9:.2f}", own,
                         f"{one['of_limit']:.2f}", f"{ratio:.3f}"])  # fmt: skip
    head = ("case", "side", "peak GB", "less imports", "explain GB", "of limit", "Charter / it")
    return "\n".join([table(rows, head), "valid" if data["valid"] else "NOT VALID: " + "; ".join(data["disturbed_by"])])


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/memory.json")
    parser.add_argument("--name", default="memory", help="name to store under")
    parser.add_argument("--model", default="smollm2-135m", help="asset, folder, or random:SPEC (random_models.py)")
    parser.add_argument("--cases", default="S,L", help=f"comma-separated: {', '.join(CASES)}")
    parser.add_argument("--trl", default="default,best", help="settings of TRL as in step.py; none for Charter alone")
    parser.add_argument("--trl-version", default="1.16", help="version of TRL, major.minor")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each side")
    parser.add_argument("--prompt", type=int, help="another length of prompt than the case's, for trying out")
    parser.add_argument("--tokens", type=int, help="another length of completion than the case's, for trying out")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    asked = make_parser().parse_args(words)
    names = asked.cases.split(",")
    if unknown := set(names) - set(CASES):
        raise SystemExit(f"--cases knows {', '.join(CASES)}, not {', '.join(sorted(unknown))}")
    settings = [name for name in asked.trl.split(",") if name not in ("", "none")]
    python = trl_python(asked.trl_version) if settings else None
    found: dict[str, Any] = {}
    before = sample_quiet()
    with watching() as during:
        for name in names:
            case = CASES[name]
            shape = Shape(
                model=asked.model, prompts=case.prompts, group=case.group, repeats=1, rates=False, dtype="float32",
                prompt=asked.prompt or case.prompt, tokens=asked.tokens or case.tokens,
            )  # fmt: skip
            print(f"case {name} …", file=sys.stderr, flush=True)
            found[name] = measure_case(shape, asked.rounds, trl_settings(settings, shape), python)
    data = {**facts(), "model": asked.model, "rounds": asked.rounds, "cases": found, **validity(before, during)}
    if asked.store:
        print(f"stored {store(asked.name, data)}", file=sys.stderr)
    print(as_json(data) if asked.json else report(data))


if __name__ == "__main__":
    main()
