"""What a run of a preference model has beside the others: its learner, states worked out once, held-out pairs.

features-3f9c…/part-000000.parquet     of a frozen backbone, by its digest, one row per reply
evaluations/step-000000.json           {"step", "results": [{"accuracy", "interval", "ece", "brier", "margin", …}]}
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from charter.cli.compose import Inputs
from charter.cli.heldout import evaluated_steps, evaluation_file, read_evaluation
from charter.evaluate.intervals import bootstrap_by_prompt
from charter.learner.preference import PreferenceLearner, spread
from charter.model.heads import ScalarHead
from charter.model.load import Policy
from charter.model.scorer import ScoreFacts
from charter.recipe import Recipe
from charter.run.atomic import write_text
from charter.run.reference import ReferenceLogprobs
from charter.train.preference import pair_tree
from charter.train.preference_model import replies_by_prompt, statistics
from charter.types import Pair, Tree

MEASURES = ("accuracy", "ece", "brier", "margin", "loss")
MEASURED_WITHOUT = 256
"""Training pairs on whose replies mean and spread are taken where no prompts are held out."""


def make_preference_learner(recipe: Recipe, policy: Policy, *, microbatch_tokens: int | None) -> PreferenceLearner:
    """The learner of a recipe with method = "preference" around a loaded model, its head at 0."""
    table = recipe.preference
    return PreferenceLearner(
        policy,
        ScalarHead(policy),
        recipe.optimizer,
        total_steps=recipe.run.steps,
        trainable_layers=table.trainable_layers,
        head_learning_rate=table.head_learning_rate,
        microbatch_tokens=recipe.learner.max_microbatch_tokens or microbatch_tokens,
        activation_checkpointing=recipe.learner.activation_checkpointing,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutPairs:
    """Pairs of prompts that are not trained on, and how well the model's scores agree with their labels."""

    recipe: Recipe
    pairs: Sequence[Pair]
    learner: PreferenceLearner

    async def measure(self, step: int, folder: Path) -> dict[str, float]:
        """Evaluate; write `evaluations/step-000000.json`; return its metrics. What is there already is read."""
        file = evaluation_file(folder, step)
        if not file.is_file():
            file.parent.mkdir(exist_ok=True)
            content = {"step": step, "results": [self.result()]}
            write_text(file, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
        (result,) = json.loads(file.read_text("utf-8"))["results"]
        low, high = result["interval"]
        metrics = {f"eval/{name}": result[name] for name in MEASURES}
        return metrics | {"eval/accuracy_low": low, "eval/accuracy_high": high}

    def result(self) -> dict[str, Any]:
        """{"temperature", the measures, "interval": of the accuracy, by drawing prompts, "n", "prompts"}."""
        scores = self.learner.scores(trees_of(self.recipe, self.pairs, self.learner.policy))
        margins = [a - b for a, b in scores]
        found = statistics(margins, [pair.p for pair in self.pairs])
        hits: dict[str, list[float]] = {}
        for pair, margin in zip(self.pairs, margins, strict=True):
            if pair.p != 0.5:
                right = 0.5 if margin == 0 else float((margin > 0) == (pair.p > 0.5))
                hits.setdefault(json.dumps(pair.prompt.messages), []).append(right)
        interval = bootstrap_by_prompt(list(hits.values())) if hits else (0.0, 1.0)
        left_out = {"completions": [], "pass_at_k": {}}
        return {"temperature": 0.0, **found, "interval": interval, "n": len(margins), "prompts": len(hits)} | left_out


def prepare(inputs: Inputs, learner: PreferenceLearner, folder: Path) -> HeldOutPairs | None:
    """Work out what is worked out once, and say how the learner's model is measured; None where nothing is held out."""
    recipe, pairs = inputs.recipe, inputs.pairs
    assert pairs is not None
    measured = pairs.held_out or tuple(pairs.train.items[:MEASURED_WITHOUT])
    if learner.frozen:
        store = ReferenceLogprobs(folder, kind=f"features-{backbone_digest(learner.policy)}")
        steps = islice(pairs.steps(recipe.preference.pairs_per_step), recipe.run.steps)
        seen = {pair.id: pair for _, chosen in steps for pair in chosen} | {pair.id: pair for pair in measured}
        # in the order of the data: the same parts whatever the number of steps, so that a longer run adds to them
        everything = [pair for pair in (*pairs.train.items, *pairs.held_out) if pair.id in seen]
        wanted = replies_by_prompt(trees_of(recipe, everything, learner.policy))
        if missing := store.missing([tree] for tree in wanted):
            replies = sum(len(tree.branches) for trees in missing for tree in trees)
            print(f"working out the backbone's states of {replies} replies, once", file=sys.stderr, flush=True)
            store.add(missing, learner.closing)
        learner.features = store

    def facts() -> ScoreFacts:
        scores = learner.scores(replies_by_prompt(trees_of(recipe, measured, learner.policy)))
        flat = [score for row in scores for score in row]
        mean, std = spread(flat)
        return ScoreFacts(mean=mean, std=std, replies=len(flat), max_tokens=recipe.preference.max_tokens)

    learner.facts = facts
    return HeldOutPairs(recipe=recipe, pairs=pairs.held_out, learner=learner) if pairs.held_out else None


def backbone_digest(policy: Policy) -> str:
    """Of the weights that a state depends on: states of another model, left in the folder, are never taken for its."""
    content = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(policy.module.base_model.state_dict().items()):
        content.update(name.encode())
        content.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def trees_of(recipe: Recipe, pairs: Sequence[Pair], policy: Policy) -> list[Tree]:
    """The pairs as trees, under the labels as they are given: a model is measured against what people said."""
    table = recipe.preference
    return [
        pair_tree(pair, policy.chat.encode_example, table.max_tokens, key="preference.max_tokens") for pair in pairs
    ]


def with_measures(summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The summary of a run with what its held-out pairs say before and after: {"preference": {"before", "after"}}."""
    steps = evaluated_steps(folder)
    ends = {}
    for name, step in (("before", steps[0]), ("after", steps[-1])):
        record = read_evaluation(folder, step)
        assert record is not None
        result = record["results"][0]
        ends[name] = {key: result[key] for key in (*MEASURES, "interval", "n", "prompts")}
    return {**summary, "preference": ends}
