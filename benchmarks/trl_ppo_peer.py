"""TRL 0.11's own answer to `trl_ppo_parity.py`; imports torch, and nothing of Charter.

    python trl_ppo_peer.py SOURCE FOLDER

SOURCE is a folder that holds TRL's package. The functions are taken out of its files as they stand (its `PPOTrainer` as
a whole needs versions of other packages that are long gone): `PPOTrainer.compute_advantages`, `PPOTrainer.loss`, and
what they call of `trl.core`. FOLDER holds request.safetensors and settings.json; answer.safetensors is written.
"""

from __future__ import annotations

import ast
import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file

CORE = ("flatten_dict", "masked_mean", "masked_var", "masked_whiten", "clip_by_value", "entropy_from_logits")


def functions(file: Path, names: tuple[str, ...], space: dict[str, Any]) -> None:
    """Define these functions (or methods, as functions) of a file in `space`, without running the rest of it."""
    found = {n.name: n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)}
    for name in names:
        node = found[name]
        node.decorator_list, node.returns = [], None
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            argument.annotation = None
        exec(compile(ast.Module([node], []), str(file), "exec"), space)


def main() -> None:
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    space: dict[str, Any] = {"torch": torch, "warnings": warnings, "F": torch.nn.functional, "Mapping": Mapping}
    functions(source / "trl" / "core.py", CORE, space)
    functions(source / "trl" / "trainer" / "ppo_trainer.py", ("compute_advantages", "loss"), space)
    settings = json.loads((folder / "settings.json").read_text())
    trainer = SimpleNamespace(config=SimpleNamespace(**settings, whiten_rewards=False, ratio_threshold=1e9))
    given = load_file(folder / "request.safetensors")
    mask = given["mask"]
    old_values, advantages, returns = space["compute_advantages"](trainer, given["old_values"], given["rewards"], mask)
    logprobs, values = (given[name].clone().requires_grad_() for name in ("logprobs", "values"))
    logits = torch.zeros(*mask.shape, 2, dtype=mask.dtype)  # of the entropy, which is only logged
    policy, value, _ = space["loss"](
        trainer, given["old_logprobs"], old_values, logits, values, logprobs, mask, advantages, returns
    )
    (policy + value).backward()
    assert logprobs.grad is not None
    assert values.grad is not None
    save_file(
        {
            "advantages": advantages.contiguous(), "returns": returns.contiguous(),
            "loss": (policy + value).detach()[None], "value_loss": (value / settings["vf_coef"]).detach()[None],
            "gradient_logprobs": logprobs.grad, "gradient_values": values.grad,
        },
        folder / "answer.safetensors",
    )  # fmt: skip


if __name__ == "__main__":
    main()
