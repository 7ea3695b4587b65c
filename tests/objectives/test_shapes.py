"""The shapes in the signatures hold: every public function runs under jaxtyping and beartype.

The annotations are read by type checkers only, so that neither package is needed to run. Here the modules are loaded
a second time, aside, with the annotations live and checked at every call.
"""

from __future__ import annotations

import importlib
import sys
import typing
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, install_import_hook


@beartype
def already_loaded(x: list[int] | None) -> int:
    """beartype imports parts of itself on its first use, which must come before TYPE_CHECKING is turned on."""
    return len(x or ())


ROOMS = ("advantages", "aggregation", "kl", "length", "masking", "mismatch", "moments", "policy", "preference", "value")


@pytest.fixture(scope="module")
def checked() -> Iterator[dict[str, ModuleType]]:
    assert already_loaded([1]) == 1
    ours = {name: module for name, module in sys.modules.items() if name.startswith("charter.objectives")}
    for name in ours:
        del sys.modules[name]
    patch = pytest.MonkeyPatch()
    patch.setattr(typing, "TYPE_CHECKING", True)
    try:
        with install_import_hook("charter.objectives", "beartype.beartype"):
            # the protocol of the learner's rows is no mathematics and names no shapes
            yield {room: importlib.import_module(f"charter.objectives.{room}") for room in ROOMS}
    finally:
        patch.undo()
        for name in [name for name in sys.modules if name.startswith("charter.objectives")]:
            del sys.modules[name]
        sys.modules.update(ours)


X = torch.zeros(2, 3)
M = torch.ones(2, 3, dtype=torch.bool)
ROW = torch.zeros(2)
R = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
IDS = torch.tensor([0, 1])

GOOD = [
    *[("advantages", "group_advantages", (R, e)) for e in ("center", "standardize", "leave_one_out", "max_rl")],
    ("advantages", "group_advantages", (R.long(), "batch_std")),
    ("advantages", "has_signal", (R, M)),
    ("advantages", "combine_rewards", (R[None], [1.0], "sum", M[None])),
    ("advantages", "advantages_per_reward", (R[None], torch.ones(1))),
    *[("policy", "policy_loss", (X, X, a, M, k)) for a in (ROW, X) for k in ("clip", "gspo", "cispo", "sapo")],
    ("policy", "importance_ratio", (X, X, M, "gspo")),
    ("policy", "ratio_statistics", (X, X, ROW, M.long())),
    ("mismatch", "mismatch_weights", (X, X, "mask")),
    ("mismatch", "mismatch_statistics", (X, X, M)),
    ("kl", "kl_estimate", (X, X)),
    ("length", "overlong_penalty", (torch.tensor([3, 4]), 10, 2)),
    *[("aggregation", "aggregate", (X, m, "prompt", IDS)) for m in (M, M.float())],
    ("aggregation", "token_weights", (M, "token")),
    ("aggregation", "normalizers", (M, IDS)),
    ("preference", "bradley_terry_loss", (ROW, ROW, 0.5)),
    ("preference", "dpo_loss", (ROW, ROW, ROW, ROW, torch.ones(2))),
    ("preference", "preference_statistics", (ROW, 0.3)),
    ("value", "gae", (X, X, M)),
    ("value", "value_loss", (X, X, X, M)),
    ("value", "whiten", (R, M)),
]
KEYWORDS = {
    "policy_loss": ("kind",),
    "importance_ratio": ("kind",),
    "aggregate": ("how", "groups"),
    "token_weights": ("how",),
}
POSITIONAL = {"policy_loss": 4, "importance_ratio": 3, "aggregate": 2, "token_weights": 1}

BAD = [
    ("advantages", "group_advantages", (R[0],)),
    ("policy", "policy_loss", (X, X, torch.zeros(4), M)),
    ("policy", "policy_loss", (X, X.long(), ROW, M)),
    ("aggregation", "aggregate", (X, M[:, :2])),
    ("kl", "kl_estimate", (X, ROW)),
    ("preference", "bradley_terry_loss", (ROW, X)),
    ("value", "gae", (X, X, M[0])),
]


@pytest.mark.parametrize(("room", "name", "arguments"), GOOD)
def test_documented_shapes_pass(checked: dict[str, ModuleType], room: str, name: str, arguments: tuple):
    cut = POSITIONAL.get(name, len(arguments))
    named = dict(zip(KEYWORDS.get(name, ()), arguments[cut:], strict=False))
    assert getattr(checked[room], name)(*arguments[:cut], **named) is not None


@pytest.mark.parametrize(("room", "name", "arguments"), BAD)
def test_other_shapes_do_not(checked: dict[str, ModuleType], room: str, name: str, arguments: tuple):
    with pytest.raises(TypeCheckError):
        getattr(checked[room], name)(*arguments)
