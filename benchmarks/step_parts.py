"""Where the time and memory of one GRPO step go, and how far each part is from what the machine could do.

    python benchmarks/step_parts.py [--json] [--store] [--model smollm2-135m] [--prompts 4] [--group 8] [--tokens 64]

--prompts × --group completions of exactly --tokens tokens, in a child process of its own: one warm-up step, then
--repeats, medians of each part, the rates of the machine in the same run and threads.

The step is that of `measured_step.py`, its floor that of `floors.py`.

The run is marked invalid when another process takes more than a tenth of a core, before or during.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import Any

from harness import as_json, facts, median, sample_quiet, store, table, validity, watching
from measured_step import Shape, measured, parts_of, step_floors


def measure(shape: Shape) -> dict[str, Any]:
    """One child, watched."""
    before = sample_quiet()
    with watching() as during:
        raw = measured(shape)
    steps = raw["steps"]
    least = step_floors(raw, raw["rates"])
    whole = median(step["step_s"] for step in steps)
    floor = sum(least.values())
    return {
        **facts(),
        "case": asdict(shape),
        "threads": raw["threads"],
        "parts": parts_of(steps, least),
        "step_s": whole,
        "floor_s": floor,
        "of_limit": floor / whole,
        "tokens_per_s": steps[0]["sampled_tokens"] / whole,
        "groups_with_signal": [step["groups_with_signal"] for step in steps],
        "microbatch_tokens": steps[0]["microbatch_tokens"],
        "peak_bytes": raw["peak_bytes"],
        "peak_bytes_after": raw["peak_bytes_after"],
        "rates": raw["rates"],
        "sizes": raw["model"] | raw["sizes"],
        **validity(before, during),
    }


def report(data: dict[str, Any]) -> str:
    rows: list[list[object]] = []
    for name, part in data["parts"].items():
        limit = f"{part['of_limit']:.2f}" if "of_limit" in part else "–"
        floor = f"{part['floor_s']:.2f}" if "floor_s" in part else "–"
        speed = f"{part['tokens_per_s']:.0f}" if "tokens_per_s" in part else "–"
        rows.append([name, f"{part['seconds']:.3f}", speed, floor, limit])
    rows.append(["step", f"{data['step_s']:.3f}", f"{data['tokens_per_s']:.0f}", f"{data['floor_s']:.2f}",
                 f"{data['of_limit']:.2f}"])  # fmt: skip
    case, rates = data["case"], data["rates"]
    peaks = ", ".join(f"{name} {value / 1e9:.2f}" for name, value in data["peak_bytes_after"].items())
    lines = [
        f"{case['model']}: {case['prompts']} prompts × {case['group']} completions × {case['tokens']} tokens, "
        f"{data['threads']} threads, median of {case['repeats']} after one warm-up",
        table(rows, ("part", "seconds", "tokens/s", "floor s", "of limit")),
        f"peak memory {data['peak_bytes'] / 1e9:.2f} GB (after {peaks})",
        f"machine: {rates['gemm_flops'] / 1e9:.0f} GFLOP/s, {rates['bandwidth_bytes'] / 1e9:.1f} GB/s",
        "valid" if data["valid"] else "NOT VALID: " + "; ".join(data["disturbed_by"]),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/step_parts.json")
    parser.add_argument("--model", default="smollm2-135m", help="asset or folder")
    parser.add_argument("--prompts", type=int, default=4, help="prompts per step")
    parser.add_argument("--group", type=int, default=8, help="completions per prompt")
    parser.add_argument("--tokens", type=int, default=64, help="tokens per completion")
    parser.add_argument("--repeats", type=int, default=3, help="measured steps after one warm-up")
    asked = parser.parse_args()
    names = ("model", "prompts", "group", "tokens", "repeats")
    data = measure(Shape(**{name: getattr(asked, name) for name in names}))
    if asked.store:
        print(f"stored {store('step_parts', data)}", file=sys.stderr)
    print(as_json(data) if asked.json else report(data))


if __name__ == "__main__":
    main()
