"""Prompts, examples and pairs: read, validated, split, ordered.

    prompts = load_prompts(recipe.data, recipe.seed)
    for step, chosen in prompts.train.steps(8): ...

Rows take TRL's forms (`prompt`, `messages`, `prompt` + `completion`, `prompt` + `chosen` + `rejected`), from JSON
lines, Parquet, the Hugging Face hub (`hf:NAME`) or a generator (`arithmetic:addition`, `programs:tiny`,
`reasoning_gym:TASK`). Imports no torch.

*Not here*: turning messages into tokens, `charter.model.chat`; which rewards need which column, `charter.reward`.
"""

from __future__ import annotations

from charter.data.datasets import ExampleSet, PairSet, PromptSet, load_examples, load_pairs, load_prompts, pair_set
from charter.data.ordering import EpochOrder, PromptSource
from charter.data.settings import DataSettings

__all__ = [
    "DataSettings",
    "EpochOrder",
    "ExampleSet",
    "PairSet",
    "PromptSet",
    "PromptSource",
    "load_examples",
    "load_pairs",
    "load_prompts",
    "pair_set",
]
