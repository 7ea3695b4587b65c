"""The self-test: it proves what holds, names what does not, and refuses. Layers are left out or denied here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from charter.errors import SandboxUnavailable
from charter.sandbox import launch, opening
from charter.sandbox.selftest import ProbeResult, Report, self_test

_BWRAP = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


@pytest.mark.parametrize("tier", ["B", pytest.param("A", marks=_BWRAP), pytest.param("C", marks=_BWRAP)])
def test_every_probe_of_a_whole_tier_holds(tier: str) -> None:
    report = self_test(tier, launch.TIERS[tier])
    assert report.proven, report.why_not()
    assert len(report.results) >= 40
    assert {"process", "limits", "seccomp", "control"} <= {result.layer for result in report.results}


@pytest.mark.parametrize("tier", ["B", pytest.param("A", marks=_BWRAP)])
@pytest.mark.parametrize("layer", launch.LAYERS)
def test_a_layer_that_is_missing_is_named(tier: str, layer: str) -> None:
    if layer == "identity" and launch.hidden_uid(0) is None:
        pytest.skip("only root has another user to become")
    whole = launch.TIERS[tier]
    torn = replace(whole, layers=tuple(name for name in whole.layers if name != layer))
    report = self_test(tier, torn, expected=whole)
    assert not report.proven
    assert layer in {failure.layer for failure in report.failures}
    assert f"{layer}: " in report.why_not()


@_BWRAP
def test_bubblewrap_that_is_missing_is_named() -> None:
    whole = launch.TIERS["A"]
    report = self_test("A", replace(whole, bubblewrap=False), expected=whole)
    assert {failure.layer for failure in report.failures} == {"bubblewrap"}


def test_unsafe_proves_nothing() -> None:
    report = self_test("B", launch.TIERS["unsafe"], expected=launch.TIERS["B"])
    assert {"process", "landlock", "files", "seccomp"} <= {failure.layer for failure in report.failures}


_EMULATE = """
import ctypes, struct, sys, os
libc = ctypes.CDLL(None, use_errno=True)
code = [(0x20, 0, 0, 0)]
for number, errno in json.loads(sys.argv[1]):
    code += [(0x15, 0, 1, number), (6, 0, 0, 0x50000 | errno)]
code = b"".join(struct.pack("<HBBI", *one) for one in [*code, (6, 0, 0, 0x7FFF0000)])
class Program(ctypes.Structure): _fields_ = [("n", ctypes.c_ushort), ("f", ctypes.c_char_p)]
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, code)), 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-m", "charter.cli.app", "sandbox", "check", "--json"])
"""
_NUMBERS = {"x86_64": {"seccomp": 317, "unshare": 272}, "aarch64": {"seccomp": 277, "unshare": 97}}
_HERE = _NUMBERS.get(os.uname().machine, {})
_NO_LANDLOCK = [(444, 38), (445, 38), (446, 38)]  # ENOSYS, as a kernel without it answers


def _check_without(denied: list[tuple[int, int]]) -> tuple[int, dict[str, Any], str]:
    """`charter sandbox check` in a process whose kernel seems to lack these system calls."""
    command = [sys.executable, "-c", "import json\n" + _EMULATE, json.dumps(denied)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    data = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    return done.returncode, data, done.stdout + done.stderr


def test_without_landlock_only_tier_c_is_left() -> None:
    code, data, said = _check_without(_NO_LANDLOCK)
    reports = {report["tier"]: report for report in data["tiers"]}
    assert not reports["A"]["proven"]
    assert "Landlock" in reports["B"]["why_not"]
    if shutil.which("bwrap"):
        assert (code, data["tier"]) == (0, "C"), said
    else:
        assert code == 1


def test_without_seccomp_there_is_no_isolation() -> None:
    code, data, said = _check_without([(_HERE["seccomp"], 22)])
    assert (code, data["tier"]) == (1, None), said
    for report in data["tiers"]:
        assert not report["proven"]
    assert "seccomp" in data["tiers"][1]["why_not"]


def test_the_refusal_names_tiers_probes_and_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(tier: str) -> Report:
        if tier == "B":
            failure = ProbeResult(name="fork", layer="seccomp", held=False, note="it got through")
            return Report(tier="B", results=(failure,), seconds=0.1)
        return Report(tier=tier, results=(), seconds=0.0, error="bubblewrap is not installed (no program bwrap)")

    monkeypatch.setattr(opening, "proof", fake)
    with pytest.raises(SandboxUnavailable) as caught:
        opening.open_sandbox("auto")
    message = str(caught.value)
    assert "tier A: bubblewrap is not installed" in message
    assert "tier B: seccomp: fork (it got through)" in message
    assert "apt install bubblewrap" in message
    assert "do not deny the system call seccomp" in message
    assert 'sandbox = "remote"' in message
