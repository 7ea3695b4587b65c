"""Files that appear whole or not at all: write aside in the same folder, fsync, rename.

A reader, or the next start after a power cut, sees the old content or the new content and never a
part of either. Names that start with `.tmp-` are ours, unfinished, and safe to delete.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from charter.errors import StoreError

ASIDE = ".tmp-"
"""Prefix of everything that is being written."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the operating system says when bytes do not fit: disk, quota, or a limit on file size."""


def aside(path: Path) -> Path:
    """The name under which `path` is written before it is renamed: same folder, so that the rename is atomic."""
    return path.with_name(f"{ASIDE}{path.name}-{os.getpid()}")


def fsync_folder(folder: Path) -> None:
    """Make the names inside a folder survive a power cut (a rename alone is only in memory)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_file(path: Path) -> None:
    """Make a file's content survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, however the kernel splits it.

    Raises: OSError as os.write does; ENOSPC where the kernel takes no byte at all.
    """
    view = memoryview(data)
    while view:
        written = os.write(fd, view)
        if written <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of `path` in one go.

    path: file to create or replace; its folder exists. data: its whole new content.
    Raises: StoreError naming the file when it cannot be written; what stood there before still stands.
    """
    temporary = aside(path)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error, needed=len(data)) from error
    finally:
        # After a successful rename the name is gone; after any failure, a KeyboardInterrupt too, it must go.
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8; characters that UTF-8 has no bytes for (lone surrogates) are written as \\udXXX."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_link(path: Path, target: str) -> None:
    """Point the symbolic link `path` at `target` (relative to the link's folder) in one go."""
    temporary = aside(path)
    try:
        temporary.unlink(missing_ok=True)
        os.symlink(target, temporary)
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error, needed=len(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> list[str]:
    """Delete what a killed writer left unfinished; returns the names. Call it only under the run's lock."""
    removed: list[str] = []
    if not folder.is_dir():
        return removed
    for entry in sorted(folder.iterdir()):
        if not entry.name.startswith(ASIDE):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
        removed.append(entry.name)
    return removed


def free_bytes(folder: Path) -> int | None:
    """Free space an ordinary user has where `folder` lives, or None where the system does not say."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def unwritable(path: Path, error: OSError, *, needed: int | None = None) -> StoreError:
    """The error for a file that could not be written, with what to do about it.

    path: the file. error: what the system said. needed: bytes that were to be written.
    """
    wanted = f" at least {needed:,} bytes were to be written" if needed is not None else " it did not fit"
    if error.errno == errno.EFBIG:
        return StoreError(
            f"{path} could not be written: the file size limit of this process is reached;{wanted}. "
            "Nothing torn was left behind. Raise the limit (ulimit -f) and start again with --resume."
        )
    if error.errno in FULL:
        free = free_bytes(path.parent)
        there = f" and {free:,} bytes are free" if free is not None else ""
        return StoreError(
            f"{path} could not be written: the disk or quota is full;{wanted}{there}. Nothing torn was left behind. "
            "Free some space (old folders under runs/, or a lower run.keep_checkpoints) and start again with --resume."
        )
    reason = error.strerror or str(error)
    return StoreError(
        f"{path} could not be written: {reason}. Check that the folder exists and that you may write there, "
        "or choose another with --run-dir."
    )
