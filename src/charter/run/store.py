"""The folder a run leaves behind, and the one process that may write it.

    recipe.toml  manifest.json  metrics.jsonl  rollouts/step-000012.parquet  checkpoints/  latest  summary.json

Every file appears whole or not at all, so that a kill, a full disk or a power cut at any moment leaves a folder
that reads, and that a resumed run can continue.

Not here: checkpoints (checkpoint.py), reading alone (reader.py).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from charter.errors import StoreError
from charter.run.atomic import (
    ASIDE,
    fsync_file,
    fsync_folder,
    remove_leftovers,
    unwritable,
    write_all,
    write_bytes,
    write_text,
)
from charter.run.lock import LOCK, take_lock
from charter.run.reader import Row, Run, read_rows, split_rows, step_name, step_of
from charter.run.rollouts import parquet_bytes, rollout_table
from charter.types import Update

UNFINISHED = {LOCK, "manifest.json"}
"""What a create() that was killed half-way may have left; recipe.toml, written last, makes the folder a run."""


class RunStore:
    """A run folder, held by this process for writing until `close` (or until the process ends, however it ends).

    Make one with `create` or `open`.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock: int | None = lock
        self._last_step: int | None = None

    @classmethod
    def create(cls, folder: Path | str, recipe_toml: str, manifest: Mapping[str, Any]) -> RunStore:
        """Begin a run in a new or empty folder.

        folder: runs/<name>; made with its parents. recipe_toml: the resolved recipe. manifest: versions, hashes,
        machine, seeds (JSON-able).
        Raises: StoreError where a run stands there already, where another process writes it, or on a full disk.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        lock = take_lock(folder)
        try:
            names = [path.name for path in folder.iterdir()]
            there = sorted(name for name in names if name not in UNFINISHED and not name.startswith(ASIDE))
            if there:
                what = "a run stands there already" if "recipe.toml" in there else f"it holds {', '.join(there[:5])}"
                raise StoreError(
                    f"{folder} is not empty: {what}. Continue it with --resume, or choose another name "
                    "(run.name=… or --run-dir …)."
                )
            remove_leftovers(folder)
            write_text(folder / "manifest.json", json.dumps(dict(manifest), indent=2, sort_keys=True) + "\n")
            write_text(folder / "recipe.toml", recipe_toml)
        except BaseException:
            os.close(lock)
            raise
        return cls(folder, lock)

    @classmethod
    def open(cls, folder: Path | str) -> RunStore:
        """Continue a run: take its lock and clear away what a killed writer left.

        Raises: StoreError where that is no run or another process writes it.
        """
        run = Run(folder)
        store = cls(run.folder, take_lock(run.folder))
        try:
            remove_leftovers(run.folder)
            remove_leftovers(run.folder / "rollouts")
            store._mend_metrics(keep_until=None)
        except BaseException:
            store.close()
            raise
        return store

    @property
    def run(self) -> Run:
        """The same folder, for reading."""
        return Run(self.folder)

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def recipe_text(self) -> str:
        return self.run.recipe_text

    @property
    def manifest(self) -> dict[str, Any]:
        return self.run.manifest

    @property
    def summary(self) -> dict[str, Any]:
        return self.run.summary

    def metrics(self) -> list[Row]:
        """The rows written so far."""
        return read_rows(self.metrics_path)

    def rollouts(self, step: int) -> pa.Table:
        """The completions of one step. Raises: StoreError naming the steps there are."""
        return self.run.rollouts(step)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add the row of one step: `step` first, the rest in its order, a number that is not finite as null.

        row: must hold "step", larger than any before.
        Raises: StoreError for a row without a step, a step that was written already, or a full disk (and then the
        file is as it was).
        """
        self._held()
        step = row.get("step")
        if not isinstance(step, int) or isinstance(step, bool):
            raise StoreError(f'{self.metrics_path}: a row needs a whole-number "step", found {step!r}.')
        if self._last_step is None:
            rows = self.metrics()
            self._last_step = int(rows[-1]["step"]) if rows else -1
        last = self._last_step
        if step <= last:
            raise StoreError(
                f"{self.metrics_path}: step {step} comes after step {last}, and a step has one row. "
                "To repeat steps, drop them first with truncate_after."
            )
        ordered = {"step": step, **{key: _finite(value) for key, value in row.items() if key != "step"}}
        line = json.dumps(ordered, allow_nan=False).encode() + b"\n"
        self._append(line)
        self._last_step = step

    def _append(self, line: bytes) -> None:
        try:
            fd = os.open(self.metrics_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise unwritable(self.metrics_path, error, needed=len(line)) from error
        try:
            before = os.fstat(fd).st_size
            try:
                write_all(fd, line)
            except BaseException as error:
                os.ftruncate(fd, before)  # shrinking needs no space: the torn line goes
                if isinstance(error, OSError):
                    raise unwritable(self.metrics_path, error, needed=len(line)) from error
                raise
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Make the metrics written so far survive a power cut; called with each checkpoint."""
        if self.metrics_path.exists():
            try:
                fsync_file(self.metrics_path)
                fsync_folder(self.folder)  # the file's name, too: it is made by the first append
            except OSError as error:
                raise unwritable(self.metrics_path, error) from error

    def write_rollouts(self, update: Update) -> Path | None:
        """Store what a step sampled; nothing for a step that sampled nothing (imitation).

        Returns: the file. Raises: StoreError where it cannot be written.
        """
        self._held()
        if not update.scored:
            return None
        folder = self.folder / "rollouts"
        path = folder / f"{step_name(update.step)}.parquet"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        write_bytes(path, parquet_bytes(rollout_table(update)))
        return path

    def write_summary(self, summary: Mapping[str, Any]) -> Path:
        """Write summary.json. summary: JSON-able, finite numbers. Returns: the file."""
        self._held()
        path = self.folder / "summary.json"
        write_text(path, json.dumps(dict(summary), indent=2, allow_nan=False) + "\n")
        return path

    def truncate_after(self, step: int) -> None:
        """Drop what was written beyond a checkpoint, so that a resumed run repeats those steps cleanly.

        step: the checkpoint's. Metrics of later steps, a torn last line and later rollout files go. Killed half-way,
        the same call on the next start completes it.
        """
        self._held()
        for path in sorted((self.folder / "rollouts").glob("step-*.parquet"), reverse=True):
            found = step_of(path)
            if found is not None and found > step:
                path.unlink()
        remove_leftovers(self.folder / "rollouts")
        self._mend_metrics(keep_until=step)

    def _mend_metrics(self, *, keep_until: int | None) -> None:
        """Rewrite metrics.jsonl with its whole lines alone, up to a step where one is given."""
        self._last_step = None
        if not self.metrics_path.exists():
            return
        data = self.metrics_path.read_bytes()
        rows = split_rows(self.metrics_path, data)
        kept = b"".join(line + b"\n" for line, row in rows if keep_until is None or row["step"] <= keep_until)
        if kept != data:
            write_bytes(self.metrics_path, kept)

    def _held(self) -> None:
        if self._lock is None:
            raise StoreError(f"{self.folder} was closed by this process; open it again to write.")

    def close(self) -> None:
        """Let another process write this run. Calling it again does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _finite(value: Any) -> Any:
    """JSON has no word for nan or infinity: null says that there was a number and that it was not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
