"""What the machine could do at best: the least work of each part of a GRPO step, and the rates to divide it by.

    floor = Σ over phases of max(FLOPs / GEMM rate, bytes / bandwidth)
    of_limit = floor / measured        1 is the machine's limit; it cannot be passed

FLOPs count once what the mathematics needs: prompt tokens once per group; 2 N per token forward and 4 N backward, N
without the embedding table; the output head where log-probabilities are needed; attention added. The rates are the best
of the model's own GEMM shapes at 2,048 rows and of a large copy, measured in the run whose times are divided.
Nothing here imports torch before a rate is measured.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.model.load import Policy

Rates = Mapping[str, Any]
"""gemm_flops: FLOP/s. bandwidth_bytes: bytes/s, read and written counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The numbers of a transformer that a floor is made of.

    body: parameters without embedding table and output head. head: parameters of the output head, tied or not.
    attention_width: query heads · head width. kv_width: key/value heads · head width. element_bytes: of the arithmetic.
    weight_bytes: of a stored weight, which AdamW updates.
    """

    parameters: int
    body: int
    head: int
    layers: int
    attention_width: int
    kv_width: int
    element_bytes: int = 4
    weight_bytes: int = 4

    def attention(self, visible: float) -> float:
        """FLOPs of tokens that together see `visible` positions: scores and weighted sum, in all layers."""
        return 4 * visible * self.attention_width * self.layers

    def cache_bytes(self, tokens: float) -> float:
        """Keys and values of `tokens` tokens in all layers."""
        return 2 * self.kv_width * self.layers * self.element_bytes * tokens

    @property
    def forward_bytes(self) -> int:
        """Weights that one pass must read."""
        return (self.body + self.head) * self.element_bytes


@dataclass(frozen=True, slots=True)
class Work:
    """What a phase needs at least. bytes_: weights, optimizer state or cache that must be moved."""

    flops: float
    bytes_: float

    def seconds(self, rates: Rates) -> float:
        return max(self.flops / rates["gemm_flops"], self.bytes_ / rates["bandwidth_bytes"])


def prefill(model: Model, prompts: Sequence[int]) -> Work:
    """Each prompt once, and the logits of its last token."""
    flops = 2 * model.body * sum(prompts) + 2 * model.head * len(prompts)
    return Work(flops + model.attention(_triangles(prompts)), model.forward_bytes)


def decode(model: Model, prompts: Sequence[int], group: int, tokens: int) -> Work:
    """tokens − 1 passes over all rows: the first token of a completion comes from its prompt's last state.

    Each pass reads all weights, every group's prompt once and every row's own tokens.
    """
    rows, passes = len(prompts) * group, tokens - 1
    flops = 2 * (model.body + model.head) * rows * passes + model.attention(_own(prompts, group, passes))
    cache = model.cache_bytes(passes * sum(prompts) + rows * passes * (passes + 1) / 2)
    return Work(flops, passes * model.forward_bytes + cache)


def learn(model: Model, prompts: Sequence[int], group: int, tokens: int) -> Work:
    """The same positions forward and backward (twice the forward's FLOPs), the head at every completion token."""
    rows, passes = len(prompts) * group, tokens - 1
    forward = 2 * model.body * (sum(prompts) + rows * passes) + 2 * model.head * rows * tokens
    forward += model.attention(_triangles(prompts) + _own(prompts, group, passes))
    return Work(3 * forward, 3 * model.forward_bytes)


def optimizer(model: Model) -> Work:
    """AdamW: read weight, gradient and two moments, write weight and moments, and read the gradient once for its norm:
    8 numbers a parameter."""
    return Work(0.0, 8 * model.parameters * model.weight_bytes)


def floors(model: Model, prompts: Sequence[int], group: int, tokens: int, rates: Rates) -> dict[str, float]:
    """Least seconds of each part of a step. prompts: tokens of each. tokens: of each completion."""
    sample = prefill(model, prompts).seconds(rates) + decode(model, prompts, group, tokens).seconds(rates)
    return {
        "sample": sample,
        "forward_backward": learn(model, prompts, group, tokens).seconds(rates),
        "optimizer": optimizer(model).seconds(rates),
    }


def _triangles(lengths: Sequence[int]) -> float:
    """Positions that causal attention visits within sequences of these lengths."""
    return sum(n * (n + 1) / 2 for n in lengths)


def _own(prompts: Sequence[int], group: int, passes: int) -> float:
    """Positions that completion tokens visit: their prompt and what they follow."""
    return group * (passes * sum(prompts) + len(prompts) * passes * (passes + 1) / 2)


def model_of(policy: Policy) -> Model:
    """The numbers of a loaded policy."""
    config = policy.config
    parameters = sum(p.numel() for p in policy.module.parameters())
    embedding = policy.module.get_input_embeddings().weight
    head = policy.head.weight
    tied = embedding.data_ptr() == head.data_ptr()
    return Model(
        parameters=parameters,
        body=parameters - embedding.numel() - (0 if tied else head.numel()),
        head=head.numel(),
        layers=config.num_hidden_layers,
        attention_width=config.num_attention_heads * policy.head_dim,
        kv_width=policy.kv_heads * policy.head_dim,
        element_bytes=policy.compute.itemsize,
        weight_bytes=head.element_size(),
    )


def model_in(folder: Path) -> Model:
    """The same from a model's files alone, in fp32. Exits with a sentence where they do not tell its shape."""
    from charter.cli.estimate import read_shape

    shape = read_shape(folder)
    if shape is None or not shape.tensors:
        raise SystemExit(f"{folder} has no config.json and .safetensors that tell the model's shape")
    head = shape.vocabulary * shape.width
    untied = any("lm_head" in name for name in shape.tensors)
    return Model(
        parameters=shape.parameters,
        body=shape.parameters - head * (2 if untied else 1),
        head=head,
        layers=shape.layers,
        attention_width=shape.heads * shape.head_dim,
        kv_width=shape.kv_heads * shape.head_dim,
    )


# ── in a child ──────────────────────────────────────────────────────────────────────────────────────────────────────


def peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured_rates(policy: Policy, rows: int = 2048, copied: int = 64 * 2**20) -> dict[str, Any]:
    """Best GEMM rate over the model's own shapes (FLOP/s) and copy bandwidth (bytes/s, read and written counted).

    rows: of the left matrix. copied: float32 numbers in the large copy.
    """
    import torch

    device, dtype = policy.device, policy.compute
    shapes = {tuple(p.shape) for p in policy.module.parameters() if p.ndim == 2}
    found: dict[str, float] = {}
    with torch.inference_mode():
        for out, wide in sorted(shapes):
            left = torch.randn(rows, wide, device=device, dtype=dtype)
            right = torch.randn(wide, out, device=device, dtype=dtype)
            result = torch.empty(rows, out, device=device, dtype=dtype)
            flops = 2 * rows * wide * out
            found[f"{rows}x{wide}x{out}"] = flops / _best(
                lambda a=left, b=right, c=result: torch.mm(a, b, out=c), flops, device
            )
        source = torch.randn(copied, device=device)
        target = torch.empty_like(source)
        moved = 2 * source.numel() * source.element_size()
        bandwidth = moved / _best(lambda: target.copy_(source), moved, device)
    return {"gemm_flops": max(found.values()), "bandwidth_bytes": bandwidth, "gemm_by_shape": found}


def _best(work: Callable[[], Any], size: int, device: Any) -> float:
    """Shortest of several runs; more of them for small work, whose single run says little."""
    wait = waiter(device)
    work()
    wait()
    times: list[float] = []
    for _ in range(max(3, min(50, int(2e10 / size)))):
        began = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - began)
    return min(times)


def waiter(device: Any) -> Callable[[], None]:
    """What must be called before a clock is read: on CUDA it waits for the work that was launched."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.synchronize
    return lambda: None


def best_rates(several: Sequence[Rates]) -> dict[str, Any]:
    """The best of rates that were measured in several processes of one run, shape by shape."""
    shapes: dict[str, float] = {}
    for rates in several:
        for name, value in rates["gemm_by_shape"].items():
            shapes[name] = max(value, shapes.get(name, 0.0))
    return {
        "gemm_flops": max(shapes.values()),
        "bandwidth_bytes": max(rates["bandwidth_bytes"] for rates in several),
        "gemm_by_shape": shapes,
    }
