"""Models against each other on prompts none of them learnt from: helpful and harmless apart, evasive as a third axis.

Who answers and who compares is handed in, so that a journal can stand between (nothing is asked twice).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from charter.errors import RunError, UsageError
from charter.evaluate.elo import Comparison, HeadToHead, Rating, elo, head_to_head
from charter.evaluate.refusals import Refusals, refusals
from charter.types import Message, Prompt

Axis = Literal["helpful", "harmless"]
AXES: tuple[Axis, ...] = ("helpful", "harmless")

Answer = Callable[[str, Sequence[Prompt]], Awaitable[Mapping[str, str | None]]]
"""(model, prompts) → prompt id → reply, None where it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Two replies to one prompt that wait for a verdict. id: of prompt and models."""

    id: str
    axis: Axis
    messages: tuple[Message, ...]
    model_a: str
    model_b: str
    a: str
    b: str

    def messages_key(self) -> str:
        """The prompt, as what comparisons are clustered by."""
        return json.dumps(self.messages, ensure_ascii=False, sort_keys=True)


Prefer = Callable[[Sequence[Contest]], Awaitable[Mapping[str, float | None]]]
"""Contests → id → p that a is better, in both orders where the judge sees one; None where it has no opinion."""
Measure = Callable[[Axis, Sequence[tuple[tuple[Message, ...], str]]], Sequence[float | None]]
"""(axis, (messages, reply) …) → a score each, higher is better; None where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bout:
    """One axis of the arena. ratings, pairs: empty where nothing was decided. left_out: contests without a label."""

    axis: Axis
    prompts: int
    ratings: tuple[Rating, ...]
    pairs: tuple[HeadToHead, ...]
    decided: int
    same: int
    left_out: int
    failed: int

    def record(self) -> dict[str, Any]:
        """{"prompts", "elo": [...], "pairs": [...], "decided", "same", "left_out", "failed"}."""
        return {
            "prompts": self.prompts,
            "elo": [rating.record() for rating in self.ratings],
            "pairs": [pair.record() for pair in self.pairs],
            "decided": self.decided,
            "same": self.same,
            "left_out": self.left_out,
            "failed": self.failed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """Everything the arena found. judged_by: a sentence's worth of who compared."""

    models: tuple[str, ...]
    judged_by: str
    bouts: Mapping[Axis, Bout]
    refusals: tuple[Refusals, ...]

    def record(self) -> dict[str, Any]:
        """The table "arena" of report.json: {"models", "judged_by", "helpful", "harmless", "evasive"}."""
        return {
            "models": list(self.models),
            "judged_by": self.judged_by,
            **{axis: bout.record() for axis, bout in self.bouts.items()},
            "evasive": [each.record() for each in self.refusals],
        }


def contests_of(
    axis: Axis, models: Sequence[str], prompts: Sequence[Prompt], replies: Mapping[str, Mapping[str, str | None]]
) -> list[Contest]:
    """Every two models on every prompt that both answered, those with the same reply too."""
    found: list[Contest] = []
    for prompt in prompts:
        for model_a, model_b in itertools.combinations(models, 2):
            a, b = replies[model_a].get(prompt.id), replies[model_b].get(prompt.id)
            if a is not None and b is not None:
                found.append(
                    Contest(
                        id=f"{axis}/{prompt.id}/{model_a}/{model_b}", axis=axis, messages=prompt.messages,
                        model_a=model_a, model_b=model_b, a=a, b=b,
                    )
                )  # fmt: skip
    return found


def by_measure(measure: Measure, *, how: Literal["sigmoid", "sign"] = "sigmoid", scale: float = 1.0) -> Prefer:
    """A measure as the one who compares.

    sigmoid: p = σ((score_a − score_b) / scale), right where scores are log-odds. sign: 1, 0, or a half where equal,
    right where scores are shares of checks. scale: in the measure's unit. A score of None is no opinion.
    """
    if not scale > 0:
        raise ValueError(f"a scale is above 0, not {scale}")

    def p_of(a: float, b: float) -> float:
        if how == "sign":
            return 0.5 if a == b else float(a > b)
        return 0.5 * (1 + math.tanh((a - b) / (2 * scale)))

    async def prefer(contests: Sequence[Contest]) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for axis in AXES:
            these = [each for each in contests if each.axis == axis]
            texts = list(dict.fromkeys((each.messages_key(), reply) for each in these for reply in (each.a, each.b)))
            whole = {each.messages_key(): each.messages for each in these}
            scores = measure(axis, [(whole[key], reply) for key, reply in texts]) if texts else ()
            known = dict(zip(texts, scores, strict=True))
            for each in these:
                a, b = (known[each.messages_key(), reply] for reply in (each.a, each.b))
                found[each.id] = None if a is None or b is None else p_of(a, b)
        return found

    return prefer


async def hold_arena(
    models: Sequence[str],
    prompts: Mapping[Axis, Sequence[Prompt]],
    answer: Answer,
    prefer: Prefer,
    *,
    judged_by: str,
    safe: Sequence[Prompt] = (),
    unsafe: Sequence[Prompt] = (),
    refuses: Callable[[str], bool] | None = None,
    evades: Callable[[str], bool] | None = None,
    anchor: str | None = None,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 1000,
) -> Arena:
    """Every model answers every prompt once; every two replies are compared; Elo per axis, refusals beside it.

    models: names, at least two, each once. prompts: axis → held-out prompts. answer, prefer: see their types; two
    replies that are the same text are a tie that nobody is asked about. judged_by: goes into the record. safe,
    unsafe: the twins, and refuses, evades: see `refusals`. anchor, level, seed, resamples: as in `elo`.
    Raises: UsageError for fewer than two models or no prompts; RunError where no reply or no label came at all.
    """
    if len(set(models)) != len(models) or len(models) < 2:
        raise UsageError(f"an arena needs at least two different models, and was given {', '.join(models) or 'none'}.")
    everyone = [*itertools.chain.from_iterable(prompts.values()), *safe, *unsafe]
    if not everyone:
        raise UsageError("the arena has no prompts: set arena.harmful, arena.helpful or arena.twins above 0.")
    if (safe or unsafe) and refuses is None:
        raise UsageError("twins are counted by refusals, and nothing was given that tells one.")
    unique = list({prompt.id: prompt for prompt in everyone}.values())
    replies: dict[str, Mapping[str, str | None]] = {}
    for model in models:
        replies[model] = await answer(model, unique)
        if all(replies[model].get(prompt.id) is None for prompt in unique):
            raise RunError(
                f"the model {model!r} answered none of {len(unique)} prompts; see the journal for the cause."
            )
    bouts: dict[Axis, Bout] = {}
    for axis in AXES:
        if these := prompts.get(axis, ()):
            bouts[axis] = await _bout(axis, models, these, replies, prefer, anchor, level, seed, resamples)
    counted = tuple(
        refusals(
            model,
            {prompt.id: replies[model].get(prompt.id) for prompt in safe},
            {prompt.id: replies[model].get(prompt.id) for prompt in unsafe},
            refuses,
            evades=evades,
            level=level,
        )
        for model in models
        if refuses is not None and (safe or unsafe)
    )
    return Arena(models=tuple(models), judged_by=judged_by, bouts=bouts, refusals=counted)


async def _bout(
    axis: Axis,
    models: Sequence[str],
    prompts: Sequence[Prompt],
    replies: Mapping[str, Mapping[str, str | None]],
    prefer: Prefer,
    anchor: str | None,
    level: float,
    seed: int,
    resamples: int,
) -> Bout:
    contests = contests_of(axis, models, prompts, replies)
    asked = [each for each in contests if each.a != each.b]
    labels: dict[str, float | None] = {each.id: 0.5 for each in contests if each.a == each.b}
    if asked:
        told = await prefer(asked)
        labels |= {each.id: told.get(each.id) for each in asked}
    decided = [(each, p) for each in contests if (p := labels[each.id]) is not None]
    if contests and not decided:
        raise RunError(
            f"not one of {len(contests)} {axis} comparisons has a label: whoever compares said nothing that can be "
            "read. Run charter calibrate on it, or set arena.judged_by to the other one."
        )
    comparisons = [
        Comparison(a=each.model_a, b=each.model_b, p_a=p, cluster=each.messages_key()) for each, p in decided
    ]
    met = [model for model in models if any(model in (each.a, each.b) for each in comparisons)]
    try:
        ratings = elo(
            comparisons, models=met, anchor=anchor if anchor in met else None, level=level, seed=seed,
            resamples=resamples,
        ) if comparisons else ()  # fmt: skip
    except ValueError as error:
        raise RunError(
            f"the {axis} comparisons give no ratings: {error}. See the journal for the replies that failed."
        ) from error
    pairs = len(models) * (len(models) - 1) // 2
    return Bout(
        axis=axis,
        prompts=len(prompts),
        ratings=ratings,
        pairs=head_to_head(comparisons, models, level=level, seed=seed, resamples=resamples),
        decided=len(decided),
        same=len(contests) - len(asked),
        left_out=len(contests) - len(decided),
        failed=pairs * len(prompts) - len(contests),
    )
