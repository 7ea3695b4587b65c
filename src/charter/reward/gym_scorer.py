"""The worker's side of `reasoning_gym`: the data set's own scorer on one answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any


def open_judge(options: Mapping[str, Any]) -> tuple[Callable[[Mapping[str, Any]], dict[str, Any]], None]:
    """Set a worker up: import reasoning-gym once; scorers are made per task and kept."""
    del options
    import reasoning_gym

    scorers: dict[str, Callable[[str | None, dict[str, Any]], float]] = {}

    def judge(work: Mapping[str, Any]) -> dict[str, Any]:
        task, entry, answer = work["task"], work["entry"], work["answer"]
        if task not in scorers:
            try:
                scorers[task] = reasoning_gym.get_score_answer_fn(task)  # pyright: ignore[reportArgumentType]
            except ValueError as error:
                return {"failed": f"reasoning-gym has no task {task!r}: {error}"}
        scorer = scorers[task]
        if not answer:
            return {"value": 0.0, "note": "no answer found"}
        try:
            value = float(scorer(answer, entry))
        except Exception as error:  # noqa: BLE001 - many scorers parse text; whose fault it is, the next call tells
            cause = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")[:200]
            try:
                scorer(entry["answer"], entry)
            except Exception:  # noqa: BLE001
                return {"failed": f"the scorer of {task!r} breaks on this entry: {cause}"}
            return {"value": 0.0, "note": f"the scorer of {task!r} cannot read the completion: {cause}"}
        return {"value": value, "note": ""}

    return judge, None
