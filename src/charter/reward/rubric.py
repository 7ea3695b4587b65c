"""Several rewards for one completion: `Σ weight · value` over the rewards that answered, each part kept.

A reward that abstains is left out of the sum; if all abstain, so does the rubric. If any fails, the completion's score
is failed and the note names the reward and the cause: a sum without the broken part would be another reward.

Not here: gates, caps, normalisation and changing weights (`composition.py`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from charter.errors import Problem
from charter.protocols import Reward
from charter.reward.composition import Rule, check_gates, compose
from charter.reward.runtime import NamedReward, Verdict, abstained, checked, failed
from charter.types import Group, Prompt, Score

MOST_SENTENCES = 3
"""Of the probe about one reward: what is wrong with one prompt is mostly wrong with all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One reward of a rubric. name: unique among its parts. rule: how its value counts in the sum."""

    name: str
    reward: Reward
    rule: Rule


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, the second and later uses of one numbered: `math`, `math_2`, `math_3`."""
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate)
        result.append(candidate)
    return result


class Rubric:
    """A Reward made of rewards, which are scored at the same time."""

    def __init__(self, rewards: Sequence[tuple[Reward, float | Rule]], *, name: str = "rubric") -> None:
        """rewards: each with its weight, or the rule by which it counts.

        Raises: ValueError without rewards, for a weight that is not finite, for gates that are no rewards of this
        rubric or go in a circle.
        """
        if not rewards:
            raise ValueError("a rubric needs at least one reward")
        parts: list[Part] = []
        for unique, (reward, rule) in zip(unique_names([reward.name for reward, _ in rewards]), rewards, strict=True):
            try:
                found = rule if isinstance(rule, Rule) else Rule(weight=rule)
            except ValueError as error:
                raise ValueError(f"reward {unique!r}: {error}") from None
            parts.append(Part(name=unique, reward=reward, rule=found))
        self.name = name
        self.parts = tuple(parts)
        self.rules = {part.name: part.rule for part in parts}
        check_gates(self.rules)

    def weights(self, step: int = 0) -> dict[str, float]:
        """Reward name → weight of a step, counted from 1; the final weights when left out."""
        return {name: rule.weight_at(step) for name, rule in self.rules.items()}

    async def score(self, group: Group) -> Sequence[Score]:
        """One score per rollout, in order."""
        tasks = [asyncio.ensure_future(self._verdicts(part, group)) for part in self.parts]
        try:
            columns = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()  # where one was cancelled or broke, none may go on for nothing
        named = {part.name: column for part, column in zip(self.parts, columns, strict=True)}
        return compose(self.rules, named, group.step)

    async def score_timed(self, group: Group) -> list[tuple[Score, float]]:
        """One score per rollout, in order, with the seconds its rewards took for it."""
        return [(score, math.fsum(score.seconds.values())) for score in await self.score(group)]

    async def _verdicts(self, part: Part, group: Group) -> Sequence[Verdict]:
        if not part.rule.applies_to(group.prompt.fields):
            return [abstained("not for this prompt")] * len(group.rollouts)
        if isinstance(part.reward, NamedReward):
            return await part.reward.verdicts(group)
        return await _foreign_verdicts(part.reward, group)

    async def ready(self) -> None:
        """Open what the rewards score with. Raises: CharterError of the first that cannot."""
        for part in self.parts:
            if isinstance(part.reward, (NamedReward, Rubric)):
                await part.reward.ready()

    async def close(self) -> None:
        """Close every reward."""
        await asyncio.gather(*(part.reward.close() for part in self.parts))

    def required_columns(self) -> tuple[str, ...]:
        """The columns any of the rewards needs, each once."""
        needed: dict[str, None] = {}
        for part in self.parts:
            if isinstance(part.reward, (NamedReward, Rubric)):
                needed |= dict.fromkeys(part.reward.required_columns())
        return tuple(needed)

    def check_columns(self, columns: Sequence[str], source: str) -> list[Problem]:
        """What the rewards miss in the data, before anything heavy is loaded."""
        checked = [part.reward for part in self.parts if isinstance(part.reward, (NamedReward, Rubric))]
        problems = [problem for reward in checked for problem in reward.check_columns(columns, source)]
        for name, rule in self.rules.items():
            for column in rule.only:
                if column not in columns:
                    have = ", ".join(map(repr, columns)) or "none besides the prompt"
                    found = f"only.{column} is no column of {source} (columns: {have}), so it would never be asked"
                    problems.append(Problem(where=f"reward {name!r}", found=found, fix="Name a column, or add it"))
        return problems


async def _foreign_verdicts(reward: Reward, group: Group) -> Sequence[Verdict]:
    """Verdicts of a reward that only keeps to the seam, or does not quite."""
    count, started = len(group.rollouts), time.monotonic()
    try:
        scores = list(await reward.score(group))
    except Exception as error:  # noqa: BLE001 - the seam forbids it, and one reward must not take the step along
        return [failed(f"{type(error).__name__}: {error}")] * count
    if len(scores) != count:
        return [failed(f"{len(scores)} scores for {count} completions")] * count
    each_s = (time.monotonic() - started) / max(1, count)
    return [replace(_as_verdict(score), seconds=each_s) for score in scores]


def _as_verdict(score: object) -> Verdict:
    if not isinstance(score, Score):
        return failed(f"returned a {type(score).__name__}; expected a Score")
    if score.value is None:
        return Verdict(value=None, status=score.status, note=score.note, lasting=False)
    return checked(Verdict(value=score.value, note=score.note))


async def probe(reward: Reward, prompts: Sequence[Prompt]) -> list[str]:
    """What is suspicious about a reward before a run starts, in sentences; empty when nothing is.

    On each prompt an empty completion must be scored and not reach a reward's maximum, and the reference answer, where
    the reward knows one, must. Raises: CharterError where a reward cannot have what it scores with (a sandbox).
    """
    if isinstance(reward, (NamedReward, Rubric)):
        await reward.ready()
    parts = [(part.reward, part.rule) for part in reward.parts] if isinstance(reward, Rubric) else [(reward, Rule())]
    sentences: list[str] = []
    for one, rule in parts:
        if isinstance(one, Rubric):
            sentences += await probe(one, prompts)
        if not isinstance(one, NamedReward) or one.maximum is None:
            continue
        meant = [prompt for prompt in prompts if rule.applies_to(prompt.fields)]
        said = [sentence for prompt in meant for sentence in await _probe_prompt(one, prompt, one.maximum)]
        more = len(said) - MOST_SENTENCES
        sentences += said[:MOST_SENTENCES] + ([f"reward {one.name!r}: and {more} more like these"] if more > 0 else [])
    return sentences


async def _probe_prompt(reward: NamedReward, prompt: Prompt, maximum: float) -> list[str]:
    known = reward.reference(prompt)
    right, empty = await reward.score(as_group(prompt, ["" if known is None else known, ""]))
    sentences = []
    if known is not None and (right.value is None or right.value < maximum):
        answer = f"the reference answer of prompt {prompt.id}"
        if right.value is not None:
            because = f" ({right.note})" if right.note else ""
            said = f"gives {answer} {right.value:g}, not {maximum:g}{because}"
        else:
            said = f"{'fails' if right.status == 'failed' else 'abstains'} on {answer}: {right.note}"
        sentences.append(f"reward {reward.name!r} {said}. Check the reference column and the reward's options")
    elif empty.status == "failed":  # said already where the reference failed too
        sentences.append(f"reward {reward.name!r} fails on an empty completion of prompt {prompt.id}: {empty.note}")
    if empty.value is not None and empty.value >= maximum:
        sentences.append(
            f"reward {reward.name!r} gives an empty completion of prompt {prompt.id} its maximum, {empty.value:g}"
        )
    return sentences


def as_group(prompt: Prompt, texts: Sequence[str]) -> Group:
    """Texts from elsewhere than a sampler, as a group; their tokens are unknown."""
    from charter.types import Rollout

    return Group(
        prompt=prompt,
        rollouts=tuple(
            Rollout(prompt_id=prompt.id, index=i, tokens=(), logprobs=(), text=text, stop="eos", version=0)
            for i, text in enumerate(texts)
        ),
    )
