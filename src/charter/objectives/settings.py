"""Names, default constants and sensible ranges of the objectives; no torch, so that a recipe is checked in no time."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

ESTIMATORS = ("center", "standardize", "leave_one_out", "batch_std", "max_rl")
"""Names of group advantages."""
POLICY_KINDS = ("reinforce", "clip", "gspo", "cispo", "sapo", "dppo_tv")
"""Names of per-token policy losses."""
AGGREGATIONS = ("token", "sequence", "constant", "prompt")
"""Names of ways in which per-token losses become one number."""
KL_KINDS = ("k1", "k2", "k3")
"""Names of KL estimators."""
PREFERENCE_KINDS = ("dpo", "cdpo", "ipo", "length_normalized")
"""Names of pairwise losses against a reference."""
MISMATCH_KINDS = ("none", "truncate", "mask")
"""Names of corrections for a sampler that is not the learner's own forward."""

GROUP_EPS = 1e-4
"""Added to the standard deviation of rewards, in their unit."""
GSPO_LARGEST_CLIP = 0.1
"""A sequence ratio is a geometric mean: it moves by thousandths, so a range this wide never clips."""


class ClipRange(NamedTuple):
    """How far the ratio may move: from 1 − low to 1 + high. None: that side has no bound."""

    low: float | None
    high: float | None


DEFAULT_CLIP: Mapping[str, ClipRange] = MappingProxyType(
    {
        "reinforce": ClipRange(None, None),
        "clip": ClipRange(0.2, 0.2),
        "gspo": ClipRange(3e-4, 4e-4),
        "cispo": ClipRange(None, 4.0),
        "sapo": ClipRange(None, None),
        "dppo_tv": ClipRange(None, None),
    }
)
"""Clip range of each kind where the caller names none; None where the kind reads no bound on that side."""

NAMED_SETTINGS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {"sapo": {"tau_positive": 1.0, "tau_negative": 1.05}, "dppo_tv": {"delta": 0.2}}
)
"""Further constants of a kind, by name, with their defaults."""


def require_choice(name: str, found: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError naming the choices unless `found` is one of them."""
    if found not in choices:
        raise ValueError(f"{name} is {found!r}; expected one of {', '.join(choices)}")


def clip_range(kind: str, clip_low: float | None = None, clip_high: float | None = None) -> ClipRange:
    """The range that a kind runs with: the caller's number, else the kind's default, None where it reads none.

    Args:
        kind: a policy loss. clip_low, clip_high: ε_low and ε_high, as shares of the ratio; None for the default.

    Raises: ValueError for an unknown kind or a negative ε.
    """
    require_choice("policy loss", kind, POLICY_KINDS)
    for name, value in (("clip_low", clip_low), ("clip_high", clip_high)):
        if value is not None and not value >= 0:
            raise ValueError(f"{name} is {value}; a clip range is at least 0")
    default = DEFAULT_CLIP[kind]
    return ClipRange(
        None if default.low is None else default.low if clip_low is None else clip_low,
        None if default.high is None else default.high if clip_high is None else clip_high,
    )


def named_settings(kind: str, named: Mapping[str, float]) -> dict[str, float]:
    """The further constants a kind runs with: its defaults, replaced by what the caller named.

    Raises: TypeError for a name that the kind does not have, ValueError for a constant that is not positive.
    """
    defaults = NAMED_SETTINGS.get(kind, {})
    unknown = sorted(set(named) - set(defaults))
    if unknown:
        known = ", ".join(defaults) or "none"
        raise TypeError(f"policy loss {kind!r} has no argument {', '.join(unknown)}; its own arguments: {known}")
    for name, value in named.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be above 0")
    return {**defaults, **named}


def require_dual_clip(kind: str, dual_clip: float | None) -> None:
    """Raise ValueError unless `dual_clip` is None, or above 1 with the loss `clip`."""
    if dual_clip is None:
        return
    if kind != "clip":
        raise ValueError(f'dual_clip bounds the loss "clip"; the loss here is {kind!r}: leave dual_clip out')
    if not dual_clip > 1:
        raise ValueError(f"dual_clip is {dual_clip}; it must be above 1, the ratio of an unchanged policy")


def check_policy_settings(
    kind: str, clip_low: float | None = None, clip_high: float | None = None, dual_clip: float | None = None
) -> list[str]:
    """What makes no sense about a policy loss's numbers, a sentence each; an empty list is consent.

    Args:
        kind: the policy loss. clip_low, clip_high: ε_low and ε_high, None for the kind's default.
        dual_clip: c, the bound on the loss of negative advantages in multiples of |A|, or None.

    Returns: sentences that name the key, what was found and what to do.
    Not here: positivity of the recipe's keys by type, which the recipe's own schema holds.
    """
    if kind not in POLICY_KINDS:
        return [f"loss is {kind!r}; choose one of {', '.join(POLICY_KINDS)}."]
    problems: list[str] = []
    given = (("clip_low", clip_low, DEFAULT_CLIP[kind].low), ("clip_high", clip_high, DEFAULT_CLIP[kind].high))
    for name, value, default in given:
        if value is None:
            continue
        if default is None:
            problems.append(f'{name} = {value} has no effect: the loss "{kind}" has no such bound. Leave it out.')
        elif kind == "cispo" and value < 0:
            problems.append(
                f"{name} = {value} caps the cispo weight at {1 + value:g}, below 1, which scales down every "
                "on-policy gradient. Choose a positive number; 4 is usual."
            )
        elif not value > 0:
            problems.append(f"{name} = {value} leaves the ratio no room. Choose a positive number; {default} is usual.")
        elif kind == "gspo" and value >= GSPO_LARGEST_CLIP:
            problems.append(
                f"{name} = {value} never clips a gspo ratio, a mean over the whole sequence that moves by "
                f"thousandths. Choose a number below {GSPO_LARGEST_CLIP}; {default} is usual."
            )
        elif kind == "clip" and name == "clip_low" and value >= 1:
            problems.append(
                f"clip_low = {value} puts the lower bound at {1 - value:g}, which no ratio reaches. "
                f"Choose a number below 1; {default} is usual."
            )
    try:
        require_dual_clip(kind, dual_clip)
    except ValueError as error:
        problems.append(f"{error}.")
    return problems
