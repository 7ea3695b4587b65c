"""The worker's side of `tool_call`: read the calls in a completion, compare them with the expected ones and with the
tools' signatures.

Values are equal as JSON: 1 is 1.0, "1" and true are neither. The order of several calls does not matter, their number
does: a call made twice is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.reward.extract import MissingPlaceError, Place
from charter.reward.json_text import find_json, load_json, same_json
from charter.reward.schema_answer import BadSchemaError, describe_errors, find_errors, make_validator

MOST_CALLS = 64
"""Calls of one completion that are read; more are wrong."""
OPEN, CLOSE = "<tool_call>", "</tool_call>"
_BESIDE = {"id", "type", "index"}
_COMPOSED = ("$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties", "unevaluatedProperties")


class NoCallError(ValueError):
    """The completion calls nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a tool. written: how its arguments were given, "object" or "text"."""

    name: str
    arguments: Mapping[str, Any]
    written: str = "object"


def read_call(value: Any, *, strict: bool = True) -> Call:
    """A call from {"name", "arguments"}, {"name", "parameters"} or {"function": {…}}.

    strict: arguments must be there, and nothing else beside id, type and index; what the data set gives is read
    without it. Raises: ValueError that says what is wrong.
    """
    if not isinstance(value, dict):
        raise ValueError(f"a call is an object, not a {type(value).__name__}")
    inner = value.get("function", value)
    if not isinstance(inner, dict):
        raise ValueError('"function" is no object')
    name = inner.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError('a call needs a "name"')
    keys = [key for key in ("arguments", "parameters") if key in inner]
    if len(keys) > 1:
        raise ValueError('a call has both "arguments" and "parameters"')
    if not keys and strict:
        raise ValueError('a call needs "arguments"')
    allowed = {"name", *keys} | (_BESIDE if inner is value else set())
    beside = set(value) - {"function"} - _BESIDE if inner is not value else set()
    unknown = sorted((set(inner) - allowed) | beside)
    if unknown and strict:
        raise ValueError(f"a call has no key {unknown[0]!r:.80}")
    if strict and value.get("type", "function") != "function":
        raise ValueError('the "type" of a call is "function"')
    arguments = inner[keys[0]] if keys else {}
    written = "object"
    if isinstance(arguments, str):
        arguments, written = load_json(arguments), "text"
    if not isinstance(arguments, dict):
        raise ValueError(f"the arguments are an object, not a {type(arguments).__name__}")
    return Call(name=name, arguments=arguments, written=written)


def read_calls(value: Any, *, strict: bool = True) -> list[Call]:
    """One call, a list of calls, or a message with "tool_calls". Raises: ValueError."""
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    several = value if isinstance(value, list) else [value]
    if strict and not several:
        raise ValueError("an empty list of calls")
    if len(several) > MOST_CALLS:
        raise ValueError(f"{len(several)} calls; {MOST_CALLS} at most")
    return [read_call(one, strict=strict) for one in several]


def trusted_calls(value: Any) -> list[Call]:
    """The calls a data set expects, from a table, a list or JSON text. Raises: ValueError."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{value!r:.80} is not JSON: {error}") from None
    return read_calls(value, strict=False)


def _looks_like_calls(value: Any) -> bool:
    """Whether JSON means to call something; data that an answer consists of does not."""
    if isinstance(value, list):
        return any(map(_looks_like_calls, value))
    if not isinstance(value, dict):
        return False
    keys = set(value)
    return bool(keys & {"function", "tool_calls"}) or ("name" in keys and bool(keys & {"arguments", "parameters"}))


def _marked(text: str) -> list[Call]:
    calls: list[Call] = []
    at = 0
    while True:
        start, end = text.find(OPEN, at), text.find(CLOSE, at)
        if start < 0 and end < 0:
            return calls
        if start < 0 or -1 < end < start:
            raise ValueError(f"{CLOSE} without {OPEN}")
        again = text.find(OPEN, start + len(OPEN))
        if end < 0 or -1 < again < end:
            raise ValueError(f"{OPEN} is not closed")
        if len(calls) == MOST_CALLS:
            raise ValueError(f"more than {MOST_CALLS} calls")
        calls.append(read_call(load_json(text[start + len(OPEN) : end])))
        at = end + len(CLOSE)


def find_calls(text: str, syntax: str, place: Place) -> list[Call]:
    """The calls a completion makes. Raises: NoCallError when it makes none; ValueError when one is malformed."""
    if syntax == "hermes" or (syntax == "auto" and (OPEN in text or CLOSE in text)):
        calls = _marked(text)
        if not calls:
            raise NoCallError(f"there is no {OPEN}")
        return calls
    try:
        value = find_json(text, place)
    except MissingPlaceError as error:
        raise NoCallError(f"no call: {error}") from None
    except ValueError as error:
        raise NoCallError(f"no call: not JSON: {error}") from None
    if not _looks_like_calls(value):
        raise NoCallError("no call: JSON without a name and arguments")
    calls = read_calls(value)
    wants = {"json": "object", "openai": "text"}.get(syntax)
    if wants is not None and any(call.written != wants for call in calls):
        raise ValueError(f"{syntax} has arguments as {'JSON text' if wants == 'text' else 'an object'}")
    return calls


def signatures(tools: Any) -> dict[str, Any]:
    """Name → validator of the arguments, from OpenAI's, Anthropic's or the plain form of tool definitions.

    Arguments that a signature does not name are wrong, unless its schema allows or composes them itself.
    Raises: BadSchemaError.
    """
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError as error:
            raise BadSchemaError(f"the tools are not JSON: {error}") from None
    found: dict[str, Any] = {}
    for tool in tools if isinstance(tools, list) else [tools]:
        inner = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise BadSchemaError('a tool is an object with "name" and "parameters"')
        schema = inner.get("parameters", inner.get("input_schema")) or {}
        if not isinstance(schema, dict):
            raise BadSchemaError(f"the parameters of {inner['name']!r} are no schema")
        closed = {} if any(key in schema for key in _COMPOSED) else {"additionalProperties": False}
        try:
            found[inner["name"]] = make_validator({"type": "object", **closed, **schema})
        except BadSchemaError as error:
            raise BadSchemaError(f"the parameters of {inner['name']!r}: {error}") from None
    return found


def _thirds(named: int, right: int, union: int) -> float:
    return (1.0 + (named / union if union else 1.0) + (right / union if union else 1.0)) / 3.0


def compare_call(expected: Call, given: Call, defaults: Mapping[str, Any]) -> tuple[float, str]:
    """Credit for one call against another, 1 only when they are the same, and what differs.

    `(1 + |shared names| / |all names| + |right values| / |all names|) / 3`, 0 for another tool.
    defaults: what an argument that is left out stands for.
    """
    if given.name != expected.name:
        return 0.0, f"it calls {given.name!r:.80}, not {expected.name!r}"
    wanted, got = {**defaults, **expected.arguments}, {**defaults, **given.arguments}
    every = [*wanted, *(name for name in got if name not in wanted)]
    right = [name for name in every if name in wanted and name in got and same_json(wanted[name], got[name])]
    named = sum(name in wanted and name in got for name in every)
    if len(right) == len(every):
        return 1.0, ""
    wrong = next(name for name in every if name not in right)
    if wrong not in got:
        note = f"the argument {wrong!r} is missing"
    elif wrong not in wanted:
        note = f"the argument {wrong!r:.80} is not expected"
    else:
        note = f"the argument {wrong!r} is {json.dumps(got[wrong])[:100]}, not {json.dumps(wanted[wrong])[:100]}"
    return _thirds(named, len(right), len(every)), note


def check_call(given: Call, validators: Mapping[str, Any]) -> tuple[float, str]:
    """Credit for one call against the signatures, and what is wrong.

    `(1 + |known names| / |all names| + |sound values| / |all names|) / 3` over given and required names.
    Raises: BadSchemaError for a signature that refers to nowhere.
    """
    if given.name not in validators:
        return 0.0, f"there is no tool {given.name!r:.80}"
    schema = validators[given.name].schema
    try:
        errors = find_errors(validators[given.name], dict(given.arguments))
    except RecursionError:
        return 0.0, "the arguments are nested too deeply"
    if not errors:
        return 1.0, ""
    declared, required = set(schema.get("properties", {})), set(schema.get("required", ()))
    wrong = {error.absolute_path[0] for error in errors if error.absolute_path}
    known = {n for n in given.arguments if n in declared or schema.get("additionalProperties") is not False}
    credit = _thirds(len(known), len(known - wrong), len(required | set(given.arguments)))
    return min(credit, 0.99), describe_errors(errors)


def compare_calls(expected: Sequence[Call], given: Sequence[Call], validators: Mapping[str, Any]) -> tuple[float, str]:
    """Mean credit over the expected calls, each with the given call that fits it best; 0 when the numbers differ."""
    if len(given) != len(expected):
        return 0.0, f"{len(given)} calls; expected {len(expected)}"
    left, total, first = list(given), 0.0, ""
    for call in expected:
        properties = validators[call.name].schema.get("properties", {}) if call.name in validators else {}
        defaults = {n: p["default"] for n, p in properties.items() if isinstance(p, dict) and "default" in p}
        tried = [compare_call(call, other, defaults) for other in left]
        best = max(range(len(tried)), key=lambda i: tried[i][0])
        total, first = total + tried[best][0], first or tried[best][1]
        del left[best]
    return total / len(expected), first


@dataclass(frozen=True, slots=True)
class _Row:
    """What a row asks for: calls, or signatures, or both."""

    expected: list[Call] | None
    validators: Mapping[str, Any] | None


def _read_row(work: Mapping[str, Any]) -> _Row:
    validators = None if work["tools"] is None else signatures(work["tools"])
    expected = None if work["expected"] is None else trusted_calls(work["expected"])
    for call in expected or () if validators is not None else ():
        credit, note = check_call(call, validators or {})
        if credit < 1.0:
            raise ValueError(f"the expected call breaks its own signature: {note}")
    return _Row(expected, validators)


def judge_text(text: str, row: _Row, syntax: str, place: Place) -> tuple[float, str]:
    """Credit for a completion, and what is wrong. Raises: BadSchemaError for a signature that refers to nowhere."""
    try:
        given = find_calls(text, syntax, place)
    except NoCallError as error:
        silent = row.expected == [] and bool(text.strip())
        return float(silent), "" if silent else str(error)
    except ValueError as error:
        return 0.0, f"malformed call: {error}"
    if row.expected is not None:
        credit, note = compare_calls(row.expected, given, row.validators or {})
    else:
        credit, note = (1.0, "") if len(given) == 1 else (0.0, f"{len(given)} calls; one is asked for")
    if row.validators is None or credit == 0.0:
        return credit, note
    checks = [check_call(call, row.validators) for call in given]
    mean = sum(credit for credit, _ in checks) / len(checks)
    return (credit, note) if credit <= mean else (mean, next((text for _, text in checks if text), note))


def open_judge(options: Mapping[str, Any]) -> tuple[Callable[[Mapping[str, Any]], dict[str, Any]], None]:
    """Set a worker up for `tool_call`."""
    latest: dict[str, _Row] = {}

    def judge(work: Mapping[str, Any]) -> dict[str, Any]:
        key = json.dumps([work["expected"], work["tools"]])
        try:
            if key not in latest:
                row = _read_row(work)
                latest.clear()  # the completions of one prompt come together
                latest[key] = row
            value, note = judge_text(work["text"], latest[key], options["syntax"], options["extract"])
        except (ValueError, BadSchemaError) as error:
            return {"failed": f"{work['row']}: {error}"}
        return {"value": value if options["partial"] else float(value >= 1.0), "note": note}

    return judge, None
