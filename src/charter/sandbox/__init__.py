"""Programs a model wrote, run where they can do no harm and judged where they cannot reach.

    open_sandbox("auto", slots=…)  →  Sandbox        proven by its self-test, or SandboxUnavailable
    Sandbox.run_calls | run_stdio | run_checker  →  Verdict

What each layer does and which tier has which: docs/sandbox.md.
"""

from typing import TYPE_CHECKING, Any

from charter.sandbox.job import (
    CallSuite,
    CallTest,
    CheckerSuite,
    Limits,
    Outcome,
    QueryResult,
    Sandbox,
    StdioCase,
    Verdict,
)

if TYPE_CHECKING:
    from charter.sandbox.opening import open_sandbox

__all__ = [
    "CallSuite",
    "CallTest",
    "CheckerSuite",
    "Limits",
    "Outcome",
    "QueryResult",
    "Sandbox",
    "StdioCase",
    "Verdict",
    "open_sandbox",
]


def __getattr__(name: str) -> Any:
    if name != "open_sandbox":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from charter.sandbox.opening import open_sandbox

    return open_sandbox
