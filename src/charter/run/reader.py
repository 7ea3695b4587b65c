"""A run folder, read without touching it: while it is being written, and after its trainer was killed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from charter.errors import StoreError

Row = dict[str, Any]

STEP_WIDTH = 6
"""Digits of a step in a file name, so that names sort as steps do up to 999,999."""


def step_name(step: int) -> str:
    """`step-000012`: how a step is called in file and folder names."""
    return f"step-{step:0{STEP_WIDTH}d}"


def step_of(path: Path) -> int | None:
    """The step that a file or folder is named after, or None for any other name."""
    head, _, digits = path.name.partition(".")[0].partition("-")
    return int(digits) if head == "step" and digits.isdigit() and len(digits) >= STEP_WIDTH else None


def split_rows(path: Path, data: bytes) -> list[tuple[bytes, Row]]:
    """The whole lines of a metrics file, each as it stands and as it reads.

    A last line without its line feed is what a kill in the middle of a write leaves: it is taken if it reads as a
    row and dropped if it does not. Any other line that does not read is damage.

    Raises: StoreError naming file and line.
    """
    rows: list[tuple[bytes, Row]] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise ValueError("not an object with a whole-number step")
        except ValueError as error:
            if number == len(lines):
                break
            raise StoreError(
                f"{path}:{number} is not a row of metrics ({error}): {line[:60]!r}. "
                "Delete that line, or restore the file from a copy."
            ) from error
        rows.append((line, row))
    return rows


def read_rows(path: Path) -> list[Row]:
    """The rows of metrics.jsonl in order; none where the file does not exist yet."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from error
    return [row for _, row in split_rows(path, data)]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises: StoreError naming it and what is wrong."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read as JSON: {error}. Restore it from a copy.") from error
    if not isinstance(found, dict):
        raise StoreError(f"{path} holds a {type(found).__name__}, expected a JSON object. Restore it from a copy.")
    return found


class Run:
    """A run folder, read-only.

    Opening one reads nothing but the presence of its recipe; each property reads what is there now, so that a run
    still being written can be followed.
    """

    def __init__(self, folder: Path | str) -> None:
        """folder: runs/<name>. Raises: StoreError where that is no run."""
        self.folder = Path(folder)
        if not (self.folder / "recipe.toml").is_file():
            found = "it does not exist" if not self.folder.exists() else "it holds no recipe.toml"
            beside = sorted(p.parent.name for p in self.folder.parent.glob("*/recipe.toml"))
            known = f" Runs beside it: {', '.join(beside[:8])}." if beside else ""
            raise StoreError(f"{self.folder} is not a run: {found}. Give the folder that `charter train` wrote.{known}")

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def recipe_text(self) -> str:
        """The resolved recipe, as TOML."""
        return (self.folder / "recipe.toml").read_text(encoding="utf-8")

    @property
    def manifest(self) -> dict[str, Any]:
        """Versions, hashes, machine and seeds."""
        return read_json(self.folder / "manifest.json")

    @property
    def metrics(self) -> list[Row]:
        """One row per finished step, in order. null (None) stands for a number that was not finite."""
        return read_rows(self.folder / "metrics.jsonl")

    @property
    def rollout_steps(self) -> list[int]:
        """Steps whose completions are stored, in order."""
        found = (step_of(path) for path in (self.folder / "rollouts").glob("step-*.parquet"))
        return sorted(step for step in found if step is not None)

    def rollouts(self, step: int) -> pa.Table:
        """The completions of one step (columns: charter.run.rollouts).

        Raises: StoreError naming the steps there are, or the file that does not read.
        """
        path = self.folder / "rollouts" / f"{step_name(step)}.parquet"
        if not path.is_file():
            steps = self.rollout_steps
            there = f"stored are {steps[0]} to {steps[-1]}" if steps else "none are stored"
            raise StoreError(f"{self.folder} has no completions of step {step}: {there}.")
        try:
            # Through bytes: a path would make pyarrow add columns for folders named like key=value.
            return pq.read_table(pa.BufferReader(path.read_bytes()))
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{path} cannot be read as Parquet: {error}. Restore it from a copy.") from error

    @property
    def latest_checkpoint(self) -> Path | None:
        """Folder of the newest whole checkpoint (its `model/` loads with from_pretrained), or None."""
        link = self.folder / "latest"
        return link.resolve() if (link / "state" / "state.json").is_file() else None

    @property
    def summary(self) -> dict[str, Any]:
        """The run in a few numbers: summary.json where it was written, and what the metrics say."""
        path = self.folder / "summary.json"
        written = read_json(path) if path.is_file() else {}
        return {**summarize(self.metrics), "name": self.name, "method": self._method(), **written}

    def _method(self) -> str | None:
        try:
            return tomllib.loads(self.recipe_text).get("method")
        except tomllib.TOMLDecodeError as error:
            raise StoreError(f"{self.folder / 'recipe.toml'} is not TOML: {error}. Restore it from a copy.") from error


def open_run(folder: Path | str) -> Run:
    """Open a run folder for reading. Raises: StoreError where that is no run."""
    return Run(folder)


def _numbers(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(value) for row in rows if isinstance(value := row.get(name), int | float)]


def summarize(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """First, last and best of what matters, from rows of metrics.

    Returns: {"steps", "reward_first", "reward_last", "reward_best", "accuracy_first", "accuracy_last", "tokens",
    "skipped", "seconds": {"sample", "score", "learn", "step"}}; None where there is no such number. steps is the
    number of the last step; seconds and tokens are sums over all rows.
    """
    reward, accuracy = _numbers(rows, "reward"), _numbers(rows, "eval/accuracy")

    def at(values: Sequence[float], place: int) -> float | None:
        return values[place] if values else None

    return {
        "steps": rows[-1]["step"] if rows else 0,
        "reward_first": at(reward, 0),
        "reward_last": at(reward, -1),
        "reward_best": max(reward, default=None),
        "accuracy_first": at(accuracy, 0),
        "accuracy_last": at(accuracy, -1),
        "tokens": sum(_numbers(rows, "tokens/sampled")),
        "skipped": sum(_numbers(rows, "skipped")),
        "seconds": {part: sum(_numbers(rows, f"time/{part}_s")) for part in ("sample", "score", "learn", "step")},
    }
