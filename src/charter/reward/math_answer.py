"""The verdict on one completion: what it states against the reference. Runs in a worker process.

An answer beyond the bounds of `math_bounds` is wrong without being parsed; one that needs more CPU seconds than its
budget is wrong too. Both depend on the text alone. Time on the clock is the caller's business: a machine that is too
busy is not the answer's fault.

Not here: where an answer is found (`math_statement.py`), what it is (`math_reading.py`), equality (`math_compare.py`).
"""

from __future__ import annotations

import contextlib
import logging
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from charter.reward.math_bounds import beyond, too_large, unreadable
from charter.reward.math_compare import same, without_unit
from charter.reward.math_engine import parsed
from charter.reward.math_reading import INFINITY, MINUS_INFINITY, Answer, Choice, Formula, children, read
from charter.reward.math_statement import statement
from charter.reward.math_tidy import tidy

CPU_SHARE = 0.5
"""Of the time limit, the CPU seconds one answer may need."""

_GROUPED = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_BOXED = re.compile(r"\\f?boxed\s*\{")


class TooMuchWorkError(BaseException):
    """An answer used up its CPU seconds; no Exception, so that no parser swallows it."""


def reference(gold: object) -> str:
    """The reference's text: what follows GSM8K's "####" when there is one, without thousands separators."""
    text = str(gold).rpartition("####")[2].strip() if "####" in str(gold) else str(gold).strip()
    text = text.replace("\u2212", "-")
    return text.replace(",", "") if _GROUPED.fullmatch(text) else text


@lru_cache(maxsize=512)
def read_reference(gold: str) -> Answer:
    """The reference as an answer.

    Raises: ValueError that says what is wrong with it.
    """
    text = statement(gold) if _BOXED.search(gold) else gold
    too_long = unreadable(text)
    if too_long:
        raise ValueError(too_long)
    answer = read(text)
    if answer is None:
        raise ValueError("it states nothing")
    if too_large(text) is None:
        _check(answer)
    return answer


def _check(answer: Answer) -> None:
    """Every formula in a reference must be one."""
    formula = isinstance(answer, Formula) and answer not in (INFINITY, MINUS_INFINITY)
    if isinstance(answer, Formula) and formula and parsed(without_unit(answer.tex)[0]) is None:
        raise ValueError(f"math-verify reads no expression in {answer.tex[:80]!r}")
    for part in children(answer):
        _check(part)


def wrong(note: str) -> dict[str, Any]:
    """A verdict of 0."""
    return {"value": 0.0, "note": note}


def verdict(gold_text: object, completion: str) -> dict[str, Any]:
    """1.0 when the completion's stated answer equals the reference, else 0.0; {"failed": …} for a bad reference."""
    gold = reference(gold_text)
    if not gold:
        return {"failed": "the reference answer is empty"}
    try:
        wanted = read_reference(gold)
    except TooMuchWorkError:
        return {"failed": f"the reference answer {gold[:120]!r} takes more CPU time to parse than an answer may"}
    except Exception as error:  # noqa: BLE001 - whatever the parser trips on, the row is at fault
        return {"failed": f"the reference answer {gold[:120]!r} cannot be parsed: {error}"}
    try:
        return _judge(gold, wanted, completion)
    except (Exception, RecursionError, MemoryError) as error:  # noqa: BLE001 - text that breaks the parser is wrong
        return wrong(f"the completion did not parse: {type(error).__name__}")


def _judge(gold: str, wanted: Answer, completion: str) -> dict[str, Any]:
    in_words = not any(c.isdigit() for c in gold)
    stated = statement(completion, in_words=in_words, choice=isinstance(wanted, Choice)).strip()
    if not stated:
        return wrong("no answer found")
    shown = f"stated {stated[:120]!r}"
    if tidy(stated[: 4 * len(gold) + 100]) == tidy(gold) != "" and len(stated) <= 4 * len(gold) + 100:
        return {"value": 1.0, "note": ""}
    too_much = beyond(stated) or too_large(gold)
    if too_much:
        return wrong(f"not parsed: {too_much}; {shown}")
    given = read(stated)
    if given is None:
        return wrong(f"no answer found in {stated[:120]!r}")
    return {"value": 1.0, "note": ""} if same(wanted, given) else wrong(shown)


@contextlib.contextmanager
def cpu_budget(seconds: float) -> Iterator[None]:
    """Raise TooMuchWorkError in the body once this process has used that many CPU seconds in it.

    It counts CPU time, not time on the clock, so a busy machine changes nothing. It keeps firing until the body ends,
    should a parser have swallowed it. Outside POSIX there is no such timer, and the caller's limit must do.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise TooMuchWorkError

    before = signal.signal(signal.SIGPROF, stop)
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds, 0.1)
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def judge_one(work: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict on a piece of work: {"answer", "text", "row", "cpu_s"}."""
    try:
        with cpu_budget(work["cpu_s"]):
            found = verdict(work["answer"], work["text"])
    except TooMuchWorkError:
        return wrong(f"the completion needs more than {work['cpu_s']:g} s of CPU time to compare")
    return {"failed": work.get("row", "") + found["failed"]} if "failed" in found else found


def open_judge(options: Mapping[str, Any]) -> tuple[Callable[[Mapping[str, Any]], dict[str, Any]], None]:
    """Set a worker up: import math-verify and have it build its parser, before anything is timed.

    Else the first answer of each worker would pay for that with its own CPU seconds, and might be wrong for it.
    """
    del options
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limits are off; ours are on
    parsed(r"\frac{\sqrt{x}}{3}")
    return judge_one, None
