"""Every small edit of the objectives makes a test fail, but for those that change nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

NO_ADVANTAGE = "where A is 0 both branches are 0"
SPREAD = "the selection spreads it too; the shape check is run apart from these tests"
ONE_NUMBER = "a tensor of one number divides as that number does"
EQUIVALENT: dict[str, str] = {
    'policy.policy_loss: a > 0 -> a >= 0 in tau = torch.full_like(a, options["tau_negative"])'
    '.masked_fill(a > 0, options["tau_positive"])': NO_ADVANTAGE,
    'policy.policy_loss: a > 0 -> a >= 0 in trusted = torch.where(a > 0, moved <= options["delta"], '
    'moved >= -options["delta"])': NO_ADVANTAGE,
    "policy.policy_loss: a < 0 -> a <= 0 in loss = torch.where(a < 0, torch.minimum(loss, -dual_clip * a), loss)": (
        NO_ADVANTAGE
    ),
    "policy.importance_ratio: ratio.expand_as(lp) -> ratio in return zero_outside(ratio.expand_as(lp), keep)": SPREAD,
    "aggregation.token_weights: (1 / divisor)[:, None].expand(mask.shape) -> (1 / divisor)[:, None] in "
    "return zero_outside((1 / divisor)[:, None].expand(mask.shape), keep)": SPREAD,
    "aggregation.token_weights: int(row_tokens.sum()) -> row_tokens.sum() in "
    "per_row, count = torch.ones_like(row_tokens), int(row_tokens.sum())": ONE_NUMBER,
    "aggregation.token_weights: int((row_tokens > 0).sum()) -> (row_tokens > 0).sum() in "
    "per_row, count = row_tokens, int((row_tokens > 0).sum())": ONE_NUMBER,
    "preference._probability: label.expand_as(like) -> label in return label.expand_as(like)": (
        "every use multiplies or subtracts it, which spreads it, or selects by it, and one decision selects all or none"
    ),
    "advantages.combine_rewards: True -> False in for layer, kept in zip(parts, keep, strict=True)": (
        "the lengths were found equal before"
    ),
    "preference.preference_statistics: torch.sign(x) * direction -> torch.sign(x) / direction in "
    "hits = (1 + torch.sign(x) * direction) / 2": "the direction of a decided pair is 1 or −1",
}
"""Edits that no test can tell from the original, with the reason."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_mutant_dies():
    """Takes about five minutes on two idle cores."""
    program = Path(__file__).with_name("mutation.py")
    run = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert sum(found["mutants"].values()) > 600
    assert min(found["mutants"].values()) > 0
    assert sorted(found["survivors"]) == sorted(EQUIVALENT)  # lists: two edits of one line may share a name
