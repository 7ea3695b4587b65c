"""What differs between two recipes, and which of it a run may change when it goes on."""

# pyright: strict

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from pydantic import BaseModel

from charter.recipe.writing import values_of

_MAY_CHANGE = frozenset(
    {
        "run.steps",
        "run.save_every",
        "run.keep_checkpoints",
        "run.eval_every",
        "run.name",
        "name",
        "learner.max_microbatch_tokens",
        "monitors.patience",
        "monitors.max_boilerplate_rise",
        "monitors.min_distinct_2",
        "monitors.max_length_drift",
        "monitors.max_refusal_rate",
        "monitors.max_gap",
    }
)


def differences(old: BaseModel, new: BaseModel) -> list[tuple[str, Any, Any]]:
    """Every key whose value differs between two recipes of one kind.

    Returns:
        (dotted key, old value, new value) in the order of the tables; None for a key that one of them has not.
    """
    before, after = dict(_flat(values_of(old), "")), dict(_flat(values_of(new), ""))
    keys = [*before, *(key for key in after if key not in before)]
    return [(key, before.get(key), after.get(key)) for key in keys if not _same(before.get(key), after.get(key))]


def stated_values(recipe: BaseModel) -> dict[str, Any]:
    """Dotted key → value, of every key that is not at its default: a key that a later version adds changes nothing."""
    return dict(_flat(recipe.model_dump(exclude_defaults=True), ""))


def matters_for_resume(key: str) -> bool:
    """Whether a run that is resumed with another value of this key would no longer be the same run.

    How long it runs, what it keeps and how its micro-batches are cut may change; nothing else. How it is evaluated
    may not either: an accuracy before and one after are compared only if both were measured in the same way. Of a
    stage (`stages.policy.run.steps`), the same keys may change as of a recipe.
    """
    group, _, rest = key.partition(".")
    inside = rest.partition(".")[2] if group in ("stages", "methods") else key
    return inside not in _MAY_CHANGE or (inside != key and inside == "name")


def _same(old: object, new: object) -> bool:
    # 1 == True in Python, and in no recipe
    return old == new and isinstance(old, bool) == isinstance(new, bool)


def _flat(value: object, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and (value or not prefix):
        for key, item in cast("dict[str, object]", value).items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in cast("list[object]", value)):
        for index, item in enumerate(cast("list[object]", value)):
            yield from _flat(item, f"{prefix}.{index}")
    else:
        yield prefix, value
