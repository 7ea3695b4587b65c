"""Which principle a revision or a comparison is made under.

    uniform      every principle alike
    weighted     in proportion to its weight
    by_tag       a tag first, every tag alike, then one of its principles: a tag with many principles does not dominate
    round_robin  in turn: over n consecutive steps of one prompt each of n principles comes once

`draw` is a pure function of the constitution's content and the names of the work, so that a run that was interrupted,
or whose prompts come in another order, draws the same. `sample` is for one who brings a generator.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, get_args
from weakref import WeakKeyDictionary

from charter.errors import DataError

if TYPE_CHECKING:
    from charter.constitution.principles import Constitution, Principle

Strategy = Literal["uniform", "weighted", "by_tag", "round_robin"]
Uniform = Callable[[], float]
"""Draws a number in [0, 1)."""

_turns: WeakKeyDictionary[random.Random, dict[str, int]] = WeakKeyDictionary()


def draw(constitution: Constitution, strategy: Strategy, seed: int, key: str, step: int) -> Principle:
    """The principle for one step of one piece of work.

    Args:
        strategy: see the module.
        seed: the run's.
        key: name of the work, a prompt's id say.
        step: counted from 1; the steps of one key are independent draws, or consecutive turns under "round_robin".

    Returns:
        a pure function of the arguments and `constitution.hash`: the order of the principles in the file is not in it.

    Raises:
        DataError: an empty constitution, an unknown strategy, or weights that cannot be drawn by.
    """
    pool = sorted(_pool(constitution, strategy), key=lambda principle: (principle.id, principle.text))
    if strategy == "round_robin":
        # the start is the prompt's own, so that a run of one step per prompt still sees every principle
        start = int(_fraction(constitution.hash, strategy, seed, key, 0, 0) * len(pool))
        return pool[(start + step) % len(pool)]
    numbers = iter(range(2**31))
    return _pick(pool, strategy, lambda: _fraction(constitution.hash, strategy, seed, key, step, next(numbers)))


def sample(constitution: Constitution, rng: random.Random, strategy: Strategy) -> Principle:
    """As `Constitution.sample` says."""
    pool = _pool(constitution, strategy)
    if strategy == "round_robin":
        turns = _turns.setdefault(rng, {})
        turn = turns.get(constitution.hash, 0)
        turns[constitution.hash] = turn + 1
        return pool[turn % len(pool)]
    return _pick(pool, strategy, rng.random)


def probabilities(constitution: Constitution, strategy: Strategy) -> dict[str, float]:
    """How likely each principle is drawn, by id; they add up to 1."""
    pool = _pool(constitution, strategy)
    if strategy == "weighted":
        weights = _weights(pool)
        total = math.fsum(weights)
        return {principle.id: weight / total for principle, weight in zip(pool, weights, strict=True)}
    if strategy == "by_tag":
        groups = _by_tag(pool)
        shares = {principle.id: 0.0 for principle in pool}
        for group in groups:
            for principle in group:
                shares[principle.id] += 1 / len(groups) / len(group)
        return shares
    return {principle.id: 1 / len(pool) for principle in pool}


def _pool(constitution: Constitution, strategy: str) -> tuple[Principle, ...]:
    if strategy not in get_args(Strategy):
        raise DataError(f"{strategy!r} is no way to draw a principle. There are: {', '.join(get_args(Strategy))}")
    if not constitution.principles:
        raise DataError(f"constitution {constitution.name!r} has no principles, so none can be drawn")
    return constitution.principles


def _pick(pool: Sequence[Principle], strategy: str, uniform: Uniform) -> Principle:
    if strategy == "weighted":
        weights = _weights(pool)
        point = uniform() * math.fsum(weights)
        chosen = pool[0]
        for principle, weight in zip(pool, weights, strict=True):
            if weight > 0:
                chosen = principle  # the last with a weight, should rounding leave the point beyond the sum
                if point < weight:
                    break
                point -= weight
        return chosen
    if strategy == "by_tag":
        groups = _by_tag(pool)
        pool = groups[int(uniform() * len(groups))]
    return pool[int(uniform() * len(pool))]


def _by_tag(pool: Sequence[Principle]) -> list[list[Principle]]:
    """The principles of each tag, in the order of the tags; those without one are a group of their own."""
    groups: dict[str, list[Principle]] = {}
    for principle in pool:
        for tag in dict.fromkeys(principle.tags) or ("",):
            groups.setdefault(tag, []).append(principle)
    return [groups[tag] for tag in sorted(groups)]


def _weights(pool: Sequence[Principle]) -> list[float]:
    for principle in pool:
        if not (math.isfinite(principle.weight) and principle.weight >= 0):
            raise DataError(
                f"principle {principle.id!r} has the weight {principle.weight}, by which nothing can be drawn. "
                "Give it a number from 0 up"
            )
    weights = [principle.weight for principle in pool]
    if not math.fsum(weights) > 0:
        raise DataError("every principle has the weight 0, so none can be drawn. Give one of them a weight")
    return weights


def _fraction(*parts: object) -> float:
    """A number in [0, 1), uniform over the names."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
