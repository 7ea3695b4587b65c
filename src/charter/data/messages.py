"""One row → the conversation in it."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from typing import Any

from charter.errors import DataError
from charter.types import Message

_ROLES = ("system", "user", "assistant", "tool")
_TEXT_COLUMNS = ("prompt", "question")


def prompt_messages(
    row: Mapping[str, Any], where: str, template: str | None, system: str | None
) -> tuple[Message, ...]:
    """The conversation that a row asks the policy to go on with.

    With a template: one user turn, its placeholders filled. Else `prompt` as a list: as it stands; `prompt` or
    `question` as text: one message of role "text" (tokenized without a chat template), or a user turn when there is
    a system message to put before it.

    Raises:
        DataError: naming the row, what is missing or wrong in it, and what was expected.
    """
    if template is not None:
        messages: tuple[Message, ...] = (_message("user", fill(template, row, where), where),)
    elif isinstance(row.get("prompt"), list):
        messages = conversation(row["prompt"], f"{where}: prompt")
        if messages[-1]["role"] == "assistant":
            raise DataError(
                f"{where}: the prompt ends with an assistant turn, so nothing is left to ask. Remove that turn"
            )
    else:
        column = next((name for name in _TEXT_COLUMNS if name in row), None)
        if column is None:
            raise _no_column(where, " or ".join(map(repr, _TEXT_COLUMNS)), row, "add it, or set data.template")
        text = _text(row[column], f"{where}: the column {column!r}")
        messages = (_message("user" if system or column == "question" else "text", text, where),)
    return _with_system(messages, system, where)


def example_messages(row: Mapping[str, Any], where: str, system: str | None) -> tuple[Message, ...]:
    """The conversation that a row asks to imitate: `messages`, or `prompt` and `completion` (texts or lists).

    Two texts are plain text to go on with, role "text" for the prompt, unless a system message makes them turns.

    Raises:
        DataError: naming the row, what is missing or wrong in it, and what was expected.
    """
    if "messages" in row:
        messages = conversation(row["messages"], f"{where}: messages")
    elif "prompt" in row and "completion" in row:
        plain = system is None and isinstance(row["prompt"], str) and isinstance(row["completion"], str)
        messages = _part(row["prompt"], "prompt", "text" if plain else "user", where)
        messages += _part(row["completion"], "completion", "assistant", where)
    else:
        raise _no_column(where, "'messages', or 'prompt' and 'completion'", row, "add them")
    if not any(message["role"] == "assistant" for message in messages):
        raise DataError(f"{where}: the conversation has no assistant turn, so there is nothing to imitate in it")
    return _with_system(messages, system, where)


def pair_messages(
    row: Mapping[str, Any], where: str, template: str | None, system: str | None
) -> tuple[tuple[Message, ...], str, str, float]:
    """(prompt, chosen, rejected, p) of a row: `chosen` and `rejected` beside a prompt, and perhaps `p`.

    The prompt: as in `prompt_messages`, or `messages`, or what two whole conversations in `chosen` and `rejected` have
    before their last turn. An answer: a text, or a list that ends with the one assistant turn. p: the probability that
    `chosen` is the better one, 1 where the row does not say.

    Raises:
        DataError: naming the row, what is missing or wrong in it, and what was expected.
    """
    for column in ("chosen", "rejected"):
        if column not in row:
            raise _no_column(where, repr(column), row, "add it")
    chosen, rejected = (_answer(row[name], f"{where}: {name}") for name in ("chosen", "rejected"))
    asked = row
    if "messages" in row:
        asked = {**row, "prompt": row["messages"]}
    elif chosen[0] and template is None and not any(name in row for name in _TEXT_COLUMNS):
        if chosen[0] != rejected[0]:
            raise DataError(f"{where}: chosen and rejected are answers to different conversations. Repair the row")
        asked = {"prompt": chosen[0]}
    elif chosen[0] or rejected[0]:
        raise DataError(
            f"{where}: the row has a prompt, and its answers are whole conversations. Keep the last turn of chosen and "
            "rejected, or remove the prompt"
        )
    prompt = prompt_messages(asked, where, template, system)
    if chosen[1] == rejected[1]:
        raise DataError(f"{where}: chosen and rejected are the same answer, so nothing is preferred. Remove the row")
    p = row.get("p")
    if p is not None and (isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1):
        raise DataError(f"{where}: p is {p!r}, expected a probability from 0 to 1 that chosen is the better answer")
    return prompt, chosen[1], rejected[1], 1.0 if p is None else float(p)


def _answer(value: Any, where: str) -> tuple[list[Message], str]:
    """(turns before it, text) of an answer."""
    if isinstance(value, list):
        messages = conversation(value, where)
        if messages[-1]["role"] != "assistant":
            raise DataError(f"{where} ends with a turn of the role {messages[-1]['role']!r}, expected the assistant's")
        return list(messages[:-1]), messages[-1]["content"]
    return [], _message("assistant", _text(value, where), where)["content"]


def conversation(value: Any, where: str) -> tuple[Message, ...]:
    """A list of {"role", "content"} → messages.

    Raises:
        DataError: it is no such list.
    """
    if not isinstance(value, list):
        raise DataError(f'{where} is {type(value).__name__}, expected a list of {{"role": …, "content": …}}')
    if not value:
        raise DataError(f"{where} is an empty list. A conversation needs at least one message")
    messages: list[Message] = []
    for index, item in enumerate(value):
        place = f"{where}[{index}]"
        if not isinstance(item, Mapping) or "role" not in item or "content" not in item:
            raise DataError(f'{place} is {item!r}, expected {{"role": …, "content": …}}')
        if item["role"] not in _ROLES:
            raise DataError(f"{place} has the role {item['role']!r}, expected one of {', '.join(_ROLES)}")
        if item["role"] == "system" and index > 0:
            raise DataError(f"{place} is a system message; only the first message can be one")
        content = item["content"]
        if not isinstance(content, str):
            raise DataError(f"{place} has content of type {type(content).__name__}, expected text")
        messages.append(_message(item["role"], content, place))
    return tuple(messages)


def fill(template: str, row: Mapping[str, Any], where: str) -> str:
    """The template with {column} and {column.name} replaced by the row's values; `{{` and `}}` are braces.

    Raises:
        DataError: a placeholder names no column, or one that holds no text or number.
    """
    parts: list[str] = []
    for literal, name in _placeholders(template):
        parts.append(literal)
        if name is not None:
            parts.append(_cell(row, name, where))
    return "".join(parts)


def check_template(template: str) -> None:
    """Refuse a template that no row can fill, before any row is read.

    Raises:
        DataError: unbalanced braces, no placeholder, or a placeholder without a name.
    """
    names = [name for _, name in _placeholders(template) if name is not None]
    if not names:
        raise DataError(f"data.template {template!r} has no {{column}} placeholder, so every prompt would be the same")
    if "" in names:
        raise DataError(
            f"data.template {template!r} has a placeholder without a name. Write {{question}}, for instance"
        )


def _placeholders(template: str) -> list[tuple[str, str | None]]:
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"data.template {template!r}: {error}. Write {{{{ and }}}} for braces that stay") from None
    found: list[tuple[str, str | None]] = []
    for literal, name, spec, conversion in parsed:
        if spec or conversion:
            raise DataError(
                f"data.template: {{{name}}} takes neither a format nor a conversion. Write {{{name}}} alone"
            )
        found.append((literal, name))
    return found


def _cell(row: Mapping[str, Any], name: str, where: str) -> str:
    value: Any = row.get(name)
    if name not in row:
        value = row
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise _no_column(where, repr(name), row, "or change data.template")
            value = value[part]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{where}: the placeholder {{{name}}} stands for {value!r}, expected a text or a number")
    if isinstance(value, str) and not value.strip():
        raise DataError(f"{where}: the placeholder {{{name}}} stands for an empty text")
    return str(value)


def _part(value: Any, name: str, role: str, where: str) -> tuple[Message, ...]:
    if isinstance(value, list):
        return conversation(value, f"{where}: {name}")
    return (_message(role, _text(value, f"{where}: the column {name!r}"), where),)


def _text(value: Any, where: str) -> str:
    if isinstance(value, float) and math.isnan(value):
        raise DataError(f"{where} is NaN, expected text")
    if not isinstance(value, str):
        raise DataError(f"{where} is {type(value).__name__}, expected text or a list of messages")
    return value


def _message(role: str, content: str, where: str) -> Message:
    if not content.strip():
        raise DataError(f"{where}: the {role} message is empty. Fill it or remove the row")
    if any("\ud800" <= character <= "\udfff" for character in content):
        raise DataError(f"{where}: the {role} message holds half a surrogate pair, which is no text. Repair the row")
    return Message(role=role, content=content)


def _with_system(messages: tuple[Message, ...], system: str | None, where: str) -> tuple[Message, ...]:
    if system is None:
        return messages
    if messages[0]["role"] == "system":
        raise DataError(f"{where}: the row has a system message of its own and data.system is set. Keep one of them")
    return (_message("system", system, "data.system"), *messages)


def _no_column(where: str, wanted: str, row: Mapping[str, Any], fix: str) -> DataError:
    return DataError(
        f"{where}: the row has no column {wanted}; it has {', '.join(map(repr, row)) or 'none'}. Please {fix}"
    )
