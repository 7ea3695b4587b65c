"""TRL: `f(prompts, completions, completion_ids, <columns>…, **kwargs) -> list of numbers or None`.

Lists with one entry per completion; conversations as lists of {"role", "content"}; async functions; `log_extra` and
`log_metric`, whose values go into the completions' notes. There is no trainer here: `trainer_state` and `environments`
keep their defaults.

Source: huggingface/trl 1.16, GRPOTrainer._calculate_rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from charter.reward.adapters.shape import LONGEST_EXTRA, Opened, Reply, Work, facts, named, need, parameters_of
from charter.reward.adapters.shape import takes_all as has_kwargs
from charter.reward.call import SPECIAL, SourceError, call

LOGS = ("log_extra", "log_metric")
ABSENT = ("trainer_state", "environments")
"""What TRL's trainer hands over and a reward outside of it cannot have."""


class Log:
    """Takes what a function logs. `extra` is one value per completion, `metric` one for all of them."""

    def __init__(self, count: int) -> None:
        self.notes: list[list[str]] = [[] for _ in range(count)]

    def extra(self, column: str, values: Sequence[Any]) -> None:
        """TRL's log_extra. Raises: ValueError unless there is one value per completion."""
        if len(values) != len(self.notes):
            raise ValueError(f"log_extra({column!r}) was given {len(values)} values for {len(self.notes)} completions")
        for note, value in zip(self.notes, values, strict=True):
            note.append(f"{column}={value!r:.80}")

    def metric(self, name: str, value: float) -> None:
        """TRL's log_metric."""
        for note in self.notes:
            note.append(f"{name}={value!r:.80}")


def _mentions(function: Callable[..., Any], name: str) -> bool:
    """Whether a function's own code holds the text, as `kwargs["log_extra"]` does."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is not None and name in code.co_consts


def open_trl(function: Callable[..., Any]) -> Opened:
    """Set up for a function with TRL's signature. Raises: SourceError for one that needs the trainer itself."""
    parameters = parameters_of(function)
    names = [p.name for p in named(parameters)]
    required = [p.name for p in named(parameters) if p.default is p.empty]
    for name in ABSENT:
        if name in required:
            raise SourceError(f"it needs TRL's {name!r}, which only TRL's trainer has. Give the parameter a default")
    everything = has_kwargs(parameters)
    # TRL puts both into **kwargs; a function that never names them is spared two entries that are no columns.
    logs = [name for name in LOGS if name in names or (everything and _mentions(function, name))]
    filled = (*SPECIAL, *LOGS, *ABSENT)

    def judge(work: Work) -> list[Reply]:
        if not logs:
            return call(function, work)
        log = Log(len(work["texts"]))
        given = {"log_extra": log.extra, "log_metric": log.metric}
        replies = call(function, {**work, "options": {**work["options"], **{n: given[n] for n in logs}}})
        return [_noted(reply, ", ".join(note)) for reply, note in zip(replies, log.notes, strict=True)]

    return judge, facts(
        names,
        filled=filled,
        needs=[need(name) for name in required if name not in filled],
        wants=None if everything else [name for name in names if name not in filled],
        row_independent=bool(getattr(function, "row_independent", True)),
    )


def _noted(reply: Reply, note: str) -> Reply:
    if "failed" in reply or not note:
        return reply
    before = reply.get("note", "")
    return {**reply, "note": (f"{before}; {note}" if before else note)[:LONGEST_EXTRA]}
