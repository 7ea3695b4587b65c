"""Every hostile program of `tests/hostile/programs/` against a tier of the sandbox: the table of issue 3, acceptance 1.

    python benchmarks/hostile.py --tier A --tier B [--as-user nobody] [--only v4 …] [--quick] [--json] [--save]

Class × passed/total, and each failure by name; exit code 0 only without a failure. A program counts as passed when
nothing at all was wrong (`tests/hostile/harness.py` says what is looked at), in every mode it can be run in.

--as-user runs all of it, host and jail, as an ordinary user; only root can ask for that. The interpreter, the
repository and the packages must be readable to that user, and often are not (a home of mode 0700). So the whole is run
in a mount namespace of its own, where every folder on the way that is closed to others is covered by an empty one in
which only what is needed is bound. Nothing outside that namespace changes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import pwd
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STAGE = "CHARTER_HOSTILE_STAGE"
"""Set in the environment of the second run, which is in its own mount namespace: an empty folder to mount on."""


def closed_folders(needed: Iterable[Path]) -> dict[Path, list[Path]]:
    """Folder closed to other users → what lies in it that is needed; the uppermost one of each."""
    found: dict[Path, list[Path]] = {}
    for path in needed:
        for folder in reversed(path.parents):
            about = folder.stat()
            if not about.st_mode & stat.S_IXOTH:
                found.setdefault(folder, []).append(path)
                break
    return found


def needed_paths() -> list[Path]:
    """What the harness reads: the repository, the environment and the interpreter it was made from."""
    places = {ROOT, Path(sys.prefix), Path(sys.base_prefix), Path(os.path.realpath(sys.executable)).parent.parent}
    return sorted({place.resolve() for place in places})


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def open_up(needed: Sequence[Path], holding: Path) -> None:
    """Make the needed paths reachable for everyone, in this mount namespace only. holding: an empty folder."""
    for folder, paths in closed_folders(needed).items():
        held = [holding / str(number) for number in range(len(paths))]
        _mount("-t", "tmpfs", "tmpfs", holding)
        for place, path in zip(held, paths, strict=True):
            place.mkdir()
            _mount("--bind", path, place)
        _mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder)
        for place, path in zip(held, paths, strict=True):
            if not path.exists():
                path.mkdir(parents=True)
                _mount("--bind", place, path)


def user_id(name: str) -> tuple[int, int]:
    """The user and group of a name or number."""
    if name.isdigit():
        return int(name), int(name)
    entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid


def become(name: str) -> None:
    """Drop root for good."""
    uid, gid = user_id(name)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.environ["HOME"] = "/nonexistent"


def run_as(name: str, arguments: Sequence[str]) -> int:
    """Run this script again in a mount namespace of its own, as another user."""
    if os.geteuid() != 0:
        print("benchmarks/hostile.py: --as-user needs root; run it as that user instead", file=sys.stderr)
        return 2
    if STAGE not in os.environ:
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, __file__, *arguments]
        with tempfile.TemporaryDirectory(prefix="charter-hold-") as holding:
            return subprocess.run(command, env=os.environ | {STAGE: holding}, check=False).returncode
    open_up(needed_paths(), Path(os.environ[STAGE]))
    os.chdir("/")
    command = [sys.executable, __file__, *without_user(arguments)]
    del os.environ[STAGE]
    become(name)
    return os.execv(sys.executable, command)


def without_user(arguments: Sequence[str]) -> list[str]:
    """The arguments without --as-user and its value."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--as-user":
            next(rest, None)
        elif not argument.startswith("--as-user="):
            kept.append(argument)
    return kept


async def attack(tier: str, only: Sequence[str], quick: bool, show: bool) -> dict[str, Any]:
    """Run the corpus against one tier."""
    from hostile.canary import Canary, plant_environment
    from hostile.corpus import read_programs
    from hostile.harness import examine, row_of

    from charter.errors import SandboxUnavailable
    from charter.sandbox import open_sandbox

    plant_environment()
    began = time.monotonic()
    try:
        sandbox = open_sandbox(tier, slots=1)
    except SandboxUnavailable as error:
        return {"tier": tier, "unavailable": str(error)}
    found = []
    try:
        with Canary() as canary:
            for program in read_programs():
                chosen = not only or any(program.name.startswith(prefix) for prefix in only)
                judged = program.tiers is None or tier in program.tiers
                if not chosen or not judged or (quick and program.slow):
                    continue
                found.append(await examine(sandbox, program, canary))
                if show:
                    print(f"\r{tier} {len(found):4} {program.name:40}", end="", file=sys.stderr, flush=True)
    finally:
        sandbox.close()
        if show:
            print("\r" + " " * 50 + "\r", end="", file=sys.stderr)
    verdicts = {one.program: {mode: verdict.outcome for mode, verdict in one.verdicts.items()} for one in found}
    return {"tier": tier, "seconds": round(time.monotonic() - began, 1), **row_of(found), "verdicts": verdicts}


def table_of(results: Sequence[dict[str, Any]], user: str) -> str:
    """Class × passed/total, a column per tier, and the failures below."""
    from hostile.corpus import CLASSES

    able = [result for result in results if "classes" in result]
    lines = [f"as {user}", "class".ljust(12) + "".join(f"tier {result['tier']}".rjust(12) for result in able)]
    for kind in (*CLASSES, "all"):
        line = kind.ljust(12)
        for result in able:
            cells = [cell for name, cell in result["classes"].items() if kind in (name, "all")]
            line += f"{sum(c['passed'] for c in cells)}/{sum(c['total'] for c in cells)}".rjust(12)
        lines.append(line)
    for result in results:
        if "unavailable" in result:
            lines.append(f"tier {result['tier']} is not available: {result['unavailable']}")
        for name, problems in result.get("failures", {}).items():
            lines += [f"tier {result['tier']}  {name}: {problem}" for problem in problems]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Returns: 0 without a failure, 1 with one, 2 for a wrong command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tier", action="append", choices=["A", "B", "C"], help="more than once is allowed; A and B")
    parser.add_argument("--as-user", metavar="NAME", help="an ordinary user, by name or number")
    parser.add_argument("--only", nargs="+", default=[], metavar="PREFIX", help="programs whose names begin so")
    parser.add_argument("--quick", action="store_true", help="leave out programs that run into a limit")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--save", metavar="FILE", help="also write the JSON to a file")
    chosen = parser.parse_args(arguments)
    if chosen.as_user:
        return run_as(chosen.as_user, arguments)
    sys.path[0] = str(ROOT / "tests")  # in place of this folder, where `hostile` is this file
    show = sys.stderr.isatty()
    results = [asyncio.run(attack(tier, chosen.only, chosen.quick, show)) for tier in chosen.tier or ["A", "B"]]
    user = f"uid {os.geteuid()}"
    report = {"user": user, "machine": platform.machine(), "kernel": platform.release(), "results": results}
    if chosen.save:
        from charter.run.atomic import write_text

        write_text(Path(chosen.save), json.dumps(report, indent=1) + "\n")
    print(json.dumps(report) if chosen.json else table_of(results, user))
    return int(any(result.get("failures") or "unavailable" in result for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
