"""Freed memory stays with the process: a step after the first few faults in next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from charter.model.allocator import keep_freed_memory
torch.set_num_threads(1)
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
x = torch.ones(12 * 2**20)
faults = []
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    y = x + 1
    z = y * y
    y = z - x
    del y, z
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(kept), min(faults[4:]))  # a single step may pay for pages that the system took back meanwhile
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_a_later_step_costs_hardly_any_page_faults() -> None:
    def least_faults(how: str) -> tuple[bool, int]:
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        kept, faults = map(int, done.stdout.split())
        return bool(kept), faults

    kept, with_it = least_faults("keep")
    if not kept:
        pytest.skip("the C library is not glibc")
    assert with_it < 100
    assert least_faults("leave")[1] > 12_000  # three tensors of 48 MiB are 12,288 pages each
