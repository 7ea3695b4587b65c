"""What programs expect of an interpreter and a jailed one would not have: `exit()`, and `os.fstat` of open files.

`exit` comes from a module that a clean start leaves out. C libraries ask for an open file's metadata with a call that
takes a path as well, which the filter refuses; the older call that takes a descriptor alone is allowed.
"""

from __future__ import annotations

import builtins
import ctypes
import os
import struct
import sys

from . import policy

_NUMBER = {"x86_64": 5, "aarch64": 80}
# struct stat of the kernel, as far as os.stat_result wants it: where each field is, and its format
_FIELDS = {
    "x86_64": {"dev": (0, "Q"), "ino": (8, "Q"), "nlink": (16, "Q"), "mode": (24, "I"), "uid": (28, "I"),
               "gid": (32, "I"), "size": (48, "q"), "atime": (72, "q"), "mtime": (88, "q"), "ctime": (104, "q")},
    "aarch64": {"dev": (0, "Q"), "ino": (8, "Q"), "mode": (16, "I"), "nlink": (20, "I"), "uid": (24, "I"),
                "gid": (28, "I"), "size": (48, "q"), "atime": (72, "q"), "mtime": (88, "q"), "ctime": (104, "q")},
}  # fmt: skip
_ORDER = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "mtime", "ctime")
_STAT_BYTES = 256


def keep() -> None:
    """Put them in place, once, in the fork server."""
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]
    machine = policy.machine()
    number, fields = _NUMBER[machine], _FIELDS[machine]
    libc = ctypes.CDLL(None, use_errno=True)

    def fstat(fd: int) -> os.stat_result:
        """Metadata of an open file."""
        buffer = ctypes.create_string_buffer(_STAT_BYTES)
        if libc.syscall(ctypes.c_long(number), ctypes.c_long(fd), buffer) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return os.stat_result(
            [struct.unpack_from("<" + fields[name][1], buffer, fields[name][0])[0] for name in _ORDER]
        )

    os.fstat = fstat
