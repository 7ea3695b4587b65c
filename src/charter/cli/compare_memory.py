"""Which models a method holds and what they take, by construction: the estimate beside the measured peak."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from charter.cli.estimate import (
    Shape,
    activation_bytes_per_token,
    cache_bytes_per_token,
    critic_parameters,
    forward_tokens,
    logits_chunk_bytes,
    lora_parameters,
    models_learning,
    read_shape,
    sampled_tokens,
)
from charter.evaluate.compare_accounting import Architecture

if TYPE_CHECKING:
    from charter.recipe import Recipe

ROLES = ("policy", "critic", "reference", "reward model")


def shape_of(recipe: Recipe) -> Shape:
    """The shape of a recipe's model. Raises: ModelError where its folder does not tell."""
    from charter.cli.compose import model_source

    return _shape(Path(model_source(recipe.model)))


def _shape(folder: Path) -> Shape:
    from charter.errors import ModelError

    shape = read_shape(folder)
    if shape is None or not shape.tensors:
        raise ModelError(
            f"{folder} does not tell the model's shape: expected a config.json and .safetensors in a folder on this "
            "machine; download the model first"
        )
    return shape


def reward_model_shape(recipe: Recipe) -> Shape | None:
    """The shape of the model that a reward `preference` passes completions through; None where nothing is sampled or
    no such reward is there."""
    from charter.cli.reward_builders import scorer_folder

    for table in recipe.rewards if recipe.samples else ():
        if table.name == "preference":
            folder = scorer_folder(str(table.options["model"]))
            if (folder / "preference_model.json").is_file():
                return _shape(folder)
    return None


def architecture_of(shape: Shape) -> Architecture:
    """What the arithmetic depends on: every weight but the tables of tokens and positions and the output layer."""
    outside = ("embed_tokens", "lm_head", "wte", "wpe")
    body = {name: size for name, size in shape.tensors.items() if not any(part in name for part in outside)}
    inner = Shape(**{**{f: getattr(shape, f) for f in Shape.__slots__}, "tensors": body})
    return Architecture(
        parameters=inner.parameters,
        head=shape.vocabulary * shape.width,
        layers=shape.layers,
        attention_width=shape.heads * shape.head_dim,
    )


def models_resident(recipe: Recipe, shape: Shape, reward_model: Shape | None) -> list[dict[str, Any]]:
    """The models that are in memory together: {"name", "why", "learns", "parameters"}."""
    found = [
        {"name": "policy", "why": "it learns, and it samples from the same weights", "learns": True,
         "parameters": shape.parameters}
    ]  # fmt: skip
    if recipe.method == "ppo":
        apart = recipe.ppo.critic == "separate"
        why = "it learns what each token's beginning is expected to earn" + (
            "" if apart else ", on the policy's states"
        )
        critic = {"name": "critic", "why": why, "learns": True, "parameters": critic_parameters(recipe, shape)}
        found.append(critic)
    if recipe.needs_reference and recipe.lora is None:
        why = {
            "ppo": "frozen; the KL to it is taken from each token's reward",
            "dpo": "frozen; every new pair is measured against it",
        }.get(recipe.method, "frozen; the KL to it is added to the loss or taken from the reward")
        found.append({"name": "reference", "why": why, "learns": False, "parameters": shape.parameters})
    if reward_model is not None:
        found.append(
            {"name": "reward model", "why": "frozen; it scores every completion", "learns": False,
             "parameters": reward_model.parameters}
        )  # fmt: skip
    return found


def memory_bytes(
    recipe: Recipe, shape: Shape, reward_model: Shape | None, *, total_memory: int, largest_update: int, prompts: int
) -> dict[str, Any]:
    """Bytes of each part by construction.

    Args:
        total_memory: of the machine. largest_update: tokens forwarded for the largest optimizer update of the run; a
            micro-batch has no more. prompts: most prompt tokens of a step, whose keys and values the sampler keeps.

    Returns:
        {"weights", "gradients", "optimizer_state", "activations", "logits", "cache", "weights_of": {role: bytes},
        "peak": the sum of what is there together: sampling is over when learning begins}.
    """
    models = models_resident(recipe, shape, reward_model)
    weights = {str(model["name"]): 4 * int(model["parameters"]) for model in models}
    trained = sum(int(model["parameters"]) for model in models if model["learns"])
    if recipe.lora is not None:
        trained = lora_parameters(recipe.lora, shape)
        weights["policy"] += 4 * trained
    tokens = min(forward_tokens(recipe, shape, total_memory), max(largest_update, 1))
    parts: dict[str, int] = {
        "weights": sum(weights.values()),
        "gradients": 4 * trained,
        "optimizer_state": 8 * trained,
        "activations": activation_bytes_per_token(recipe, shape) * tokens * models_learning(recipe),
        "logits": 2 * min(logits_chunk_bytes(shape), 4 * shape.vocabulary * tokens),
        "cache": cache_bytes_per_token(recipe, shape) * (sampled_tokens(recipe) + prompts) if recipe.samples else 0,
    }
    learning = parts["activations"] + parts["logits"]
    peak = parts["weights"] + parts["gradients"] + parts["optimizer_state"] + max(learning, parts["cache"])
    return {**parts, "weights_of": weights, "peak": peak}
