"""What an error of pydantic-monty means for a program: its outcome and a sentence.

Whatever the program could bring about itself is held against it, so that no text a policy learns to write turns a
wrong answer into `sandbox_error`.
"""

from __future__ import annotations

import builtins
from typing import Any

from charter.sandbox.job import Outcome
from charter.sandbox.judging import raised

SUBSET = "the sandbox monty runs a subset of Python and lacks this; the kinds A, B and C run all of it"
LONGEST = 300
_BUILTINS = frozenset(dir(builtins))


def outcome_of_error(error: BaseException) -> tuple[Outcome, str]:
    """The outcome of whatever a feed of the interpreter raised, with its note."""
    kind = type(error).__name__
    if kind == "MontyCrashedError":
        return _of_crash(error, str(error))
    if isinstance(error, MemoryError):  # in the worker, while it took over what the program answered
        return "output_limit", "its answer is too large to take over"
    inner = _inner(error)
    name = type(inner).__name__ if inner is not None else kind
    said = one_line(str(inner) if inner is not None else str(error)).removeprefix(f"{name}: ")
    if name == "TimeoutError" and "limit exceeded" in said:
        return "timeout", "it ran into the time limit"
    if name == "RuntimeError" and said.startswith("suspension limit"):
        return "timeout", "it asked its host for names or sleep too often"
    if name == "MemoryError":
        return "out_of_memory", said or "it ran out of memory"
    if lacks(name, said):
        return "failed", f"{name}: {said} ({SUBSET})"
    if kind not in ("MontyRuntimeError", "MontySyntaxError", "MontyTypingError", "MontyConversionError"):
        return "crashed", f"its answer cannot be taken over: {kind}: {said}"
    return raised(name, said, denied=False)


def lacks(name: str, said: str) -> bool:
    """Whether an exception looks like a hole in the subset; it only words the note."""
    if name in ("ModuleNotFoundError", "ImportError"):
        return True
    if name == "NameError":
        quoted = said.split("'")
        return len(quoted) > 1 and quoted[1] in _BUILTINS
    if name == "AttributeError":
        return "module" in said
    return "monty" in said.lower()


def one_line(text: str) -> str:
    """The text on one line of bounded length."""
    return " ".join(text[: 4 * LONGEST].split())[:LONGEST]


def _of_crash(error: Any, said: str) -> tuple[Outcome, str]:
    if getattr(error, "timed_out", False) or "exceeding" in said:
        return "timeout", "it ran into the time limit and could not be interrupted"
    if "SIGKILL" in said:  # neither the pool nor the program does that; the machine's memory killer does
        return "sandbox_error", f"the interpreter was killed from outside (out of memory on this machine?): {said}"
    return "crashed", one_line(said)


def _inner(error: BaseException) -> BaseException | None:
    unwrap = getattr(error, "exception", None)
    if not callable(unwrap):
        return None
    found = unwrap()
    return found if isinstance(found, BaseException) else None
