"""Several rewards for one completion: `Σ weight · value` over the rewards that answered, each part kept.

A reward that abstains is left out of the sum; if all abstain, so does the rubric. If any fails, the completion's score
is failed and the note names the reward and the cause: a sum without the broken part would be another reward.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from charter.errors import Problem
from charter.protocols import Reward
from charter.reward.runtime import NamedReward, Tally, Verdict, failed
from charter.types import Group, Prompt, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One reward of a rubric. name: unique among its parts. weight: factor on its value in the sum."""

    name: str
    reward: Reward
    weight: float


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


def combine(verdicts: Sequence[tuple[Part, Verdict]]) -> Score:
    """One completion's score from its parts' verdicts."""
    parts = {part.name: verdict.value for part, verdict in verdicts}
    broken = [f"reward {part.name!r} failed: {v.note}" for part, v in verdicts if v.status == "failed"]
    if broken:
        return Score(value=None, parts=parts, note="; ".join(broken), status="failed")
    notes = [(part.name, v.note) for part, v in verdicts if v.note]
    note = notes[0][1] if len(verdicts) == 1 and notes else "; ".join(f"{name}: {text}" for name, text in notes)
    answered = [part.weight * v.value for part, v in verdicts if v.value is not None]
    if not answered:
        return Score(value=None, parts=parts, note=note or "every reward abstained", status="abstained")
    total = math.fsum(answered) if all(map(math.isfinite, answered)) else math.inf
    if not math.isfinite(total):
        return Score(value=None, parts=parts, note="the weighted sum is not finite", status="failed")
    return Score(value=total, parts=parts, note=note)


class Rubric:
    """A Reward made of rewards, which are scored at the same time."""

    def __init__(self, rewards: Sequence[tuple[Reward, float]], *, name: str = "rubric") -> None:
        """rewards: each with its weight. Raises: ValueError without rewards or for a weight that is not finite."""
        if not rewards:
            raise ValueError("a rubric needs at least one reward")
        for reward, weight in rewards:
            if not math.isfinite(weight):
                raise ValueError(f"the weight of {reward.name!r} is {weight}; it must be finite")
        self.name = name
        names = unique_names([reward.name for reward, _ in rewards])
        self.parts = tuple(Part(name=n, reward=r, weight=w) for n, (r, w) in zip(names, rewards, strict=True))
        self._tallies = {part.name: Tally() for part in self.parts}

    async def score_timed(self, group: Group) -> list[tuple[Score, float]]:
        """One score per rollout, in order, with the seconds its rewards took for it."""
        columns = await asyncio.gather(*(self._verdicts(part, group) for part in self.parts))
        rows = zip(*columns, strict=True)
        return [
            (combine(list(zip(self.parts, row, strict=True))), sum(verdict.seconds for verdict in row)) for row in rows
        ]

    async def score(self, group: Group) -> Sequence[Score]:
        """One score per rollout, in order."""
        return [score for score, _ in await self.score_timed(group)]

    async def _verdicts(self, part: Part, group: Group) -> Sequence[Verdict]:
        if isinstance(part.reward, NamedReward):
            found: Sequence[Verdict] = await part.reward.verdicts(group)
        else:
            found = await self._foreign(part.reward, group)
        for verdict in found:
            self._tallies[part.name].add(verdict)
        return found

    async def _foreign(self, reward: Reward, group: Group) -> Sequence[Verdict]:
        """Verdicts of a reward that only keeps to the seam."""
        count, started = len(group.rollouts), time.monotonic()
        try:
            scores = await reward.score(group)
        except Exception as error:  # noqa: BLE001 - the seam forbids it, and one reward must not take the step along
            return [failed(f"{type(error).__name__}: {error}")] * count
        if len(scores) != count:
            return [failed(f"{len(scores)} scores for {count} completions")] * count
        each_s = (time.monotonic() - started) / max(1, count)
        return [Verdict(value=s.value, status=s.status, note=s.note, seconds=each_s) for s in scores]

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
        return [problem for reward in checked for problem in reward.check_columns(columns, source)]

    def statistics(self) -> dict[str, float]:
        """`<name>/seconds` (mean per completion), `<name>/error_rate`, `<name>/abstain_rate` for each reward."""
        return {f"{n}/{k}": v for n, tally in self._tallies.items() for k, v in tally.statistics().items()}


async def probe(reward: Reward, prompts: Sequence[Prompt]) -> list[str]:
    """What is suspicious about a reward before a run starts, in sentences; empty when nothing is.

    On each prompt an empty completion must not reach a reward's maximum, and the reference answer, where the reward
    knows one, must.
    """
    parts = [part.reward for part in reward.parts] if isinstance(reward, Rubric) else [reward]
    sentences: list[str] = []
    for one in parts:
        if isinstance(one, Rubric):
            sentences += await probe(one, prompts)
        if not isinstance(one, NamedReward) or one.maximum is None:
            continue
        for prompt in prompts:
            sentences += await _probe_prompt(one, prompt, one.maximum)
    return sentences


async def _probe_prompt(reward: NamedReward, prompt: Prompt, maximum: float) -> list[str]:
    known = reward.reference(prompt)
    right, empty = await reward.score(as_group(prompt, ["" if known is None else known, ""]))
    sentences = []
    if known is not None and (right.value is None or right.value < maximum):
        said = f"{right.value:g}" if right.value is not None else right.status
        because = f" ({right.note})" if right.note else ""
        sentences.append(
            f"reward {reward.name!r} gives the reference answer of prompt {prompt.id} {said}, "
            f"not {maximum:g}{because}. "
            "Check the reference column and the reward's options"
        )
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
