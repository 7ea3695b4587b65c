"""The worker's side of `schema`: find the JSON in a completion, validate it, say what is wrong and where.

References to other documents are not fetched. Imports little, so that a worker starts fast.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)


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
