"""Charter's DPO loss and gradient against those of TRL's DPOTrainer, on the same pairs.

    python benchmarks/trl_dpo_parity.py [--json] [--store] [--env DIR] [--trl 1.16]

TRL's environment is that of `trl_parity.py`. Both sides get the same tiny random Llama, a reference a little away from
it, and pairs of token ids; Charter goes its whole way (the reference's log-probabilities written to a run folder and
read again, shared prefixes, `LocalLearner` with a budget that cuts the step), TRL goes its own (`_compute_loss`).

    Charter                      TRL 1.16
    dpo                          loss_type="sigmoid"
    dpo, label_smoothing = ε     2(1 − ε) · "sigmoid" − (1 − 2ε) · "robust": its "robust" is the unbiased form of cDPO
    length_normalized            loss_type="sigmoid_norm"
    ipo                          loss_type="ipo" on answers of one length L: TRL divides h by it, so β_TRL = β L and
                                 Charter's loss is L² times TRL's
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradients import Computed, compute, logprobs_of, relative_difference
from harness import as_json, facts, run_child, store, table, worst
from peers import trl_python
from safetensors.torch import load_file
from trl_parity import load, make_policies

from charter.recipe import DpoTable
from charter.run.reference import ReferenceLogprobs
from charter.train.preference import PairObjective, pair_batch
from charter.types import Branch, Tree

LENGTH = 6
"""Tokens of every answer in the cases of IPO."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One setting said in both languages. factor: Charter's loss / TRL's."""

    name: str
    dtype: str
    pairs: str
    charter: dict[str, Any]
    trl: dict[str, Any]
    factor: float = 1.0


def make_cases() -> list[Case]:
    """Every kind, with a large and a small β, in both precisions."""
    smooth = 0.1
    mixed = {"loss_type": ["sigmoid", "robust"], "loss_weights": [2 * (1 - smooth), 2 * smooth - 1]}
    spoken: list[tuple[str, str, dict[str, Any], dict[str, Any], float]] = [
        ("dpo", "unequal", {"beta": 0.1}, {"loss_type": ["sigmoid"], "beta": 0.1}, 1.0),
        ("dpo, β = 2", "unequal", {"beta": 2.0}, {"loss_type": ["sigmoid"], "beta": 2.0}, 1.0),
        (
            "dpo, label_smoothing", "unequal", {"beta": 0.3, "label_smoothing": smooth},
            {**mixed, "beta": 0.3, "label_smoothing": smooth}, 1.0,
        ),
        (
            "length_normalized", "unequal", {"kind": "length_normalized", "beta": 2.0},
            {"loss_type": ["sigmoid_norm"], "beta": 2.0}, 1.0,
        ),
        ("ipo", "equal", {"kind": "ipo", "beta": 0.2}, {"loss_type": ["ipo"], "beta": 0.2 * LENGTH}, float(LENGTH**2)),
    ]  # fmt: skip
    return [
        Case(name=f"{name}-{dtype}", dtype=dtype, pairs=pairs, charter=ours, trl=theirs, factor=factor)
        for name, pairs, ours, theirs, factor in spoken
        for dtype in ("float64", "float32")
    ]


def make_pairs(low: int, high: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [rng.randrange(3, 259) for _ in range(rng.randint(low, high))]

    return [{"prompt": ids(1, 20), "a": ids(low, high), "b": ids(low, high)} for _ in range(7)]


def ours(folder: Path, case: Case, pairs: list[dict[str, Any]]) -> Computed:
    """What Charter's learner computes."""
    trees = [
        Tree(
            prefix=tuple(pair["prompt"]),
            branches=tuple(
                Branch(tokens=tuple(pair[key]), mask=(True,) * len(pair[key]), preferred=p)
                for key, p in (("a", 1.0), ("b", 0.0))
            ),
        )
        for pair in pairs
    ]
    reference = load(folder / "reference", case.dtype)
    with tempfile.TemporaryDirectory(prefix="charter-run-") as run:
        cache = ReferenceLogprobs(Path(run))
        cache.add(cache.missing([trees]), lambda asked: logprobs_of(reference, asked, 1.0))
        batch = pair_batch(trees, ReferenceLogprobs(Path(run))(trees))
    objective: Any = PairObjective(config=DpoTable(**case.charter))
    return compute(load(folder / "model", case.dtype), batch, objective, budget=60)


def measure(python: Path) -> dict[str, Any]:
    """Both sides on every case."""
    cases = make_cases()
    pairs = {"unequal": make_pairs(1, 16, 5), "equal": make_pairs(LENGTH, LENGTH, 6)}
    with tempfile.TemporaryDirectory(prefix="charter-trl-") as name:
        folder = Path(name)
        make_policies(folder)
        told = [{"name": c.name, "dtype": c.dtype, "pairs": c.pairs, "trl": c.trl} for c in cases]
        (folder / "request.json").write_text(json.dumps({"pairs": pairs, "cases": told}))
        run_child([python, Path(__file__).with_name("trl_dpo_peer.py"), folder])
        answer = json.loads((folder / "answer.json").read_text())
        rows: list[dict[str, Any]] = []
        for case in cases:
            computed = ours(folder, case, pairs[case.pairs])
            theirs = case.factor * answer["answers"][case.name]["loss"]
            gradient = load_file(folder / f"gradient-{case.name}.safetensors")
            rows.append(
                {
                    "case": case.name,
                    "dtype": case.dtype,
                    "charter_loss": computed.loss,
                    "trl_loss": theirs,
                    "relative_loss_difference": abs(computed.loss - theirs) / abs(theirs),
                    "max_relative_gradient_difference": relative_difference(
                        computed.gradient, {n: case.factor * g for n, g in gradient.items()}
                    ),
                }
            )
        return {"peer": answer["versions"], "losses": rows}


def summary(data: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for dtype in ("float64", "float32"):
        rows = [row for row in data["losses"] if row["dtype"] == dtype]
        found[f"trl_dpo_loss_difference_{dtype}"] = worst(row["relative_loss_difference"] for row in rows)
        found[f"trl_dpo_gradient_difference_{dtype}"] = worst(row["max_relative_gradient_difference"] for row in rows)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of tables")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/trl_dpo_parity.json")
    parser.add_argument("--env", type=Path, help="folder of TRL's environment; peers/trl-VERSION in Charter's cache")
    parser.add_argument("--trl", default="1.16", help="version of TRL, major.minor")
    asked = parser.parse_args()
    python = trl_python(asked.trl, asked.env)
    data = {**facts(), **measure(python)}
    data["summary"] = summary(data)
    if asked.store:
        print(f"stored {store('trl_dpo_parity', data)}", file=sys.stderr)
    head = ("case", "dtype", "loss", "TRL's", "|Δ|/loss", "gradient")
    rows = [list(row.values()) for row in data["losses"]]
    print(as_json(data) if asked.json else table(rows, head) + f"\n\n{data['summary']}")


if __name__ == "__main__":
    main()
