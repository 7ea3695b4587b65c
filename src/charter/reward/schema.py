"""`schema`: whether the completion holds JSON that keeps to a JSON Schema (draft 2020-12).

The note has the exact path of the worst error: `$.items[2].price: 'x' is not of type 'number'`. Validation runs in a
worker process, since patterns in a schema may take exponential time on text the model wrote. References to other
documents are not fetched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, field_validator

from charter.reward.runtime import Verdict, WorkerReward
from charter.types import Prompt, Rollout

_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)


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


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _load(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def extract_json(text: str, extract: str) -> Any:
    """The JSON in a text. Raises: ValueError that says what is wrong with it; RecursionError when nested too deeply."""
    if extract == "text":
        return _load(text)
    if extract == "auto":
        try:
            return _load(text)
        except ValueError:
            if "```" not in text:
                raise
    blocks = _FENCE.findall(text)
    if not blocks:
        raise ValueError("there is no fenced block")
    return _load(blocks[-1])


def partial_credit(schema: Any, instance: Any, errors: list[Any]) -> float:
    """Sound properties / (declared properties + unexpected ones), below 1 while any error is left.

    A declared property (in `properties` or `required`) is sound when nothing is wrong at or under it, and it is there
    if required. Without declared properties, or for another instance than an object, an error leaves nothing.
    """
    if not errors:
        return 1.0
    if not isinstance(schema, dict) or not isinstance(instance, dict):
        return 0.0
    required = set(schema.get("required", ()))
    declared = required | set(schema.get("properties", {}))
    wrong = {error.absolute_path[0] for error in errors if error.absolute_path}
    unexpected = {name for name in wrong if name not in declared}
    if schema.get("additionalProperties") is False:
        unexpected |= set(instance) - declared
    sound = {name for name in declared if name not in wrong and (name in instance or name not in required)}
    if not (sound & set(instance)):  # an empty object earns nothing for what it leaves out
        return 0.0
    share = len(sound) / (len(declared) + len(unexpected))
    return min(share, 1.0 - 1.0 / (len(declared) + len(unexpected) + 1))


def open_judge(options: Mapping[str, Any]) -> tuple[Callable[[Mapping[str, Any]], dict[str, Any]], None]:
    """Set a worker up: build the validator once."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    schema = options["schema"]
    validator = Draft202012Validator(schema, registry=Registry())

    def judge(work: Mapping[str, Any]) -> dict[str, Any]:
        try:
            instance = extract_json(work["text"], options["extract"])
        except RecursionError:
            return {"value": 0.0, "note": "not JSON: nested too deeply"}
        except ValueError as error:
            return {"value": 0.0, "note": f"not JSON: {error}"}
        try:
            errors = list(validator.iter_errors(instance))
            worst = best_match(errors)
        except Unresolvable as error:
            return {"failed": f"the schema refers to what is not in it: {error}"}
        except RecursionError:
            return {"value": 0.0, "note": "nested too deeply"}
        if worst is None:
            return {"value": 1.0, "note": ""}
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        value = partial_credit(schema, instance, errors) if options["partial"] else 0.0
        message = worst.message if len(worst.message) <= 300 else worst.message[:150] + " … " + worst.message[-140:]
        return {"value": value, "note": f"{worst.json_path}: {message}{more}"}

    return judge, None
