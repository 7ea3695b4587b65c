"""`schema`: whether the completion holds JSON that keeps to a JSON Schema (draft 2020-12).

The note has the exact path and keyword of the worst error: `$.items[2].price (type): 'x' is not of type 'number'`.
JSON is read strictly (`json_text.py`). Validation runs in a worker process, since patterns in a schema may take
exponential time on text the model wrote. References to other documents are not fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from charter.reward.extract import PLACE_HELP, Place
from charter.reward.math import reference_column
from charter.reward.runtime import Verdict, WorkerReward
from charter.types import Prompt, Rollout


class SchemaOptions(BaseModel):
    """Options of `schema`: exactly one of schema and column."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    document: dict[str, Any] | bool | None = Field(
        None, alias="schema", description="The schema: a table, or the path of a JSON file."
    )
    column: str | None = Field(None, description="Column with each row's own schema: a table or its JSON text.")
    extract: Place = Field("auto", description=f"{PLACE_HELP} With auto the whole text counts first if it is JSON.")
    partial: bool = Field(
        False, description="Credit for part of an object: sound properties / (declared properties + unexpected ones)."
    )
    formats: bool = Field(False, description='Whether "format" (date, email, …) is checked, not only noted.')

    @field_validator("document", mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        if not isinstance(given, (str, Path)):
            return given
        try:
            return json.loads(Path(given).read_text("utf-8"))
        except OSError as error:
            raise ValueError(f"the schema file {str(given)!r} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"the schema file {str(given)!r} is not JSON: {error}") from None

    @field_validator("document")
    @classmethod
    def _is_schema(cls, document: Any) -> Any:
        if document is None:
            return document
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError

        try:
            Draft202012Validator.check_schema(document)
        except SchemaError as error:
            raise ValueError(f"not a JSON Schema: at {error.json_path}: {error.message[:200]}") from None
        return document

    @model_validator(mode="after")
    def _one(self) -> SchemaOptions:
        if (self.document is None) == (self.column is None):
            raise ValueError("give exactly one of schema and column")
        return self


class SchemaReward(WorkerReward):
    """1 when the JSON in the completion is valid, else 0 or, with `partial`, a share."""

    def __init__(self, name: str, timeout_s: float, options: SchemaOptions) -> None:
        super().__init__(name, timeout_s, "schema", options.model_dump(by_alias=True))
        self.options = options

    def required_columns(self) -> tuple[str, ...]:
        """The column with the schema, where each row has its own."""
        return () if self.options.column is None else (self.options.column,)

    def prepare(self, prompt: Prompt, rollout: Rollout) -> Mapping[str, Any] | Verdict:
        """The text, and the row's schema where it has its own."""
        column = self.options.column
        if column is None:
            return {"text": rollout.text}
        schema = reference_column(prompt, column)
        if isinstance(schema, Verdict):
            return schema
        return {"text": rollout.text, "schema": schema, "row": f"row {prompt.id}, column {column!r}: "}
