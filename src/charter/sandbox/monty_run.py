"""Programs in pydantic-monty, judged: what the worker does with a job once it has it.

The interpreter is a process of its own (the `monty` binary); what comes back from it is data, made exact here before
anything looks at it. Expected values stay in this process.

Source: pydantic-monty 1.4, measured: a feed keeps the session's names; limits of time restart with each feed; `input`
does not exist.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from charter.sandbox.calls import CheckError, evaluate_check
from charter.sandbox.inside.codec import Undecodable, Unsendable, decode, encode
from charter.sandbox.job import CallSuite, CallTest, Limits, Outcome, StdioCase, Verdict
from charter.sandbox.judging import difference, same_output
from charter.sandbox.monty_outcome import SUBSET, one_line, outcome_of_error

MOST_SUSPENSIONS = 1_000
"""Host round trips (look-ups of undefined names, sleeps) of one session; their time does not count as execution."""
FATAL: frozenset[Outcome] = frozenset({"timeout", "out_of_memory", "output_limit", "sandbox_error"})
"""Outcomes after which a session is not asked again."""
_MOST_KNOWN_SUITES = 256
_READER = """
def input(prompt=''):
    global _charter_at
    print(prompt, end='')
    if _charter_at >= len(_charter_lines):
        raise RuntimeError('EOF when reading a line')
    _charter_at += 1
    return _charter_lines[_charter_at - 1]
"""
"""The subset has no standard input; this gives it `input()`."""


class _Stopped(Exception):  # noqa: N818 - reads as the condition it names
    """A feed that did not finish; carries the outcome and its note."""

    def __init__(self, outcome: Outcome, note: str) -> None:
        super().__init__(note)
        self.outcome: Outcome = outcome
        self.note = note


class _Session:
    """One program's namespace, its clock and what it wrote."""

    def __init__(self, session: Any, limits: Limits) -> None:
        self._session = session
        self._limits = limits
        self._deadline = time.monotonic() + limits.wall_s
        self._written: list[str] = []
        self._bytes = 0

    def feed(self, code: str, inputs: Mapping[str, object] | None = None) -> object:
        """Run code in the namespace; the value of its last expression. Raises: _Stopped."""
        try:
            value = self._session.feed_run(code, inputs=dict(inputs or {}), print_callback=self._hear)
        except Exception as error:  # noqa: BLE001 - each has a meaning for the program
            self._refuse_excess()
            raise _Stopped(*outcome_of_error(error)) from None
        self._refuse_excess()
        return value

    def _refuse_excess(self) -> None:
        if self._bytes > self._limits.output_bytes:
            raise _Stopped("output_limit", "it wrote more than the limit allows")
        if time.monotonic() >= self._deadline:
            raise _Stopped("timeout", "it ran into the time limit")

    def _hear(self, stream: str, text: str) -> None:
        self._bytes += len(text.encode("utf-8", "surrogatepass"))
        if self._bytes > self._limits.output_bytes:
            self._written.clear()
            raise ValueError("the limit of the output is reached")
        if stream == "stdout":
            self._written.append(text)

    @property
    def output(self) -> str:
        """Its standard output so far."""
        return "".join(self._written)


def monty_limits(limits: Limits) -> dict[str, Any]:
    """The limits in the interpreter's words."""
    return {
        "max_feed_duration_secs": limits.wall_s,
        "max_total_sleep_secs": limits.wall_s,
        "max_memory": limits.memory_bytes,
        "max_suspensions": MOST_SUSPENSIONS,
    }


class Runner:
    """Runs jobs, one after the other, in fresh sessions of a pool of one interpreter."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._faults: dict[str, str] = {}

    def _open(self, limits: Limits) -> Any:
        policy = {"sleep": "system", "sleep_system_max": limits.wall_s}
        return self._pool.checkout(
            script_name="program.py", limits=monty_limits(limits), os_policy=policy, assert_message_annotations=False
        )

    def run_calls(self, program: str, suite: CallSuite, limits: Limits) -> Verdict:
        """All tests in one session, one after the other."""
        total = len(suite.tests)
        fault = self._fault_of(suite, limits)
        if fault:
            return Verdict(outcome="sandbox_error", passed=0, total=total, seconds=0.0, note=fault)
        started, passed, first = time.monotonic(), 0, ""
        outcome: Outcome = "failed"
        with self._open(limits) as opened:
            session = _Session(opened, limits)
            try:
                session.feed(program)
                session.feed(suite.setup)
                left = limits.result_bytes
                for number, test in enumerate(suite.tests, start=1):
                    held, note, used = _judge(session, test, left)
                    left -= used
                    passed += held
                    first = first or ("" if held else f"test {number} of {total}: {note}")
            except _Stopped as stop:
                outcome, first = stop.outcome, f"{stop.note} ({passed} of {total} tests had passed)"
        if passed == total > 0:
            outcome, first = "passed", ""
        return Verdict(outcome=outcome, passed=passed, total=total, seconds=time.monotonic() - started, note=first)

    def _fault_of(self, suite: CallSuite, limits: Limits) -> str:
        """Why the suite cannot run in the subset, "" if it can; found without a program, so that none can cause it."""
        key = json.dumps([suite.setup, [test.calls for test in suite.tests], asdict(limits)])
        if key not in self._faults:
            if len(self._faults) >= _MOST_KNOWN_SUITES:
                self._faults.pop(next(iter(self._faults)))
            self._faults[key] = self._look_for_fault(suite, limits)
        return self._faults[key]

    def _look_for_fault(self, suite: CallSuite, limits: Limits) -> str:
        with self._open(limits) as opened:
            session = _Session(opened, limits)
            for code, what in [
                (suite.setup, "their setup"),
                *(
                    (f"lambda: ({call}\n)", f"the call {one_line(call)!r}")
                    for test in suite.tests
                    for call in test.calls
                ),
            ]:
                try:
                    session.feed(code)
                except _Stopped as stop:
                    lacking = "" if SUBSET in stop.note else f" ({SUBSET})"
                    return f"the tests cannot run here: {what}: {stop.note}{lacking}"
        return ""

    def run_stdio(self, program: str, cases: Sequence[StdioCase], limits: Limits, *, every: bool) -> Verdict:
        """One session per case, until one does not pass; all of them if `every`."""
        started, passed = time.monotonic(), 0
        outcome: Outcome = "failed"
        first = ""
        for number, case in enumerate(cases, start=1):
            found, note = self._run_case(program, case, limits)
            if found == "sandbox_error":
                outcome, first = found, note
                break
            passed += found == "passed"
            if found != "passed" and not first:
                outcome, first = found, f"case {number} of {len(cases)}: {note}"
            if found != "passed" and not every:
                break
        if passed == len(cases) > 0:
            outcome = "passed"
        seconds = time.monotonic() - started
        return Verdict(outcome=outcome, passed=passed, total=len(cases), seconds=seconds, note=first)

    def _run_case(self, program: str, case: StdioCase, limits: Limits) -> tuple[Outcome, str]:
        lines = case.stdin.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if not lines[-1]:
            lines.pop()
        with self._open(limits) as opened:
            session = _Session(opened, limits)
            try:
                session.feed(_READER, {"_charter_lines": lines, "_charter_at": 0})
            except _Stopped as stop:
                return "sandbox_error", f"its standard input cannot be given here: {stop.note}"
            try:
                session.feed(program)
            except _Stopped as stop:
                return stop.outcome, stop.note
        if same_output(case.stdout, session.output):
            return "passed", ""
        return "failed", difference(case.stdout, session.output)


def _judge(session: _Session, test: CallTest, left_bytes: int) -> tuple[bool, str, int]:
    """Whether a test holds, why not, and how many bytes its answers took. Raises: _Stopped when the session is over."""
    values: list[object] = []
    used = 0
    for call in test.calls:
        try:
            answer = session.feed(f"({call}\n)")
            data = encode(answer)
            used += len(json.dumps(data))
            if used > left_bytes:
                raise _Stopped("output_limit", "its answers are larger than the limit allows")
            values.append(decode(data))
        except _Stopped as stop:
            if stop.outcome in FATAL:
                raise
            return False, f"{one_line(call)}: {stop.note}", used
        except (Unsendable, Undecodable) as error:
            return False, f"{one_line(call)}: {one_line(str(error))}", used
        except MemoryError:
            raise _Stopped("output_limit", "its answer is too large to take over") from None
    try:
        held = evaluate_check(test.check, values)
    except CheckError as error:
        return False, f"{one_line(test.source)}: {one_line(str(error))}", used
    return held, "" if held else f"{one_line(test.source)} does not hold", used
