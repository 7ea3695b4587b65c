"""One GRPO step of Charter against TRL's GRPOTrainer: same model, prompts, token counts, optimizer; A B A B.

    python benchmarks/step.py --case S|M|L [--json] [--store] [--rounds 5] [--trl default,best] [--device cpu]

    S   4 prompts × 65 tokens, 8 completions each of 64 tokens
    M   2 prompts × 512 tokens, 8 completions each of 64 tokens
    L   1 prompt × 1,024 tokens, 16 completions of 128 tokens

A round runs Charter and then each of TRL's settings, each in a process of its own with one warm-up step and --steps
timed ones; figures are medians over rounds of each round's median. No completion ends early on either side. Rewards are
the same rule on token ids, which differs within a group. TRL's settings:

    default      as GRPOConfig has it: 8 completions per forward, activations recomputed; fp32 as on Charter's side
    best         activations kept, and as many completions per forward as --per-device says (several are tried)
    continuous   best, sampled by transformers continuous batching (CUDA)

`trl_s` is the fastest of them, `ratio` is charter_s / trl_s, `of_limit` is floor / charter_s (`floors.py`) with the
rates measured in the same run. Results go to benchmarks/results/step_CASE.json with --store.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from floors import best_rates
from harness import as_json, facts, median, run_child, sample_quiet, store, table, validity, watching
from measured_step import PARTS, Shape, measured, parts_of, step_floors
from peers import trl_python
from workload import CASES, exact_prompts, model_folder

MOST_ROW_TOKENS = 4096
"""Completions per forward in TRL's best setting: so many that their tokens together stay below this (activations of
SmolLM2-135M take about 2 MB a token, logits beside them)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is compared. shape: of Charter's side, with one timed process per round. trl: name → words of GRPOConfig."""

    case: str
    shape: Shape
    rounds: int
    trl: Mapping[str, Mapping[str, Any]]


def trl_settings(names: Iterable[str], shape: Shape, per_device: Sequence[int] = ()) -> dict[str, dict[str, Any]]:
    """Words of GRPOConfig for each setting; "best" once for every number of completions per forward.

    per_device: those numbers; the largest divisor of the step's completions that MOST_ROW_TOKENS allows when empty.
    """
    rows, row_tokens = shape.prompts * shape.group, (shape.prompt or 0) + shape.tokens
    fitting = max(n for n in range(1, rows + 1) if rows % n == 0 and (n == 1 or n * row_tokens <= MOST_ROW_TOKENS))
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        if name == "default":
            found[name] = {}
            continue
        for number in per_device or (fitting,):
            if rows % number:
                raise SystemExit(f"--per-device {number} does not divide the {rows} completions of a step")
            words = {"gradient_checkpointing": False, "per_device_train_batch_size": number}
            if name == "continuous":
                words["use_transformers_continuous_batching"] = True
            found[f"{name}, {number} per forward"] = words
    return found


def trl_side(python: Path, shape: Shape, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One process of TRL. A process that fails answers {"failed": why}, since a peer may run out of memory."""
    folder = model_folder(shape.model)
    prompts = exact_prompts(folder, [shape.prompt or 1] * shape.prompts)
    request = {
        "model": str(folder),
        "texts": [given.text for given in prompts],
        "prompt_tokens": [len(given.ids) for given in prompts],
        "group": shape.group,
        "tokens": shape.tokens,
        "steps": shape.repeats,
        "device": shape.device,
        "dtype": shape.dtype,
        "settings": dict(settings),
    }
    with tempfile.TemporaryDirectory(prefix="charter-trl-") as name:
        place = Path(name)
        (place / "request.json").write_text(json.dumps(request))
        try:
            run_child([python, Path(__file__).with_name("trl_step_peer.py"), place])
        except SystemExit as stop:
            return {"failed": str(stop).replace(str(place), "FOLDER").replace(str(python), "python")}
        return json.loads((place / "answer.json").read_text())


def compare(plan: Plan, python: Path | None) -> dict[str, Any]:
    """All rounds, watched."""
    ours: list[dict[str, Any]] = []
    theirs: dict[str, list[dict[str, Any]]] = {name: [] for name in plan.trl}
    before = sample_quiet()
    with watching() as during:
        for number in range(plan.rounds):
            print(f"round {number + 1} of {plan.rounds} …", file=sys.stderr, flush=True)
            ours.append(measured(plan.shape))
            for name, settings in plan.trl.items():
                if python is not None and not any("failed" in one for one in theirs[name]):
                    theirs[name].append(trl_side(python, plan.shape, settings))
    return {**facts(), **summary(plan, ours, theirs), **validity(before, during)}


def summary(
    plan: Plan, ours: Sequence[Mapping[str, Any]], theirs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """The figures of a comparison out of what the processes said."""
    rates = best_rates([one["rates"] for one in ours])
    least = step_floors(ours[0], rates)
    each = [_round(one) for one in ours]
    charter_s, floor_s = median(row["step_s"] for row in each), sum(least.values())
    settings = {name: _trl(rows) for name, rows in theirs.items() if rows}
    timed = {name: one["step_s"] for name, one in settings.items() if "step_s" in one}
    best = min(timed, key=lambda name: timed[name], default=None)
    peer = settings[best] if best else {}
    peaks = _peaks(ours)
    return {
        "case": plan.case,
        "charter_s": charter_s,
        "trl_s": timed[best] if best else None,
        "ratio": charter_s / timed[best] if best else None,
        "of_limit": floor_s / charter_s,
        "charter_peak_bytes": peaks["peak_bytes"],
        "trl_peak_bytes": peer.get("peak_bytes"),
        "peak_ratio": peaks["peak_bytes"] / peer["peak_bytes"] if best else None,
        "trl_setting": best,
        "shape": asdict(plan.shape),
        "rounds": plan.rounds,
        "threads": ours[0]["threads"],
        "device": ours[0]["device"],
        "floor_s": floor_s,
        "parts": parts_of(each, least),
        "charter_rounds_s": [row["step_s"] for row in each],
        "charter_memory": peaks,
        "groups_with_signal": sorted({step["groups_with_signal"] for one in ours for step in one["steps"]}),
        "microbatch_tokens": each[0]["microbatch_tokens"],
        "trl": settings,
        "rates": rates,
        "model": ours[0]["model"],
    }


def _round(one: Mapping[str, Any]) -> dict[str, Any]:
    """The medians of one process' steps; counts are the same in all of them."""
    steps = one["steps"]
    return steps[0] | {name: median(s[name] for s in steps) for name in ("step_s", *(f"{part}_s" for part in PARTS))}


def _peaks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The largest peaks of several processes."""
    device = [one["device_peak_bytes"] for one in rows if one.get("device_peak_bytes")]
    return {
        "peak_bytes": max(one["peak_bytes"] for one in rows),
        "before_model_bytes": max(one["peak_bytes_after"]["imports"] for one in rows),
        "device_peak_bytes": max(device, default=None),
    }


def _trl(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of one setting of TRL."""
    if failed := next((one["failed"] for one in rows if "failed" in one), None):
        return {"failed": failed}
    names = ("step_s", "sample_s", "score_s")
    each = [{name: median(step[name] for step in one["steps"]) for name in names} for one in rows]
    kept = ("versions", "threads", "groups_with_signal", "per_device_train_batch_size", "gradient_checkpointing")
    times = {name: median(row[name] for row in each) for name in names}
    return {
        **times,
        "learn_s": times["step_s"] - times["sample_s"] - times["score_s"],
        "rounds_s": [row["step_s"] for row in each],
        **_peaks(rows),
        **{name: rows[0][name] for name in kept},
    }


def report(data: Mapping[str, Any]) -> str:
    shape, rates = data["shape"], data["rates"]
    rows: list[list[object]] = []
    for name, part in data["parts"].items():
        floor, limit = (f"{part[key]:.2f}" if key in part else "–" for key in ("floor_s", "of_limit"))
        rows.append([name, f"{part['seconds']:.3f}", floor, limit])
    rows.append(["step", f"{data['charter_s']:.3f}", f"{data['floor_s']:.2f}", f"{data['of_limit']:.2f}"])
    peers: list[list[object]] = [
        [name, "–", "–", "–", "–", one["failed"]]
        if "failed" in one
        else [name, f"{one['step_s']:.2f}", f"{one['sample_s']:.2f}", f"{one['learn_s']:.2f}",
              f"{one['peak_bytes'] / 1e9:.2f}", f"{data['charter_s'] / one['step_s']:.3f}"]
        for name, one in data["trl"].items()
    ]  # fmt: skip
    lines = [
        f"case {data['case']}: {shape['prompts']} prompts × {shape['prompt']} tokens, {shape['group']} completions × "
        f"{shape['tokens']} tokens, {shape['model']}, {data['threads']} threads, {data['rounds']} rounds",
        table(rows, ("Charter", "seconds", "floor s", "of limit")),
        f"peak memory {data['charter_peak_bytes'] / 1e9:.2f} GB",
        table(peers, ("TRL", "step s", "sampling s", "learning s", "peak GB", "Charter / TRL")) if peers else "no TRL",
        f"machine: {rates['gemm_flops'] / 1e9:.0f} GFLOP/s, {rates['bandwidth_bytes'] / 1e9:.1f} GB/s",
        "valid" if data["valid"] else "NOT VALID: " + "; ".join(data["disturbed_by"]),
    ]
    return "\n".join(lines)


def settings_of(words: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE words as a table; a value that is no JSON is text."""
    found: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise SystemExit(f"{word!r} is not KEY=VALUE")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=sorted(CASES), required=True)
    parser.add_argument("--json", action="store_true", help="print data instead of tables")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/step_CASE.json")
    parser.add_argument("--name", help="name to store under instead of step_CASE")
    parser.add_argument("--model", default="smollm2-135m", help="asset, folder, or random:SPEC (random_models.py)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=5, help="times that each side runs, alternated")
    parser.add_argument("--steps", type=int, default=1, help="timed steps of each process after its warm-up step")
    parser.add_argument("--trl", default=None, help="comma-separated settings; none for Charter alone")
    parser.add_argument("--per-device", default="", help="comma-separated completions per forward for best")
    parser.add_argument("--trl-version", default="1.16", help="version of TRL, major.minor")
    parser.add_argument("--env", type=Path, help="folder of TRL's environment; peers/trl-VERSION in Charter's cache")
    parser.add_argument("--sampling", action="append", default=[], metavar="KEY=VALUE",
                        help="a further key of [sampling] on Charter's side")  # fmt: skip
    for name in ("prompts", "prompt", "group", "tokens"):
        parser.add_argument(f"--{name}", type=int, help=f"another {name} than the case's, for trying out")
    return parser


def plan_of(asked: argparse.Namespace) -> Plan:
    case = CASES[asked.case]
    sizes = {name: getattr(asked, name) or getattr(case, name) for name in ("prompts", "prompt", "group", "tokens")}
    if asked.rounds < 1 or asked.steps < 1:
        raise SystemExit("--rounds and --steps are at least 1")
    on_cuda = asked.device.startswith("cuda")
    dtype = asked.dtype if asked.dtype != "auto" else "bfloat16" if on_cuda else "float32"
    shape = Shape(
        model=asked.model, repeats=asked.steps, device=asked.device, dtype=dtype, sampling=settings_of(asked.sampling),
        **sizes,
    )  # fmt: skip
    asked_trl = asked.trl if asked.trl is not None else "default,best" + (",continuous" if on_cuda else "")
    names = [name for name in asked_trl.split(",") if name not in ("", "none")]
    if unknown := set(names) - {"default", "best", "continuous"}:
        raise SystemExit(f"--trl knows default, best and continuous, not {', '.join(sorted(unknown))}")
    per_device = [int(number) for number in asked.per_device.split(",") if number]
    own = asked.case if sizes == {n: getattr(case, n) for n in sizes} else f"{asked.case}, changed"
    return Plan(case=own, shape=shape, rounds=asked.rounds, trl=trl_settings(names, shape, per_device))


def main(words: Sequence[str] | None = None) -> None:
    asked = make_parser().parse_args(words)
    plan = plan_of(asked)
    python = trl_python(asked.trl_version, asked.env) if plan.trl else None
    data = compare(plan, python)
    if asked.store:
        print(f"stored {store(asked.name or f'step_{asked.case}', data)}", file=sys.stderr)
    print(as_json(data) if asked.json else report(data))


if __name__ == "__main__":
    main()
