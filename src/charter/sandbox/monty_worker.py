"""The child process of the sandbox `monty`: `python -m charter.sandbox.monty_worker PARENT_PID MEMORY_BYTES`.

It reads jobs (length-prefixed JSON, the bodies of `wire.py` with a key `mode`) and answers each with a verdict. It has
a process group of its own, which the interpreter shares: when the trainer goes, the whole group is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any, BinaryIO

from charter.sandbox.inside.codec import HEADER
from charter.sandbox.job import Verdict
from charter.sandbox.monty_outcome import one_line
from charter.sandbox.monty_run import Runner
from charter.sandbox.wire import cases_of, limits_of, suite_of, verdict_body

_PR_SET_PDEATHSIG = 1


def _end_group(*_: object) -> None:
    os.killpg(0, signal.SIGKILL)


def _end_with_parent(parent_pid: int) -> None:
    """Kill the group when the parent ends. A thread waits for the signal: the main one may be busy for seconds."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=lambda: (signal.sigwait({signal.SIGTERM}), _end_group()), daemon=True).start()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:
        _end_group()


def _limit_memory(limit_bytes: int) -> None:
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _private_channel() -> tuple[BinaryIO, BinaryIO]:
    """Descriptors 0 and 1 moved away, so that the interpreter does not share them."""
    jobs, verdicts = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return jobs, verdicts


def _read_jobs(stream: BinaryIO, jobs: queue.Queue[Mapping[str, Any]]) -> None:
    while True:
        header = stream.read(HEADER.size)
        body = stream.read(HEADER.unpack(header)[0]) if len(header) == HEADER.size else b""
        if not body:
            _end_group()
        jobs.put(json.loads(body))


def _answer(stream: BinaryIO, message: Mapping[str, Any]) -> None:
    body = json.dumps(message).encode("ascii")
    stream.write(HEADER.pack(len(body)) + body)
    stream.flush()


def run_job(runner: Runner, job: Mapping[str, Any]) -> Verdict:
    """The verdict of one job; an error of our own is the sandbox's, not the program's."""
    try:
        limits = limits_of(job["limits"])
        if job["mode"] == "calls":
            return runner.run_calls(job["program"], suite_of(job["tests"], job["setup"]), limits)
        return runner.run_stdio(job["program"], cases_of(job["tests"]), limits, every=job["every"])
    except Exception as error:  # noqa: BLE001
        note = one_line(f"the monty worker failed: {type(error).__name__}: {error}")
        return Verdict(outcome="sandbox_error", passed=0, total=len(job["tests"]), seconds=0.0, note=note)


def main() -> None:
    """Serve jobs until the channel closes."""
    parent_pid, memory_bytes = int(sys.argv[1]), int(sys.argv[2])
    _end_with_parent(parent_pid)
    _limit_memory(memory_bytes)
    incoming, outgoing = _private_channel()
    jobs: queue.Queue[Mapping[str, Any]] = queue.Queue()
    try:
        import pydantic_monty

        pool = pydantic_monty.Monty(min_processes=1, max_processes=1, feed_duration_limit_grace=1.0)
        pool.__enter__()
    except Exception as error:  # noqa: BLE001 - the host says it in its own words
        _answer(outgoing, {"error": f"{type(error).__name__}: {error}"[:500]})
        return
    _answer(outgoing, {"ready": True})
    threading.Thread(target=_read_jobs, args=(incoming, jobs), daemon=True).start()
    runner = Runner(pool)
    while True:
        _answer(outgoing, verdict_body(run_job(runner, jobs.get())))


if __name__ == "__main__":
    main()
