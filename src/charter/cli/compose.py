"""From a recipe to the parts a trainer is given. Everything that can be wrong without a model is found without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from charter import assets
from charter.data import ExampleSet, PromptSet, load_examples, load_prompts
from charter.errors import Problem, RecipeError
from charter.recipe import Recipe, check_recipe
from charter.reward import Rubric, build_rubric

if TYPE_CHECKING:
    from charter.learner.local import LocalLearner
    from charter.model.load import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Data and rewards of a recipe, read and checked against each other; no model is loaded yet.

    prompts, rubric: of a recipe that samples. examples: of one that imitates.
    """

    recipe: Recipe
    prompts: PromptSet | None
    examples: ExampleSet | None
    rubric: Rubric | None

    @property
    def part_weights(self) -> dict[str, float]:
        """Reward name → weight."""
        return {part.name: part.weight for part in self.rubric.parts} if self.rubric else {}


def read_inputs(recipe: Recipe) -> Inputs:
    """Read data, make rewards, and check that the rewards' columns are there.

    Raises RecipeError with every problem found, DataError for a row that cannot be used.
    """
    check_recipe(recipe)
    examples = load_examples(recipe.data, recipe.seed) if recipe.method == "sft" else None
    prompts = load_prompts(recipe.data, recipe.seed) if recipe.data.prompts is not None else None
    rubric = build_rubric(recipe.rewards) if recipe.rewards and prompts is not None else None
    if rubric is not None and prompts is not None:
        problems: Sequence[Problem] = rubric.check_columns(prompts.columns, recipe.data.prompts or "data")
        if problems:
            raise RecipeError(problems)
    return Inputs(recipe=recipe, prompts=prompts, examples=examples, rubric=rubric)


def model_source(name: str) -> str:
    """Where a recipe's model is: an asset is fetched (once), anything else is a folder or a Hugging Face id."""
    return str(assets.get(name)) if assets.is_asset(name) and not Path(name).is_dir() else name


def load_model(recipe: Recipe, folder: Path | None = None) -> Policy:
    """The recipe's model, or the one in `folder`, on the recipe's device."""
    from charter.model.load import load_policy

    return load_policy(folder or model_source(recipe.model), device=recipe.learner.device, dtype=recipe.learner.dtype)


def make_learner(recipe: Recipe, policy: Policy, *, microbatch_tokens: int | None = None) -> LocalLearner:
    """The learner of a recipe around a loaded policy, with adapters and reference where the recipe asks for them.

    microbatch_tokens: the cut of the run that is resumed.
    """
    from charter.learner.local import LocalLearner
    from charter.model.adapters import Adapters

    adapters = None
    if recipe.lora is not None:
        lora = recipe.lora
        adapters = Adapters.inject(policy, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, seed=recipe.seed)
    samples = recipe.method == "grpo"
    reference = None
    if samples and recipe.grpo.kl_coef > 0 and adapters is None:
        reference = load_model(recipe)
        reference.module.requires_grad_(False)
    return LocalLearner(
        policy,
        recipe.optimizer,
        total_updates=recipe.run.steps * (recipe.grpo.updates_per_step if samples else 1),
        reference=reference,
        adapters=adapters,
        microbatch_tokens=recipe.learner.max_microbatch_tokens or microbatch_tokens,
        activation_checkpointing=recipe.learner.activation_checkpointing,
    )
