"""This machine's GEMM rate and memory bandwidth, measured, and the floor that they imply for each case.

    python benchmarks/roofline.py [--json] [--store] [--model smollm2-135m] [--rounds 3] [--device cpu]

The rates are the best of the model's own GEMM shapes at 2,048 rows and of a large copy (`floors.py`), in --rounds
processes. Few rows reach less: the rates at 16 and 64 rows, which are those of decoding, stand beside them and are in
no floor. "of limit" is what step.py, sample.py and learn.py have stored for this case, each with the rates of its own
run; a dash where nothing is stored. Results go to benchmarks/results/roofline.json with --store.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from floors import Model, best_rates, floors, learn, measured_rates, model_of
from harness import as_json, facts, read_child, sample_quiet, store, stored, table, validity, watching
from learn import make_cells as learning_cells
from sample import cell_floor, make_cells
from workload import CASES, model_folder

FEW_ROWS = (16, 64)


def child(model: str, device: str, dtype: str) -> dict[str, Any]:
    """The rates of one process."""
    import torch

    from charter.model.load import load_policy

    policy = load_policy(model_folder(model), device=device, dtype=dtype, verify=False)  # type: ignore[arg-type]
    return {
        "threads": torch.get_num_threads(),
        "model": asdict(model_of(policy)),
        "rates": measured_rates(policy),
        "few_rows": {rows: measured_rates(policy, rows, copied=2**20)["gemm_flops"] for rows in FEW_ROWS},
    }


def cases(model: Model, rates: Mapping[str, Any]) -> dict[str, Any]:
    """The floors of all cases that the benchmarks measure, and what was achieved where it is stored."""
    steps: dict[str, Any] = {}
    for name, case in CASES.items():
        parts = floors(model, [case.prompt] * case.prompts, case.group, case.tokens, rates)
        achieved = (stored(f"step_{name}") or {}).get("of_limit")
        steps[name] = {**asdict(case), "floor_s": sum(parts.values()), "parts": parts, "of_limit": achieved}
    sampling: list[dict[str, Any]] = []
    for cell in make_cells([1, 16, 64, 256], [64, 512, 2048], 8, 128):
        row = _row(asdict(cell), cell_floor(model, cell, rates), cell.rows * cell.tokens)
        sampling.append(row | {"of_limit": _achieved("sample", asdict(cell))})
    learning: list[dict[str, Any]] = []
    for cell in learning_cells([4, 8, 16, 64], [(1, 4), (1, 1), (4, 1), (16, 1)], 64):
        floor = learn(model, [cell.prompt], cell.group, cell.tokens).seconds(rates)
        row = _row(asdict(cell), floor, cell.group * cell.tokens)
        learning.append(row | {"of_limit": _achieved("learn", asdict(cell))})
    return {"steps": steps, "sampling": sampling, "learning": learning}


def _row(cell: dict[str, Any], floor: float, tokens: int) -> dict[str, Any]:
    return {**cell, "floor_s": floor, "tokens_per_s": tokens / floor}


def _achieved(name: str, cell: Mapping[str, Any]) -> float | None:
    """What is stored of the same cell for Charter."""
    for row in (stored(name) or {}).get("cells", ()):
        if all(row.get(key) == value for key, value in cell.items()):
            return row["sides"]["charter"].get("of_limit")
    return None


def measure(model: str, rounds: int, device: str, dtype: str) -> dict[str, Any]:
    """All rounds, watched."""
    before = sample_quiet()
    with watching() as during:
        words = [sys.executable, Path(__file__).resolve(), "--child", model, device, dtype]
        said = [read_child(words) for _ in range(rounds)]
    rates = best_rates([one["rates"] for one in said])
    return {
        **facts(),
        "model": model,
        "device": device,
        "threads": said[0]["threads"],
        "rounds": rounds,
        "sizes": said[0]["model"],
        "rates": rates,
        "gemm_flops_at_few_rows": {rows: max(one["few_rows"][rows] for one in said) for rows in said[0]["few_rows"]},
        "rates_of_rounds": [{k: one["rates"][k] for k in ("gemm_flops", "bandwidth_bytes")} for one in said],
        **cases(Model(**said[0]["model"]), rates),
        **validity(before, during),
    }


def report(data: Mapping[str, Any]) -> str:
    rates = data["rates"]
    steps = [
        [f"{name}: {one['prompts']} × {one['prompt']}, {one['group']} × {one['tokens']}",
         *(f"{one['parts'][part]:.2f}" for part in ("sample", "forward_backward", "optimizer")),
         f"{one['floor_s']:.2f}", _share(one)]
        for name, one in data["steps"].items()
    ]  # fmt: skip
    sampling, learning = (
        [
            [f"{cell[key]} × {cell['tokens']}, prompt {cell['prompt']}", f"{cell['floor_s']:.2f}",
             f"{cell['tokens_per_s']:.0f}", _share(cell)]
            for cell in data[name]
        ]
        for name, key in (("sampling", "rows"), ("learning", "group"))
    )  # fmt: skip
    few = ", ".join(f"{value / 1e9:.0f} at {rows} rows" for rows, value in data["gemm_flops_at_few_rows"].items())
    return "\n\n".join(
        [
            f"{data['model']}, {data['threads']} threads: {rates['gemm_flops'] / 1e9:.0f} GFLOP/s at 2,048 rows "
            f"({few}), {rates['bandwidth_bytes'] / 1e9:.1f} GB/s",
            table(steps, ("case", "sampling s", "learning s", "optimizer s", "floor s", "of limit")),
            table(sampling, ("sampling", "floor s", "tokens/s at most", "of limit")),
            table(learning, ("learning", "floor s", "tokens/s at most", "of limit")),
            "valid" if data["valid"] else "NOT VALID: " + "; ".join(data["disturbed_by"]),
        ]
    )


def _share(row: Mapping[str, Any]) -> str:
    return "–" if row["of_limit"] is None else f"{row['of_limit']:.2f}"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of tables")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/roofline.json")
    parser.add_argument("--name", default="roofline", help="name to store under")
    parser.add_argument("--model", default="smollm2-135m", help="asset, folder, or random:SPEC (random_models.py)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=3, help="processes that measure")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    if words is None and sys.argv[1:2] == ["--child"]:
        Path(sys.argv[5]).write_text(json.dumps(child(*sys.argv[2:5])))
        return
    asked = make_parser().parse_args(words)
    data = measure(asked.model, asked.rounds, asked.device, asked.dtype)
    if asked.store:
        print(f"stored {store(asked.name, data)}", file=sys.stderr)
    print(as_json(data) if asked.json else report(data))


if __name__ == "__main__":
    main()
