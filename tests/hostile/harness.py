"""One hostile program against one sandbox, and everything that may have gone wrong.

    examine(sandbox, program, canary)  →  Examination(problems, verdicts)

No problem is found when the verdict is the one expected and never `sandbox_error`, it came in time, nothing secret is
in it, the canary and this process are as they were, nothing runs that did not, and after it a good program still
passes and a wrong one still fails.

How a program that only prints its success is seen although nobody reads its output: `corpus.telling` makes its answer
depend on what it printed, and in mode stdio the note quotes its output.
"""

from __future__ import annotations

import asyncio
import re
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hostile.canary import Canary, Machine, own_state
from hostile.corpus import CALLS, CASE, CHECKERS, EVIDENCE, GOOD, PLANTED, WRITES, WRONG, Program, telling

from charter.sandbox import Limits, Sandbox, Verdict

WALL_S = 2.0
GRACE_S = 2.0
"""Time past the wall limit in which a verdict must be there."""
MOST_NOTE = 2000
MOST_HOST_BYTES = 300 * 1024**2
"""What judging one program may add to this process's largest size."""
SETTLE_S = 1.0
"""Time in which whatever a program started must be gone."""
MODES = ("plain", "telling", "checker", "output", "scratch")
SCRATCH_BYTES = 4 * 1024**2


@dataclass(slots=True)
class Examination:
    """problems: sentences; none is what is wanted. verdicts: by mode."""

    program: str
    kind: str
    tier: str
    problems: list[str] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    seconds: float = 0.0


def modes_of(program: Program, wanted: Sequence[str] = MODES) -> list[str]:
    """The modes a program is run in: `plain` is its own style; the others find what that would not show.

    telling: style call, with the answer made to depend on what it printed. checker: style call, asked by test code.
    output: style call, as a whole program whose output the note quotes. scratch: with a folder it may write to.
    """
    found = ["plain"]
    if program.style == "call":
        if not program.passes and "print(" in program.text and "sys.stdout" not in program.text:
            found += ["telling", "output"]
        found.append("checker")
        if program.kind in ("escape", "leak") and program.name not in WRITES and not program.scratch_bytes:
            found.append("scratch")
    return [mode for mode in found if mode in wanted]


async def _run(sandbox: Sandbox, program: Program, mode: str, text: str, limits: Limits) -> Verdict:
    if mode == "output" or program.style == "stdio":
        return await sandbox.run_stdio(text, [CASE], limits)
    if mode == "checker" or program.style in CHECKERS:
        return await sandbox.run_checker(text, CHECKERS.get(program.style, CHECKERS["pytest"]), limits)
    return await sandbox.run_calls(telling(text) if mode == "telling" else text, CALLS, limits)


def faults_of(verdict: Verdict, passes: bool) -> list[str]:
    """What is wrong with a verdict by itself."""
    faults = []
    said = f"{verdict.outcome} ({verdict.passed}/{verdict.total}): {verdict.note[:160]!r}"
    if verdict.outcome == "sandbox_error":
        faults.append(f"it made the sandbox take the blame: {said}")
    elif (verdict.outcome == "passed") != passes:
        faults.append(f"it should {'pass' if passes else 'fail'}, and is {said}")
    if not passes and verdict.total and verdict.passed >= verdict.total:
        faults.append(f"every test passed: {said}")
    if (found := re.search(EVIDENCE, verdict.note)) is not None:
        faults.append(f"the note holds {found[0]!r}: {verdict.note[max(0, found.start() - 80) : found.end() + 80]!r}")
    if len(verdict.note) > MOST_NOTE:
        faults.append(f"the note has {len(verdict.note)} characters, allowed are {MOST_NOTE}")
    if any((ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160 or "\ud800" <= c <= "\udfff" for c in verdict.note):
        faults.append(f"the note has control characters or surrogates: {verdict.note[:120]!r}")
    return faults


async def examine(
    sandbox: Sandbox,
    program: Program,
    canary: Canary,
    *,
    wall_s: float = WALL_S,
    modes: Sequence[str] = MODES,
    patience_s: float = 0.0,
) -> Examination:
    """Run a program in every mode and look at everything.

    patience_s: added to the time a verdict may take, for machines that are busy with other things.
    """
    found = Examination(program.name, program.kind, sandbox.kind)
    plain = Limits(wall_s=wall_s, scratch_bytes=program.scratch_bytes)
    scratch = Limits(wall_s=wall_s, scratch_bytes=program.scratch_bytes or SCRATCH_BYTES)
    before, machine, began = own_state(), Machine.now(), time.monotonic()
    size = _largest_bytes()
    text = program.text_for(str(canary.folder))
    for mode in modes_of(program, modes):
        if program.kind == "leak":
            await _must(found, "the job before it", sandbox, PLANTED, passes=True)
        for _ in range(program.runs):
            await _one(found, sandbox, program, mode, text, scratch if mode == "scratch" else plain, patience_s)
    if (grown := _largest_bytes() - size) > MOST_HOST_BYTES:
        found.problems.append(f"this process grew by {grown // 1024**2} MiB")
    found.problems += canary.disturbances()
    after = own_state()
    found.problems += [
        f"this process's {name} was {before[name]} and is {after[name]}"
        for name in before
        if before[name] != after[name]
    ]
    await _must(found, "after it, a good program", sandbox, GOOD, passes=True)
    await _must(found, "after it, a wrong program", sandbox, WRONG, passes=False)
    found.problems += machine.left_since() + await _still_running(machine)
    found.seconds = time.monotonic() - began
    return found


async def _one(
    found: Examination, sandbox: Sandbox, program: Program, mode: str, text: str, limits: Limits, patience_s: float
) -> None:
    began = time.monotonic()
    allowed = limits.wall_s + GRACE_S + patience_s
    try:
        verdict = await asyncio.wait_for(_run(sandbox, program, mode, text, limits), 5 * allowed)
    except TimeoutError:
        found.problems.append(f"{mode}: no verdict after {5 * allowed:.0f} s")
        return
    except Exception as error:  # noqa: BLE001 - a program that raises in the host is a finding, whatever it raises
        found.problems.append(f"{mode}: it raised {type(error).__name__} in the host: {str(error)[:200]}")
        return
    found.verdicts[mode] = verdict
    if (took := time.monotonic() - began) > allowed:
        found.problems.append(f"{mode}: the verdict took {took:.1f} s, allowed are {allowed:.1f}")
    passes = program.passes and mode in ("plain", "checker")
    found.problems += [f"{mode}: {fault}" for fault in faults_of(verdict, passes)]


async def _must(found: Examination, what: str, sandbox: Sandbox, text: str, *, passes: bool) -> None:
    try:
        verdict = await asyncio.wait_for(sandbox.run_calls(text, CALLS, Limits(wall_s=20.0)), 60)
    except Exception as error:  # noqa: BLE001 - as above
        found.problems.append(f"{what} raised {type(error).__name__} in the host: {str(error)[:200]}")
        return
    wrong = verdict.outcome != "passed" if passes else verdict.outcome != "failed"
    if wrong:
        found.problems.append(f"{what} is {verdict.outcome} ({verdict.note[:120]!r})")


async def _still_running(machine: Machine) -> list[str]:
    until = time.monotonic() + SETTLE_S
    while (left := machine.running_since()) and time.monotonic() < until:
        await asyncio.sleep(0.05)
    return left


def _largest_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def row_of(examinations: Sequence[Examination]) -> dict[str, Any]:
    """Passed and total by class, and the failures by name."""
    table: dict[str, Any] = {}
    for one in examinations:
        cell = table.setdefault(one.kind, {"passed": 0, "total": 0})
        cell["total"] += 1
        cell["passed"] += not one.problems
    return {"classes": table, "failures": {one.program: one.problems for one in examinations if one.problems}}
