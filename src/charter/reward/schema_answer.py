"""The worker's side of `schema`: find the JSON in a completion, validate it, say what is wrong and where.

References to other documents are not fetched. Imports little, so that a worker starts fast.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from charter.reward.json_text import find_json

MOST_ERRORS = 1000
"""Errors of one instance that are looked at; a hostile one has a million."""


class BadSchemaError(Exception):
    """A schema that is none, or that refers to what is not in it; the text says what is wrong."""


def make_validator(schema: Any, *, formats: bool = False) -> Any:
    """A validator that fetches nothing. Raises: BadSchemaError."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing import Registry

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise BadSchemaError(f"not a JSON Schema: at {error.json_path}: {error.message[:200]}") from None
    checker = Draft202012Validator.FORMAT_CHECKER if formats else None
    return Draft202012Validator(schema, registry=Registry(), format_checker=checker)


def find_errors(validator: Any, instance: Any) -> list[Any]:
    """The first errors of an instance, the most telling one at the front.

    Raises: BadSchemaError for a reference to nowhere; RecursionError for a schema that has no end on this instance.
    """
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        errors = list(itertools.islice(validator.iter_errors(instance), MOST_ERRORS))
        worst = best_match(iter(errors))
    except Unresolvable as error:
        raise BadSchemaError(f"the schema refers to what is not in it: {error}") from None
    return [] if worst is None else [worst, *(error for error in errors if error is not worst)]


def describe_errors(errors: list[Any]) -> str:
    """`$.a[2] (type): message (and 3 more)` for a list that is not empty."""
    worst = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    message = worst.message if len(worst.message) <= 300 else worst.message[:150] + " … " + worst.message[-140:]
    path = worst.json_path if len(worst.json_path) <= 200 else worst.json_path[:100] + " … " + worst.json_path[-90:]
    whole = f"{path} ({worst.validator}): {message}{more}"
    return whole.encode("utf-8", "backslashreplace").decode("utf-8")  # names in the path may be half surrogate pairs


def partial_credit(schema: Any, instance: Any, errors: Iterable[Any]) -> float:
    """Sound properties / (declared properties + unexpected ones), below 1 while any error is left.

    A declared property (in `properties` or `required`) is sound when nothing is wrong at or under it, and it is there
    if required. Without declared properties, or for another instance than an object, an error leaves nothing.
    """
    errors = list(errors)
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


def _schema_of(work: Mapping[str, Any]) -> Any:
    schema = work["schema"]
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise BadSchemaError(f"not JSON: {error}") from None
    if not isinstance(schema, (dict, bool)):
        raise BadSchemaError(f"a {type(schema).__name__}; expected a JSON Schema")
    return schema


def open_judge(options: Mapping[str, Any]) -> tuple[Callable[[Mapping[str, Any]], dict[str, Any]], None]:
    """Set a worker up: build the validator once, or once per schema of a row."""
    fixed = None if options["schema"] is None else make_validator(options["schema"], formats=options["formats"])
    latest: dict[str, Any] = {}

    def validator_of(work: Mapping[str, Any]) -> Any:
        if fixed is not None:
            return fixed
        key = json.dumps(work["schema"], sort_keys=True)
        if key not in latest:
            latest.clear()  # the completions of one prompt come together
            latest[key] = make_validator(_schema_of(work), formats=options["formats"])
        return latest[key]

    def judge(work: Mapping[str, Any]) -> dict[str, Any]:
        try:
            instance = find_json(work["text"], options["extract"])
        except ValueError as error:
            return {"value": 0.0, "note": f"not JSON: {error}"}
        try:
            validator = validator_of(work)
            errors = find_errors(validator, instance)
        except BadSchemaError as error:
            return {"failed": f"{work.get('row', '')}{error}"}
        except RecursionError:
            return {"value": 0.0, "note": "nested too deeply"}
        if not errors:
            return {"value": 1.0, "note": ""}
        value = partial_credit(validator.schema, instance, errors) if options["partial"] else 0.0
        return {"value": value, "note": describe_errors(errors)}

    return judge, None
