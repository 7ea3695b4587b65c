"""Programs that do what they can to outlive the trainer: stopped, deaf to every signal, many threads, in a blocked
read. The trainer is killed with SIGKILL, alone or with its whole process group; nothing may be left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
STUBBORN = (
    "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n",
    "import signal\n"
    "for n in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:\n"
    "    signal.signal(n, signal.SIG_IGN)\n"
    "while True: pass\n",
    "import threading, time\n"
    "for _ in range(100): threading.Thread(target=time.sleep, args=(60,)).start()\n"
    "os = __import__('os'); os.closerange(0, 64)\n"
    "time.sleep(60)\n",
    "import os\nr, w = os.pipe()\nos.read(r, 1)\n",
)
TRAINER = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT / "src")!r})
from charter.errors import SandboxUnavailable
from charter.sandbox import Limits, StdioCase, open_sandbox
async def main():
    try:
        sandbox = open_sandbox(sys.argv[1], slots={len(STUBBORN)})
    except SandboxUnavailable as error:
        print(f"none {{error}}".replace("\\n", " "), flush=True)
        return
    print("open", flush=True)
    limits = Limits(wall_s=60, cpu_s=60, memory_bytes=2**28)
    case = [StdioCase(stdin="", stdout="")]
    await asyncio.gather(*(sandbox.run_stdio(text, case, limits) for text in {STUBBORN!r}))
asyncio.run(main())
"""
LIMIT_S = 1.0
BUSY_S = 4.0
"""For a machine that does other things at the time; the plain case is measured strictly in tests/sandbox/."""


def jobs_below(trainer: psutil.Process) -> list[psutil.Process]:
    """Children of fork servers: the command line is the server's, and so is the parent's."""
    below = [p for p in trainer.children(recursive=True) if not p.name().startswith("bwrap")]
    return [p for p in below if p.ppid() in {one.pid for one in below}]


@pytest.mark.slow  # seconds each to open four slots; the plain case is in tests/sandbox/
@pytest.mark.parametrize("whole_group", [False, True], ids=["the trainer alone", "its whole group"])
@pytest.mark.parametrize("tier", ["A", "B"])
def test_nothing_outlives_a_killed_trainer(tier: str, whole_group: bool) -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", TRAINER, tier], stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    trainer = psutil.Process(started.pid)
    below: list[psutil.Process] = []
    try:
        assert started.stdout is not None
        if (said := started.stdout.readline()).startswith("none"):
            pytest.skip(said)
        until = time.monotonic() + 60
        while len(jobs_below(trainer)) < len(STUBBORN) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)  # until they have done what they do
        assert len(jobs_below(trainer)) == len(STUBBORN)
        below = trainer.children(recursive=True)
        if whole_group:
            os.killpg(started.pid, signal.SIGKILL)
        else:
            trainer.kill()
        started.wait()
        _, left = psutil.wait_procs(below, timeout=LIMIT_S + BUSY_S)
        alive = [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        assert alive == []
    finally:
        started.kill()
        started.wait()
        if started.stdout is not None:
            started.stdout.close()
        for one in below:
            if one.is_running():
                one.kill()
