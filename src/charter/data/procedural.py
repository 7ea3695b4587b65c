"""Questions made by a program: endless, checkable, and needing no download."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from charter.data.programs import tiny_programs
from charter.data.reading import Located
from charter.errors import DataError, MissingExtra

DEFAULT_SIZE = 1000
_LARGEST_SEARCH = 20
"""Draws per asked question before a generator counts as exhausted."""


def is_procedural(source: str) -> bool:
    """Whether a source is made by a program rather than read."""
    return source.startswith(("arithmetic:", "programs:", "reasoning_gym:"))


def generate_rows(source: str, options: Mapping[str, Any], size: int | None, seed: int) -> Iterator[Located]:
    """`size` different questions (1000 when None), the same for the same seed.

    Rows have `question`, `answer`, `task` and, from reasoning-gym, `metadata`; of `programs:tiny`, see `programs.py`.

    Raises:
        DataError: unknown task or option, or fewer different questions than asked for.
        MissingExtra: `reasoning_gym:` without the package.
    """
    kind, _, task = source.partition(":")
    wanted = DEFAULT_SIZE if size is None else size
    draw = _drawer(kind, task, options, seed, wanted)
    seen: set[str] = set()
    index = 0
    while len(seen) < wanted:
        if index >= _LARGEST_SEARCH * wanted + 100:
            raise DataError(
                f"{source}: only {len(seen)} different questions were found for data.size = {wanted} "
                f"with {dict(options)}. Ask for at most {len(seen)}, or widen data.options"
            )
        row = draw(index)
        index += 1
        if row["question"] not in seen:
            seen.add(row["question"])
            yield f"{source} #{index - 1}", row


def _drawer(kind: str, task: str, options: Mapping[str, Any], seed: int, size: int) -> Callable[[int], dict[str, Any]]:
    if kind == "arithmetic":
        return _arithmetic(task, options, seed)
    if kind == "reasoning_gym":
        return _reasoning_gym(task, options, seed, size)
    if task != "tiny":
        raise DataError(f"programs:{task}: there is no such task. Use programs:tiny")
    return tiny_programs(options, seed)


def _arithmetic(task: str, options: Mapping[str, Any], seed: int) -> Callable[[int], dict[str, Any]]:
    """`arithmetic:addition`: "59+63" → "122"; `terms` numbers of exactly `digits` digits, each equally likely."""
    if task != "addition":
        raise DataError(f"arithmetic:{task}: there is no such task. Use arithmetic:addition")
    settings = {"digits": 2, "terms": 2} | dict(options)
    for name, value in settings.items():
        if name not in ("digits", "terms"):
            raise DataError(f"arithmetic:addition has no option {name!r}. It has digits and terms")
        lowest = 1 if name == "digits" else 2
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= 18:
            raise DataError(f"arithmetic:addition: {name} = {value!r}, expected a whole number from {lowest} to 18")
    low = 0 if settings["digits"] == 1 else 10 ** (settings["digits"] - 1)
    span = 10 ** settings["digits"] - low

    def draw(index: int) -> dict[str, Any]:
        numbers: list[int] = []
        for term in range(settings["terms"]):
            digest = hashlib.blake2b(f"addition:{seed}:{index}:{term}".encode(), digest_size=16).digest()
            # 128 random bits over at most 10^18 values: no number is favoured by more than 1 part in 10^20
            numbers.append(low + int.from_bytes(digest, "big") % span)
        return {"question": "+".join(map(str, numbers)), "answer": str(sum(numbers)), "task": "addition"}

    return draw


def _reasoning_gym(task: str, options: Mapping[str, Any], seed: int, size: int) -> Callable[[int], dict[str, Any]]:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError:
        raise MissingExtra("reasoning-gym", "gym", f"the prompts reasoning_gym:{task}") from None
    import difflib

    if task not in DATASETS:
        near = difflib.get_close_matches(task, list(DATASETS), n=3, cutoff=0.5)
        hint = (
            f"Did you mean {' or '.join(near)}?" if near else f"There are {len(DATASETS)} tasks, chain_sum for instance"
        )
        raise DataError(f"reasoning_gym:{task}: there is no such task. {hint}")
    config = {"seed": seed, **options}
    if "size" in config:
        raise DataError(f"reasoning_gym:{task}: set data.size instead of data.options.size")
    try:
        made = reasoning_gym.create_dataset(task, size=_LARGEST_SEARCH * size + 100, **config)
    except (TypeError, AssertionError, ValueError) as error:
        raise DataError(f"reasoning_gym:{task} does not take data.options = {dict(options)}: {error}") from None

    def draw(index: int) -> dict[str, Any]:
        entry = made[index]
        # through JSON, so that a run folder can hold what a reward was given, and reads back the same
        metadata = json.loads(json.dumps(entry["metadata"], default=str))
        return {"question": entry["question"], "answer": entry["answer"], "task": task, "metadata": metadata}

    return draw
