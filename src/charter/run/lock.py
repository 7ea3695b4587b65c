"""One writer per run folder: a lock that the kernel lets go of when its process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from charter.errors import StoreError
from charter.run.atomic import unwritable

LOCK = ".lock"
ATTEMPTS, PAUSE_S = 5, 0.02


def take_lock(folder: Path) -> int:
    """Hold a run folder for this process.

    folder: an existing run folder. Returns: the open lock file; closing it lets go.
    Raises: StoreError naming the process that holds it.
    """
    path = folder / LOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        for attempt in range(ATTEMPTS):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # written_by_another() below holds it for microseconds; a real writer holds it for longer than this
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(PAUSE_S)
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    except BlockingIOError as error:
        holder = _holder(fd)
        os.close(fd)
        raise StoreError(
            f"{folder} is being written by another process (pid {holder or 'unknown'}). Wait for it or stop it, "
            "or choose another name (run.name=… or --run-dir …)."
        ) from error
    except OSError as error:
        os.close(fd)
        raise unwritable(path, error) from error
    return fd


def written_by_another(folder: Path) -> bool:
    """Whether a living process other than this one holds the run folder."""
    try:
        fd = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unwritable(folder / LOCK, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(fd) != str(os.getpid())
    finally:
        os.close(fd)
    return False


def _holder(fd: int) -> str:
    return os.pread(fd, 32, 0).decode(errors="replace").strip()
