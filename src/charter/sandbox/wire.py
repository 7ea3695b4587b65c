"""Jobs and verdicts as JSON: what crosses to a sandbox server and to the worker of the Python subset.

    calls_body | stdio_body | checker_body  →  JSON  →  suite_of | cases_of | limits_of   (the other side)
    verdict_body  →  JSON  →  read_verdict

The reader of a verdict trusts nothing: a wrong key, type or number is a `WireError` that names it.

Not here: queries (`wire_query.py`), HTTP (`remote.py`, `serve.py`). The protocol in words: docs/sandbox_protocol.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from charter.sandbox.job import CallSuite, CallTest, CheckerSuite, Limits, Outcome, StdioCase, Verdict

PROTOCOL = 1
"""Version of the HTTP protocol; any change that an older side would misread raises it."""
PROTOCOL_HEADER = "charter-sandbox-protocol"
URL_VARIABLE = "CHARTER_SANDBOX_URL"
TOKEN_VARIABLE = "CHARTER_SANDBOX_TOKEN"
"""Where client and server look for a URL and a token that nobody gave them: recipes are stored with their run, and
command lines are seen by everyone on the machine."""
LONGEST_NOTE = 2000
"""Characters of a note; longer ones are cut by the sender and refused by the reader."""
MOST_VERDICT_BYTES = 64 * 1024
"""A verdict's JSON with the longest note, every character escaped, is below this."""
OUTCOMES: frozenset[str] = frozenset(get_args(Outcome))
_VERDICT_KEYS = frozenset({"outcome", "passed", "total", "seconds", "note"})


class WireError(ValueError):
    """JSON that is no verdict; the text says where it is wrong."""


def limits_body(limits: Limits) -> dict[str, Any]:
    """The limits as a table."""
    return asdict(limits)


def limits_of(body: Mapping[str, Any]) -> Limits:
    """The limits of a table that `limits_body` wrote."""
    return Limits(**body)


def calls_body(program: str, suite: CallSuite, limits: Limits) -> dict[str, Any]:
    """The body of a job of mode calls."""
    tests = [{"source": t.source, "calls": list(t.calls), "check": t.check} for t in suite.tests]
    return {"program": program, "tests": tests, "setup": suite.setup, "limits": limits_body(limits)}


def stdio_body(program: str, cases: Sequence[StdioCase], limits: Limits, *, every: bool) -> dict[str, Any]:
    """The body of a job of mode stdio."""
    tests = [{"stdin": case.stdin, "stdout": case.stdout} for case in cases]
    return {"program": program, "tests": tests, "every": every, "limits": limits_body(limits)}


def checker_body(program: str, suite: CheckerSuite, limits: Limits) -> dict[str, Any]:
    """The body of a job of mode checker."""
    return {"program": program, "tests": suite.tests, "entry": suite.entry, "limits": limits_body(limits)}


def suite_of(tests: Sequence[Mapping[str, Any]], setup: str) -> CallSuite:
    """The suite of the tests of a body of mode calls."""
    return CallSuite(
        tests=tuple(CallTest(source=t["source"], calls=tuple(t["calls"]), check=t["check"]) for t in tests),
        setup=setup,
    )


def cases_of(tests: Sequence[Mapping[str, Any]]) -> tuple[StdioCase, ...]:
    """The cases of the tests of a body of mode stdio."""
    return tuple(StdioCase(stdin=t["stdin"], stdout=t["stdout"]) for t in tests)


def verdict_body(verdict: Verdict) -> dict[str, Any]:
    """The verdict as a table, its note cut to `LONGEST_NOTE`."""
    return {
        "outcome": verdict.outcome,
        "passed": verdict.passed,
        "total": verdict.total,
        "seconds": verdict.seconds,
        "note": verdict.note[:LONGEST_NOTE],
    }


def read_verdict(body: object, *, total: int | None) -> Verdict:
    """The verdict in a table that came from elsewhere.

    total: the number of tests that were sent, or None where the sender cannot know it (mode checker).

    Raises: WireError.
    """
    if not isinstance(body, dict):
        raise WireError(f"a {type(body).__name__} and not a table")
    if body.keys() != _VERDICT_KEYS:
        raise WireError(_key_fault(body.keys(), _VERDICT_KEYS))
    outcome, passed, found, seconds, note = (body[k] for k in ("outcome", "passed", "total", "seconds", "note"))
    if not isinstance(outcome, str) or outcome not in OUTCOMES:
        raise WireError(f"the outcome {_short(outcome)}, which is none of {', '.join(sorted(OUTCOMES))}")
    for name, value in (("passed", passed), ("total", found)):
        if type(value) is not int or value < 0:
            raise WireError(f"{name} = {_short(value)}, which is no number of tests")
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds < math.inf:
        raise WireError(f"seconds = {_short(seconds)}, which is no time")
    if not isinstance(note, str) or len(note) > LONGEST_NOTE:
        raise WireError(f"a note that is no text of up to {LONGEST_NOTE} characters")
    if total is not None and found != total and outcome != "sandbox_error":
        raise WireError(f"a verdict over {found} tests where {total} were sent")
    if passed > found:
        raise WireError(f"{passed} tests passed of {found}")
    whole = passed == found > 0
    if (outcome == "passed" and not whole) or (outcome == "failed" and whole):
        raise WireError(f"the outcome {outcome!r} with {passed} of {found} tests passed")
    return Verdict(outcome=outcome, passed=passed, total=found, seconds=float(seconds), note=note)  # type: ignore[arg-type]


def _key_fault(found: Any, expected: frozenset[str]) -> str:
    missing = sorted(expected - set(found))
    unknown = sorted(str(key)[:40] for key in set(found) - expected)
    parts = [f"no key {', '.join(missing)}" if missing else "", f"the unknown key {', '.join(unknown[:5])}"]
    return " and ".join(part for part in parts[: 2 if unknown else 1] if part)


def _short(value: object) -> str:
    text = (
        repr(value) if not isinstance(value, int) or isinstance(value, bool) or abs(value) < 10**18 else "(a huge int)"
    )
    return text if len(text) <= 60 else text[:57] + "..."
