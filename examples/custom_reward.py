"""A reward of your own, tried on three completions and then trained with.

    python examples/custom_reward.py
    python examples/custom_reward.py --train run.steps=4

A reward function gets lists, one entry per completion, and returns a number for each; None where it does not apply.
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import charter
from charter.reward import as_group
from charter.types import Prompt

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "quickstart.toml"


def right_and_short(
    completions: list[list[dict[str, str]]], answer: list[str], bonus: float = 0.2, **columns: Any
) -> list[float]:
    """1 for the right last number, and `bonus` on top where nothing but that number was written."""
    values: list[float] = []
    for completion, right in zip(completions, answer, strict=True):
        text = completion[0]["content"]
        numbers = re.findall(r"-?\d+", text)
        is_right = bool(numbers) and numbers[-1] == right
        values.append(float(is_right) + (bonus if is_right and text.strip() == right else 0.0))
    return values


async def try_it() -> None:
    """Score completions written by hand, in a worker process, as a run would."""
    reward = charter.load_reward(f"{__file__}:right_and_short", bonus=0.5)
    asked = Prompt(id="sum", messages=({"role": "user", "content": "What is 2+2?"},), fields={"answer": "4"})
    texts = ["4", "It is 4.", "5"]
    try:
        for text, score in zip(texts, await reward.score(as_group(asked, texts)), strict=True):
            print(f"{text!r:12} {score.value}")
    finally:
        await reward.close()


def train(words: list[str]) -> None:
    """Train the quickstart's recipe with this reward. words: key=value, as on the command line."""
    overrides = dict(word.split("=", 1) for word in words)
    rewards = [{"name": f"{__file__}:right_and_short", "bonus": 0.2}]
    recipe = charter.load_recipe(RECIPE, **{"run.name": "custom-reward", "rewards": rewards, **overrides})
    run = charter.train(recipe)
    print(f"{run.folder}: reward {run.summary['reward_first']:.3f} → {run.summary['reward_last']:.3f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        train(sys.argv[2:])
    else:
        asyncio.run(try_it())
