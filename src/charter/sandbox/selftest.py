"""Proof by effect: the jail is tried from inside before anything is trusted to it.

Every layer is known by what it stops, never by a return code; and what programs need must work, since a jail that
stops everything would pass the rest.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from charter.errors import SandboxUnavailable
from charter.sandbox import launch, modes, probes
from charter.sandbox.inside import codec
from charter.sandbox.inside.policy import machine
from charter.sandbox.job import Limits, StdioCase
from charter.sandbox.judging import outcome_of
from charter.sandbox.process import ServerGone, step
from charter.sandbox.slot import Slot

_LIMITS = Limits(wall_s=20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """layer: "control" for what must work. held: closed, or working. note: what was seen otherwise."""

    name: str
    layer: str
    held: bool
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The self-test of one tier. seconds: what it took, the server's start included."""

    tier: str
    results: tuple[ProbeResult, ...]
    seconds: float
    error: str = ""

    @property
    def proven(self) -> bool:
        """Whether everything held."""
        return not self.error and bool(self.results) and all(result.held for result in self.results)

    @property
    def failures(self) -> tuple[ProbeResult, ...]:
        """What did not hold."""
        return tuple(result for result in self.results if not result.held)

    def why_not(self) -> str:
        """The failures in a line, with the layers they belong to."""
        if self.error:
            return self.error
        named = [f"{r.layer}: {r.name}" + (f" ({r.note})" if r.note else "") for r in self.failures]
        return "; ".join(named)


@contextlib.contextmanager
def _canary(memory_bytes: int) -> Iterator[dict[str, object]]:
    """Things of the host's that no program may reach, and where they are."""
    with tempfile.TemporaryDirectory(prefix="charter-canary-") as folder:
        os.chmod(folder, 0o755)
        secret = Path(folder, "secret.txt")
        secret.write_text("TOK_" + os.urandom(8).hex())
        secret.chmod(0o644)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            yield {
                "file": str(secret),
                "new": str(Path(folder, "new.txt")),
                "withheld": launch.library().withheld,
                "elsewhere": "/proc",
                "port": listener.getsockname()[1],
                "memory_bytes": memory_bytes,
                "packages": ["charter", "pip", "torch", "pydantic"],
            }


def _layers_of(walls: launch.Walls) -> set[str]:
    proven = {*launch.LAYERS, "files", "capabilities"}
    if "landlock" not in walls.layers:
        proven.discard("landlock")
    if walls.bubblewrap:
        proven.add("bubblewrap")
    if launch.hidden_uid(0) is None:  # an ordinary user, or a root that has no other user to become
        proven.discard("identity")
    return proven


def self_test(tier: str, walls: launch.Walls, *, expected: launch.Walls | None = None) -> Report:
    """Try a tier's walls from inside.

    walls: what to put up. expected: what must hold, where it differs (a test that leaves a layer out).
    """
    began = time.monotonic()
    slot = Slot(walls, 0)
    try:
        results = (*_probe(slot, expected or walls), *_controls(slot))
    except (SandboxUnavailable, ServerGone, OSError) as error:
        return Report(tier=tier, results=(), seconds=time.monotonic() - began, error=str(error))
    finally:
        slot.close()
    return Report(tier=tier, results=results, seconds=time.monotonic() - began)


def _probe(slot: Slot, expected: launch.Walls) -> list[ProbeResult]:
    layers = _layers_of(expected)
    tried = tuple(probe for probe in probes.PROBES if probe.layer in layers)
    with _canary(_LIMITS.memory_bytes) as canary:
        found, note = _run(slot, probes.program(tried, machine(), canary))
    answers = _answers(found)
    results = [
        ProbeResult(
            name=probe.name,
            layer=probe.layer,
            held=answers.get(probe.name) == "closed",
            note="" if answers.get(probe.name) == "closed" else ("it got through" if probe.name in answers else note),
        )
        for probe in tried
    ]
    if machine() == "x86_64" and "seccomp" in layers:
        said, note = _run(slot, probes.FOREIGN_CALL)
        held = said.strip() == "before" and "architecture" in note
        results.append(
            ProbeResult(name="another call convention", layer="seccomp", held=held, note="" if held else note)
        )
    return results


def _answers(found: str) -> Mapping[str, str]:
    return dict(line.split("\t", 1) for line in found.splitlines() if "\t" in line)


def _run(slot: Slot, program: str) -> tuple[str, str]:
    """A program's output, and how it ended."""
    process = slot.program(_LIMITS, codec.pack({"mode": "stdio", "program": program}), wants_output=True)
    while process.ending is None:
        step([process])
    if process.ending.error:
        raise ServerGone(process.ending.error)
    settled = outcome_of(process.ending)
    said = [codec.unpack(frame).get("raised") for frame in process.frames()]
    return process.output.decode("utf-8", "replace"), settled[1] if settled else str(said[0] if said else "no answer")


def _controls(slot: Slot) -> list[ProbeResult]:
    results = []
    for name, (program, stdin, stdout) in probes.CONTROLS.items():
        verdict = modes.run_stdio(slot.program, program, [StdioCase(stdin=stdin, stdout=stdout)], _LIMITS, every=False)
        held = verdict.outcome == "passed"
        note = "" if held else f"{verdict.outcome}: {verdict.note}"
        results.append(ProbeResult(name=name, layer="control", held=held, note=note))
    return results
