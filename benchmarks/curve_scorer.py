"""A recipe's reward for a trainer in another interpreter: a line of JSON in, a line out.

    python curve_scorer.py RECIPE [KEY=VALUE …]

In: {"prompt": id, "texts": [completion, …]}; out: [number or null, …]. The prompts are those the recipe trains on.
"""

from __future__ import annotations

import asyncio
import json
import sys

from charter.cli.compose import read_inputs
from charter.recipe.loading import load_recipe
from charter.types import Group, Rollout


async def answer() -> None:
    """Until the input ends."""
    inputs = read_inputs(load_recipe(sys.argv[1], sys.argv[2:]))
    if inputs.prompts is None or inputs.rubric is None:
        raise SystemExit(f"{sys.argv[1]} has no prompts or no rewards")
    prompts = {prompt.id: prompt for prompt in inputs.prompts.train.items}
    await inputs.rubric.ready()
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            rollouts = tuple(
                Rollout(
                    prompt_id=asked["prompt"], index=i, tokens=(0,), logprobs=(0.0,), text=text, stop="eos", version=0
                )
                for i, text in enumerate(asked["texts"])
            )
            scores = await inputs.rubric.score(Group(prompt=prompts[asked["prompt"]], rollouts=rollouts))
            print(json.dumps([score.value for score in scores]), flush=True)
    finally:
        await inputs.rubric.close()


if __name__ == "__main__":
    asyncio.run(answer())
