"""Calling a Python function as a reward: find it, read its signature, call it, read its numbers.

Used in the worker process for functions named in a recipe, and in a thread for function objects given through the API.
The signature here is TRL's (others: `adapters/`):
`f(prompts, completions, completion_ids, <columns>…, **kwargs) -> list of numbers or None`,
each argument a list with one entry per completion.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import importlib.util
import inspect
import math
import numbers
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SPECIAL = ("prompts", "completions", "completion_ids")
"""Arguments that do not come from the data's columns."""


class SourceError(Exception):
    """A function that is not where the recipe says; the text is a whole sentence."""

    plain = True


def _module(place: str) -> Any:
    if place.endswith(".py") or "/" in place:
        path = Path(place).resolve()
        if not path.is_file():
            raise SourceError(f"there is no file {place!r}")
        sys.path.insert(0, str(path.parent))
        name = f"charter_user_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise SourceError(f"{place!r} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.util.find_spec(place) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise SourceError(f"there is no module {place!r}, neither installed nor in the current folder")
    return importlib.import_module(place)


def find_object(source: str) -> Any:
    """What `path/to/file.py:name` or `package.module:name` names. Raises: SourceError."""
    place, _, name = source.rpartition(":")
    module = _module(place)
    function: Any = module
    for part in name.split("."):
        if not hasattr(function, part):
            names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(names)[:10]) or 'no functions'}"
            raise SourceError(f"{place!r} has no {name!r}; {hint}")
        function = getattr(function, part)
    return function


def _number(value: Any) -> dict[str, Any]:
    if value is None:
        return {"value": None, "note": "the function returned None"}
    if not isinstance(value, (numbers.Real, str)) and callable(getattr(value, "item", None)):
        try:
            value = value.item()  # a scalar of numpy or torch
        except (ValueError, RuntimeError, TypeError):
            return {"failed": f"returned a {type(value).__name__} for one completion; expected a number or None"}
    if not isinstance(value, numbers.Real):
        return {"failed": f"returned {value!r:.60}, a {type(value).__name__}; expected a number or None"}
    number = float(value)
    if not math.isfinite(number):
        return {"failed": f"returned {number}; expected a finite number or None"}
    return {"value": number, "note": ""}


def read_numbers(returned: Any, count: int) -> list[dict[str, Any]]:
    """One {"value", "note"} or {"failed"} per completion; a wrong shape fails them all, a wrong number its own."""
    kind = type(returned).__name__
    if callable(getattr(returned, "tolist", None)):
        returned = returned.tolist()
    if isinstance(returned, (str, bytes, Mapping)) or not isinstance(returned, Sequence):
        return [{"failed": f"returned a {kind}; expected a list with one number or None per completion"}] * count
    if len(returned) != count:
        return [{"failed": f"returned {len(returned)} values for {count} completions"}] * count
    return [_number(value) for value in returned]


def _conversation(messages: Sequence[Mapping[str, Any]], text: str) -> tuple[Any, Any]:
    """TRL's two forms: plain strings for a plain-text prompt, else lists of messages."""
    if len(messages) == 1 and messages[0]["role"] == "text":
        return messages[0]["content"], text
    return [dict(m) for m in messages], [{"role": "assistant", "content": text}]


def arguments(work: Mapping[str, Any]) -> dict[str, Any]:
    """The lists a function is called with.

    work: {"messages", "texts", "tokens", "columns": name → the row's value, "options": name → value as it stands}.
    Each completion gets its own copy of a column's value, so that a function may change what it is given.
    """
    count = len(work["texts"])
    pairs = [_conversation(work["messages"], text) for text in work["texts"]]
    columns = {name: [copy.deepcopy(value) for _ in range(count)] for name, value in work["columns"].items()}
    special = {"prompts": [p for p, _ in pairs], "completions": [c for _, c in pairs], "completion_ids": work["tokens"]}
    return {**columns, **special, **work["options"]}


def call(function: Callable[..., Any], work: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Call a function (an `async def` too) on the completions of one prompt and read its numbers."""
    given = arguments(work)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    takes_all = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_all = True
        elif parameter.kind is parameter.POSITIONAL_ONLY and parameter.name in given:
            positional.append(given.pop(parameter.name))
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.name in given:
            named[parameter.name] = given.pop(parameter.name)
    returned = function(*positional, **named, **(given if takes_all else {}))
    if inspect.isawaitable(returned):
        import asyncio  # most functions are not asynchronous, and it takes a worker time to load

        returned = asyncio.run(_wait_for(returned))
    return read_numbers(returned, len(work["texts"]))


async def _wait_for(awaitable: Any) -> Any:
    return await awaitable


def open_function(
    options: Mapping[str, Any],
) -> tuple[Callable[[Mapping[str, Any]], list[dict[str, Any]]], dict[str, Any]]:
    """Set a worker up for a function: import it, recognise its signature and describe it.

    options: {"source", "signature": a name or None, "options": of the recipe}.
    """
    from charter.reward.adapters import open_reward

    return open_reward(find_object(options["source"]), options["signature"], options["options"])
