"""What a constitutional run is measured by, and by whom: models of human labels that nothing was trained against.

The human pairs are parted by prompt: `train` makes the preference model, `evaluation` the measure and the test of that
model. So a policy that only pleases the preference model does not please the measure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.recipe.cai import CaiRecipe
    from charter.reward.bag_of_words import BagOfWords
    from charter.reward.preference import Scorer
    from charter.types import Pair

MEASURE = "human ratings, bag of words"


def held_out_measure(recipe: CaiRecipe) -> BagOfWords:
    """A model of the human labels of prompts that no training stage sees; its score is in logits, higher is better.

    Raises: DataError where the labels have no such part; MissingExtra without scikit-learn.
    """
    from charter.cli.human_pairs import human_pairs
    from charter.reward.bag_of_words import BagOfWords

    table = recipe.calibrate
    return BagOfWords.fit(human_pairs(table.data, min_gap=table.min_gap, part="evaluation"))


def measure_preference_model(recipe: CaiRecipe, folder: Path) -> dict[str, Any] | None:
    """The run's preference model on human pairs of prompts that it did not learn from, beside what it must beat.

    Returns: None where no such pair is left; else {"name", "accuracy", "interval", "ece", "brier", "n", "prompts",
        "refusal_free", "against": {baseline: {"accuracy", "difference", "interval"}}, "baselines": [the same of a bag
        of words fitted to the same pairs, of shorter wins and of the refusal wins]}; intervals draw prompts.
    """
    from charter.cli.human_pairs import human_pairs
    from charter.cli.reward_builders import open_scorer, scorer_folder
    from charter.constitution.calibrate import Verdicts, calibration
    from charter.constitution.checks import refuses
    from charter.data import load_pairs
    from charter.recipe import DataTable
    from charter.reward.bag_of_words import BagOfWords
    from charter.reward.preference import WordsScorer

    learnt = load_pairs(DataTable(pairs=str(folder / "preferences.jsonl")), recipe.seed).train.items
    known = {pair.prompt.messages[-1]["content"] for pair in learnt}
    table = recipe.calibrate
    pairs = [
        pair
        for pair in human_pairs(table.data, min_gap=table.min_gap, part="evaluation")
        if pair.p != 0.5 and pair.prompt.messages[-1]["content"] not in known
    ]
    if not pairs:
        return None
    scorer = open_scorer(scorer_folder(str(folder / "preference")), recipe.learner.device, recipe.learner.dtype)
    words = WordsScorer(BagOfWords.fit(learnt))
    ours = Verdicts(name="preference model", kind="model", p=_said(scorer, pairs))
    found = calibration(
        pairs, ours, refuses, others=[Verdicts(name="bag of words, same pairs", kind="model", p=_said(words, pairs))],
        resamples=table.resamples, seed=recipe.seed,
    )  # fmt: skip
    first, *rest = found["judges"]
    kept = ("name", "accuracy", "interval", "ece", "brier", "n", "refusal_free", "verdict")
    return {
        **{key: first[key] for key in kept}, "prompts": found["prompts"], "against": first["against"],
        "baselines": [{key: row[key] for key in kept} for row in rest],
    }  # fmt: skip


def _said(scorer: Scorer, pairs: Sequence[Pair]) -> tuple[float | None, ...]:
    """p of each pair as σ(s_a − s_b); None where a reply has no score."""
    by_prompt: dict[str, tuple[Any, dict[str, None]]] = {}
    for pair in pairs:
        _, replies = by_prompt.setdefault(repr(pair.prompt.messages), (pair.prompt.messages, {}))
        replies.update({pair.a: None, pair.b: None})
    scores = {
        (key, reply): score
        for key, (messages, replies) in by_prompt.items()
        for reply, score in zip(replies, scorer.score_replies(messages, list(replies)), strict=True)
    }
    told: list[float | None] = []
    for pair in pairs:
        a, b = (scores[repr(pair.prompt.messages), text] for text in (pair.a, pair.b))
        told.append(None if isinstance(a, str) or isinstance(b, str) else 0.5 * (1 + math.tanh((a - b) / 2)))
    return tuple(told)
