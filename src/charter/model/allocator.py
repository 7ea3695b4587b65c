"""Memory of the CPU that is kept for the next tensor instead of being given back to the system.

glibc maps every large block anew and unmaps it when it is freed, so each tensor's pages are faulted in and cleared
again: measured on two virtual cores, 750,000 faults and 28 % of the time of a learning step of 1,138 tokens
(docs/performance.md). Kept in the heap, a step after the first faults in nothing.

Not here: CUDA, whose caching allocator does the same.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
"""Parameters of mallopt(3) in glibc."""
_TOP_PAD_BYTES = 64 * 2**20


@cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory that tensors free, from now on. Returns whether the C library took it.

    The process then stays as large as it once was. Only glibc knows these parameters; with another C library nothing
    changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  (other libraries also have a mallopt, with other meanings)
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False
    # one heap for all threads: what one of them freed is there for the others
    asked = ((_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD_BYTES), (_M_MMAP_MAX, 0), (_M_ARENA_MAX, 1))
    return all(mallopt(name, value) == 1 for name, value in asked)
