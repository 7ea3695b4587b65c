"""Charter's PPO (GAE, whitening, both losses and their gradients) against TRL's functions, on the same numbers.

    python benchmarks/trl_ppo_parity.py [--json] [--store] [--source DIR]

The peer is TRL 0.11.4, the last whose PPO has these as functions (`PPOTrainer.compute_advantages` and `.loss`); its
source is put under Charter's cache folder with pip, and read by `trl_ppo_peer.py` in a process of its own. Both sides
get completions of unequal length with rewards, a reference, old and new log-probabilities and values, far enough apart
that both clip ranges are left. Charter goes through `with_courses` and `PpoObjective`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from harness import as_json, facts, run_child, store, table, worst
from safetensors.torch import load_file, save_file
from torch import Tensor

from charter.assets import cache_folder
from charter.objectives.rows import TokenRows
from charter.recipe import PpoTable
from charter.train.ppo import PpoObjective, with_courses
from charter.types import Branch, Tree

VERSION = "0.11.4"
LENGTHS = (9, 1, 4, 12, 7, 2, 12, 5)
SETTINGS: tuple[dict[str, float], ...] = (
    {"gamma": 1.0, "lam": 0.95, "kl_coef": 0.05, "clip": 0.2, "value_clip": 0.2, "value_coef": 0.5},
    {"gamma": 0.9, "lam": 0.5, "kl_coef": 0.3, "clip": 0.05, "value_clip": 1.0, "value_coef": 0.1},
    {"gamma": 1.0, "lam": 1.0, "kl_coef": 0.0, "clip": 0.3, "value_clip": 0.05, "value_coef": 1.0},
    {"gamma": 0.99, "lam": 0.0, "kl_coef": 0.05, "clip": 0.2, "value_clip": 0.4, "value_coef": 0.5},
)


def peer_source(folder: Path) -> Path:
    """TRL's source, fetched once; nothing of it is installed."""
    if not (folder / "trl" / "trainer" / "ppo_trainer.py").is_file():
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*words, f"trl=={VERSION}"], stdout=sys.stderr, check=True)
    return folder


def numbers(seed: int) -> dict[str, Tensor]:
    """Everything that both sides are given, `[B, T]` in float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = len(LENGTHS), max(LENGTHS)

    def normal(scale: float) -> Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    old = -normal(1.0).abs() - 0.5
    old_values = normal(0.5)
    mask = torch.arange(shape[1])[None] < torch.tensor(LENGTHS)[:, None]
    return {
        "old_logprobs": old, "logprobs": old + normal(0.3), "reference": old + normal(0.4),
        "old_values": old_values, "values": old_values + normal(0.3),
        "scores": normal(1.0)[:, 0].contiguous(), "mask": mask.double(),
    }  # fmt: skip


def charters(given: dict[str, Tensor], config: PpoTable) -> dict[str, Tensor]:
    """What Charter makes of them."""

    def told(name: str) -> list[list[list[float]]]:
        return [[row[:n].tolist()] for row, n in zip(given[name], LENGTHS, strict=True)]

    trees = [Tree(prefix=(1,), branches=(Branch(tokens=(5,) * n, mask=(True,) * n),)) for n in LENGTHS]
    scores = [(float(score),) for score in given["scores"]]
    guided, _ = with_courses(trees, scores, told("old_logprobs"), told("old_values"), told("reference"), config)
    mask = given["mask"].bool()
    columns: dict[str, Tensor] = {name: torch.zeros_like(given["mask"]) for name in ("advantages", "returns")}
    for i, tree in enumerate(guided):
        course = tree.branches[0].course
        assert course is not None
        columns["advantages"][i, : LENGTHS[i]] = torch.tensor(course.advantages, dtype=torch.float64)
        columns["returns"][i, : LENGTHS[i]] = torch.tensor(course.returns, dtype=torch.float64)
    logprobs, values = (given[name].clone().requires_grad_() for name in ("logprobs", "values"))
    rows = TokenRows(
        logprobs=logprobs, entropy=torch.zeros_like(values), old_logprobs=given["old_logprobs"], sampler_logprobs=None,
        reference_logprobs=None, mask=mask, groups=torch.arange(len(LENGTHS)),
        group_tokens=mask.sum(-1), normalizers={"token": sum(LENGTHS)},
        values=values, old_values=given["old_values"], **columns,
    )  # fmt: skip
    loss = PpoObjective(config=config, temperature=1.0)(rows)
    loss.value.backward()
    assert logprobs.grad is not None
    assert values.grad is not None
    total, count = loss.means["value/loss"]
    clipped = sum(float(loss.means[name][0] / count) for name in ("clip_ratio/low", "clip_ratio/high"))
    print(f"clipped: {clipped:.2f} of the ratios, {float(loss.means['value/clip_ratio'][0] / count):.2f} of the values")
    return {
        **columns, "loss": loss.value.detach()[None], "value_loss": (total / count)[None],
        "gradient_logprobs": logprobs.grad, "gradient_values": values.grad,
    }  # fmt: skip


def measure(source: Path) -> list[dict[str, Any]]:
    """Largest absolute difference of each quantity / its largest entry, per setting."""
    found: list[dict[str, Any]] = []
    for number, said in enumerate(SETTINGS):
        given, config = numbers(number), PpoTable(**said)  # type: ignore[arg-type]
        ours = charters(given, config)
        mask = given["mask"]
        rewards = -config.kl_coef * (given["old_logprobs"] - given["reference"]) * mask
        rewards[torch.arange(len(LENGTHS)), torch.tensor(LENGTHS) - 1] += given["scores"]
        with tempfile.TemporaryDirectory(prefix="charter-trl-") as name:
            folder = Path(name)
            save_file({**given, "rewards": rewards}, folder / "request.safetensors")
            peer = {
                "gamma": config.gamma, "lam": config.lam, "cliprange": config.clip,
                "cliprange_value": config.value_clip, "vf_coef": config.value_coef,
            }  # fmt: skip
            (folder / "settings.json").write_text(json.dumps(peer))
            run_child([sys.executable, Path(__file__).with_name("trl_ppo_peer.py"), source, folder])
            theirs = load_file(folder / "answer.safetensors")
        # outside the mask TRL whitens padding along; nothing reads it
        inside = {k: v * mask if v.shape == mask.shape else v for k, v in theirs.items()}
        differences = {k: float((ours[k] - inside[k]).abs().max() / inside[k].abs().max()) for k in sorted(inside)}
        found.append({"setting": said, "charter_loss": float(ours["loss"]), **differences})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/trl_ppo_parity.json")
    parser.add_argument("--source", type=Path, help=f"folder of TRL's source; peers/trl-{VERSION} in Charter's cache")
    asked = parser.parse_args()
    rows = measure(peer_source(asked.source or cache_folder() / "peers" / f"trl-{VERSION}"))
    quantities = [key for key in rows[0] if key != "setting"]
    summary = {f"trl_ppo_{key}_difference": worst(row[key] for row in rows) for key in quantities[1:]}
    data = {**facts(), "peer": {"trl": VERSION}, "settings": rows, "summary": summary}
    if asked.store:
        print(f"stored {store('trl_ppo_parity', data)}", file=sys.stderr)
    print(as_json(data) if asked.json else table([[row[key] for key in quantities] for row in rows], quantities))


if __name__ == "__main__":
    main()
