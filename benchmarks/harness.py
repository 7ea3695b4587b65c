"""What every measurement shares: whether the machine was quiet, what it is, and where the figures go.

A figure that was taken beside another program is marked, never repaired: `valid` is false and `disturbed_by` says why.
Nothing here imports torch, so that a parent process stays small beside the child whose memory is measured.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from charter.run.atomic import write_text
from charter.run.manifest import machine, package_versions

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

CORE_SHARE_LIMIT = 0.10
"""CPU seconds per second that another process may take before a measurement counts as disturbed."""
STEAL_LIMIT = 0.03
"""Share of the machine's time that the hypervisor may withhold."""
POLL_S = 1.0


@dataclass(slots=True)
class Quiet:
    """How quiet the machine was. shares: CPU seconds per second of the busiest others, by name. steal: share."""

    seconds: float = 0.0
    steal: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def disturbed_by(self) -> list[str]:
        """Sentences; an empty list is a quiet machine."""
        causes = [
            f"{name} took {share:.0%} of a core (limit {CORE_SHARE_LIMIT:.0%})"
            for name, share in sorted(self.shares.items(), key=lambda item: -item[1])
            if share > CORE_SHARE_LIMIT
        ]
        if self.steal > STEAL_LIMIT:
            causes.append(f"the hypervisor withheld {self.steal:.1%} of the time (limit {STEAL_LIMIT:.0%})")
        return causes

    def as_row(self) -> dict[str, Any]:
        loudest = max(self.shares.values(), default=0.0)
        return {
            "seconds": round(self.seconds, 2),
            "steal": round(self.steal, 4),
            "loudest_other": round(loudest, 3),
            "disturbed_by": self.disturbed_by,
        }


class _Watch:
    """Adds up the CPU time of every process outside this one's family."""

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._family = {self._me.pid, *(p.pid for p in self._me.parents())}
        self._first: dict[tuple[int, float], float] = {}
        self._last: dict[tuple[int, float], tuple[float, str]] = {}
        self._began = time.time()
        self._times = psutil.cpu_times()
        self._clock = time.perf_counter()
        self.poll()

    def poll(self) -> None:
        mine = {p.pid for p in self._me.children(recursive=True)}
        self._family |= mine  # a child that has ended is still ours
        for process in psutil.process_iter(["pid", "name", "cpu_times", "create_time"]):
            info = process.info
            if info["pid"] in self._family or info["cpu_times"] is None:
                continue
            key = info["pid"], info["create_time"]
            spent = info["cpu_times"].user + info["cpu_times"].system
            # a process born while we watch began at 0; one that was there began at what it had spent
            self._first.setdefault(key, 0.0 if info["create_time"] >= self._began else spent)
            self._last[key] = spent, info["name"] or "?"

    def report(self) -> Quiet:
        seconds = time.perf_counter() - self._clock
        now = psutil.cpu_times()
        total = sum(now) - sum(self._times)
        steal = getattr(now, "steal", 0.0) - getattr(self._times, "steal", 0.0)
        shares: dict[str, float] = {}
        for key, (spent, name) in self._last.items():
            shares[name] = shares.get(name, 0.0) + (spent - self._first[key]) / max(seconds, 1e-9)
        return Quiet(seconds=seconds, steal=steal / total if total else 0.0, shares=shares)


@contextmanager
def watching() -> Iterator[Quiet]:
    """Watch the machine while the body runs; the yielded report is filled in when it ends."""
    quiet, watch, over = Quiet(), _Watch(), threading.Event()

    def keep_looking() -> None:
        while not over.wait(POLL_S):
            watch.poll()

    thread = threading.Thread(target=keep_looking, daemon=True)
    thread.start()
    try:
        yield quiet
    finally:
        over.set()
        thread.join()
        watch.poll()
        seen = watch.report()
        quiet.seconds, quiet.steal, quiet.shares = seen.seconds, seen.steal, seen.shares


def sample_quiet(seconds: float = 3.0) -> Quiet:
    """The machine before anything of ours runs."""
    with watching() as quiet:
        time.sleep(seconds)
    return quiet


def validity(before: Quiet, during: Quiet) -> dict[str, Any]:
    """The keys that every timed figure carries: valid, disturbed_by, and both readings."""
    causes = [f"before: {c}" for c in before.disturbed_by] + [f"during: {c}" for c in during.disturbed_by]
    return {
        "valid": not causes,
        "disturbed_by": causes,
        "quiet": {"before": before.as_row(), "during": during.as_row()},
    }


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def revision() -> str:
    """The commit that was measured, with "+" when tracked files under src differ from it; "unknown" outside git."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "src"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def facts() -> dict[str, Any]:
    """Under what the figures were taken: date, commit, python, packages, machine."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "revision": revision(),
        "python": platform.python_version(),
        "packages": {name: version for name, version in package_versions().items() if version},
        "machine": {"processor": processor(), **machine()},
    }


def child_environment(*, threads: int | None = None) -> dict[str, str]:
    """The environment of a child: nothing is downloaded, and its threads are pinned to the cores that exist.

    An OMP_NUM_THREADS that is set already wins, so that a figure can be taken again with fewer.
    """
    asked = str(threads or int(os.environ.get("OMP_NUM_THREADS") or cores()))
    return {
        **os.environ,
        "OMP_NUM_THREADS": asked,
        "MKL_NUM_THREADS": asked,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def run_child(
    words: Sequence[str | Path],
    *,
    threads: int | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> None:
    """Run `words` to its end; its output goes to our standard error. Exits with a sentence when it fails, or is not
    done after timeout_s."""
    try:
        done = subprocess.run(
            [str(word) for word in words], env={**child_environment(threads=threads), **(environment or {})},
            stdout=sys.stderr, check=False, timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{' '.join(map(str, words))} was not done after {timeout_s:.0f} s") from None
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} ended with {done.returncode}; its output stands above")


def read_child(words: Sequence[str | Path], *, threads: int | None = None) -> Any:
    """What a child writes, as JSON, into the file whose name is its last argument."""
    with tempfile.TemporaryDirectory(prefix="charter-bench-") as folder:
        out = Path(folder) / "out.json"
        run_child([*words, out], threads=threads)
        return json.loads(out.read_text("utf-8"))


def store(name: str, data: Mapping[str, Any]) -> Path:
    """Write benchmarks/results/NAME.json, whole or not at all."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    write_text(path, as_json(data) + "\n")
    return path


def stored(name: str) -> dict[str, Any] | None:
    """What benchmarks/results/NAME.json holds, or None where nothing was stored."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def as_json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def worst(values: Iterable[float]) -> float:
    """The largest error; a NaN among them is the worst of all, where `max` might step over it."""
    found = list(values)
    return math.inf if any(math.isnan(v) for v in found) else max(found)


def table(rows: Sequence[Sequence[object]], head: Sequence[str]) -> str:
    """Columns as wide as their widest cell; numbers to the right."""
    cells = [[str(c) if not isinstance(c, float) else f"{c:.3g}" for c in row] for row in rows]
    numeric = [all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(head))]
    widths = [max(len(head[i]), *(len(row[i]) for row in cells)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()

    return "\n".join([line(head), line(["─" * width for width in widths]), *map(line, cells)])
