"""`schema`: whether the completion holds JSON that keeps to a JSON Schema (draft 2020-12).

The note has the exact path of the worst error: `$.items[2].price: 'x' is not of type 'number'`. Validation runs in a
worker process, since patterns in a schema may take exponential time on text the model wrote. References to other
documents are not fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from charter.reward.runtime import Verdict, WorkerReward
from charter.types import Prompt, Rollout


class SchemaOptions(BaseModel):
    """Options of `schema`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    document: dict[str, Any] | bool = Field(
        alias="schema", description="The schema: a table, or the path of a JSON file."
    )
    extract: Literal["auto", "text", "fence"] = Field(
        "auto",
        description="Where the JSON is: the whole text, the last fenced block, or (auto) whichever is JSON first.",
    )
    partial: bool = Field(
        False, description="Credit for part of an object: sound properties / (declared properties + unexpected ones)."
    )

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
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError

        try:
            Draft202012Validator.check_schema(document)
        except SchemaError as error:
            raise ValueError(f"not a JSON Schema: at {error.json_path}: {error.message[:200]}") from None
        return document


class SchemaReward(WorkerReward):
    """1 when the JSON in the completion is valid, else 0 or, with `partial`, a share."""

    def __init__(self, name: str, timeout_s: float, options: SchemaOptions) -> None:
        super().__init__(name, timeout_s, "schema", options.model_dump(by_alias=True))

    def prepare(self, prompt: Prompt, rollout: Rollout) -> Mapping[str, Any] | Verdict:
        """The text is all the schema needs."""
        return {"text": rollout.text}
