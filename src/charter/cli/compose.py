"""From a recipe to the parts a trainer is given. Everything that can be wrong without a model is found without one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from charter import assets
from charter.cli.reward_builders import reward_builders
from charter.data import ExampleSet, PairSet, PromptSet, load_examples, load_pairs, load_prompts, pair_set
from charter.errors import Problem, RecipeError
from charter.recipe import DataTable, Recipe, check_recipe
from charter.reward import Rubric, build_rubric

if TYPE_CHECKING:
    from charter.learner.local import LocalLearner
    from charter.model.load import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Data and rewards of a recipe, read and checked against each other; no model is loaded yet.

    prompts, rubric: of a recipe that samples. examples: of one that imitates. pairs: of one that prefers.
    """

    recipe: Recipe
    prompts: PromptSet | None
    examples: ExampleSet | None
    rubric: Rubric | None
    pairs: PairSet | None = None

    def digest(self) -> str:
        """SHA-256 over the rows in their order: what a run that is resumed must find again."""
        rows = hashlib.sha256()
        for prompt in (*self.prompts.train.items, *self.prompts.held_out) if self.prompts else ():
            rows.update(json.dumps([prompt.id, prompt.messages, dict(prompt.fields)], default=str).encode())
        for example in self.examples.train.items if self.examples else ():
            rows.update(json.dumps([example.id, example.messages], default=str).encode())
        for pair in (*self.pairs.train.items, *self.pairs.held_out) if self.pairs else ():
            rows.update(json.dumps([pair.id, pair.prompt.messages, pair.a, pair.b, pair.p], default=str).encode())
        return rows.hexdigest()


def read_inputs(recipe: Recipe) -> Inputs:
    """Read data, make rewards, and check that the rewards' columns are there.

    Raises RecipeError with every problem found, DataError for a row that cannot be used.
    """
    check_recipe(recipe)
    preferring = recipe.method == "preference"
    examples = load_examples(recipe.data, recipe.seed) if recipe.method == "sft" else None
    pairs = read_pairs(recipe) if (recipe.method == "dpo" and not recipe.dpo.online) or preferring else None
    prompts = load_prompts(data_source(recipe.data), recipe.seed) if recipe.data.prompts is not None else None
    needed = recipe.rewards and prompts is not None
    rubric = build_rubric(recipe.rewards, reward_builders(recipe)) if needed else None
    if rubric is not None and prompts is not None:
        problems: Sequence[Problem] = rubric.check_columns(prompts.columns, recipe.data.prompts or "data")
        if problems:
            raise RecipeError(problems)
    if prompts is not None and recipe.samples:
        prompts.train.steps(recipe.prompts_per_step)  # refuses a step larger than the data
    if examples is not None:
        examples.steps(recipe.sft.examples_per_step)
    if pairs is not None:
        pairs.steps((recipe.preference if preferring else recipe.dpo).pairs_per_step)
    return Inputs(recipe=recipe, prompts=prompts, examples=examples, rubric=rubric, pairs=pairs)


def read_pairs(recipe: Recipe) -> PairSet:
    """The pairs of a recipe; those of a preference model with some prompts held out."""
    data, hold_out = recipe.data, recipe.method == "preference"
    if data.pairs == "harm-ratings":
        from charter.data.ratings import as_pairs, rated_pairs, rated_replies

        rows = assets.get(data.pairs) / assets.ASSETS[data.pairs].rows
        pairs = as_pairs(rated_pairs(rated_replies(rows)))[: data.size]
        return pair_set(pairs, recipe.seed, data.pairs, held_out=data.held_out if hold_out else 0)
    return load_pairs(data, recipe.seed, hold_out=hold_out)


def data_source(table: DataTable) -> DataTable:
    """The [data] table with a data set that is an asset (fetched once) named by its file."""
    asset = assets.ASSETS.get(table.prompts or "")
    if asset is None or asset.kind != "data":
        return table
    return table.model_copy(update={"prompts": str(assets.get(asset.name) / asset.rows)})


def model_source(name: str) -> str:
    """Where a recipe's model is: an asset is fetched (once), anything else is a folder or a Hugging Face id."""
    return str(assets.get(name)) if assets.is_asset(name) and not Path(name).is_dir() else name


def load_model(recipe: Recipe, folder: Path | None = None) -> Policy:
    """The recipe's model, or the one in `folder`, on the recipe's device."""
    from charter.model.load import load_policy
    from charter.model.scorer import is_preference_model, quiet_loading

    source = folder or model_source(recipe.model)
    with quiet_loading(is_preference_model(Path(source))):
        return load_policy(source, device=recipe.learner.device, dtype=recipe.learner.dtype)


def check_lengths(inputs: Inputs, policy: Policy) -> None:
    """Tokenize all data once, so that a row that cannot be used ends the run before it begins, not in its night.

    Raises DataError for a prompt, example or pair that does not fit.
    """
    from charter.sampler.local import prompt_tokens
    from charter.train.preference import pair_tree
    from charter.train.sft import imitation_batch

    recipe = inputs.recipe
    if inputs.prompts is not None:
        for prompt in (*inputs.prompts.train.items, *inputs.prompts.held_out):
            prompt_tokens(policy, prompt, recipe.sampling.max_new_tokens)
    if inputs.examples is not None:
        most = min(recipe.sft.max_tokens, policy.max_positions or recipe.sft.max_tokens)
        for example in inputs.examples.train.items:
            imitation_batch([example], policy.chat.encode_example, most)
    if inputs.pairs is not None:
        table = recipe.preference if recipe.method == "preference" else recipe.dpo
        most, key = min(table.max_tokens, policy.max_positions or table.max_tokens), f"{recipe.method}.max_tokens"
        for pair in (*inputs.pairs.train.items, *inputs.pairs.held_out):
            pair_tree(pair, policy.chat.encode_example, most, key=key)


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
    reference = None
    if recipe.needs_reference and adapters is None:
        reference = load_model(recipe)
        reference.module.requires_grad_(False)
    critic = None
    if recipe.method == "ppo":
        from charter.model.heads import Critic

        shared = recipe.ppo.critic == "head"
        critic = Critic(policy if shared else load_model(recipe), shared=shared)
    return LocalLearner(
        policy,
        recipe.optimizer,
        total_steps=recipe.run.steps,
        reference=reference,
        adapters=adapters,
        microbatch_tokens=recipe.learner.max_microbatch_tokens or microbatch_tokens,
        activation_checkpointing=recipe.learner.activation_checkpointing,
        critic=critic,
        critic_learning_rate=recipe.ppo.critic_learning_rate,
    )
