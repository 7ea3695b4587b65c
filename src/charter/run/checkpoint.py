"""Checkpoints that are whole or not there.

    checkpoints/step-000010/model/…                     what `from_pretrained` loads
    checkpoints/step-000010/state/optimizer.safetensors the tensors of CheckpointState
    checkpoints/step-000010/state/state.json            step, version, scalars; size and SHA-256 of every other file
    latest → checkpoints/step-000010

The folder is written aside, every file is fsynced, and one rename makes it appear. state.json is written last and
says what the others must be, so that damage is seen and an older checkpoint used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from charter.errors import StoreError
from charter.run.atomic import ASIDE, FULL, fsync_file, fsync_folder, remove_leftovers, unwritable, write_link
from charter.run.lock import written_by_another
from charter.run.reader import step_name, step_of

FORMAT = 1
STATE = "state/state.json"
TENSORS = "state/optimizer.safetensors"
REPLACED = ".old-"
"""Prefix of a checkpoint that is being replaced by another of the same step."""

logger = logging.getLogger("charter")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointState:
    """What a run needs besides the model's weights to continue as if it had never stopped.

    step: last finished step. version: optimizer updates the policy has seen. tensors: optimizer moments, generator
    states. scalars: JSON-able numbers, strings, lists: scheduler, counters, data position, hashes.
    """

    step: int
    version: int
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    scalars: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Checkpoints:
    """The checkpoints of one run folder. One process writes at a time (RunStore's lock sees to it)."""

    def __init__(self, run_folder: Path | str) -> None:
        """run_folder: runs/<name>. What killed saves left inside is cleared away, unless a process is at it now."""
        self.run_folder = Path(run_folder)
        self.folder = self.run_folder / "checkpoints"
        self._warned: set[Path] = set()
        if self.folder.is_dir() and not written_by_another(self.run_folder):
            self._recover()

    def _recover(self) -> None:
        for old in sorted(self.folder.glob(f"{REPLACED}step-*")):
            final = old.with_name(old.name.removeprefix(REPLACED))
            if final.exists():
                shutil.rmtree(old)
            else:  # killed between the two renames of a replacement: the old one is still the one there is
                os.replace(old, final)
        remove_leftovers(self.folder)
        remove_leftovers(self.run_folder)
        self._point()

    def _point(self) -> None:
        """Let `latest` point at the newest whole one; a kill between two renames may have left it at another."""
        newest, link = self.latest(), self.run_folder / "latest"
        if newest is None:
            return
        target = f"{self.folder.name}/{newest.name}"
        if not link.is_symlink() or os.readlink(link) != target:
            write_link(link, target)

    def save(self, step: int, write_model: Callable[[Path], None], state: CheckpointState) -> Path:
        """Write a checkpoint; afterwards `latest` points at it.

        step: names the folder. write_model: writes a plain model folder into the (existing, empty) path it is given.
        Returns: the checkpoint's folder.
        Raises: StoreError where it does not fit or cannot be written; what was there before is untouched.
        """
        if state.step != step:
            raise StoreError(f"{self.folder / step_name(step)}: the state is that of step {state.step}, not of {step}.")
        final = self.folder / step_name(step)
        temporary = self.folder / f"{ASIDE}{final.name}-{os.getpid()}"
        try:
            if temporary.exists():
                shutil.rmtree(temporary)
            (temporary / "model").mkdir(parents=True)
            (temporary / "state").mkdir()
            write_model(temporary / "model")
            save_file(_storable(state.tensors), temporary / TENSORS)
            _write_state(temporary, state)
            _fsync_tree(temporary)
            self._put(temporary, final)
        except (OSError, SafetensorError) as error:
            needed = _bytes_wanted(temporary, state.tensors)
            shutil.rmtree(temporary, ignore_errors=True)  # before the free space is told
            raise _explained(final, error, needed) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        write_link(self.run_folder / "latest", f"{self.folder.name}/{final.name}")
        return final

    def _put(self, temporary: Path, final: Path) -> None:
        if final.exists():
            old = final.with_name(REPLACED + final.name)
            os.replace(final, old)
            os.replace(temporary, final)
            fsync_folder(self.folder)
            shutil.rmtree(old)
        else:
            os.replace(temporary, final)
        fsync_folder(self.folder)

    def all(self) -> list[Path]:
        """Folders named like checkpoints, oldest first, whole or not."""
        found = [(step, path) for path in self.folder.glob("step-*") if (step := step_of(path)) is not None]
        return [path for _, path in sorted(found)]

    def latest(self) -> Path | None:
        """The newest whole checkpoint, or None. A damaged newer one is named in a warning of the logger "charter"."""
        for path in reversed(self.all()):
            wrong = damage(path)
            if wrong is None:
                return path
            if path not in self._warned:
                self._warned.add(path)
                logger.warning("%s is damaged (%s) and is passed over; an older checkpoint is used.", path, wrong)
        return None

    def load_state(self, path: Path) -> CheckpointState:
        """The state of a checkpoint, every byte of it checked against its SHA-256.

        path: its folder. Raises: StoreError naming what is wrong.
        """
        wrong = damage(path, contents=True)
        if wrong is not None:
            raise StoreError(
                f"{path} is damaged: {wrong}. Delete that folder and resume: the checkpoint before it is used."
            )
        record = _record(path)
        tensors = load_file(path / TENSORS)
        return CheckpointState(
            step=record["step"], version=record["version"], tensors=tensors, scalars=record["scalars"]
        )

    def prune(self, keep: int) -> list[Path]:
        """Delete all but the newest whole checkpoints.

        keep: how many stay, at least 1: the newest whole one is never deleted. Damaged folders newer than it stay
        too, for whoever wants to look; older ones go.
        Returns: what was deleted.
        """
        if keep < 1:
            raise ValueError(f"at least 1 checkpoint must be kept, not {keep}")
        self._point()  # first: it must not point at what goes
        whole = 0
        removed: list[Path] = []
        for path in reversed(self.all()):
            sound = damage(path) is None
            if whole >= keep or (whole >= 1 and not sound):
                gone = path.with_name(f"{ASIDE}{path.name}-{os.getpid()}")
                os.replace(path, gone)  # half a deleted folder must not look like a checkpoint
                shutil.rmtree(gone)
                removed.append(path)
            whole += sound
        return removed


def damage(path: Path, *, contents: bool = False) -> str | None:
    """What is wrong with a checkpoint, in words, or None where it is whole.

    contents: also compare the SHA-256 of every file (reads all of it), not only presence and size.
    """
    try:
        record = _record(path)
        for name, expected in record["files"].items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if (size := file.stat().st_size) != expected["bytes"]:
                return f"{name} has {size:,} bytes, expected {expected['bytes']:,}"
            if contents and _sha256(file) != expected["sha256"]:
                return f"the content of {name} is not what was written"
    except FileNotFoundError:
        return f"{STATE} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{STATE} does not read: {error}"
    return None


def _record(path: Path) -> dict[str, Any]:
    record = json.loads((path / STATE).read_text(encoding="utf-8"))
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"not a state of format {FORMAT}")
    body = {key: value for key, value in record.items() if key != "sha256"}
    if record.get("sha256") != _digest(body):
        raise ValueError("its content is not what was written")
    return record


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_state(folder: Path, state: CheckpointState) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    # The disk takes as long as the hash: let it write what is hashed meanwhile.
    with ThreadPoolExecutor(max_workers=1) as disk:
        written = [disk.submit(fsync_file, path) for path in paths]
        files = {
            path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            for path in paths
        }
    for each in written:
        each.result()
    body = {"format": FORMAT, "step": state.step, "version": state.version, "scalars": state.scalars, "files": files}
    try:
        # Through JSON and back, so that the digest is that of what a reader gets (tuples are lists there).
        body = json.loads(json.dumps(body, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise StoreError(f"the scalars of a checkpoint must be JSON-able and finite: {error}.") from error
    (folder / STATE).write_text(json.dumps({**body, "sha256": _digest(body)}, indent=1), encoding="utf-8")


def _fsync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            fsync_file(path)
        elif path.is_dir():
            fsync_folder(path)
    fsync_folder(folder)


def _storable(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """On the CPU, contiguous, and no two in the same memory, which safetensors refuses."""
    out: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        ready = tensor.detach().to("cpu").contiguous()
        home = ready.untyped_storage().data_ptr()
        if home in seen:
            ready = ready.clone()
        seen.add(home)
        out[name] = ready
    return out


def _bytes_wanted(temporary: Path, tensors: Mapping[str, torch.Tensor]) -> int:
    """The model's files as far as they came, and all tensors: at least this much is needed."""
    model = sum(path.stat().st_size for path in (temporary / "model").rglob("*") if path.is_file())
    return model + sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _explained(final: Path, error: Exception, needed: int) -> StoreError:
    """safetensors hands the system's "no space" on as words; find the number in them again."""
    if isinstance(error, OSError):
        return unwritable(final, error, needed=needed)
    for number in FULL:
        if f"os error {number})" in str(error):
            return unwritable(final, OSError(number, os.strerror(number)), needed=needed)
    return StoreError(f"{final} could not be written: {error}.")
