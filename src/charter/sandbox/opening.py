"""Choosing a sandbox: the best tier that proves itself, or the kind that was asked for by name."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, get_args

from charter.errors import SandboxUnavailable, UsageError
from charter.sandbox import launch
from charter.sandbox.job import Sandbox
from charter.sandbox.pool import JailedSandbox
from charter.sandbox.selftest import Report, self_test

SandboxKind = Literal["auto", "A", "B", "C", "monty", "remote", "unsafe"]
KINDS: tuple[str, ...] = get_args(SandboxKind)
PROVEN_TIERS = ("A", "B", "C")
"""Best first; what "auto" tries."""


@functools.cache
def proof(tier: str) -> Report:
    """The self-test of a tier, once per process."""
    return self_test(tier, launch.TIERS[tier])


def open_sandbox(kind: str = "auto", *, slots: int | None = None, **options: Any) -> Sandbox:
    """A sandbox that was just proven.

    kind: "auto" (the best of A, B and C that proves itself), one of these tiers, "monty", "remote" (options: url,
        token, ...), or "unsafe" (limits only; for programs you would run yourself).
    slots: programs at a time; left out, as many as cores and memory allow.
    Raises: SandboxUnavailable with the probes that failed and the remedy; UsageError for an unknown kind;
        MissingExtra where the kind needs a package.
    """
    if kind in PROVEN_TIERS or kind == "auto":
        tier = _proven((kind,) if kind != "auto" else PROVEN_TIERS)
        return JailedSandbox(tier, launch.TIERS[tier], slots)
    if kind == "unsafe":
        return JailedSandbox("unsafe", launch.TIERS["unsafe"], slots)
    if kind == "monty":
        from charter.sandbox.monty import MontySandbox

        return MontySandbox(slots=slots)
    if kind == "remote":
        from charter.sandbox.remote import RemoteSandbox

        return RemoteSandbox(**options)
    raise UsageError(f"there is no sandbox {kind!r}; use one of {', '.join(KINDS)}")


def _proven(tiers: Sequence[str]) -> str:
    failed: list[Report] = []
    for tier in tiers:
        report = proof(tier)
        if report.proven:
            return tier
        failed.append(report)
    lines = "\n".join(f"  tier {report.tier}: {report.why_not()}" for report in failed)
    missing = sorted({name for report in failed for name in _blamed(report)})
    advice = launch.remedies(missing)
    raise SandboxUnavailable(
        f"no isolation could be proven on this machine:\n{lines}\n"
        + (f"To mend it: {advice}.\n" if advice else "")
        + 'Or choose another kind by name: sandbox = "remote" (another machine), "monty" (a Python subset), '
        '"unsafe" (no isolation at all)'
    )


def _blamed(report: Report) -> set[str]:
    text = report.error.lower()
    named = {name for name in ("landlock", "seccomp", "bubblewrap") if name in text}
    return named | {failure.layer for failure in report.failures}
