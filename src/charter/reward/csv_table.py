"""`csv`: whether the completion holds a table, compared with an expected one or checked against a column spec.

Parsing runs in a worker process (`csv_answer.py`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from charter.reward.csv_answer import TYPES
from charter.reward.extract import PLACE_HELP, Place
from charter.reward.math import reference_column
from charter.reward.runtime import Verdict, WorkerReward
from charter.types import Prompt, Rollout


class CsvOptions(BaseModel):
    """Options of `csv`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: str | None = Field(
        None,
        description="Column with the expected table: CSV text, a list of rows, or a list of objects. "
        'Default "answer", and none when only columns is given.',
    )
    columns: dict[str, str] | None = Field(
        None,
        description=f"Name → type of each column, in order: {', '.join(TYPES)}; with ? at its end a cell may be empty.",
    )
    header: bool = Field(True, description="Whether the first row names the columns.")
    rows: int | None = Field(None, ge=0, description="Rows there must be, the header not counted.")
    min_rows: int = Field(1, ge=0, description="Fewest rows.")
    max_rows: int | None = Field(None, ge=0, description="Most rows.")
    delimiter: str = Field(",", min_length=1, max_length=1, description="What separates cells.")
    quote: str = Field('"', min_length=1, max_length=1, description="What encloses cells; doubled to stand in one.")
    trim: bool = Field(False, description="Ignore white space around cells.")
    ordered: bool = Field(True, description="Whether the order of rows matters.")
    tolerance: float = Field(0.0, ge=0, lt=1, description="For numbers, relative and absolute.")
    extract: Place = Field("auto", description=PLACE_HELP)
    partial: bool = Field(False, description="Credit for part: right cells / cells of the larger table.")

    @field_validator("columns")
    @classmethod
    def _types(cls, columns: dict[str, str] | None) -> dict[str, str] | None:
        for name, kind in (columns or {}).items():
            if kind.removesuffix("?") not in TYPES:
                raise ValueError(f"column {name!r} has the type {kind!r}; use one of {', '.join(TYPES)}")
        return columns

    @model_validator(mode="after")
    def _possible(self) -> CsvOptions:
        if self.delimiter == self.quote or {self.delimiter, self.quote} & set("\r\n\0"):
            raise ValueError("delimiter and quote must differ and be no line break")
        if self.columns is not None and not self.columns:
            raise ValueError("columns names none")
        return self

    @property
    def expected_column(self) -> str | None:
        """The column with the expected table, or None when the spec alone decides."""
        return "answer" if self.answer is None and self.columns is None else self.answer


class CsvReward(WorkerReward):
    """1 when the table is right, else 0 or, with `partial`, a share."""

    def __init__(self, name: str, timeout_s: float, options: CsvOptions) -> None:
        super().__init__(name, timeout_s, "csv", options.model_dump())
        self.options = options

    def required_columns(self) -> tuple[str, ...]:
        """The column with the expected table, if there is one."""
        return () if self.options.expected_column is None else (self.options.expected_column,)

    def reference(self, prompt: Prompt) -> str | None:
        """The expected table as CSV."""
        gold = prompt.fields.get(self.options.expected_column or "")
        if isinstance(gold, str) or not isinstance(gold, (list, tuple)) or not gold:
            return gold if isinstance(gold, str) else None
        if all(isinstance(row, dict) for row in gold):
            gold = [list(gold[0]), *([row.get(name) for name in gold[0]] for row in gold)]
        if not all(isinstance(row, (list, tuple)) for row in gold):
            return None
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.options.delimiter, quotechar=self.options.quote, lineterminator="\n")
        writer.writerows([[str(c).lower() if isinstance(c, bool) else c for c in row] for row in gold])
        return text.getvalue()

    def prepare(self, prompt: Prompt, rollout: Rollout) -> Mapping[str, Any] | Verdict:
        """The text with the row's expected table."""
        column = self.options.expected_column
        if column is None:
            return {"text": rollout.text, "expected": None, "row": ""}
        gold = reference_column(prompt, column)
        if isinstance(gold, Verdict):
            return gold
        return {"text": rollout.text, "expected": gold, "row": f"row {prompt.id}, column {column!r}: "}
