"""Bytes by construction: against what a learner really holds, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from charter.cli.compare_memory import memory_bytes, models_resident, shape_of
from charter.cli.compose import load_model, make_learner
from charter.recipe import Recipe
from charter.types import Batch, Branch, Course, Totals, Tree

CASES = {
    "grpo": {"method": "grpo"},
    "grpo with a KL": {"method": "grpo", "grpo": {"kl_coef": 0.1}},
    "ppo": {"method": "ppo"},
    "ppo with a head, without a KL": {"method": "ppo", "ppo": {"critic": "head", "kl_coef": 0.0}},
    "online dpo": {"method": "dpo", "dpo": {"online": True}},
    "rejection": {"method": "rejection_sft"},
}
HELD = {
    "grpo": ["policy"],
    "grpo with a KL": ["policy", "reference"],
    "ppo": ["policy", "critic", "reference"],
    "ppo with a head, without a KL": ["policy", "critic"],
    "online dpo": ["policy", "reference"],
    "rejection": ["policy"],
}


def size_of(tensors: list[torch.Tensor]) -> int:
    """Bytes of distinct tensors: tied ones are stored once."""
    return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())


@pytest.mark.parametrize("case", CASES)
def test_weights_and_moments_are_those_a_learner_holds(case: str, tiny_folder: Callable[..., Path]):
    """The learner of the recipe, after one update in which every weight had a gradient."""
    recipe = Recipe.model_validate({"model": str(tiny_folder("llama")), "learner": {"device": "cpu"}, **CASES[case]})
    shape = shape_of(recipe)
    parts = memory_bytes(recipe, shape, None, total_memory=2**33, largest_update=50, prompts=10)
    assert [model["name"] for model in models_resident(recipe, shape, None)] == HELD[case]
    policy = load_model(recipe)
    learner = make_learner(recipe, policy)
    weights = list(policy.module.parameters())
    reference, critic = learner._reference, learner._critic
    assert (reference is not None) == ("reference" in HELD[case])
    if reference is not None:
        weights += list(reference.module.parameters())
    if critic is not None:
        weights += list(critic.scalar.parameters())
        if not critic.shared:
            weights += list(critic.backbone.module.parameters())
    assert parts["weights"] == size_of(weights)
    assert parts["weights"] == sum(parts["weights_of"].values())
    _learn(learner, critic is not None)
    moments = [value for name, value in learner.state().tensors.items() if name.startswith("exp_avg")]
    # a critic of its own has no use for an output layer, and an untied one has no gradient there
    unused = 0
    if critic is not None and not critic.shared:
        module = critic.backbone.module
        tied = module.get_output_embeddings().weight is module.get_input_embeddings().weight
        unused = 0 if tied else 8 * module.get_output_embeddings().weight.numel()
    assert parts["optimizer_state"] - unused == size_of(moments)
    assert 2 * parts["gradients"] == parts["optimizer_state"]


def _learn(learner, with_critic: bool) -> None:
    tokens = tuple(range(5, 9))
    course = Course(old_logprobs=(-1.0,) * 4, old_values=(0.0,) * 4, advantages=(1.0,) * 4, returns=(1.0,) * 4)
    branch = Branch(tokens=tokens, mask=(True,) * 4, advantage=1.0, course=course if with_critic else None)
    batch = Batch(
        trees=(Tree(prefix=(3, 4), branches=(branch,)),),
        totals=Totals(tokens=4, sequences=1, completions=1, prompts=1),
    )
    if with_critic:
        from charter.recipe import PpoTable
        from charter.train.ppo import PpoObjective

        learner.learn([batch], PpoObjective(config=PpoTable(), temperature=1.0))
    else:
        from charter.recipe import SftTable
        from charter.train.sft import SftObjective

        learner.step(batch, SftObjective(aggregation=SftTable().aggregation))


def test_sampling_and_learning_are_not_there_together(tiny_folder):
    recipe = Recipe.model_validate({"model": str(tiny_folder("llama")), "method": "grpo"})
    shape = shape_of(recipe)
    found = memory_bytes(recipe, shape, None, total_memory=2**33, largest_update=10, prompts=0)
    resident = found["weights"] + found["gradients"] + found["optimizer_state"]
    assert found["peak"] == resident + max(found["activations"] + found["logits"], found["cache"])


def test_a_reward_model_is_weights_alone(tiny_folder):
    recipe = Recipe.model_validate({"model": str(tiny_folder("llama")), "method": "grpo"})
    shape = shape_of(recipe)
    without, with_one = (
        memory_bytes(recipe, shape, scorer, total_memory=2**33, largest_update=10, prompts=0)
        for scorer in (None, shape)
    )
    assert with_one["weights"] - without["weights"] == 4 * shape.parameters
    assert with_one["gradients"] == without["gradients"]


def test_activations_follow_the_largest_update(tiny_folder):
    recipe = Recipe.model_validate({"model": str(tiny_folder("llama")), "method": "grpo"})
    shape = shape_of(recipe)
    few, many, capped = (
        memory_bytes(recipe, shape, None, total_memory=2**33, largest_update=n, prompts=0)["activations"]
        for n in (10, 100, 10**9)
    )
    assert many == 10 * few
    assert capped < 10**6 * many  # a micro-batch has a cap
