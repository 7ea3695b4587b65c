"""How much memory a recipe's training needs, from the model's config.json and file headers alone.

weights 4N, gradients 4n, AdamW 8n (two float32 moments), reference 4N where one is held; N all parameters and
n the trained ones; sampler cache 2 · layers · kv_heads · head_dim · bytes · tokens; activations per token of a
micro-batch; one chunk of logits and of their gradient.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.recipe import LoraTable, Recipe

LOGITS_CHUNK_BYTES = 64 * 2**20
"""Largest chunk of logits, as in `charter.model.logprobs`."""

MEMORY_SHARE = 0.3
"""Share of the machine's memory that activations may take, as in `charter.learner.plan`."""

MOST_MICROBATCH_TOKENS = 16_384

ENOUGH_TOKENS = 1024
"""Most tokens that several groups make together in a forward on a CPU, as in `charter.learner.plan`."""

LEAN = frozenset({"Llama", "Mistral", "Qwen2"})
"""Families whose forward keeps what `charter.model.lean` says: the shapes of `charter.model.fused` without Qwen3, whose
heads have norms."""

NVIDIA = Path("/proc/driver/nvidia/version")
"""Is there where the driver of a GPU is loaded; asking torch would load it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The numbers of a transformer that memory depends on.

    lean: whether its forward can keep little, as in `charter.learner.plan`. tensors: shape of each stored weight by its
    name.
    """

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    lean: bool
    tensors: dict[str, tuple[int, ...]]

    @property
    def parameters(self) -> int:
        """Number of stored parameters; tied embeddings are stored once."""
        return sum(math.prod(shape) for shape in self.tensors.values())


def read_shape(folder: Path) -> Shape | None:
    """The shape of the model in a folder, or None where its config or its headers do not tell."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        width = config.get("hidden_size") or config["n_embd"]
        heads = config.get("num_attention_heads") or config["n_head"]
        return Shape(
            layers=config.get("num_hidden_layers") or config["n_layer"],
            width=width,
            inner=config.get("intermediate_size") or config.get("n_inner") or 4 * width,
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or width // heads,
            vocabulary=config["vocab_size"],
            lean=_lean(config),
            tensors={k: v for file in sorted(folder.glob("*.safetensors")) for k, v in _header(file).items()},
        )
    except (OSError, KeyError, ValueError, TypeError):
        return None


def memory_parts(recipe: Recipe, shape: Shape, total_memory: int) -> dict[str, int]:
    """Bytes of each part; the sampler's cache and what learning needs are never there together.

    Args:
        recipe: what is to run. shape: of its model. total_memory: of the machine, in bytes; the micro-batch is derived
            from it where the recipe leaves it out.
    """
    from charter.cli.explain_scores import reward_model_bytes, trained_parameters

    everything = shape.parameters
    trained = lora_parameters(recipe.lora, shape) if recipe.lora else everything
    if recipe.method == "preference":
        trained = trained_parameters(recipe, shape)
    adapters = trained if recipe.lora else 0
    # adapters switched off are the reference already
    reference = everything if recipe.needs_reference and not recipe.lora else 0
    critic = critic_parameters(recipe, shape)
    tokens = forward_tokens(recipe, shape, total_memory)
    if recipe.samples:
        tokens = min(tokens, sampled_tokens(recipe))
    parts = {
        "weights": 4 * (everything + adapters),
        "gradients": 4 * (trained + critic),
        "optimizer state": 8 * (trained + critic),
        "reference model": 4 * reference,
        "activations of a micro-batch": activation_bytes_per_token(recipe, shape) * tokens * models_learning(recipe),
        "logits chunk": 2 * logits_chunk_bytes(shape),
    }
    if recipe.method == "ppo":
        parts["critic"] = 4 * critic
    if scorers := reward_model_bytes(recipe):
        parts["reward models"] = scorers
    if recipe.samples:
        parts["sampler cache"] = cache_bytes_per_token(recipe, shape) * sampled_tokens(recipe)
        if recipe.sampling.precision != "model":
            parts["weights in 8 bits"] = everything
    return parts


def peak_bytes(parts: Mapping[str, int]) -> int:
    """The most that is there together of `memory_parts`: sampling is over when learning begins, so its cache and the
    activations never are; gradients have their place all the time (`charter.learner.updating`)."""
    passing = ("activations of a micro-batch", "logits chunk", "sampler cache")
    resident = sum(size for name, size in parts.items() if name not in passing)
    activations, logits, cache = (parts.get(name, 0) for name in passing)
    return resident + max(activations + logits, cache)


def critic_parameters(recipe: Recipe, shape: Shape) -> int:
    """What PPO's critic holds beside the policy: a scalar head, and a backbone where it has its own."""
    if recipe.method != "ppo":
        return 0
    return shape.width + 1 + (shape.parameters if recipe.ppo.critic == "separate" else 0)


def models_learning(recipe: Recipe) -> int:
    """Models whose activations are there together."""
    return 2 if recipe.method == "ppo" and recipe.ppo.critic == "separate" else 1


def activation_bytes_per_token(recipe: Recipe, shape: Shape) -> int:
    """Activations kept for the backward, per forwarded token: the same law as `charter.learner.plan` cuts by.

    Written again rather than imported because that module needs torch; a test holds the two equal.
    """
    heads = shape.heads * shape.head_dim
    layer = 12 * shape.width + 4 * shape.inner + 4 * heads
    if recipe.learner.activation_checkpointing:
        return element_bytes(recipe) * (shape.layers * shape.width + layer)
    if shape.lean and recipe.lora is None and element_bytes(recipe) == 4 and not on_gpu(recipe):
        layer = 3 * shape.width + 2 * shape.inner + 3 * heads + 2 * shape.kv_heads * shape.head_dim
    return element_bytes(recipe) * shape.layers * layer


def microbatch_tokens(recipe: Recipe, shape: Shape, total_memory: int) -> int:
    """Tokens of one forward: the recipe's cap, or what `charter.learner.plan` derives from the machine's memory."""
    if (cap := recipe.learner.max_microbatch_tokens) is None:
        fitting = max(256, int(MEMORY_SHARE * total_memory / activation_bytes_per_token(recipe, shape)))
        cap = min(MOST_MICROBATCH_TOKENS, 1 << (fitting.bit_length() - 1)) // models_learning(recipe)
    return cap


def forward_tokens(recipe: Recipe, shape: Shape, total_memory: int) -> int:
    """Tokens whose activations are there together: as many groups as make enough, or a single larger one, and twice
    that where two forwards run at once (`charter.learner.abreast`). A group that is more than enough goes through in
    parts: its prompt, whose tokens are not known here, and two parts of 512 tokens or one long completion each; pairs
    and examples stay whole."""
    most = microbatch_tokens(recipe, shape, total_memory)
    if on_gpu(recipe):
        return most
    parts = (
        recipe.samples
        and recipe.method != "dpo"
        and not recipe.learner.activation_checkpointing
        and element_bytes(recipe) == 4
    )
    largest = recipe.sampling.max_new_tokens if parts else largest_tree(recipe)
    one = max(ENOUGH_TOKENS, largest)
    abreast = 2 * one <= most and recipe.lora is None and recipe.method != "preference"
    return 2 * one if abreast else min(one, most)


def on_gpu(recipe: Recipe) -> bool:
    """Whether learning will be on a GPU, as far as can be told without asking torch."""
    device = recipe.learner.device
    return device.startswith("cuda") or (device == "auto" and NVIDIA.exists())


def largest_tree(recipe: Recipe) -> int:
    """Most tokens of what goes through the model in one piece: a group's completions, an example, a pair."""
    if recipe.samples:
        return recipe.sampling.group_size * recipe.sampling.max_new_tokens
    if recipe.method == "sft":
        return recipe.sft.max_tokens
    return 2 * (recipe.dpo if recipe.method == "dpo" else recipe.preference).max_tokens


def sampled_tokens(recipe: Recipe) -> int:
    """Most tokens that one step samples."""
    return recipe.prompts_per_step * recipe.sampling.group_size * recipe.sampling.max_new_tokens


def cache_bytes_per_token(recipe: Recipe, shape: Shape) -> int:
    """Keys and values of one token in every layer."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * element_bytes(recipe)


def logits_chunk_bytes(shape: Shape) -> int:
    """The one tensor that has the vocabulary as an axis."""
    return 4 * shape.vocabulary * max(16, LOGITS_CHUNK_BYTES // (4 * shape.vocabulary))


def lora_parameters(lora: LoraTable, shape: Shape) -> int:
    """Σ over the adapted matrices of rank · (rows + columns)."""
    wanted = lora.targets

    def adapted(name: str, size: tuple[int, ...]) -> bool:
        module = name.removesuffix(".weight").rpartition(".")[2]
        if wanted == "all-linear":
            return len(size) == 2 and not any(part in name for part in ("embed", "lm_head", "wte", "wpe"))
        return len(size) == 2 and module in wanted

    return sum(lora.rank * sum(size) for name, size in shape.tensors.items() if adapted(name, size))


def element_bytes(recipe: Recipe) -> int:
    """Bytes of one number in the forward: bfloat16 is 2, everything else 4."""
    return 2 if recipe.learner.dtype == "bfloat16" else 4


def _lean(config: Mapping[str, Any]) -> bool:
    windowed = config.get("sliding_window") and config.get("use_sliding_window", True)
    families = {name.partition("For")[0] for name in config.get("architectures") or ()}
    return bool(families & LEAN) and config.get("hidden_act", "silu") == "silu" and not windowed


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes out of a safetensors header; its first 8 bytes are the header's length."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > 100_000_000:
            raise ValueError("not a safetensors file")
        header: dict[str, Any] = json.loads(stream.read(length))
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
