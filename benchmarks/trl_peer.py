"""TRL's own answer to the cases of `trl_parity.py`; runs in TRL's environment and imports nothing of Charter.

    python trl_peer.py FOLDER

FOLDER holds model/ (the policy), reference/ and request.json; answer.json and gradient-NAME.safetensors are written
beside them. What TRL computes: `GRPOTrainer._generate_and_score_completions` (advantages, masks, padding, reference
log-probabilities), with given token ids where it would generate, and `GRPOTrainer._compute_loss`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["ACCELERATE_USE_CPU"] = "true"
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset  # type: ignore[import-not-found]
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]


def answer(folder: Path, request: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """Loss and gradient of one case."""
    dtype = getattr(torch, case["dtype"])
    groups = request["groups"]
    size = len(groups[0]["completions"])
    prompts = [group["prompt"] for group in groups for _ in range(size)]
    completions = [ids for group in groups for ids in group["completions"]]
    old = [row for group in groups for row in group["old_logprobs"]]
    rewards = [value for group in groups for value in group["rewards"]]

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype, attn_implementation="sdpa")
    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=len(completions),
        num_generations=size,
        steps_per_generation=1,
        gradient_accumulation_steps=1,
        max_completion_length=request["max_new_tokens"],
        temperature=request["temperature"],
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        **case["trl"],
    )

    def given_rewards(completions: list[Any], **_: Any) -> list[float]:
        assert len(completions) == len(rewards)
        return rewards

    trainer = GRPOTrainer(
        model=model,
        reward_funcs=given_rewards,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": "given"}] * len(completions)),
        processing_class=tokenizer,
    )
    if trainer.ref_model is not None:  # TRL's own reference is the policy it began with: put another one in its place
        reference = AutoModelForCausalLM.from_pretrained(folder / "reference", dtype=dtype)
        trainer.ref_model.load_state_dict(reference.state_dict())
        trainer.ref_model.to(dtype)
    trainer._generate = lambda _: (prompts, completions, None, [""] * len(completions), None, {}, None, None)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions([{"prompt": "given"} for _ in completions])
    if case["old"] == "given":
        width = inputs["completion_ids"].shape[1]
        inputs["old_per_token_logps"] = torch.tensor([row + [0.0] * (width - len(row)) for row in old], dtype=dtype)
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    gradient = {n: p.grad.contiguous() for n, p in trainer.model.named_parameters() if p.grad is not None}
    save_file(gradient, folder / f"gradient-{case['name']}.safetensors")
    metrics = trainer._metrics["train"]
    clipped = metrics.get("clip_ratio/region_mean") or metrics.get("cispo_clip_ratio") or [None]
    return {
        "loss": float(loss.detach()),
        "advantages": inputs["advantages"].view(len(groups), size).tolist(),
        "clipped": clipped[-1],
        "loss_dtype": str(loss.dtype),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text())
    answers = {case["name"]: answer(folder, request, case) for case in request["cases"]}
    versions = {name: importlib.metadata.version(name) for name in ("trl", "transformers", "torch", "accelerate")}
    (folder / "answer.json").write_text(json.dumps({"versions": versions, "answers": answers}))


if __name__ == "__main__":
    main()
