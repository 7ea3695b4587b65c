"""A private folder that a program may write to: a tmpfs of limited size in a mount namespace of the fork server's own.

It is mounted over /tmp, and the standard library once more over /mnt, because the program's working folder is then the
scratch one. The server that has it serves one job, so that nobody finds what another left.
"""

from __future__ import annotations

import ctypes

from . import namespaces

FOLDER = "/tmp"
LIBRARY = "/mnt"
MOST_FILES = 4096
_NOSUID_NODEV_NOEXEC, _BIND, _PRIVATE_ALL = 2 | 4 | 8, 4096, (1 << 18) | (1 << 14)


def mount(size_bytes: int, library: str, libc: ctypes.CDLL) -> None:
    """Leave the shared mounts and put the two in place. Raises: OSError that names what was refused."""
    namespaces.leave(libc, mounts=True)
    for source, target, kind, flags, options in (
        (None, b"/", None, _PRIVATE_ALL, None),
        (library.encode(), LIBRARY.encode(), None, _BIND, None),
        (
            b"scratch",
            FOLDER.encode(),
            b"tmpfs",
            _NOSUID_NODEV_NOEXEC,
            f"size={size_bytes},nr_inodes={MOST_FILES},mode=0777".encode(),
        ),
    ):
        if libc.mount(source, target, kind, ctypes.c_ulong(flags), options) != 0:
            raise OSError(ctypes.get_errno(), "a scratch folder could not be mounted", target.decode())
