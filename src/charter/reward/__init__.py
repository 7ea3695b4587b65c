"""Scores for completions: built-in rules, any Python function, and rubrics of several.

    load_reward(name, *, weight, timeout_s, **options) -> Reward        one reward by name
    build_rubric(tables) -> Rubric                                      the [[rewards]] of a recipe
    probe(reward, prompts) -> sentences                                 is it sound before a run starts?

The names are loaded when first used: worker processes import this package too, and start faster without them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.reward.registry import build_rubric, load_reward, options_model, reward_names
    from charter.reward.rubric import Rubric, as_group, probe

__all__ = ["Rubric", "as_group", "build_rubric", "load_reward", "options_model", "probe", "reward_names"]

_HOMES = {
    "Rubric": "rubric",
    "as_group": "rubric",
    "build_rubric": "registry",
    "load_reward": "registry",
    "options_model": "registry",
    "probe": "rubric",
    "reward_names": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
