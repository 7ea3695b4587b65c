"""Programs a model wrote, run where they can do no harm and judged where they cannot reach.

    open_sandbox("auto", slots=…)  →  Sandbox        proven by its self-test, or SandboxUnavailable
    Sandbox.run_calls | run_stdio | run_checker  →  Verdict

What each layer does and which tier has which: docs/sandbox.md.
"""

from charter.sandbox.job import CallSuite, CallTest, CheckerSuite, Limits, Outcome, Sandbox, StdioCase, Verdict

__all__ = [
    "CallSuite",
    "CallTest",
    "CheckerSuite",
    "Limits",
    "Outcome",
    "Sandbox",
    "StdioCase",
    "Verdict",
]
