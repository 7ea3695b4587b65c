"""Monitors that would never be measured, or whose limit nothing is held against."""

# pyright: strict

from __future__ import annotations

from collections.abc import Iterator

from charter.recipe.conflict import Conflict
from charter.recipe.tables import Recipe

LIMITS = ("max_boilerplate_rise", "min_distinct_2", "max_length_drift", "max_refusal_rate", "max_gap")


def monitor_conflicts(recipe: Recipe) -> Iterator[Conflict]:
    """What cannot be meant in [monitors]."""
    table = recipe.monitors
    stated = [key for key in LIMITS if getattr(table, key) is not None]
    if stated and not recipe.samples:
        yield Conflict(
            key=f"monitors.{stated[0]}",
            found="monitors watch completions as they are sampled, and this method samples none",
            fix="Leave [monitors] out",
            others=("method",),
        )
        return
    if table.max_gap is not None and table.reward is None:
        yield Conflict(
            key="monitors.max_gap",
            found="the gap is between the trained reward and another one, and monitors.reward names none",
            fix="Name a reward that is not trained against",
            others=("monitors.reward",),
        )
    if table.reward_options and table.reward is None:
        yield Conflict(
            key="monitors.reward_options",
            found="these are options of a reward that monitors.reward does not name",
            fix="Name the reward, or leave them out",
            others=("monitors.reward",),
        )
    measured = [key for key in ("max_refusal_rate", "reward") if getattr(table, key) is not None]
    if measured and recipe.data.held_out == 0:
        yield Conflict(
            key=f"monitors.{measured[0]}",
            found="it is measured at evaluations, and data.held_out = 0 leaves none",
            fix="Set data.held_out to 1 or more, and run.eval_every to how often",
            others=("data.held_out",),
        )
