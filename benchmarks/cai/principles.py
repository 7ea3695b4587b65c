"""Does a constitution of more principles make revisions more diverse? One, four and sixteen of them, the same drafts.

    python benchmarks/cai/principles.py [--prompts 24] [--seeds 3] [--json] [--markdown] [--store]

A seed puts the principles of helpful-harmless into an order; its constitutions are the first 1, 4 and 16 of it. Each
red-team prompt has one draft per seed, which all constitutions of that seed revise directly (no critique) under one
drawn principle. Measured over usable revisions:

    distinct-1, distinct-2   different n-grams / n-grams, in equally many words of every constitution
    word distance            mean of 1 − |a ∩ b| / |a ∪ b| of the word sets of revisions of different prompts
    usable, accepted         shares of all drafts; accepted by the programs of checks, those of the drawn principle and
                             of all sixteen whatever the constitution, since fewer checks are passed more easily

A bootstrap that draws prompts with replacement repeats texts, and repeated text is what distinct-n counts: it would
call every set less diverse than it is. So the three measures of diversity are taken in random halves of the prompts:
their mean is the figure, their 2.5 % and 97.5 % quantiles are the interval. (A half without replacement differs from
all n prompts by σ²/n in variance, as n prompts do from the population.) Shares have a bootstrap over prompts. No
interval covers which principle a constitution of one happens to have; for that look at the figures per seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from arms import (
    Remembered,
    Sheet,
    arm_folder,
    counted,
    finish,
    parser_of,
    recipe_of,
    replies_of,
    run_arm,
    run_main,
    shown,
    verdict_of,
)
from harness import facts

from charter.cli.supervising import open_models
from charter.constitution.checks import score_checks
from charter.constitution.principles import Constitution
from charter.constitution.records import Revision
from charter.constitution.resampling import Clusters
from charter.constitution.similarity import jaccard
from charter.constitution.trajectories import Trajectory
from charter.run.atomic import write_text
from charter.run.diversity import distinct_n, words

NAME = "principles"
COUNTS = (1, 4, 16)
DIVERSITY = ("distinct_1", "distinct_2", "word_distance")
SHARES = ("usable", "accepted")
Texts = Mapping[str, str]
"""Prompt's id → its usable revision; prompts without one are not in it."""


def drawn(constitution: Constitution, count: int, seed: int) -> Constitution:
    """The first `count` principles in the seed's order: those of a smaller constitution are in every larger one."""
    order = random.Random(f"principles {seed}").sample(list(constitution.principles), len(constitution.principles))
    return replace(constitution, name=f"{constitution.name}-{count}", principles=tuple(order[:count]), lines={})


def accepts(whole: Constitution, one: Trajectory, revision: Revision) -> bool:
    """Whether the checks that programs decide hold more of it than of its draft: the principle's, and all of them."""
    for scope in (whole.principle(revision.principle), whole):
        before, after = (
            score_checks(scope, one.prompt.messages, text).value for text in (one.draft.text, revision.text)
        )
        if before is None or after is None or not after > before:
            return False
    return True


def distinct_at(texts: Sequence[Sequence[str]], budget: int, n: int) -> float | None:
    """distinct-n of the first `budget` words of texts, given as their words; None where that is no n-gram."""
    kept: list[str] = []
    for text in texts:
        kept.append(" ".join(text[:budget]))
        budget -= len(text)
        if budget <= 0:
            break
    return distinct_n(kept, n)


def diversity(
    told: Mapping[int, Mapping[str, Sequence[str]]],
    prompts: Sequence[str],
    distances: Mapping[int, np.ndarray],
    places: Mapping[str, int],
) -> dict[tuple[int, str], float | None]:
    """(principles, measure) → figure, of these prompts alone and in their order.

    told: principles → prompt's id → the words of its usable revision. distances: principles → matrix of word distances,
    prompt by prompt in the order of `places`, NaN where either has no revision.
    """
    spoken = {count: [texts[id] for id in prompts if id in texts] for count, texts in told.items()}
    budget = min(sum(map(len, texts)) for texts in spoken.values())
    at = [places[id] for id in prompts]
    found: dict[tuple[int, str], float | None] = {}
    for count, texts in spoken.items():
        for n in (1, 2):
            found[count, f"distinct_{n}"] = distinct_at(texts, budget, n)
        between = distances[count][np.ix_(at, at)][np.triu_indices(len(at), 1)]
        between = between[~np.isnan(between)]
        found[count, "word_distance"] = float(between.mean()) if between.size else None
    return found


def word_distances(texts: Texts, prompts: Sequence[str]) -> np.ndarray:
    """1 − Jaccard of the word sets of every two prompts' revisions."""
    sets = [set(words(texts[id])) if id in texts else None for id in prompts]
    matrix = np.full((len(prompts), len(prompts)), np.nan)
    for i, one in enumerate(sets):
        for j, other in enumerate(sets[:i]):
            if one is not None and other is not None:
                matrix[i, j] = matrix[j, i] = 1 - jaccard(one, other)
    return matrix


def measure(
    revisions: Sequence[Mapping[int, Texts]],
    accepted: Sequence[Mapping[int, frozenset[str]]],
    prompts: Sequence[str],
    resamples: int,
) -> dict[str, Any]:
    """All figures. revisions, accepted: per seed, principles → what came of it; accepted: ids of prompts.

    Returns: {"by_count": one row per number of principles, "difference": the most against the fewest}.
    """
    counts = sorted(revisions[0])
    places = {id: place for place, id in enumerate(prompts)}
    distances = [{count: word_distances(arms[count], prompts) for count in counts} for arms in revisions]
    spoken = [
        {count: {id: words(text) for id, text in texts.items()} for count, texts in arms.items()} for arms in revisions
    ]
    generator = random.Random(0)
    halves = [generator.sample(list(prompts), max(1, len(prompts) // 2)) for _ in range(resamples)]

    def over_seeds(chosen: Sequence[str]) -> dict[tuple[int, str], float | None]:
        """Mean over the seeds in which every constitution has the figure."""
        told = [diversity(arms, chosen, far, places) for arms, far in zip(spoken, distances, strict=True)]
        found: dict[tuple[int, str], float | None] = {}
        for name in DIVERSITY:
            whole = [seed for seed in told if all(seed[count, name] is not None for count in counts)]
            for count in counts:
                values = [value for seed in whole if (value := seed[count, name]) is not None]
                found[count, name] = sum(values) / len(values) if values else None
        return found

    drawn_halves = [over_seeds(half) for half in halves]

    def of_halves(statistic: Callable[[Mapping[tuple[int, str], float | None]], float | None]) -> dict[str, Any]:
        values = [value for half in drawn_halves if (value := statistic(half)) is not None]
        if not values:
            return {"value": None, "interval": None}
        return {"value": float(np.mean(values)), "interval": np.quantile(values, [0.025, 0.975]).tolist()}

    clusters = Clusters([id for _ in revisions for id in prompts], resamples)
    flags = {
        (count, name): [
            float(id in (arms[count] if name == "usable" else good[count]))
            for arms, good in zip(revisions, accepted, strict=True)
            for id in prompts
        ]
        for count in counts
        for name in SHARES
    }
    alone = [diversity(arms, prompts, far, places) for arms, far in zip(spoken, distances, strict=True)]
    by_count = []
    for count in counts:
        row: dict[str, Any] = {"principles": count, "revisions": sum(len(arms[count]) for arms in revisions)}
        for name in DIVERSITY:
            row[name] = of_halves(lambda half, key=(count, name): half[key])
            row[name]["per_seed"] = [seed[count, name] for seed in alone]
        for name in SHARES:
            value, interval = clusters.mean(flags[count, name])
            row[name] = {"value": value, "interval": interval}
        row["words"] = _mean([len(text) for arms in spoken for text in arms[count].values()])
        by_count.append(row)
    fewest, most = counts[0], counts[-1]
    difference: dict[str, Any] = {}
    for name in DIVERSITY:

        def gap(half: Mapping[tuple[int, str], float | None], name: str = name) -> float | None:
            high, low = half[most, name], half[fewest, name]
            return None if high is None or low is None else high - low

        difference[name] = of_halves(gap)
    for name in SHARES:
        pairs = zip(flags[most, name], flags[fewest, name], strict=True)
        value, interval = clusters.mean([high - low for high, low in pairs])
        difference[name] = {"value": value, "interval": interval}
    with_revision = min(len({id for arms in revisions for id in arms[count]}) for count in (fewest, most))
    for name, row in difference.items():
        row["verdict"] = verdict_of(row["interval"], with_revision if name in DIVERSITY else len(prompts))
    return {"by_count": by_count, "difference": {"of": [most, fewest], "prompts": len(prompts), **difference}}


async def collect(given: argparse.Namespace) -> dict[str, Any]:
    """Run every arm and measure."""
    began = time.perf_counter()
    whole = Constitution.load("helpful-harmless")
    revisions: list[dict[int, Texts]] = []
    accepted: list[dict[int, frozenset[str]]] = []
    chosen: list[dict[int, Sequence[str]]] = []
    prompts: list[str] = []
    base = recipe_of(given, 0, {})
    with replies_of(given.run_dir) as journal:
        async with open_models(base, judge=False) as (model, _):
            author = Remembered(model, journal)
            for seed in range(given.seeds):
                revisions.append({})
                accepted.append({})
                chosen.append({})
                for count in COUNTS:
                    constitution = drawn(whole, count, seed)
                    file = given.run_dir / "constitutions" / f"seed-{seed}-of-{count}.toml"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_text(file, constitution.to_toml())
                    recipe = recipe_of(given, seed, {
                        "constitution.file": str(file.resolve()), "constitution.tags": [], "redteam.helpful_count": 0,
                        "revise.critique": False, "revise.steps": 1, "revise.accept": "always", "revise.margin": 0.0,
                        "revise.control": "none",
                    })  # fmt: skip
                    print(f"seed {seed}, {count} of {len(whole.principles)} principles", file=sys.stderr)
                    _, done = await run_arm(recipe, arm_folder(given, seed, f"of-{count}"), author, plain=given.plain)
                    lives = done.revised.trajectories
                    prompts = prompts or [prompt.id for prompt in done.sets.prompts]
                    revisions[-1][count] = {one.prompt.id: one.usable[-1].text for one in lives if one.usable}
                    accepted[-1][count] = frozenset(
                        one.prompt.id for one in lives for made in one.usable if accepts(whole, one, made)
                    )
                    chosen[-1][count] = constitution.ids
    return {
        **facts(), "recipe": Path(given.recipe).name, "author": author.name, "prompts": len(prompts),
        "seeds": given.seeds, "few_shot": base.revise.few_shot,
        **measure(revisions, accepted, prompts, given.resamples),
        "principles_of_each_seed": [{str(count): list(ids) for count, ids in seed.items()} for seed in chosen],
        "asked": author.usage.requests, "seconds": time.perf_counter() - began,
    }  # fmt: skip


def sheets(result: Mapping[str, Any]) -> list[Sheet]:
    """The figures, and what sixteen principles changed."""
    names = (*DIVERSITY, *SHARES)
    rows = [
        (row["principles"], *(shown(row[name]["value"], row[name]["interval"]) for name in names), _plain(row["words"]))
        for row in result["by_count"]
    ]
    size = f"{result['prompts']} prompts, {counted(result['seeds'], 'seed')}, {result['author']}; diversity in halves"
    change = result["difference"]
    gaps = [(_said(n), shown(change[n]["value"], change[n]["interval"]), change[n]["verdict"]) for n in names]
    spread = [
        (row["principles"], *(_spread(row[name]["per_seed"]) for name in DIVERSITY)) for row in result["by_count"]
    ]
    return [
        Sheet(
            title=f"Revisions by number of principles ({size})",
            head=("principles", *map(_said, names), "words of a revision"),
            rows=rows,
        ),
        Sheet(
            title=f"{change['of'][0]} principles less {change['of'][1]}, paired by prompt and seed",
            head=("measure", "difference", "verdict"),
            rows=gaps,
        ),
        Sheet(
            title="Least to most over the seeds, all prompts",
            head=("principles", *map(_said, DIVERSITY)),
            rows=spread,
        ),
    ]


def _said(name: str) -> str:
    return {"distinct_1": "distinct-1", "distinct_2": "distinct-2", "word_distance": "word distance"}.get(name, name)


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{min(known):.3f} to {max(known):.3f}" if known else "not measured"


def _plain(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f}"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def main(words_given: Sequence[str] | None = None) -> None:
    given = parser_of(__doc__, NAME, prompts=24, seeds=3).parse_args(words_given)
    result = asyncio.run(collect(given))
    finish(given, NAME, json.loads(json.dumps(result)), sheets(result))


if __name__ == "__main__":
    run_main(main)
