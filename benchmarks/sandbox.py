"""How fast the jail is: programs per second against a bare fork and against a fresh interpreter.

    python benchmarks/sandbox.py [--rounds 7] [--jobs 300] [--tiers A B] [--store] [--json]

Every way runs the same program against the same ten asserts, two at a time on two cores: `add` is one line, `primes`
imports a module and loops. The bare fork is a clean interpreter that forks, runs program and asserts in the child and
believes its exit code; the subprocess is `python -I -S` on a file with both. Neither isolates anything. Rounds
alternate.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import as_json, cores, facts, median, sample_quiet, store, table, validity, watching
from charter.sandbox import Limits, Sandbox, open_sandbox
from charter.sandbox.calls import split_asserts

_ADD = "def add(a, b):\n    return a + b\n"
_ADD_TESTS = "\n".join(f"assert add({i}, {i * i}) == {i + i * i}" for i in range(10))
_PRIMES = """
from collections import Counter
import math

def primes(n):
    sieve = bytearray([1]) * (n + 1)
    for i in range(2, math.isqrt(n) + 1):
        if sieve[i]:
            sieve[i * i :: i] = bytes(len(range(i * i, n + 1, i)))
    return [i for i in range(2, n + 1) if sieve[i]]

def most_common(words):
    return Counter(words).most_common(1)[0][0]
"""
_PRIMES_TESTS = "\n".join(
    [
        f"assert primes({n}) == {[p for p in range(2, n + 1) if all(p % d for d in range(2, p))]}"
        for n in range(5, 50, 5)
    ]
    + ["assert most_common(['a', 'b', 'a']) == 'a'"]
)
WORKLOADS = {"add": (_ADD, _ADD_TESTS), "primes": (_PRIMES, _PRIMES_TESTS)}
_FORKER = """
import os, sys
source, count = open(sys.argv[1]).read(), int(sys.argv[2])
good = 0
for _ in range(count):
    pid = os.fork()
    if pid == 0:
        try:
            exec(compile(source, "solution.py", "exec"), {"__name__": "solution"})
            os._exit(0)
        except BaseException:
            os._exit(1)
    good += os.waitpid(pid, 0)[1] == 0
sys.exit(good != count)
"""


def bare_fork(folder: Path, jobs: int) -> float:
    """Seconds for `jobs` executions by one forking interpreter per core."""
    command = [sys.executable, "-s", "-S", "-B", "-c", _FORKER, str(folder / "whole.py")]
    began = time.perf_counter()
    running = [subprocess.Popen([*command, str(jobs // cores())]) for _ in range(cores())]
    if any(process.wait() for process in running):
        raise SystemExit("a forked program did not pass")
    return time.perf_counter() - began


def fresh_interpreter(folder: Path, jobs: int) -> float:
    """Seconds for `jobs` executions of `python -I -S`."""
    command = [sys.executable, "-I", "-S", str(folder / "whole.py")]
    began = time.perf_counter()
    with ThreadPoolExecutor(cores()) as threads:
        codes = list(threads.map(lambda _: subprocess.run(command, check=False).returncode, range(jobs)))
    if any(codes):
        raise SystemExit("a program in a fresh interpreter did not pass")
    return time.perf_counter() - began


def jailed(sandbox: Sandbox, jobs: int, workload: str) -> tuple[float, float]:
    """Seconds for `jobs` executions in a jail, and processor seconds of everything that took part."""
    program, tests = WORKLOADS[workload]
    suite, limits = split_asserts(tests), Limits()

    async def all_of_them() -> None:
        verdicts = await asyncio.gather(*(sandbox.run_calls(program, suite, limits) for _ in range(jobs)))
        if any(verdict.outcome != "passed" for verdict in verdicts):
            raise SystemExit(f"a jailed program did not pass: {verdicts[0]}")

    before, began = _processor_seconds(), time.perf_counter()
    asyncio.run(all_of_them())
    return time.perf_counter() - began, _processor_seconds() - before


def _processor_seconds() -> float:
    """Of this process, the fork servers, and the children these have waited for."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
        if process.pid != psutil.Process().pid:
            total += times.children_user + times.children_system
    return total


def measure(workload: str, tiers: list[str], rounds: int, jobs: int, slow_jobs: int) -> dict[str, Any]:
    """Programs per second of every way, medians over alternating rounds."""
    sandboxes = {tier: open_sandbox(tier) for tier in tiers}
    rates: dict[str, list[float]] = {name: [] for name in ("bare fork", "subprocess", *tiers)}
    cpu: dict[str, list[float]] = {tier: [] for tier in tiers}
    before = sample_quiet()
    try:
        with tempfile.TemporaryDirectory() as name, watching() as quiet:
            folder = Path(name)
            folder.joinpath("whole.py").write_text("\n".join(WORKLOADS[workload]))
            for round_number in range(rounds + 1):
                found = {"bare fork": jobs / bare_fork(folder, jobs)}
                found["subprocess"] = slow_jobs / fresh_interpreter(folder, slow_jobs)
                spent = {}
                for tier, sandbox in sandboxes.items():
                    seconds, processor = jailed(sandbox, jobs, workload)
                    found[tier], spent[tier] = jobs / seconds, processor / jobs
                if round_number:  # the first one warms up
                    for way, rate in found.items():
                        rates[way].append(rate)
                    for tier, each in spent.items():
                        cpu[tier].append(each)
        step = {
            tier: sorted(jailed(sandbox, 512, workload)[0] for _ in range(3))[1] for tier, sandbox in sandboxes.items()
        }
    finally:
        for sandbox in sandboxes.values():
            sandbox.close()
    per_s = {way: median(values) for way, values in rates.items()}
    return {
        **validity(before, quiet),
        "rounds": rounds,
        "per_second": {way: round(rate, 1) for way, rate in per_s.items()},
        "range": {way: [round(min(values), 1), round(max(values), 1)] for way, values in rates.items()},
        "of_bare_fork": {tier: round(per_s[tier] / per_s["bare fork"], 3) for tier in tiers},
        "of_subprocess": {tier: round(per_s[tier] / per_s["subprocess"], 2) for tier in tiers},
        "cpu_ms_per_execution": {tier: round(1000 * median(cpu[tier]), 2) for tier in tiers},
        "seconds_for_512_completions_of_10_tests": {tier: round(seconds, 2) for tier, seconds in step.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--slow-jobs", type=int, default=60, help="executions of the subprocess per round")
    parser.add_argument("--tiers", nargs="+", default=["A", "B"])
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/sandbox.json")
    parser.add_argument("--json", action="store_true", dest="as_json")
    asked = parser.parse_args()
    found: dict[str, Any] = facts()
    for workload in WORKLOADS:
        found[workload] = measure(workload, asked.tiers, asked.rounds, asked.jobs, asked.slow_jobs)
    if asked.store:
        store("sandbox", found)
    if asked.as_json:
        print(as_json(found))
        return
    for workload in WORKLOADS:
        part = found[workload]
        rows = [
            [way, rate, *(part[key].get(way, "") for key in ("of_bare_fork", "of_subprocess", "cpu_ms_per_execution"))]
            for way, rate in part["per_second"].items()
        ]
        print(f"\n{workload}")
        print(table(rows, ["way", "programs/s", "of bare fork", "of subprocess", "CPU ms each"]))
        print(f"512 completions of 10 tests: {part['seconds_for_512_completions_of_10_tests']} s")
        if not part["valid"]:
            print("not valid: " + "; ".join(part["disturbed_by"]))


if __name__ == "__main__":
    main()
