"""A whole GRPO run by TRL's GRPOTrainer; runs in TRL's environment and imports nothing of Charter.

    python trl_curve_peer.py FOLDER

FOLDER holds request.json: {"model", "prompts": [{"id", "messages", "tokens"}, …] in the order of the steps,
"prompts_per_step", "per_device", "group", "tokens", "temperature", "rates": [learning rate of each step],
"scale_rewards", "settings": further words of GRPOConfig, "scorer": words that start `curve_scorer.py`, "seed"}.
answer.json and the trained model (model/) are written beside it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset  # type: ignore[import-not-found]
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]


class Scorer:
    """The reward of the other side, through a pipe; keeps the values of every call."""

    __name__ = "charter"

    def __init__(self, words: list[str], group: int) -> None:
        self._group = group
        self._child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.calls: list[list[float]] = []

    def __call__(self, completions: list[Any], prompt_id: list[str], **_: Any) -> list[float | None]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        values: list[float | None] = []
        for at in range(0, len(completions), self._group):
            texts = [one[0]["content"] for one in completions[at : at + self._group]]
            self._child.stdin.write(json.dumps({"prompt": prompt_id[at], "texts": texts}) + "\n")
            self._child.stdin.flush()
            values += json.loads(self._child.stdout.readline())
        self.calls.append([value for value in values if value is not None])
        return values


def answer(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(request["model"])
    for prompt in request["prompts"]:
        ids = tokenizer.apply_chat_template(prompt["messages"], add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        if list(ids) != prompt["tokens"]:
            raise SystemExit(f"prompt {prompt['id']} has other tokens here than on the other side")
    model = AutoModelForCausalLM.from_pretrained(request["model"], dtype=torch.float32)
    rows, rates = request["group"] * request["prompts_per_step"], request["rates"]
    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=request["per_device"],
        gradient_accumulation_steps=rows // request["per_device"],
        gradient_checkpointing=False,
        num_generations=request["group"],
        max_completion_length=request["tokens"],
        temperature=request["temperature"],
        max_steps=len(rates),
        learning_rate=max(rates),
        scale_rewards=request["scale_rewards"],
        shuffle_dataset=False,
        seed=request["seed"],
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **request["settings"],
    )
    scorer = Scorer(request["scorer"], request["group"])
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=scorer,
        args=config,
        train_dataset=Dataset.from_list(
            [{"prompt": prompt["messages"], "prompt_id": prompt["id"]} for prompt in request["prompts"]]
        ),
        processing_class=tokenizer,
    )

    def as_there(num_training_steps: int, optimizer: Any = None) -> Any:
        share = [rate / max(rates) for rate in rates] + [0.0]
        trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or trainer.optimizer, lambda i: share[i])
        return trainer.lr_scheduler

    trainer.create_scheduler = as_there
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    trainer.model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return {
        "versions": {n: importlib.metadata.version(n) for n in ("trl", "transformers", "torch")},
        "train_seconds": seconds,
        "reward_by_step": [sum(values) / len(values) for values in scorer.calls],
    }


def main() -> None:
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text())
    (folder / "answer.json").write_text(json.dumps(answer(folder, request)))


if __name__ == "__main__":
    main()
