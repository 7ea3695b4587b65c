"""Namespaces of a fork server's own, where bubblewrap has made none."""

from __future__ import annotations

import ctypes
import os

_MOUNTS, _USERS = 0x20000, 0x10000000


def leave(libc: ctypes.CDLL, *, mounts: bool) -> None:
    """Leave the shared user namespace, unless root, and with `mounts` the shared mounts too. The user stays the same.

    In a user namespace of its own the server's processes are counted apart from the user's others.
    Raises: OSError that says what was refused.
    """
    user, group = os.getuid(), os.getgid()
    flags = (_MOUNTS if mounts else 0) | (_USERS if user != 0 else 0)
    if flags and libc.unshare(flags) != 0:
        wanted = "a scratch folder needs a mount namespace" if mounts else "a user namespace was asked for"
        raise OSError(ctypes.get_errno(), f"{wanted}, which was refused")
    if user != 0:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)
