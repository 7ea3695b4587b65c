"""Landlock: which files a process may open, for reading, and nothing else.

Source: Linux, Documentation/userspace-api/landlock.rst; linux/landlock.h. Rules only add: a folder of which a part
must stay hidden is given entry by entry.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterable
from errno import ENOTSUP

from .policy import Machine, number_of

_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# WRITE_FILE REMOVE_DIR REMOVE_FILE MAKE_DIR MAKE_REG REFER TRUNCATE
_WRITING = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13 | 1 << 14
_VERSION = 1
_PATH_BENEATH = 1
# what each version of the interface added to the files, network and scopes that can be ruled
_FILES = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
_TCP = {4: 0x3}
_SCOPES = {6: 0x3}  # abstract sockets, signals


def version(libc: ctypes.CDLL, on: Machine) -> int:
    """The interface version of this kernel; 0 where there is no Landlock."""
    number = ctypes.c_long(number_of("landlock_create_ruleset", on))
    found = libc.syscall(number, None, ctypes.c_long(0), ctypes.c_long(_VERSION))
    return max(0, found)


def _known(table: dict[int, int], version: int) -> int:
    return next((bits for since, bits in sorted(table.items(), reverse=True) if since <= version), 0)


def create(readable: Iterable[str], libc: ctypes.CDLL, on: Machine, *, writable: str = "") -> int:
    """A ruleset: read what is at or beneath these paths, write nothing, no TCP, no signal or abstract socket outside.

    writable: a folder in which files and folders may be made, changed and removed as well.

    Returns: its descriptor. Raises: OSError.
    """
    known = version(libc, on)
    if known == 0:
        raise OSError(ctypes.get_errno(), "this kernel has no Landlock")
    attributes = struct.pack("<QQQ", _known(_FILES, known), _known(_TCP, known), _known(_SCOPES, known))
    size = 8 if known < 4 else 16 if known < 6 else 24
    ruleset = libc.syscall(
        ctypes.c_long(number_of("landlock_create_ruleset", on)), attributes, ctypes.c_long(size), ctypes.c_long(0)
    )
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset was refused")
    os.set_inheritable(ruleset, False)
    for path in readable:
        with contextlib.suppress(FileNotFoundError):
            _add(ruleset, path, _READ_FILE | _READ_DIR if os.path.isdir(path) else _READ_FILE, libc, on)
    if writable and known < 3:
        raise OSError(ENOTSUP, "a scratch folder needs Landlock's third version (Linux 6.2), which rules truncation")
    if writable:
        _add(ruleset, writable, (_READ_FILE | _READ_DIR | _WRITING) & _known(_FILES, known), libc, on)
    return ruleset


def _add(ruleset: int, path: str, rights: int, libc: ctypes.CDLL, on: Machine) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("<Qi", rights, beneath)
        call = ctypes.c_long(number_of("landlock_add_rule", on))
        if libc.syscall(call, ctypes.c_long(ruleset), ctypes.c_long(_PATH_BENEATH), rule, ctypes.c_long(0)) != 0:
            raise OSError(ctypes.get_errno(), "landlock_add_rule was refused", path)
    finally:
        os.close(beneath)


def restrict(ruleset: int, libc: ctypes.CDLL, on: Machine) -> None:
    """Put this process under a ruleset, for good. Needs no_new_privs. Raises: OSError."""
    call = ctypes.c_long(number_of("landlock_restrict_self", on))
    if libc.syscall(call, ctypes.c_long(ruleset), ctypes.c_long(0)) != 0:
        raise OSError(ctypes.get_errno(), "landlock_restrict_self was refused")
