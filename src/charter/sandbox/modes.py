"""The ways to test a program: by its values, by its output, by test code. Each blocks; `pool.py` gives it a slot.

What is expected never enters the jail. A program passes only by sending exactly as many answers as it was asked, each
of them right, and then ending by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from charter.sandbox.calls import CheckError, evaluate_check
from charter.sandbox.inside import codec
from charter.sandbox.job import CallSuite, CallTest, CheckerSuite, Limits, Outcome, QueryResult, StdioCase, Verdict
from charter.sandbox.judging import Ending, difference, outcome_of, raised, same_output
from charter.sandbox.process import Process, step

CHECKER_BYTES = 64 * 1024**2
"""Longest call a checker may make; its arguments are the data set's."""
Starter = Callable[..., Process]
"""Starts a process: (limits, payload, keep_input=, wants_output=). Raises: ServerGone."""


def _finish(process: Process) -> Ending:
    try:
        while process.ending is None:
            step([process])
    except BaseException:
        process.abandon()
        raise
    return process.ending


def _read(frames: Sequence[bytes]) -> list[Any] | str:
    """The messages in frames, or what is wrong with them."""
    try:
        messages = [codec.unpack(frame) for frame in frames]
    except codec.Undecodable as error:
        return f"its answer cannot be read: {error}"
    return messages if all(isinstance(message, dict) for message in messages) else "its answer is no message"


def _cause(message: dict[str, Any]) -> tuple[Outcome, str] | None:
    """What a message says went wrong in the program, if it is such a message."""
    match message.get("raised"):
        case [str() as kind, str() as text, bool() as denied]:
            return raised(kind[:80], text[:300], denied)
    return None


def run_calls(start: Starter, program: str, suite: CallSuite, limits: Limits) -> Verdict:
    """Ask for the value of every call in one execution, and judge the values out here."""
    calls = [call for test in suite.tests for call in test.calls]
    job = {"mode": "calls", "program": program, "setup": suite.setup, "calls": calls}
    process = start(limits, codec.pack(job))
    ending = _finish(process)
    total = len(suite.tests)

    def verdict(outcome: Outcome, passed: int, note: str) -> Verdict:
        return Verdict(outcome=outcome, passed=passed, total=total, seconds=ending.seconds, note=note)

    messages = _read(process.frames())
    settled = outcome_of(ending)
    if isinstance(messages, str):
        outcome, note = settled or ("failed", messages)
        return verdict(outcome, 0, note)
    if not messages or messages[0].get("loaded") is not True:
        if messages and messages[0].get("in") == "setup" and (fault := _setup_fault(start, suite, limits)):
            return verdict("sandbox_error", 0, f"the tests' own set-up cannot run here: {fault}")
        cause = settled or (messages and _cause(messages[0])) or ("crashed", "it ended before the tests")
        return verdict(cause[0], 0, cause[1])
    answers = messages[1:]
    if len(answers) > len(calls):
        return verdict("failed", 0, "it sent more answers than it was asked for")
    passed, first = _judge(suite.tests, answers)
    if settled is not None:
        return verdict(settled[0], passed if settled[0] != "sandbox_error" else 0, settled[1])
    if len(answers) < len(calls) or process.leftover:
        return verdict("crashed", passed, f"it ended by itself after {len(answers)} of {len(calls)} answers")
    outcome, note = first or ("passed", "")
    return verdict(outcome, passed, note)


def _setup_fault(start: Starter, suite: CallSuite, limits: Limits) -> str:
    """What is wrong with the set-up of the tests when no program is there to be blamed for it; empty if nothing is."""
    process = start(limits, codec.pack({"mode": "calls", "program": "", "setup": suite.setup, "calls": []}))
    _finish(process)
    messages = _read(process.frames())
    cause = _cause(messages[0]) if messages and not isinstance(messages, str) else None
    return cause[1] if cause else ""


def _judge(tests: Sequence[CallTest], answers: Sequence[dict[str, Any]]) -> tuple[int, tuple[Outcome, str] | None]:
    """How many tests passed, and the first that did not with its reason."""
    passed, first, position = 0, None, 0
    for test in tests:
        own = answers[position : position + len(test.calls)]
        position += len(test.calls)
        wrong = _judge_one(test, own)
        if wrong is None:
            passed += 1
        elif first is None:
            first = wrong
    return passed, first


def _judge_one(test: CallTest, answers: Sequence[dict[str, Any]]) -> tuple[Outcome, str] | None:
    if len(answers) < len(test.calls):
        return "failed", f"{_short(test.source)}: no answer"
    values = []
    for answer in answers:
        if "ok" not in answer:
            cause = _cause(answer)
            outcome, said = cause or ("failed", "no value")
            return "failed" if outcome == "crashed" else outcome, f"{_short(test.source)}: {said}"
        try:
            values.append(codec.decode(answer["ok"]))
        except codec.Undecodable as error:
            return "failed", f"{_short(test.source)}: its value cannot be read: {error}"
    try:
        right = evaluate_check(test.check, values)
    except CheckError as error:
        return "failed", f"{_short(test.source)}: {error}"
    except Exception as error:  # noqa: BLE001 - whatever a value does to the judge, it is the program's value
        return "failed", f"{_short(test.source)}: it cannot be judged ({type(error).__name__})"
    return None if right else ("failed", f"{_short(test.source)} does not hold for {', '.join(map(_shown, values))}")


def _shown(value: object) -> str:
    try:
        return _short(repr(value))
    except ValueError:  # an integer too long to be written in decimal
        return "a very long integer"


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def run_stdio(start: Starter, program: str, cases: Sequence[StdioCase], limits: Limits, *, every: bool) -> Verdict:
    """Run the program once per case. every: go on after a case that did not pass, for partial credit."""
    passed, seconds = 0, 0.0
    worst: tuple[Outcome, str] | None = None
    for number, case in enumerate(cases, start=1):
        payload = codec.pack({"mode": "stdio", "program": program}) + case.stdin.encode("utf-8", "surrogatepass")
        process = start(limits, payload, wants_output=True)
        ending = _finish(process)
        seconds += ending.seconds
        wrong = _judge_output(process, ending, case.stdout)
        if wrong is None:
            passed += 1
            continue
        note = f"case {number}: {wrong[1]}" if len(cases) > 1 else wrong[1]
        worst = worst or (wrong[0], note)
        if wrong[0] == "sandbox_error":
            return Verdict(outcome="sandbox_error", passed=0, total=len(cases), seconds=seconds, note=note)
        if not every:
            break
    outcome, note = worst or ("passed", "")
    return Verdict(outcome=outcome, passed=passed, total=len(cases), seconds=seconds, note=note)


def _judge_output(process: Process, ending: Ending, expected: str) -> tuple[Outcome, str] | None:
    found = process.output.decode("utf-8", "backslashreplace")
    settled = outcome_of(ending)
    if settled is not None:
        return settled[0], f"{settled[1]}; output: {_short(found)!r}" if found else settled[1]
    messages = _read(process.frames())
    cause = _cause(messages[0]) if messages and not isinstance(messages, str) else None
    if cause is not None:
        return cause[0], f"{cause[1]}; output: {_short(found)!r}" if found else cause[1]
    if ending.code != 0:
        return "crashed", f"it ended with exit code {ending.code}; output: {_short(found)!r}"
    if not same_output(expected, found):
        return "failed", difference(expected, found)
    return None


def run_checker(start: Starter, start_checker: Starter, program: str, suite: CheckerSuite, limits: Limits) -> Verdict:
    """Run test code in a jail of its own and carry its calls to the program's jail."""
    began = time.monotonic()
    job = {"mode": "checker", "tests": suite.tests, "entry": suite.entry}
    roomy = replace(limits, result_bytes=CHECKER_BYTES)
    processes: list[Process] = []
    try:
        processes.append(start(limits, codec.pack({"mode": "serve", "program": program}), keep_input=True))
        processes.append(start_checker(roomy, codec.pack(job), keep_input=True))
        verdict = _Conversation(*processes).run(began)
        for process in processes:
            process.kill(Ending(killed="failed"))
            _finish(process)
    finally:
        for process in processes:
            if process.ending is None:
                process.abandon()
    return verdict


class _Conversation:
    """A checker's calls, carried to a program and back, until the checker has its verdict or either is gone."""

    def __init__(self, program: Process, checker: Process) -> None:
        self.program, self.checker = program, checker
        self._loaded = False
        self._asked: list[bytes] = []
        self._unanswered = 0

    def run(self, began: float) -> Verdict:
        while True:
            result = self._advance()
            if result is not None:
                outcome, passed, total, note = result
                seconds = time.monotonic() - began
                return Verdict(outcome=outcome, passed=passed, total=total, seconds=seconds, note=note)
            step([process for process in (self.program, self.checker) if process.ending is None])

    def _advance(self) -> tuple[Outcome, int, int, str] | None:
        for frame in self.checker.frames():
            message = codec.unpack(frame)  # the tests are trusted, and what they send is made by our own code
            if "broken" in message:
                return self._broken(str(message["broken"]))
            if "done" in message:
                passed, total, note = message["done"]
                return "passed" if passed == total > 0 else "failed", passed, total, note
            self._asked.append(frame)
        gone = self._hear_program()
        if gone is None and self._loaded:
            for frame in self._asked:
                self.program.say(codec.HEADER.pack(len(frame)) + frame)
            self._unanswered += len(self._asked)
            self._asked.clear()
        if gone is None and self.program.ending is not None:
            gone = outcome_of(self.program.ending) or ("crashed", "it ended before the tests did")
        if gone is not None:
            return gone[0], 0, 1, gone[1]
        if self.checker.ending is not None:
            settled = outcome_of(self.checker.ending) or ("sandbox_error", "the test process ended without a result")
            # the tests are trusted: what stops them is the time a program's values cost them, or the machine
            outcome: Outcome = "timeout" if settled[0] == "timeout" else "sandbox_error"
            return outcome, 0, 1, f"the test process: {settled[1]}"
        return None

    def _broken(self, why: str) -> tuple[Outcome, int, int, str]:
        while not self._loaded and self.program.ending is None:  # it may be the program that is broken
            gone = self._hear_program()
            if gone is not None:
                return gone[0], 0, 1, gone[1]
            if not self._loaded:
                step([self.program])
        if not self._loaded:
            settled = (
                self._hear_program() or outcome_of(self.program.ending or Ending()) or ("crashed", "it ended early")
            )
            return settled[0], 0, 1, settled[1]
        return "sandbox_error", 0, 1, why

    def _hear_program(self) -> tuple[Outcome, str] | None:
        """Carry the program's answers; what went wrong with it, if something did."""
        for frame in self.program.frames():
            if not self._loaded:
                messages = _read([frame])
                if isinstance(messages, str):
                    return "failed", messages
                if messages[0].get("loaded") is not True:
                    return _cause(messages[0]) or ("failed", "it sent an answer before it was asked")
                self._loaded = True
            elif self._unanswered == 0:
                return "failed", "it sent an answer before it was asked"
            else:
                self._unanswered -= 1
                self.checker.say(codec.HEADER.pack(len(frame)) + frame)
        return None


def run_query(start: Starter, query: str, database: bytes, limits: Limits) -> QueryResult:
    """Run one reading SQL statement on a database that is copied into the jail."""
    job = {"mode": "query", "query": query, "database": codec.encode(database)}
    process = start(limits, codec.pack(job))
    ending = _finish(process)
    settled = outcome_of(ending)
    messages = _read(process.frames())
    if settled is not None:
        return QueryResult(outcome=settled[0], note=settled[1])
    if isinstance(messages, str) or len(messages) != 1:
        return QueryResult(outcome="sandbox_error", note="the query process ended without an answer")
    (message,) = messages
    if "broken" in message:
        return QueryResult(outcome="sandbox_error", note=str(message["broken"]))
    cause = _cause(message)
    if cause is not None:
        outcome = "failed" if cause[0] == "crashed" else cause[0]
        return QueryResult(outcome=outcome, note=cause[1])
    rows = codec.decode(message["rows"])
    return QueryResult(outcome="passed", columns=tuple(map(str, message["columns"])), rows=tuple(rows))
