"""What the adapters share: the facts they report, the values they look up, the numbers they read."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from charter.reward.call import SourceError, read_numbers
from charter.reward.worker import describe_error

Work = Mapping[str, Any]
"""{"messages", "texts", "tokens", "columns": name → the row's value, "options"}: the completions of one prompt."""
Reply = dict[str, Any]
"""{"value", "note"} or {"failed": cause}."""
Handler = Callable[[Work], list[Reply]]
Opened = tuple[Handler, dict[str, Any]]

LONGEST_EXTRA = 300
"""Characters of a note that what a function returns beside its number may take."""


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """A function's parameters. Raises: SourceError when it has no signature."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise SourceError(f"{function!r} has no signature that can be read") from None


def named(parameters: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    """Those that have a name of their own: not *args, not **kwargs."""
    return [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def takes_all(parameters: Sequence[inspect.Parameter]) -> bool:
    """Whether there is a **kwargs."""
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def need(parameter: str, *columns: str) -> dict[str, Any]:
    """A parameter that a column must fill: the first of `columns` that is there ("a.b" is the key b in a)."""
    return {"parameter": parameter, "columns": list(columns or (parameter,))}


def facts(
    names: Sequence[str],
    *,
    filled: Sequence[str],
    needs: Sequence[Mapping[str, Any]],
    wants: Sequence[str] | None,
    row_independent: bool = True,
) -> dict[str, Any]:
    """What the trainer must know before it hands over work.

    names: every parameter. filled: those that the completions fill, which are no options. needs: see `need`.
    wants: columns to send, or None for all. row_independent: a call that failed may be repeated one by one.
    """
    return {
        "names": list(names),
        "options": [name for name in names if name not in filled],
        "needs": [dict(one) for one in needs],
        "wants": None if wants is None else list(wants),
        "row_independent": row_independent,
    }


def at_path(columns: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    """(whether it is there, the value) of a column, or of a key inside one: "reward_model.ground_truth"."""
    if path in columns:
        return True, columns[path]
    value: Any = columns
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def first_of(work: Work, parameter: str, *paths: str, default: Any = None) -> Any:
    """The option of that name, else the first of the columns that is there, else the default."""
    if parameter in work["options"]:
        return work["options"][parameter]
    for path in paths:
        there, value = at_path(work["columns"], path)
        if there:
            return value
    return default


def awaited(value: Any) -> Any:
    """The result of a call, waited for where the function is asynchronous."""
    if not inspect.isawaitable(value):
        return value
    import asyncio  # most functions are not asynchronous, and it takes a worker time to load

    return asyncio.run(wait_for(value))


async def wait_for(value: Awaitable[Any]) -> Any:
    """A coroutine around any awaitable, which is what asyncio.run takes."""
    return await value


def one_number(value: Any, note: str = "") -> Reply:
    """What one completion's return value says."""
    reply = read_numbers([value], 1)[0]
    if "failed" in reply or not note:
        return reply
    return {**reply, "note": note}


def extras(values: Mapping[str, Any]) -> str:
    """What a function returned beside its number, as a note."""
    return ", ".join(f"{name}={value!r:.80}" for name, value in values.items())[:LONGEST_EXTRA]


def one_by_one(work: Work, score: Callable[[int], Reply]) -> list[Reply]:
    """Score each completion by itself; one that raises fails alone."""
    replies: list[Reply] = []
    for i in range(len(work["texts"])):
        try:
            replies.append(score(i))
        except BaseException as error:  # noqa: BLE001 - SystemExit in a user's function is its failure
            replies.append({"failed": describe_error(error)})
    return replies


def is_plain(work: Work) -> bool:
    """Whether the prompt is a text to go on with, and no conversation."""
    return len(work["messages"]) == 1 and work["messages"][0]["role"] == "text"


def prompt_text(work: Work) -> str:
    """The prompt as one text; a conversation has a line `role: content` per turn, since no template is known here."""
    if is_plain(work):
        return work["messages"][0]["content"]
    return "\n".join(f"{message['role']}: {message['content']}" for message in work["messages"])


def as_table(value: Any) -> dict[str, Any]:
    """A column that holds a table, or a table written as JSON; anything else is an empty one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return dict(value) if isinstance(value, Mapping) else {}
