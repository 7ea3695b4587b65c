"""TRL's own answer to the cases of `trl_dpo_parity.py`; runs in TRL's environment and imports nothing of Charter.

    python trl_dpo_peer.py FOLDER

FOLDER holds model/ (the policy), reference/ and request.json; answer.json and gradient-NAME.safetensors are written
beside them. What TRL computes: `DPOTrainer._compute_loss` on the pairs as its own collator lays them out.
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
from trl import DPOConfig, DPOTrainer  # type: ignore[import-not-found]


def answer(folder: Path, request: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """Loss and gradient of one case."""
    dtype = getattr(torch, case["dtype"])
    pairs = request["pairs"][case["pairs"]]
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model, reference = (
        AutoModelForCausalLM.from_pretrained(folder / name, dtype=dtype, attn_implementation="sdpa")
        for name in ("model", "reference")
    )
    config = DPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=len(pairs),
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        **case["trl"],
    )
    trainer = DPOTrainer(
        model=model,
        ref_model=reference,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * len(pairs)),
        processing_class=tokenizer,
    )
    trainer.ref_model.to(dtype)
    inputs = trainer.data_collator(
        [{"prompt_ids": p["prompt"], "chosen_ids": p["a"], "rejected_ids": p["b"]} for p in pairs]
    )
    trainer.model.train()
    loss = trainer._compute_loss(trainer.model, inputs, return_outputs=False)
    loss.backward()
    gradient = {n: p.grad.contiguous() for n, p in trainer.model.named_parameters() if p.grad is not None}
    save_file(gradient, folder / f"gradient-{case['name']}.safetensors")
    return {"loss": loss.item()}


def main() -> None:
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text())
    answers = {case["name"]: answer(folder, request, case) for case in request["cases"]}
    versions = {name: importlib.metadata.version(name) for name in ("trl", "transformers", "torch", "accelerate")}
    (folder / "answer.json").write_text(json.dumps({"versions": versions, "answers": answers}))


if __name__ == "__main__":
    main()
