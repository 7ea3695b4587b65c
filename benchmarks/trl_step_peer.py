"""GRPO steps by TRL's GRPOTrainer, timed; runs in TRL's environment and imports nothing of Charter.

    python trl_step_peer.py FOLDER

FOLDER holds request.json: {"model", "texts", "prompt_tokens", "group", "tokens", "steps", "device", "dtype",
"settings"}; answer.json is written beside it. One warm-up step, then `steps`. No completion ends before its last
token: the trainer is told of an end id that the model cannot draw. Settings are words of `GRPOConfig`; everything that
is not named stays at TRL's default, but for what decides whether the two sides do the same work: dtype, lengths,
completions, and one optimizer step per generation.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset  # type: ignore[import-not-found]
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Clock(TrainerCallback):
    """Seconds of each optimizer step, and of what is timed within it."""

    def __init__(self, on_cuda: bool) -> None:
        self.on_cuda = on_cuda
        self.steps: list[dict[str, float]] = []
        self.within: dict[str, float] = {}
        self.began = 0.0

    def now(self) -> float:
        if self.on_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.within, self.began = {}, self.now()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps.append({"step_s": self.now() - self.began, **self.within})

    def timing(self, name: str, work: Any) -> Any:
        """`work`, whose seconds are added to the step under way."""

        def timed(*given: Any, **named: Any) -> Any:
            began = self.now()
            answer = work(*given, **named)
            self.within[name] = self.within.get(name, 0.0) + self.now() - began
            return answer

        return timed


def answer(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    on_cuda = request["device"].startswith("cuda")
    held = peak_bytes()
    group, prompts, settings = request["group"], len(request["texts"]), dict(request["settings"])
    rows = group * prompts
    per_device = min(settings.pop("per_device_train_batch_size", 8), rows)  # 8 is TRL's default
    if rows % per_device:
        raise SystemExit(f"{rows} completions cannot be cut into batches of {per_device}")
    tokenizer = AutoTokenizer.from_pretrained(request["model"])
    counts = [len(tokenizer(text)["input_ids"]) for text in request["texts"]]
    if counts != request["prompt_tokens"]:
        raise SystemExit(f"the prompts have {counts} tokens here and {request['prompt_tokens']} on the other side")
    model = AutoModelForCausalLM.from_pretrained(request["model"], dtype=torch.float32)
    never = model.config.vocab_size
    lengths: list[int] = []
    spreads: list[float] = []

    def ids_rule(completion_ids: list[list[int]], **_: Any) -> list[float]:
        """The same rule as Charter's side."""
        values = [(sum(ids) % 1009) / 1009 for ids in completion_ids]
        lengths.extend(map(len, completion_ids))
        spreads.extend(statistics.pstdev(values[at : at + group]) for at in range(0, len(values), group))
        return values

    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=rows // per_device,
        num_generations=group,
        max_completion_length=request["tokens"],
        max_steps=request["steps"] + 1,
        generation_kwargs={"eos_token_id": [never]},
        bf16=request["dtype"] == "bfloat16",
        use_cpu=not on_cuda,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **settings,
    )
    clock = Clock(on_cuda)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=ids_rule,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": text} for text in request["texts"]] * (request["steps"] + 1)),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    trainer.eos_token_ids = [never]
    trainer._generate_single_turn = clock.timing("sample_s", trainer._generate_single_turn)
    trainer._calculate_rewards = clock.timing("score_s", trainer._calculate_rewards)
    trainer.train()
    if set(lengths) != {request["tokens"]}:
        raise SystemExit(f"completions have {sorted(set(lengths))} tokens and should all have {request['tokens']}")
    return {
        "versions": {n: importlib.metadata.version(n) for n in ("trl", "transformers", "torch", "accelerate")},
        "threads": torch.get_num_threads(),
        "steps": clock.steps[1:],
        "warm_up_s": clock.steps[0]["step_s"],
        "groups_with_signal": sum(spread > 0 for spread in spreads[prompts:]) // request["steps"],
        "per_device_train_batch_size": per_device,
        "gradient_checkpointing": config.gradient_checkpointing,
        "peak_bytes_after": {"imports": held},
        "peak_bytes": peak_bytes(),
        "device_peak_bytes": torch.cuda.max_memory_allocated() if on_cuda else None,
    }


def main() -> None:
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text())
    (folder / "answer.json").write_text(json.dumps(answer(folder, request)))


if __name__ == "__main__":
    main()
