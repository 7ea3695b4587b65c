"""What TRL makes of the files of `exports.py`; runs in TRL's environment and imports nothing of Charter.

    python exports_peer.py FOLDER

FOLDER holds request.json and a model; answer.json is written beside them: per file how many rows the trainer's own
data set has, its columns, the decoded tokens of each row, and the loss of one training step.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["ACCELERATE_USE_CPU"] = "true"
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

from datasets import load_dataset  # type: ignore[import-not-found]
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import (  # type: ignore[import-not-found]
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)  # fmt: skip

LENGTH = 256
"""Positions that the tiny model has."""


def trainer_of(kind: str, model: str, data: Any, out: Path) -> Any:
    """The trainer of that kind of file, with its own defaults but for what keeps it small and on the CPU."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    usual: dict[str, Any] = {
        "output_dir": str(out), "max_steps": 1, "per_device_train_batch_size": 4, "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip
    given: dict[str, Any] = {"train_dataset": data, "processing_class": tokenizer}
    if kind == "grpo":
        config = GRPOConfig(**usual, num_generations=4, max_completion_length=8)
        policy = AutoModelForCausalLM.from_pretrained(model)
        return GRPOTrainer(model=policy, reward_funcs=length_of, args=config, **given)
    if kind == "reward":
        scorer = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
        scorer.config.pad_token_id = tokenizer.pad_token_id
        return RewardTrainer(model=scorer, args=RewardConfig(**usual, max_length=LENGTH), **given)
    config_of, trainer = {"sft": (SFTConfig, SFTTrainer), "dpo": (DPOConfig, DPOTrainer)}[kind]
    policy = AutoModelForCausalLM.from_pretrained(model)
    return trainer(model=policy, args=config_of(**usual, max_length=LENGTH), **given)


def length_of(completions: list[Any], **_: Any) -> list[float]:
    """A reward, because GRPOTrainer needs one."""
    return [float(len(str(one))) for one in completions]


def decoded(kind: str, trainer: Any) -> list[list[str]]:
    """Of each row of the trainer's data set, the texts that its tokens stand for."""
    names = {"sft": ("input_ids",), "dpo": ("chosen_ids", "rejected_ids"), "reward": ("chosen_ids", "rejected_ids")}
    if kind == "grpo":  # tokens are made when a step samples; the conversations are there as they stood
        return [[row["prompt"][-1]["content"]] for row in trainer.train_dataset]
    read = trainer.processing_class
    return [[read.decode(row[name]) for name in names[kind]] for row in trainer.train_dataset]


def answer(folder: Path, model: str, case: dict[str, str]) -> dict[str, Any]:
    """One file in one trainer; a failure is told and not raised, so that the others are tried too."""
    file, kind = Path(case["file"]), case["kind"]
    told: dict[str, Any] = {
        "file": file.name, "trainer": kind, "rows": 0, "columns": [], "decoded": [], "loss": None, "problem": "",
    }  # fmt: skip
    try:
        form = "parquet" if file.suffix == ".parquet" else "json"
        cache = str(folder / "cache" / f"{kind}-{file.name}")
        data = load_dataset(form, data_files=str(file), split="train", cache_dir=cache)
        trainer = trainer_of(kind, model, data, folder / "trl")
        told |= {"rows": len(trainer.train_dataset), "columns": data.column_names, "decoded": decoded(kind, trainer)}
        told["loss"] = float(trainer.train().training_loss)
        if not math.isfinite(told["loss"]):
            told |= {"problem": f"the loss is {told['loss']}", "loss": None}
    except Exception as error:  # noqa: BLE001 - whatever TRL says about a file is the finding
        told["problem"] = f"{type(error).__name__}: {error}"[:500]
    return told


def main() -> None:
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text())
    cases = [answer(folder, request["model"], case) for case in request["cases"]]
    versions = {name: importlib.metadata.version(name) for name in ("trl", "transformers", "torch", "datasets")}
    (folder / "answer.json").write_text(json.dumps({"versions": versions, "cases": cases}))


if __name__ == "__main__":
    main()
