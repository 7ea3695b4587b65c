"""Asserts taken apart: what a program is asked, and what must hold of its answers, which never enters the sandbox.

split_asserts("assert f(2) == 4") -> CallSuite(tests=(CallTest(calls=("f(2)",), check="_0 == 4"),))
evaluate_check("_0 == 4", [4]) -> True
"""

from __future__ import annotations

from charter.sandbox.calls_check import evaluate_check
from charter.sandbox.calls_operations import CheckError

__all__ = ["CheckError", "evaluate_check"]
