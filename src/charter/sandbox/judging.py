"""From what a program did to a verdict. Everything here sees data only: exact built-in types, text, numbers."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from charter.sandbox.job import Outcome

EXCERPT = 200
"""Characters of a program's own text that a note may quote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one process ended, as its host saw it.

    killed: the limit for which the host killed it, or None. signal: what ended it otherwise. code: its exit code.
    error: why the sandbox, not the program, is to blame.
    """

    killed: Outcome | None = None
    signal: int | None = None
    code: int = 0
    error: str = ""
    seconds: float = 0.0


def outcome_of(ending: Ending) -> tuple[Outcome, str] | None:
    """The outcome an ending settles by itself, with its note; None when the process simply left."""
    if ending.error:
        return "sandbox_error", ending.error
    if ending.killed == "timeout":
        return "timeout", "it ran into the time limit"
    if ending.killed == "output_limit":
        return "output_limit", "it wrote more than the limit allows"
    if ending.killed is not None:
        return ending.killed, ""
    if ending.signal is None:
        return None
    if ending.signal == signal.SIGXCPU:
        return "timeout", "it used up its processor time"
    if ending.signal == signal.SIGSYS:
        return "policy_violation", "it made a system call of another architecture"
    if ending.signal == signal.SIGKILL:
        # no program here can send itself SIGKILL, and this one was not the host's
        return "sandbox_error", "something outside killed it (out of memory on this machine?)"
    try:
        name = signal.Signals(ending.signal).name
    except ValueError:
        name = f"signal {ending.signal}"
    return "crashed", f"it was ended by {name}"


def raised(kind: str, text: str, denied: bool) -> tuple[Outcome, str]:
    """The outcome of an exception that ended a program."""
    said = f"{kind}: {text}" if text else kind
    if denied:
        return "policy_violation", f"the jail refused it: {said}"
    if kind == "MemoryError":
        return "out_of_memory", said
    return "crashed", said


def _lines(text: str) -> list[str]:
    lines = [line.rstrip(" \t\r") for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def same_output(expected: str, found: str) -> bool:
    """Whether two outputs are the same, whole: every line, in order, white space at line ends and blank last lines
    aside."""
    return _lines(expected) == _lines(found)


def difference(expected: str, found: str) -> str:
    """Where two outputs first differ, in a sentence that quotes the found text only."""
    wanted, got = _lines(expected), _lines(found)
    for number, (one, other) in enumerate(zip(wanted, got, strict=False), start=1):
        if one != other:
            return f"line {number} of its output is {other[:EXCERPT]!r}, which is not what was expected"
    return f"its output has {len(got)} lines, expected {len(wanted)}: {found[:EXCERPT]!r}"
