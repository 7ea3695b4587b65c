"""The reference of a run on pairs: asked once, before the first step that needs it, and then let go."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from charter.cli.compose import Inputs, load_model
from charter.learner.local import LocalLearner
from charter.run.reference import ReferenceLogprobs
from charter.train.preference import pair_tree


def reference_of_pairs(inputs: Inputs, learner: LocalLearner, folder: Path) -> ReferenceLogprobs:
    """What the starting model says about every pair that the run will see; computed where it is not written down yet.

    A policy that has not learnt yet is its own reference, so a run that begins never loads a second model.
    """
    recipe, pairs = inputs.recipe, inputs.pairs
    assert pairs is not None
    reference = ReferenceLogprobs(folder)
    encode = learner.policy.chat.encode_example
    steps = islice(pairs.steps(recipe.dpo.pairs_per_step), recipe.run.steps)
    missing = reference.missing(
        [pair_tree(pair, encode, recipe.dpo.max_tokens) for pair in pairs] for _, pairs in steps
    )
    if missing:
        if recipe.lora is None:  # with adapters, the model without them is the reference
            learner.use_reference(learner.policy if learner.version == 0 else load_model(recipe))
        reference.add(missing, lambda trees: learner.reference_logprobs(trees, 1.0))
        learner.use_reference(None)
    return reference
