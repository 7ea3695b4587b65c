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


def mount_folder(size_bytes: int, place: str = FOLDER) -> None:
    """Leave the shared mounts and put the folder in place. Raises: OSError that names what was refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    namespaces.leave(libc, mounts=True)
    _mount(libc, None, "/", None, _PRIVATE_ALL)
    options = f"size={size_bytes},nr_inodes={MOST_FILES},mode=0777"
    _mount(libc, "scratch", place, "tmpfs", _NOSUID_NODEV_NOEXEC, options)


def mount_library(library: str) -> None:
    """Show the library at its second place, in mounts that are no longer shared. Raises: as `mount_folder`."""
    _mount(ctypes.CDLL(None, use_errno=True), library, LIBRARY, None, _BIND)


def _mount(
    libc: ctypes.CDLL, source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    words = [word if word is None else word.encode() for word in (source, target, kind)]
    if libc.mount(*words, ctypes.c_ulong(flags), options and options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "a scratch folder could not be mounted", target)
