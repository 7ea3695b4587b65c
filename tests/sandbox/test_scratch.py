"""A scratch folder, where it is asked for: private, limited, and the only place that can be written to."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from charter.errors import SandboxUnavailable
from charter.sandbox import Limits, StdioCase, Verdict, open_sandbox

_USE = """
import email.mime.text, os
def closed(*arguments):
    try: open(*arguments)
    except OSError: return True
with open("a.txt", "w") as file: file.write("añ")
os.mkdir("d")
os.rename("a.txt", "d/b.txt")
print(open("d/b.txt").read())
try: open("big", "wb").write(bytes(3_000_000))
except OSError as error: print(error.errno in (27, 28))
print(closed("/etc/passwd"), closed("/mnt/new", "w"), closed("/tmp/../new", "w"))
os.unlink("d/b.txt")
"""
_SCRATCH = Limits(wall_s=20.0, scratch_bytes=1024**2)


@pytest.mark.parametrize("tier", ["A", "B", "C"])
def test_a_scratch_folder_is_private_and_limited(tier: str) -> None:
    if tier != "B" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    sandbox = open_sandbox(tier, slots=1)

    def run(program: str, stdout: str, limits: Limits) -> Verdict:
        return asyncio.run(sandbox.run_stdio(program, [StdioCase(stdin="", stdout=stdout)], limits))

    try:
        used = run(_USE, "añ\nTrue\nTrue True True\n", _SCRATCH)
        if used.outcome == "sandbox_error" and "mount" in used.note:
            pytest.skip(f"this machine gives no mount namespace: {used.note}")
        assert used.outcome == "passed", used.note
        assert run("open('big')", "", _SCRATCH).note.startswith(
            "FileNotFoundError"
        )  # nothing is left of the one before
        assert run("open('a.txt', 'w')", "", Limits()).outcome == "policy_violation"  # and none unless asked for
        if tier != "B":  # where nothing of the host can be seen, paths may be asked about
            look = "import os\nprint(os.path.exists('x'), oct(os.stat('.').st_mode & 0o777))"
            assert run(look, "False 0o777\n", _SCRATCH).outcome == "passed"
    finally:
        sandbox.close()


def test_a_machine_without_mount_namespaces_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from charter.sandbox import slot

    def refuse(*_: object, **__: object) -> object:
        raise SandboxUnavailable("a scratch folder needs a mount namespace, which was refused")

    sandbox = open_sandbox("B", slots=1)
    monkeypatch.setattr(slot, "start", refuse)
    try:
        verdict = asyncio.run(sandbox.run_stdio("print()", [StdioCase(stdin="", stdout="")], _SCRATCH))
    finally:
        sandbox.close()
    assert verdict.outcome == "sandbox_error"
    assert "mount namespace" in verdict.note
