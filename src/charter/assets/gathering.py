"""Data sets that lie in several files, or in another form than rows: one `.jsonl` out of their members.

Every row keeps where it came from, and the members stay beside it as they were.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from charter.errors import AssetError

REFUSALS = "refusals.jsonl"
"""Beside the rows of harm-ratings: replies that people labelled as a refusal or not."""

_RATED = (
    "exploits", "hate_speech", "hate_speech_multi_score", "info_integrity", "privacy", "representational", "self_harm",
    "sexual", "violence", "violence_multi_score",
)  # fmt: skip
_LABELLED = ("refusal", "mini_refusal")


def gather_do_not_answer(folder: Path) -> None:
    """do-not-answer.jsonl: {"prompt", "area", "intents"}, in the order of the five files' names."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*_*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            row = json.loads(line)
            if not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
                raise _unexpected(path, number, "a row without a prompt")
            rows.append({"prompt": row["prompt"], "area": path.stem, "intents": row.get("intents", [])})
    _write(folder / "do-not-answer.jsonl", rows)


def gather_strongreject(folder: Path) -> None:
    """strongreject.jsonl: {"prompt", "category", "source"}, as the table has them."""
    path = folder / "strongreject_dataset.csv"
    rows = [
        {"prompt": row["forbidden_prompt"], "category": row["category"], "source": row["source"]}
        for _, row in _table(path, {"forbidden_prompt", "category", "source"})
    ]
    _write(folder / "strongreject.jsonl", rows)


def gather_harm_ratings(folder: Path) -> None:
    """harm-ratings.jsonl: {"prompt", "reply", "ratings", "file", "row"}; refusals.jsonl: {"prompt", "reply", "refuses",
    "file", "row"}.

    ratings: of harm, from 0 (none) to 1, one per person: three in the two `…_multi_score` files and one in the others.
    row: of the table, counted from 1 below its header.
    """
    rated: list[dict[str, Any]] = []
    for name in _RATED:
        path = folder / f"{name}.csv"
        for number, row in _table(path, {"objective", "assistant_response"}):
            ratings = [float(row[key]) for key in row if key.startswith("human_score")]
            if not ratings or not all(0 <= rating <= 1 for rating in ratings):
                raise _unexpected(path, number, f"the ratings {ratings}")
            rated.append(_reply(row) | {"ratings": ratings, "file": name, "row": number})
    labelled: list[dict[str, Any]] = []
    for name in _LABELLED:
        path = folder / f"{name}.csv"
        for number, row in _table(path, {"objective", "assistant_response", "human_score"}):
            if row["human_score"] not in ("0", "1"):
                raise _unexpected(path, number, f"the label {row['human_score']!r}")
            labelled.append(_reply(row) | {"refuses": row["human_score"] == "1", "file": name, "row": number})
    _write(folder / "harm-ratings.jsonl", rated)
    _write(folder / REFUSALS, labelled)


def _reply(row: Mapping[str, str]) -> dict[str, Any]:
    return {"prompt": row["objective"], "reply": row["assistant_response"]}


def _table(path: Path, needed: set[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(number from 1, row) of a CSV file; lines of "#" before its header are left out."""
    with path.open(encoding="utf-8", newline="") as file:
        begin = 0
        while file.readline().startswith("#"):
            begin = file.tell()
        file.seek(begin)
        table = csv.DictReader(file)
        if missing := needed - set(table.fieldnames or ()):
            raise _unexpected(path, 0, f"no column {', '.join(sorted(missing))}")
        for number, row in enumerate(table, start=1):
            yield number, {key: value or "" for key, value in row.items() if key}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def _unexpected(path: Path, number: int, found: str) -> AssetError:
    return AssetError(f"{path.name}, row {number}: found {found}, where the pinned file has none. Report this as a bug")
